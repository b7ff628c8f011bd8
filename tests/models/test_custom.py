"""A user's own network: what works, and what is refused with a message that says where and why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from winnow.models import build, check_buildable, parameter_groups, summarize
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Custom

SHAPE = (1, 8, 8)


def linear(image_shape: tuple[int, int, int], num_classes: int, bias: bool = True) -> nn.Module:
    channels, height, width = image_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, num_classes, bias=bias))


def too_narrow(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    return linear(image_shape, num_classes - 1)


def no_module(image_shape: tuple[int, int, int], num_classes: int) -> str:
    return "resnet"


def leaves(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    sys.exit(0)


def breaks(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    raise KeyError("width")


def paints(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    raise ValueError("\x1b[2Jred \x1b]0;title\x07")


def wants_three_channels(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("torch.utils.model_zoo:load_url", "load_state_dict_from_url"),
        ("torch.hub:load", "load"),
        (f"{__name__}:hub", "load"),
    ],
)
def test_torch_hub_is_refused_under_any_name(name: str, function: str) -> None:
    """Whoever trusts the code, and from Python too."""
    with pytest.raises(
        InputError, match=rf"model {name}: is torch\.hub:{function}, which downloads and runs code of others"
    ):
        build(Custom(name=name), SHAPE, 10)


hub = torch.hub.load


class NumpyInside(nn.Module):
    """A forward pass that the meta device could not take."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.classes = nn.Linear(1, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        means = torch.tensor([[image.mean().item()] for image in images])
        return self.classes(means)


def numpy_inside(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    return NumpyInside(num_classes)


class TwoRates(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Linear(64, 8)
        self.classes = nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classes(self.body(images.flatten(1)).relu())

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        return [
            {"params": self.body.parameters(), "lr": lr / 10},
            {"params": self.classes.parameters(), "lr": lr},
        ]


def two_rates(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    return TwoRates(num_classes)


def own(function: str, **keys: Any) -> Custom:
    return Custom.model_validate({"name": f"{__name__}:{function}", **keys})


def test_called_with_shape_classes_and_own_keys() -> None:
    network = build(own("linear", bias=False), SHAPE, 10)
    assert network(torch.zeros(3, *SHAPE)).shape == (3, 10)
    assert [tuple(weight.shape) for weight in network.parameters()] == [(10, 64)]
    assert summarize(own("linear", bias=False), SHAPE, 10).multiply_adds == 640


def test_code_that_the_meta_device_could_not_take() -> None:
    assert summarize(own("numpy_inside"), SHAPE, 10).num_parameters == 20


def test_own_learning_rates() -> None:
    groups = parameter_groups(build(own("two_rates"), SHAPE, 10), 1.0)
    assert [(group["lr"], len(group["params"])) for group in groups] == [(0.1, 2), (1.0, 2)]


def test_module_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "winnow_test_nets.py").write_text(
        "from torch import nn\ndef net(image_shape, num_classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry])
    check_buildable(Custom(name="winnow_test_nets:net"), SHAPE, 10)


REFUSED = {
    "no such module": (
        Custom(name="no_such_package.nets:build"),
        ["no_such_package", "installed", "working directory"],
    ),
    "misspelt function": (own("liner"), ["no function liner", "did you mean linear?"]),
    "unknown key": (
        own("linear", bais=True),
        ["unexpected keyword argument 'bais'", "takes image_shape, num_classes, bias"],
    ),
    "raises": (own("breaks"), ["raised KeyError", "width"]),
    "commands the terminal": (own("paints"), ["raised ValueError: \\x1b[2Jred \\x1b]0;title\\x07"]),
    "exits": (own("leaves"), ["called sys.exit(0)"]),
    "no module": (own("no_module"), ["must return a torch.nn.Module", "str"]),
    "wrong class count": (own("too_narrow"), ["(2, 10)", "(2, 9)"]),
    "wrong channels": (own("wants_three_channels"), ["images of 1x8x8", "layer 0:", "3 channels"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    model, words = REFUSED[case]
    with pytest.raises(InputError) as error:
        check_buildable(model, SHAPE, 10)
    message = str(error.value)
    for word in [*words, model.name.partition(":")[0].partition(".")[0]]:
        assert word in message
    assert "\n" not in message
