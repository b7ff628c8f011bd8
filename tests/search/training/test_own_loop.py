"""A user's own training loop: what it gets, what becomes of what it yields, and what is refused."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from torch import nn
from torch.nn import functional

from tests.helpers.tiny import CPU, figures, same_tensors, tiny_config, tiny_data
from winnow.reports.text.winner_words import winner_sentence
from winnow.reports.text.wording import describe
from winnow.search.operations.build_check import check_own_parts
from winnow.search.ray_backend.backend import _check_loops
from winnow.search.ray_backend.runtime_env import _user_modules
from winnow.search.resources.plan import ResourcePlan
from winnow.search.training.device_data import DeviceData
from winnow.search.training.errors import is_out_of_memory
from winnow.search.training.loop import train
from winnow.search.training.own_parts import check_own_part
from winnow.search.training.speed_probe import measure
from winnow.spaces.errors import InputError
from winnow.spaces.identity import identity
from winnow.spaces.own_code import own_parts
from winnow.spaces.schema.json_schema import json_schema
from winnow.spaces.space import Space
from winnow.spaces.validation import check

SHAPE = (3, 8, 8)
BY_HAND = {"precision": "float32", "data": {"name": "digits", "augment": ["flip"]}}


def adam(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    """What Winnow's loop does, written by hand."""
    model = config.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    for _ in checkpoint.epochs(model=model, optimizer=optimizer):
        model.train()
        for images, labels in data.loader():
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        yield {"lr": optimizer.param_groups[0]["lr"]}


def average_and_global_draws(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    """An average of the weights is what counts; NumPy and Python draw too, and training images are read twice."""
    model = config.network()
    average = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, config.epochs * len(data.loader()))
    loader = data.loader("train")
    for _ in checkpoint.epochs(
        model=average.module, raw=model, count=average, optimizer=optimizer, scheduler=scheduler
    ):
        total = 0.0
        assert not all(torch.equal(a, b) for (a, _), (b, _) in zip(loader, loader, strict=True))
        for images, labels in loader:
            images = images * (1 + random.random() / 10 + np.random.rand() / 10)
            loss = functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            average.update_parameters(model)
            total += loss.item()
        yield {"train_loss": total / len(loader), "train_accuracy": 0.5}


def diverges(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    model = config.network()
    for epoch in checkpoint.epochs(model=model):
        yield {"train_loss": torch.tensor(float("nan") if epoch else 1.0)}


def improves_once(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    model = config.network()
    for epoch in checkpoint.epochs(model=model):
        with torch.no_grad():
            next(model.parameters()).fill_(epoch / 100)
        yield {"validation_loss": 1.0 if epoch == 1 else 2.0}


def another_network(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=nn.Linear(3, 3)):
        yield {}


class Scaled(nn.Module):
    """The weights of another network, but ten times its answers."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = [inner]

    def state_dict(self, *arguments: Any, **keys: Any) -> Any:
        return self.inner[0].state_dict()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner[0](images * 10)


def other_answers(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=Scaled(config.network())):
        yield {}


def no_generator(config: Any, data: Any, device: torch.device, checkpoint: Any) -> None: ...


def three_arguments(config: Any, data: Any, device: torch.device) -> Iterator[dict[str, Any]]:
    yield {}


def no_epochs(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    yield {}


def unknown_figure(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network()):
        yield {"validation_acuracy": 0.5}


def no_number(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network()):
        yield {"train_loss": "0.5"}


def no_dict(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[Any]:
    for _ in checkpoint.epochs(model=config.network()):
        yield 0.5


def twice(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network()):
        yield {}
        yield {}


def too_short(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network()):
        yield {}
        return


def too_good(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network()):
        yield {"validation_accuracy": 1.0}


def raises(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network()):
        yield {"train_loss": config.momentum}


def divides(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network()):
        yield {"train_loss": 1 / len(data.loader("validation"))}


class NumpyState:
    def state_dict(self) -> dict[str, Any]:
        return {"best": Path("x")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def strange_state(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network(), best=NumpyState()):
        yield {}


def stateless_part(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network(), best=3):
        yield {}


def opens_the_test(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    data.loader("test")
    yield {}


def path(function: str) -> str:
    return f"{__name__}:{function}"


def own_config(function: str, keys: dict[str, Any] | None = None, **changes: Any) -> Any:
    return tiny_config(**{"optimizer": None, "train": {"name": path(function), **(keys or {})}, **changes})


def device_data(config: Any, use: Any = "search") -> DeviceData:
    return DeviceData.build(tiny_data(), config.data, CPU, 0, use)


def test_a_loop_written_by_hand_gives_what_winnows_own_gives() -> None:
    """Same network, images, order, augmentation and dropout: equal to the last bit."""
    own = own_config("adam", {"lr": 0.01}, data=BY_HAND["data"])
    built_in = tiny_config(**BY_HAND)
    data = device_data(own)
    for one, other in zip(train(own, data, CPU, 3), train(built_in, data, CPU, 3), strict=True):
        assert one.metrics == other.metrics
        assert one.validation_loss == other.validation_loss
        assert (one.epoch, one.lr, one.last, one.diverged) == (other.epoch, other.lr, other.last, other.diverged)
        assert same_tensors(one.weights(), other.weights())


@pytest.mark.parametrize("function", ["adam", "average_and_global_draws"])
@pytest.mark.parametrize("stop", [1, 3])
def test_an_interrupted_training_goes_on_exactly(function: str, stop: int) -> None:
    config = own_config(function, {"lr": 0.05}, weights="lowest_validation_loss")
    data = device_data(config)
    *_, whole = [(result.figures(), result.weights()) for result in train(config, data, CPU, 3)]
    for result in train(config, data, CPU, 3):
        if result.epoch == stop:
            state = result.state()
            break
    random.seed(9)
    *_, rest = [(result.figures(), result.weights()) for result in train(config, data, CPU, 3, checkpoint=state)]
    timed = ("wall_seconds", "images_per_second")
    assert [str(value) for name, value in whole[0].items() if name not in timed] == [
        str(value) for name, value in rest[0].items() if name not in timed
    ]
    assert same_tensors(whole[1], rest[1])


def test_global_generators_are_left_as_they_were() -> None:
    config = own_config("average_and_global_draws", {"lr": 0.05})
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    list(train(config, device_data(config), CPU, 3))
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


def test_retraining_has_no_validation_images_and_may_end_sooner() -> None:
    config = own_config("adam", {"lr": 0.05}, stop_after=2, weights="lowest_validation_loss")
    results = list(train(config, device_data(config, "retrain"), CPU, 3))
    assert [(result.epoch, result.last, result.weights_epoch) for result in results] == [(1, False, 1), (2, True, 2)]
    assert results[-1].validation_loss is None
    assert results[-1].validation_accuracy is None


def test_early_stopping_and_the_choice_of_weights() -> None:
    config = own_config("improves_once", epochs=9, early_stopping={"patience": 2}, weights="lowest_validation_loss")
    results = []
    for result in train(config, device_data(config), CPU, 3):
        results.append((figures(result)["validation_loss"], result.last, result.weights_epoch))
        weights = result.weights()
    assert results == [(2.0, False, 1), (1.0, False, 2), (2.0, False, 2), (2.0, True, 2)]
    assert float(next(iter(weights.values())).max()) == pytest.approx(0.01)


def test_a_figure_that_is_not_finite_means_diverged() -> None:
    config = own_config("diverges")
    first, second = train(config, device_data(config), CPU, 3)
    assert not first.diverged
    assert first.train_loss == 1.0
    assert second.diverged
    assert second.last
    assert second.validation_loss is None


def test_own_metric_is_computed_for_an_own_loop_too() -> None:
    config = own_config("adam", {"lr": 0.01}, own_metric="tests.search.training.test_own_loop:error_rate")
    result = next(train(config, device_data(config), CPU, 3))
    assert result.validation_accuracy is not None
    assert result.metrics["validation_own_metric"] == pytest.approx(1 - result.validation_accuracy)


def error_rate(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float((probabilities.argmax(1) != labels).mean())


def test_what_data_offers() -> None:
    config = own_config("adam", {"lr": 0.01})
    images = device_data(config)
    from winnow.search.training.loop_arguments import LoopData

    data = LoopData(images, 16, 0, 1)
    pixels, labels = data.tensors("train")
    assert pixels.dtype == torch.uint8
    assert pixels.shape[1:] == SHAPE == data.image_shape
    assert len(labels) == len(data.loader().dataset) == 40
    assert data.num_classes == 3
    validation = data.loader("validation", 4)
    assert [len(batch) for _, batch in validation] == [4, 4, 2]
    assert len(validation) == 3
    seen = torch.cat([truth for _, truth in data.loader()])
    assert torch.equal(seen.sort().values, labels.sort().values)
    assert not torch.equal(seen, labels)
    retraining = LoopData(device_data(config, "retrain"), 16, 0, 1)
    assert len(retraining.loader("validation")) == 0 == len(list(retraining.loader("validation")))
    assert len(retraining.tensors("validation")[1]) == 0
    assert len(retraining.loader()) == len(list(retraining.loader())) == 4


def test_measuring_a_speed_does_not_end_with_the_loop() -> None:
    measured = measure(own_config("adam", {"lr": 0.01}, epochs=1), tiny_data(), CPU, seconds=0.1)
    assert measured.images_per_second > 0


def test_batches_cannot_be_cut_for_an_own_loop() -> None:
    config = own_config("adam", {"lr": 0.01})
    with pytest.raises(MemoryError, match="a smaller batch_size needs less") as error:
        next(train(config, device_data(config), CPU, 0, micro_batches=4))
    assert is_out_of_memory(error.value)


REFUSED: dict[str, str] = {
    "no_generator": r"train \S+ \(test_own_loop.py:\d+\): must be a generator",
    "three_arguments": r"must take \(config, data, device, checkpoint\), but too many positional arguments",
    "no_epochs": r"\(test_own_loop.py:\d+\): must loop over checkpoint.epochs\(model=",
    "unknown_figure": r"yielded 'validation_acuracy', which is none of .*; did you mean validation_accuracy\?",
    "no_number": r"must yield numbers, but train_loss is '0.5'",
    "no_dict": r"must yield a dict of figures, but yielded float",
    "another_network": r"must be that of the space's `model` section",
    "other_answers": r"answers otherwise than that of the `model` section",
    "raises": r"\(test_own_loop.py:\d+\) raised AttributeError: the config of the loop has no momentum, only epochs",
    "divides": r"\(test_own_loop.py:\d+\) raised ZeroDivisionError: .*, in retraining, which has no validation images",
    "strange_state": r"the state of its parts cannot be stored",
    "stateless_part": r"best must have state_dict\(\) and load_state_dict\(\), but a int has not",
    "opens_the_test": r"there is no split 'test' for a loop",
}


@pytest.mark.parametrize("function", REFUSED)
def test_refused_before_anything_starts(function: str) -> None:
    config = own_config(function)
    ((what, part),) = own_parts(config)
    with pytest.raises(InputError, match=REFUSED[function]) as error:
        check_own_part(what, part, config, SHAPE, 3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("twice", r"must yield once in every epoch, but yield 2 came in epoch 1"),
        ("too_short", r"ended after 1 of 4 epochs"),
        ("too_good", r"yielded a validation_accuracy of 1.0000 in epoch 1, but the network classifies 0\.\d+"),
    ],
)
def test_refused_during_the_training(function: str, message: str) -> None:
    config = own_config(function)
    with pytest.raises(InputError, match=message):
        list(train(config, device_data(config), CPU, 0))


def test_good_loops_pass_the_check_in_a_process_of_its_own() -> None:
    check_own_parts(
        [own_config("adam", {"lr": 0.01}), own_config("average_and_global_draws", {"lr": 0.01}, epochs=1)], SHAPE, 3
    )
    with pytest.raises(InputError, match=REFUSED["no_dict"]):
        check_own_parts([own_config("no_dict")], SHAPE, 3)


def test_a_key_that_no_tried_loop_reads_is_told() -> None:
    used, misspelt = own_config("adam", {"lr": 0.01}), own_config("adam", {"lr": 0.02, "momentun": 0.9})
    assert check_own_parts([used], SHAPE, 3).notes == []
    (note,) = check_own_parts([misspelt], SHAPE, 3).notes
    assert note == f"{path('adam')} did not read momentun in the epochs that were tried; is it misspelt in `train`?"


def test_parts_without_effect_are_refused() -> None:
    own_config("adam", early_stopping={"patience": 2})
    for key, value in {"optimizer": {"name": "adam", "lr": 0.1}, "schedule": "cosine", "mix": "mixup"}.items():
        with pytest.raises(ValueError, match=f"in which these keys have no effect: {key}; leave them out"):
            own_config("adam", **{key: value})
    with pytest.raises(ValueError, match="the loop has epochs from elsewhere"):
        own_config("adam", {"epochs": 3})


def test_keys_of_a_loop_are_searched_and_the_loop_is_sent() -> None:
    tree = {
        "data": "digits",
        "epochs": 2,
        "batch_size": 64,
        "model": {"name": "mlp", "hidden": [8]},
        "train": {"choice": {"one.loops:run": {"lr": {"log": [0.01, 0.1]}}, "two:run": {"width": {"int": [1, 3]}}}},
    }
    space = Space.from_tree(tree, "own.yaml")
    check(space)
    assert {"train.lr", "train.width"} <= {parameter.path for parameter in space.parameters()}
    assert set(_user_modules(space.tree)) == {"one", "two"}


def test_the_schema_for_editors_wants_an_optimizer_or_a_loop() -> None:
    schema = Draft202012Validator(json_schema())
    tree = {"data": "digits", "epochs": 2, "batch_size": 8, "model": {"name": "mlp", "hidden": [8]}}
    assert not schema.is_valid(tree)
    for loop in ("a:run", {"name": "a:run", "lr": {"log": [0.1, 1.0]}}, {"choice": {"a:run": {"lr": 1}}}):
        assert schema.is_valid({**tree, "train": loop})


def test_a_loop_with_several_gpus_is_refused() -> None:
    tree = own_config("adam", {"lr": 0.1}).model_dump(mode="json")
    space = Space.from_tree(tree, "own.yaml")
    one, two = (ResourcePlan("cuda", 1, 2.0, float(ranks), 1, "", ranks=ranks) for ranks in (1, 2))
    _check_loops(one, [space])
    with pytest.raises(InputError, match="trains on one GPU, but each trial would get 2; use --gpus-per-trial 1"):
        _check_loops(two, [space])
    _check_loops(two, [Space.from_tree(tiny_config().model_dump(mode="json"), "built-in.yaml")])


def test_reports_name_the_loop_and_its_keys() -> None:
    config = own_config("adam", {"lr": 0.125}).model_dump(mode="json")
    assert f"loop {path('adam')} lr 0.12 batch 16" in describe(config)
    assert f"trained for 4 epochs by the loop {path('adam')}, in batches of 16." in winner_sentence(config, 100)


def test_identity_depends_on_the_loop_and_its_keys() -> None:
    configs = [
        tiny_config(),
        own_config("adam", {"lr": 0.1}),
        own_config("adam", {"lr": 0.2}),
        own_config("twice", {"lr": 0.1}),
    ]
    assert len({identity(config.model_dump(mode="json")) for config in configs}) == 4
