"""Transfer from end to end, through the command line: a backbone that Winnow pretrained, torchvision's format, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

from tests.helpers.cifar import write_some
from winnow.search.cli.main import cli
from winnow.search.training.checkpoint import load
from winnow.spaces.errors import InputError

pytestmark = pytest.mark.data

PRETRAINING = """
data: {{name: npz, path: {path}}}
epochs: 4
batch_size: 32
model: {{name: cnn, stages: [{{filters: 8}}, {{filters: 16}}], norm: batch, features: avg}}
optimizer: {{name: adam, lr: 0.01}}
"""

TRANSFER = """
data: {{name: npz, path: {path}}}
epochs: 2
batch_size: 32
model: {{name: transfer, backbone: {{weights: {weights}}}, head: [16]}}
optimizer: {{name: adam, lr: 0.003}}
"""


def train(recipe: str | Path, output: Path, *overrides: str) -> dict[str, Any]:
    changes = [argument for text in overrides for argument in ("--set", text)]
    arguments = ["train", str(recipe), *changes, "--device", "cpu", "--threads", "1", "--output", str(output)]
    cli.main(args=arguments, standalone_mode=False)
    result: dict[str, Any] = json.loads((output / "result.json").read_text())
    return result


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both CIFARs, a recipe of each, and `pretrained/`, a backbone trained on CIFAR-10."""
    folder = tmp_path_factory.mktemp("transfer")
    write_some(folder / "cifar10.npz", "cifar10", 60, 5)
    write_some(folder / "cifar100.npz", "cifar100", 3)
    (folder / "pretrain.yaml").write_text(PRETRAINING.format(path=folder / "cifar10.npz"))
    weights = folder / "pretrained" / "weights.pt"
    (folder / "transfer.yaml").write_text(TRANSFER.format(path=folder / "cifar100.npz", weights=weights))
    train(folder / "pretrain.yaml", folder / "pretrained")
    return folder


def backbone(folder: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of the convolution stages."""
    tensors: dict[str, Tensor] = load(folder / "weights.pt")["weights"]
    found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(f"{prefix}stages.")}
    assert found
    return found


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "whole"])
def test_from_cifar10_to_cifar100(frozen: bool, place: Path, tmp_path: Path) -> None:
    result = train(place / "transfer.yaml", tmp_path / "out", f"model.frozen={str(frozen).lower()}")
    assert result["status"] == "completed"
    assert len(result["data"]["class_names"]) == 100, "the head is new: the backbone knew 10 classes"
    before, after = backbone(place / "pretrained"), backbone(tmp_path / "out", "backbone.")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before) == frozen
    losses = [json.loads(line)["train_loss"] for line in (tmp_path / "out" / "epochs.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]


def test_a_transferred_network_is_a_backbone_in_turn(place: Path, tmp_path: Path) -> None:
    train(place / "transfer.yaml", tmp_path / "first", "epochs=1")
    result = train(
        place / "transfer.yaml",
        tmp_path / "second",
        "epochs=1",
        f"model.backbone.weights={tmp_path / 'first' / 'weights.pt'}",
        f"data.path={place / 'cifar10.npz'}",
    )
    assert len(result["data"]["class_names"]) == 10


def test_torchvisions_name_with_a_file_placed_by_hand(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D2, frozen, from a file of the name and format that torchvision would download; the tensors are our own."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    arguments = [
        f"data.path={place / 'cifar100.npz'}",
        "data.name=npz",
        "data.limit=130",
        "epochs=1",
        "model.resize=32",
    ]
    with pytest.raises(InputError, match=r"resnet18-f37072fd\.pth; Winnow does not download"):
        train("recipes/cifar100-d2", tmp_path / "out", *arguments)
    assert not (tmp_path / "out" / "epochs.jsonl").exists()
    network = torchvision.models.resnet18(weights=None)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(network.state_dict(), tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    train("recipes/cifar100-d2", tmp_path / "out", *arguments)
    tensors = load(tmp_path / "out" / "weights.pt")["weights"]
    placed = network.state_dict()
    names = [name for name in placed if not name.startswith("fc.")]
    assert all(torch.equal(tensors[f"backbone.{name}"], placed[name]) for name in names)
    assert tensors["head.classes.weight"].shape == (100, 512)


# --- refused before the first epoch ---------------------------------------------------------------------------------------


def refusal(recipe: str | Path, output: Path, *overrides: str) -> str:
    with pytest.raises(InputError) as error:
        train(recipe, output, *overrides)
    assert not (output / "epochs.jsonl").exists(), "nothing was trained"
    return str(error.value)


def test_a_weight_file_of_another_architecture(place: Path, tmp_path: Path) -> None:
    weights = place / "pretrained" / "weights.pt"
    data = [f"data.path={place / 'cifar100.npz'}", "data.name=npz"]
    message = refusal("recipes/cifar100-d2", tmp_path / "a", *data, f"model.weights={weights}", "model.resize=32")
    assert f"model.weights: {weights} does not fit backbone resnet18" in message
    other = tmp_path / "other.yaml"
    other.write_text("model: {name: cnn, stages: [{filters: 9}]}")
    message = refusal(place / "transfer.yaml", tmp_path / "b", f"model.backbone.config={other}")
    assert "does not fit a cnn" in message
    assert "9x3x3x3 in the network" in message


def test_a_backbone_that_does_not_exist(place: Path, tmp_path: Path) -> None:
    message = refusal(place / "transfer.yaml", tmp_path / "a", "model.backbone=resnet81")
    assert "torchvision has no 'resnet81'; did you mean" in message
    message = refusal(place / "transfer.yaml", tmp_path / "b", "model.backbone.weights=gone.pt")
    assert "model.backbone.weights: no such file: gone.pt" in message


def test_another_number_of_classes_in_the_file_is_no_matter(place: Path, tmp_path: Path) -> None:
    """torchvision's 1,000 and Winnow's 10: the class layer of the file is left out, so only the rest must fit."""
    torch.save(torchvision.models.squeezenet1_1(num_classes=7).state_dict(), tmp_path / "seven.pt")
    changes = ["model.backbone=squeezenet1_1", f"model.weights={tmp_path / 'seven.pt'}", "model.resize=32", "epochs=1"]
    assert train(place / "transfer.yaml", tmp_path / "out", *changes)["status"] == "completed"
