"""The one loop: what a seed fixes, what an epoch reports, how a training ends."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.helpers.tiny import CPU, figures, same_tensors, tiny_config, tiny_data
from winnow import models
from winnow.search.training import early_stopping, precision
from winnow.search.training.device_data import DeviceData
from winnow.search.training.evaluate import evaluate
from winnow.search.training.loop import train
from winnow.search.winners.winner import Pixels
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Config

UNSTABLE = {"name": "sgd", "lr": 5.0}  # the validation loss goes up and down


def build(config: Config, use: str = "search", num_train: int = 50) -> DeviceData:
    return DeviceData.build(tiny_data(num_train), config.data, CPU, seed=0, use=use)


def test_a_seed_fixes_everything_and_another_changes_it() -> None:
    config = tiny_config()
    runs = [[figures(result) for result in train(config, build(config), CPU, seed)] for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_trainings_do_not_disturb_each_other_nor_the_caller() -> None:
    config = tiny_config()
    alone = [figures(result) for result in train(config, build(config), CPU, 1)]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    pairs = zip(train(config, build(config), CPU, 1), train(config, build(config), CPU, 2), strict=True)
    assert [figures(first) for first, _ in pairs] == alone
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("micro_batches", [2, 4, 50])
def test_batches_in_pieces_give_the_same_updates(micro_batches: int) -> None:
    """Up to rounding, without batch norm and dropout; 50 is more pieces than a batch has images."""
    config = tiny_config(
        model={"name": "cnn", "stages": [{"filters": 4}], "head": [8]},
        optimizer={"name": "sgd", "lr": 0.1},
        precision="float32",
    )
    *_, whole = train(config, build(config), CPU, 0)
    *_, pieces = train(config, build(config), CPU, 0, micro_batches=micro_batches)
    assert len(pieces.batch_losses) > len(whole.batch_losses)
    for name, weight in whole.weights().items():
        torch.testing.assert_close(pieces.weights()[name], weight, rtol=1e-4, atol=1e-5)
    assert pieces.train_loss == pytest.approx(whole.train_loss, rel=1e-4)
    assert pieces.validation_loss == pytest.approx(whole.validation_loss, rel=1e-4)


def test_pieces_of_batch_normalised_batches_are_never_single_images() -> None:
    config = tiny_config(batch_size=3)
    results = list(train(config, build(config, num_train=40), CPU, 0, micro_batches=4))
    assert results[-1].last
    assert not results[-1].diverged


def test_it_learns() -> None:
    config = tiny_config(epochs=30, model={"name": "mlp", "hidden": [16]})
    *_, last = train(config, build(config, num_train=150), CPU, 0)
    assert last.validation_accuracy is not None
    assert last.validation_accuracy > 0.9  # chance is 0.33


def test_what_an_epoch_reports() -> None:
    config = tiny_config()
    data = build(config)
    results = list(train(config, data, CPU, 0))
    assert [result.epoch for result in results] == [1, 2, 3, 4]
    assert [result.last for result in results] == [False, False, False, True]
    for result in results:
        assert result.batch_losses.shape == (3,)  # 40 images in batches of 16, 16 and 8
        weighted = (result.batch_losses.double() * torch.tensor([16, 16, 8])).sum() / 40
        assert result.train_loss == pytest.approx(float(weighted), rel=1e-6)
        assert result.train_accuracy * 40 == pytest.approx(round(result.train_accuracy * 40))
        assert result.wall_seconds > 0
        assert result.images_per_second > 0
        assert result.weights_epoch == result.epoch


def test_accuracy_and_loss_are_those_of_the_batches() -> None:
    """With a frozen learning rate the network does not move, so that both can be computed again from outside."""
    config = tiny_config(
        optimizer={"name": "sgd", "lr": 1e-30}, model={"name": "mlp", "hidden": []}, epochs=1, precision="float32"
    )
    data = build(config)
    (result,) = train(config, data, CPU, 0)
    source = tiny_data()
    kept = data.train.index.numpy()
    again = evaluate(config, result.weights(), data, source.train_images[kept], source.train_labels[kept])
    assert result.train_accuracy == pytest.approx(again.accuracy)
    assert result.train_loss == pytest.approx(again.loss, rel=1e-5)


@pytest.mark.parametrize("model", [{"name": "mlp", "hidden": [8]}, {"name": "cnn", "stages": [{"filters": 4}]}])
def test_a_loss_that_is_not_finite_ends_the_training(model: dict) -> None:
    config = tiny_config(optimizer={"name": "sgd", "lr": 1e30}, model=model)
    results = list(train(config, build(config), CPU, 0))
    last = results[-1]
    assert last.diverged
    assert last.last
    assert len(results) < 4
    assert math.isnan(last.train_loss)
    assert last.validation_loss is None
    assert last.validation_accuracy is None


@pytest.mark.parametrize(
    ("rule", "key"), [("lowest_validation_loss", "loss"), ("highest_validation_accuracy", "accuracy")]
)
def test_best_weights_are_those_of_the_best_epoch(rule: str, key: str) -> None:
    config = tiny_config(weights=rule, optimizer=UNSTABLE, epochs=6, precision="float32")
    data, source = build(config), tiny_data()
    index = data.validation.index.numpy()
    epochs = []
    for seed in range(4):
        results = []
        for result in train(config, data, CPU, seed):
            results.append(result)
            weights = result.weights()
        values = [getattr(result, f"validation_{key}") for result in results]
        best = values.index(min(values) if key == "loss" else max(values))
        assert results[-1].weights_epoch == best + 1
        again = evaluate(config, weights, data, source.train_images[index], source.train_labels[index])
        assert getattr(again, key) == pytest.approx(values[best], rel=1e-5)
        epochs.append(best + 1)
    assert min(epochs) < 6  # otherwise this shows nothing


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_the_final_test_is_in_float32_whatever_the_training(precision: str) -> None:
    """The figures of the report are those of the exported network, also on a machine that trains in bfloat16."""
    config = tiny_config(precision=precision, epochs=1)
    data, source = build(config), tiny_data()
    (result,) = train(config, data, CPU, 0)
    tested = evaluate(config, result.weights(), data, source.test_images, source.test_labels)
    network = models.build(config.model, data.image_shape, data.num_classes)
    network.load_state_dict(result.weights())
    pixels = torch.from_numpy(source.test_images).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        logits = Pixels(network, data.image_shape, list(data.mean), list(data.std)).eval()(pixels)
    assert tested.probabilities == pytest.approx(logits.softmax(1).numpy(), abs=1e-6)


def test_early_stopping_asks_for_a_least_improvement() -> None:
    small = [early_stopping.EarlyStopping(2, delta) for delta in (0.0, 0.1)]
    stops = [[each.observe({"validation_loss": loss}) for loss in (1.0, 0.95, 0.91, 0.8)] for each in small]
    assert stops == [[False] * 4, [False, False, True, False]]


def test_early_stopping() -> None:
    config = tiny_config(early_stopping={"patience": 2}, optimizer=UNSTABLE, epochs=40)
    for seed in range(3):
        results = list(train(config, build(config), CPU, seed))
        losses = [result.validation_loss for result in results]
        bad = 0
        for i, loss in enumerate(losses):
            bad = bad + 1 if i and loss >= min(losses[:i]) else 0
            assert results[i].last == (bad == 2 or i == 39)
    assert len(losses) < 40


def test_retraining_uses_all_images_and_selects_nothing() -> None:
    config = tiny_config(weights="lowest_validation_loss", early_stopping={"patience": 1}, schedule={"name": "plateau"})
    data = build(config, use="retrain")
    results = list(train(config, data, CPU, 0))
    assert len(data.train) == 50
    assert [result.epoch for result in results] == [1, 2, 3, 4]
    assert all(result.validation_loss is None for result in results)
    assert results[-1].weights_epoch == 4
    evaluation = evaluate(config, results[-1].weights(), data, tiny_data().test_images, tiny_data().test_labels)
    assert evaluation.probabilities.shape == (12, 3)
    assert evaluation.probabilities.dtype == np.float32
    assert np.allclose(evaluation.probabilities.sum(1), 1, atol=1e-5)
    truth = tiny_data().test_labels
    assert evaluation.accuracy == pytest.approx((evaluation.probabilities.argmax(1) == truth).mean())
    assert evaluation.loss == pytest.approx(-np.log(evaluation.probabilities[np.arange(12), truth]).mean(), rel=1e-4)


def test_a_last_batch_of_one_image_is_left_out_with_batch_norm_only() -> None:
    for norm, num_steps in (("batch", 3), ("none", 4)):
        config = tiny_config(model={"name": "mlp", "hidden": [8], "norm": norm}, batch_size=13)
        (result, *_) = train(config, build(config), CPU, 0)  # 40 = 3 x 13 + 1
        assert len(result.batch_losses) == num_steps


def test_gradient_clipping_bounds_the_step() -> None:
    config = tiny_config(
        optimizer={"name": "sgd", "lr": 1.0}, gradient_clip=1e-3, epochs=1, model={"name": "mlp", "hidden": [8]}
    )
    frozen = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"lr": 1e-30})})
    (moved,) = train(config, build(config), CPU, 0)
    (start,) = train(frozen, build(frozen), CPU, 0)
    a, b = moved.weights(), start.weights()
    distance = math.sqrt(sum(float((a[name] - b[name]).square().sum()) for name in a))
    assert 0 < distance <= 3e-3 * 1.001  # three steps


def test_the_schedule_reaches_the_optimizer() -> None:
    config = tiny_config(schedule={"name": "multistep", "milestones": [1, 3], "gamma": 0.5})
    lrs = [result.lr for result in train(config, build(config), CPU, 0)]
    assert lrs == pytest.approx([0.01, 0.005, 0.005, 0.0025])


def test_a_plateau_lowers_the_learning_rate() -> None:
    schedule = {"name": "plateau", "factor": 0.5, "patience": 0}
    config = tiny_config(schedule=schedule, optimizer=UNSTABLE, epochs=8)
    results = list(train(config, build(config), CPU, 0))
    best, expected, scale = math.inf, [], 1.0
    for result in results:
        expected.append(5.0 * scale)
        scale *= 1.0 if result.validation_loss < best else 0.5
        best = min(best, result.validation_loss)
    assert [result.lr for result in results] == pytest.approx(expected)
    assert expected[-1] < 5.0


def test_extra_copies_lengthen_the_epoch() -> None:
    extra = {"copies": 24, "augment": ["flip", "zoom"]}
    config = tiny_config(data={"name": "npz", "path": "x", "extra": extra})
    (result, *_) = train(config, build(config), CPU, 0)
    assert len(result.batch_losses) == 4  # 40 + 24 images in batches of 16


def test_state_of_an_epoch_that_is_over_is_refused() -> None:
    config = tiny_config()
    training = train(config, build(config), CPU, 0)
    first = next(training)
    first.state()
    next(training)
    with pytest.raises(RuntimeError, match="epoch 1 is over"):
        first.state()
    with pytest.raises(RuntimeError, match="epoch 1 is over"):
        first.weights()


def test_kept_states_and_weights_do_not_move_with_the_training() -> None:
    config = tiny_config()
    training = train(config, build(config), CPU, 0)
    first = next(training)
    weights, state = first.weights(), first.state()
    kept = {name: tensor.clone() for name, tensor in weights.items()}
    list(training)
    assert same_tensors(weights, kept)
    assert same_tensors(state["model"], kept)


def test_bfloat16_is_refused_where_it_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(precision="bfloat16")
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    with pytest.raises(InputError, match="precision: bfloat16"):
        next(train(config, build(config), CPU, 0))
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    assert math.isfinite(next(train(config, build(config), CPU, 0)).train_loss)


@pytest.mark.parametrize("groups", [1, 2])
def test_bfloat16_where_a_cpu_computes_it_but_not_of_grouped_convolutions(
    monkeypatch: pytest.MonkeyPatch, groups: int
) -> None:
    network = torch.nn.Conv2d(2, 2, 3, groups=groups)
    for in_hardware in (True, False):
        monkeypatch.setattr(precision, "has_bfloat16", lambda device, answer=in_hardware: answer)
        with precision.autocast("auto", CPU, network):
            computed = network(torch.zeros(1, 2, 3, 3)).dtype
        assert computed == (torch.bfloat16 if in_hardware and groups == 1 else torch.float32)


def test_augmentation_leaves_weights_and_order_as_they_were() -> None:
    """Each has its own stream: with nothing learned, the first loss of both trainings is that of the same images."""
    plain = tiny_config(model={"name": "mlp", "hidden": []}, optimizer={"name": "sgd", "lr": 1e-30})
    never = {"name": "npz", "path": "x", "augment": [{"name": "flip", "p": 0.0}]}
    augmented = plain.model_copy(update={"data": tiny_config(data=never).data})
    a = [figures(result) for result in train(plain, build(plain), CPU, 0)]
    b = [figures(result) for result in train(augmented, build(augmented), CPU, 0)]
    assert a == b


def test_given_validation_images_select() -> None:
    source = tiny_data()
    given = replace(
        source,
        validation_images=source.test_images,
        validation_labels=source.test_labels,
        fingerprint="given",
    )
    config = tiny_config(data={"name": "npz", "path": "x", "validation": "given"}, precision="float32")
    data = DeviceData.build(given, config.data, CPU, 0)
    *_, last = train(config, data, CPU, 0)
    assert len(data.train) == 50
    again = evaluate(config, last.weights(), data, source.test_images, source.test_labels)
    assert last.validation_loss == pytest.approx(again.loss, rel=1e-6)
    retrained = DeviceData.build(given, config.data, CPU, 0, use="retrain")
    assert len(retrained.train) == 62
