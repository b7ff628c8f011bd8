"""Backbones of timm: built by name, weights from a file, refusals. Skipped where timm is not installed, except for that refusal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from winnow.models import build, check_buildable, summarize
from winnow.search.cli.main import cli
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Model

try:
    import timm
except ImportError:
    timm = None

SHAPE = (3, 16, 16)
needs_timm = pytest.mark.skipif(timm is None, reason="timm is not installed: pip install 'winnow-search[timm]'")
# Of each module of timm the model with the shortest name; it has about a hundred.
ONE_OF_EACH = [min(timm.list_models(module=module), key=len) for module in timm.list_modules()] if timm else []


def parse(backbone: str, **raw: Any) -> Model:
    model: Model = TypeAdapter(Model).validate_python({"name": "transfer", "backbone": f"timm/{backbone}", **raw})
    return model


def built_or_refused(model: Model, image_shape: tuple[int, int, int], num_classes: int) -> bool:
    """Whether the network is built with that many logits, or refused in one line that names the image."""
    try:
        return summarize(model, image_shape, num_classes).layers[-1].output_shape == (num_classes,)
    except InputError as error:
        return "cannot take images of" in str(error) and "\n" not in str(error)


def refusal(backbone: str, **raw: Any) -> str:
    with pytest.raises(InputError) as error:
        check_buildable(parse(backbone, **raw), SHAPE, 5)
    assert "\n" not in str(error.value)
    return str(error.value)


@needs_timm
@pytest.mark.parametrize(
    ("backbone", "side"),
    [("resnet10t", 32), ("vit_tiny_patch16_224", 64), ("pit_ti_224", 64), ("resnet18.a1_in1k", 32)],
)
def test_has_the_parameters_of_timm(backbone: str, side: int) -> None:
    keys = {"img_size": side} if backbone.endswith("_224") else {}
    theirs = timm.create_model(backbone, num_classes=5, **keys)
    counted = summarize(parse(backbone, resize=side), SHAPE, 5)
    assert counted.num_parameters == sum(weight.numel() for weight in theirs.parameters())


@needs_timm
@pytest.mark.slow
@pytest.mark.parametrize("backbone", ONE_OF_EACH)
def test_every_module_of_timm_is_built_or_refused_in_a_sentence(backbone: str) -> None:
    assert built_or_refused(parse(backbone, resize=64), SHAPE, 5)


@needs_timm
def test_weights_from_a_file_with_another_number_of_classes(tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = timm.create_model("resnet10t", num_classes=7).eval()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = build(parse("resnet10t", weights=str(tmp_path / "w.pth"), frozen=True), SHAPE, 5).eval()
    theirs.reset_classifier(0)
    images = torch.randn(2, *SHAPE)
    torch.testing.assert_close(ours.get_submodule("backbone")(images), theirs(images))
    assert "does not fit backbone timm/resnet18" in refusal("resnet18", weights=str(tmp_path / "w.pth"))


@needs_timm
def test_every_weight_trains(tmp_path: Path) -> None:
    network = build(parse("resnet10t"), SHAPE, 5)
    nn.functional.cross_entropy(network(torch.randn(8, *SHAPE)), torch.arange(8) % 5).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


@needs_timm
def test_trains_through_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "data: {name: digits, limit: 100}\nepochs: 1\nbatch_size: 32\n"
        "model: {name: transfer, backbone: timm/test_vit, resize: 32}\noptimizer: {name: adamw, lr: 0.001}\n"
    )
    arguments = ["train", str(tmp_path / "recipe.yaml"), "--device", "cpu", "--threads", "1", "--output"]
    cli.main(args=[*arguments, str(tmp_path / "out")], standalone_mode=False)
    assert (tmp_path / "out" / "weights.pt").is_file()


@needs_timm
def test_refusals() -> None:
    assert refusal("resnet_18").startswith("model.backbone: timm has no 'resnet_18'; did you mean ")
    assert "timm has no 'resnet18.gone'; did you mean resnet18 or resnet18.gluon_in1k" in refusal("resnet18.gone")
    assert "takes `none` or a file" in refusal("resnet18", weights="a1_in1k")
    assert "no such file: gone.pth" in refusal("resnet18", weights="gone.pth")
    assert "cannot take images of 3x16x16: layer backbone" in refusal("inception_v3", resize=32)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    message = refusal("resnet18")
    assert message.startswith("model.backbone: timm/resnet18 needs the package timm, which is not installed")
    assert message.endswith("pip install 'winnow-search[timm]'")
