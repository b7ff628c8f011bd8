"""A user's own training loop: what it gets, and what becomes of what it yields."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator

from tests.helpers.own_loops import BY_HAND, SHAPE, device_data, own_config, path
from tests.helpers.tiny import CPU, figures, same_tensors, tiny_config, tiny_data
from winnow.reports.text.config_words import describe
from winnow.reports.text.winner_words import winner_sentence
from winnow.search.ray_backend.backend import _check_loops
from winnow.search.ray_backend.runtime_env import _user_modules
from winnow.search.resources.plan import ResourcePlan
from winnow.search.training.errors import is_out_of_memory
from winnow.search.training.heartbeat import beating, is_training
from winnow.search.training.loop import train, weights_of
from winnow.search.training.speed_probe import measure
from winnow.spaces.errors import InputError
from winnow.spaces.identity import identity
from winnow.spaces.schema.json_schema import json_schema
from winnow.spaces.space import Space
from winnow.spaces.validation import check


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
    *_, whole = [(result.figures(), result.weights(), result.state()) for result in train(config, data, CPU, 3)]
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
    assert same_tensors(weights_of(whole[2]), whole[1])


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
    assert same_tensors(weights_of(results[-1].state()), results[-1].weights())


def test_early_stopping_and_the_choice_of_weights() -> None:
    config = own_config("improves_once", epochs=9, early_stopping={"patience": 2}, weights="lowest_validation_loss")
    results = []
    for result in train(config, device_data(config), CPU, 3):
        results.append((figures(result)["validation_loss"], result.last, result.weights_epoch))
        weights = result.weights()
    losses, *rest = zip(*results, strict=True)
    assert [*zip(*rest, strict=True)] == [(False, 1), (False, 2), (False, 2), (True, 2)]
    assert losses[1] == pytest.approx(math.log(3), abs=1e-6)
    assert min(losses[0], losses[2], losses[3]) > 2
    assert float(next(iter(weights.values())).max()) == pytest.approx(0.01)


def test_validation_figures_are_those_of_the_network() -> None:
    """A loop with a loss of its own once ranked by that loss, and the gap to the test compared it with cross-entropy."""
    yielding, silent = own_config("other_measures", epochs=2), own_config("nothing_yielded", epochs=2)
    data = device_data(yielding)
    for result, expected in zip(train(yielding, data, CPU, 3), train(silent, data, CPU, 3), strict=True):
        assert not result.diverged
        assert result.validation_loss == expected.validation_loss != 0.001
        assert result.metrics == expected.metrics
        assert result.metrics["validation_auroc"] is not None


def test_a_loss_that_is_not_finite_means_diverged() -> None:
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


def test_a_loop_trains_when_its_first_batch_is_finished(tmp_path) -> None:
    """Until then a compiler may run, and a short timeout does not count."""
    from winnow.search.training.loop_arguments import LoopData

    config = own_config("adam", {"lr": 0.01})
    loader = LoopData(device_data(config), 16, 0, 1).loader()
    file = tmp_path / "a.beat"
    with beating(str(file)):
        batches = iter(loader)
        next(batches)
        assert not is_training(file.read_bytes())
        next(batches)
        assert is_training(file.read_bytes())


def test_an_epoch_without_loaders_is_a_sign_of_life(tmp_path) -> None:
    config = own_config("improves_once")
    file = tmp_path / "a.beat"
    with beating(str(file)):
        training = train(config, device_data(config, "retrain"), CPU, 3)
        next(training)
        assert is_training(file.read_bytes())


def test_measuring_a_speed_does_not_end_with_the_loop() -> None:
    measured = measure(own_config("adam", {"lr": 0.01}, epochs=1), tiny_data(), CPU, seconds=0.1)
    assert measured.images_per_second > 0


def test_batches_cannot_be_cut_for_an_own_loop() -> None:
    config = own_config("adam", {"lr": 0.01})
    with pytest.raises(MemoryError, match="a smaller batch_size needs less") as error:
        next(train(config, device_data(config), CPU, 0, micro_batches=4))
    assert is_out_of_memory(error.value)


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
    assert set(_user_modules(space.tree)) == {"one.loops", "two"}


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
