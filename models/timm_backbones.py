"""Builds backbones of timm by name. The package is installed with the extra `timm`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from winnow.models.weights import WEIGHT_SUFFIXES, is_file, load_into, near, read_file, state_dict
from winnow.spaces.errors import InputError

PREFIX = "timm/"


def timm_backbone(name: str, weights: str, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Build a model of timm without its class layer. Nothing is downloaded.

    Args:
        name: `timm/` and a name from `timm.list_models()`.
        weights: `none`, or a file with a state dict of this model; its class layer is ignored.
        size: (height, width) of the images in pixels.

    Returns:
        The network, which takes images [N, 3, height, width], and the width of its features.

    Raises:
        InputError: timm is missing or has no such model, or the images or the weights do not fit.
    """
    timm = _timm(name)
    architecture = name.removeprefix(PREFIX)
    names = [*timm.list_models(), *timm.list_models(pretrained=True)]  # the latter have the tags of published weights
    if architecture not in names:
        raise InputError(f"model.backbone: timm has no {architecture!r}{near(architecture, names)}")
    if weights != "none" and not is_file(weights):
        raise InputError(
            f"model.weights: {name} takes `none` or a file that ends in {', '.join(WEIGHT_SUFFIXES)}, but got {weights!r}; "
            "Winnow does not download"
        )
    network = _build(timm, architecture, size)
    if weights != "none":
        path = Path(weights)
        tensors = state_dict(read_file(path, "model.weights", next(network.parameters()).device), path, "model.weights")
        load_into(network, _without_classes(tensors, network), path, "model.weights", f"backbone {name}")
    return network, getattr(network, "head_hidden_size", None) or network.num_features


def _timm(name: str) -> Any:
    try:
        import timm
    except ImportError as error:
        raise InputError(
            f"model.backbone: {name} needs the package timm, which is not installed ({error}): pip install 'winnow-search[timm]'"
        ) from error
    return timm


def _build(timm: Any, architecture: str, size: tuple[int, int]) -> Any:
    """Build the network. Models with a fixed image size, such as transformers, are built for `size`."""
    facts = timm.get_pretrained_cfg(architecture)
    keys = {"img_size": size} if facts is not None and facts.fixed_input_size else {}
    try:
        return timm.create_model(architecture, pretrained=False, num_classes=0, **keys)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        height, width = size
        reason = " ".join(str(error).split())
        raise InputError(
            f"model.backbone: {PREFIX}{architecture} cannot take images of {height}x{width}: {reason}"
        ) from error


def _without_classes(tensors: dict[str, Tensor], network: Any) -> dict[str, Tensor]:
    names = network.pretrained_cfg["classifier"] or ()
    prefixes = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
    return {name: value for name, value in tensors.items() if not name.startswith(prefixes)}
