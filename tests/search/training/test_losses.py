"""Class weights, focal loss and balanced sampling, by hand and in a training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from tests.helpers.tiny import CPU, figures, tiny_config, tiny_data
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train
from winnow.search.training.losses import build_evaluation_loss, build_loss, class_weights
from winnow.spaces import schema
from winnow.spaces.errors import InputError

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0], [0.1, 0.2, 0.3]])
LABELS = torch.tensor([0, 1, 1])
COUNTS = torch.tensor([6, 3, 0])
SEPARATE = functional.cross_entropy(LOGITS, LABELS, reduction="none")


def test_balanced_weights_give_every_class_the_same_sum() -> None:
    weights = class_weights("balanced", COUNTS)
    assert weights.tolist() == [9 / (3 * 6), 9 / (3 * 3), 0.0]


@pytest.mark.parametrize(("given", "used"), [("balanced", [0.5, 1.0, 1.0]), ([2.0, 3.0], [2.0, 3.0, 3.0])])
@pytest.mark.parametrize("name", ["cross_entropy", "focal", "margin"])
def test_weights_scale_the_loss_of_each_image(name: str, given: str | list[float], used: list[float]) -> None:
    config = {"name": name, "class_weights": [*given, 1.0] if isinstance(given, list) else given}
    settings = tiny_config(loss=config).loss
    plain = build_loss(tiny_config(loss={"name": name}).loss)
    each = torch.stack([plain(LOGITS[i : i + 1], LABELS[i : i + 1]) for i in range(3)])
    expected = (each * torch.tensor(used)).mean()
    assert float(build_loss(settings, COUNTS)(LOGITS, LABELS)) == pytest.approx(float(expected), rel=1e-6)


def test_focal_by_hand() -> None:
    p = LOGITS.softmax(1)[range(3), LABELS]
    expected = ((1 - p) ** 1.5 * SEPARATE).mean()
    assert float(build_loss(schema.Focal(name="focal", gamma=1.5))(LOGITS, LABELS)) == pytest.approx(float(expected))
    plain = build_loss(schema.Focal(name="focal", gamma=0.0))(LOGITS, LABELS)
    assert float(plain) == pytest.approx(float(SEPARATE.mean()))


def test_focal_has_a_finite_slope_for_a_certain_answer() -> None:
    logits = torch.tensor([[90.0, 0.0, 0.0]], requires_grad=True)
    build_loss(schema.Focal(name="focal", gamma=0.5))(logits, torch.tensor([0])).backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


@pytest.mark.parametrize(
    "loss", [{"name": "focal"}, {"name": "cross_entropy", "class_weights": [1.0, 2.0, 9.0], "label_smoothing": 0.3}]
)
def test_every_cross_entropy_is_measured_alike(loss: dict[str, object]) -> None:
    measured = build_evaluation_loss(tiny_config(loss=loss).loss)
    assert float(measured(LOGITS, LABELS)) == float(functional.cross_entropy(LOGITS, LABELS))


def test_a_list_needs_one_weight_per_class() -> None:
    settings = schema.CrossEntropy(class_weights=[1.0, 2.0])
    with pytest.raises(InputError, match=r"needs one weight for each of the 3 classes, but got 2"):
        build_loss(settings, COUNTS)


def unbalanced(sampling: str, **keys: object) -> DeviceData:
    """Ready to train on 30 images of class 0, 10 of class 1 and 2 of class 2."""
    whole = tiny_data(num_train=90)
    chosen = [i for k, num in enumerate((30, 10, 2)) for i in range(k, 90, 3)[:num]]
    data = replace(
        whole,
        train_images=whole.train_images[chosen],
        train_labels=whole.train_labels[chosen],
        fingerprint="unbalanced",
    )
    settings = {"name": "npz", "path": "unused.npz", "sampling": sampling, **keys}
    return DeviceData.build(data, tiny_config(data=settings).data, CPU, seed=0, use="retrain")


def labels_of_epoch(data: DeviceData, seed: int = 0) -> torch.Tensor:
    order, draws = (torch.Generator().manual_seed(seed) for _ in range(2))
    return torch.cat([labels for _, labels in data.train_chunks(8, order, draws, torch.channels_last)])


def test_balanced_sampling_shows_every_class_equally_often() -> None:
    data = unbalanced("balanced")
    assert labels_of_epoch(unbalanced("uniform")).bincount().tolist() == [30, 10, 2]
    assert labels_of_epoch(data).bincount().tolist() == [14, 14, 14]
    assert not torch.equal(labels_of_epoch(data), labels_of_epoch(data, seed=1))
    assert labels_of_epoch(data)[:14].unique().numel() > 1  # in random order


def test_balanced_sampling_repeats_no_image_before_all_of_its_class_were_shown() -> None:
    data = unbalanced("balanced", extra={"copies": 4, "augment": "flip"})
    sources = data._sources(torch.Generator().manual_seed(3))
    times = sources.bincount(minlength=42)
    assert len(sources) == 46
    assert times[:30].max() == 1
    assert sorted(set(times[30:40].tolist())) == [1, 2]
    assert times[40:].sum() in (15, 16)


def test_class_weights_and_sampling_change_a_training() -> None:
    losses = {
        "weights": {"name": "cross_entropy", "class_weights": "balanced"},
        "focal": {"name": "focal"},
        "plain": {"name": "cross_entropy"},
    }
    ends = {}
    for sampling in ("uniform", "balanced"):
        data = unbalanced(sampling)
        for name, loss in losses.items():
            config = tiny_config(loss=loss, epochs=2)
            ends[name, sampling] = [figures(result)["train_loss"] for result in train(config, data, CPU, 1)][-1]
    assert len(set(ends.values())) == 6


def test_pieces_of_a_batch_give_the_same_weighted_update() -> None:
    model = {"name": "mlp", "hidden": [8]}
    config = tiny_config(model=model, loss={"name": "cross_entropy", "class_weights": "balanced"}, epochs=2)
    whole, pieces = (
        [r.train_loss for r in train(config, unbalanced("uniform"), CPU, 1, micro_batches=n)] for n in (1, 4)
    )
    assert whole == pytest.approx(pieces, rel=1e-3)
