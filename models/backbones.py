"""Builds backbones, which are trained networks without their class layer: classification models of torchvision and earlier winners."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from winnow.models.weights import WEIGHT_SUFFIXES, is_file, load_into, near, read_file, state_dict
from winnow.spaces.errors import InputError
from winnow.spaces.grammar import yaml12
from winnow.spaces.schema import Model, TrainedBackbone, Transfer

# Arguments that some models of torchvision need, given the side of the image in pixels.
TORCHVISION_KEYS: dict[str, Callable[[int], dict[str, Any]]] = {
    "googlenet": lambda side: {"aux_logits": False, "init_weights": True},
    "inception": lambda side: {"aux_logits": False, "init_weights": True},
    "maxvit": lambda side: {"input_size": (side, side)},
    "vit": lambda side: {"image_size": side},
}

# Auxiliary classifiers, needed only for training from scratch.
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


def torchvision_backbone(model: Transfer, side: int) -> tuple[nn.Module, int]:
    """Return a network of torchvision without its class layer, and the width of its features.

    Args:
        model: The `model` section of the config.
        side: Pixels per side of the input; the network takes images [N, 3, side, side].

    Raises:
        InputError: A name is unknown, the network cannot take such images, or the weights are
            missing or do not fit.
    """
    assert isinstance(model.backbone, str)
    names = torchvision.models.list_models(module=torchvision.models)
    if model.backbone not in names:
        raise InputError(f"model.backbone: torchvision has no {model.backbone!r}{near(model.backbone, names)}")
    keys = TORCHVISION_KEYS.get(re.split(r"[_\d]", model.backbone)[0], lambda side: {})(side)
    named_weights = model.weights != "none" and not is_file(model.weights)
    if named_weights and "aux_logits" in keys:
        keys["transform_input"] = True  # these weights expect pixels in [-1, 1] rather than normalized by mean and std
    try:
        network = torchvision.models.get_model(model.backbone, **keys)
    except (AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"model.backbone: {model.backbone} cannot take images of {side}x{side}: {reason}") from error
    width, dropped = cut_classes(network, f"model.backbone: {model.backbone}")
    if model.weights != "none":
        path = _named_file(model.backbone, model.weights) if named_weights else Path(model.weights)
        tensors = state_dict(read_file(path, "model.weights", _device(network)), path, "model.weights")
        tensors = {_modern(name): value for name, value in tensors.items() if not name.startswith(AUXILIARY)}
        load_into(network, _without(tensors, dropped), path, "model.weights", f"backbone {model.backbone}")
    return network, width


def trained_backbone(
    backbone: TrainedBackbone,
    image_shape: tuple[int, int, int],
    build: Callable[[Model, tuple[int, int, int], int], nn.Module],
) -> tuple[nn.Module, int]:
    """Return a network trained by Winnow without its class layer, and the width of its features.

    Args:
        backbone: The file of its weights, and the config of its training unless the file contains it.
        image_shape: (channels, height, width) of its input images.
        build: Builds a network from a `model` section, an image shape and a number of classes.

    Raises:
        InputError: A file is missing or not readable, contains no config, or does not fit the network.
    """
    path = Path(backbone.weights)
    key = "model.backbone.weights"
    content = read_file(path, key, torch.device("cpu"))
    if backbone.config is None and "config" not in content:
        raise InputError(
            f"{key}: {path} contains no config; set `config` to the recipe that the weights were trained with"
        )
    model = _parse_model(stored_config(backbone, content), backbone.config or backbone.weights)
    if isinstance(model, Transfer):
        model = model.model_copy(update={"weights": "none"})  # the weights are in the file
    network = build(model, image_shape, 1)
    width, dropped = cut_classes(network, f"model.backbone: {model.name}")
    height_width = "x".join(map(str, image_shape))
    kind = f"a {model.name} for images of {height_width} (set `resize` if it was trained on another size)"
    load_into(network, _without(state_dict(content, path, key), dropped), path, key, kind)
    return network, width


def stored_config(backbone: TrainedBackbone, content: Mapping[str, Any] | None = None) -> Any:
    """Return the config of the training of a backbone as it is stored; None if there is none.

    Args:
        backbone: The file of its weights, and the file of its config unless the weights contain it.
        content: The content of the file of its weights. Default: the file is read.

    Raises:
        InputError: The file that holds the config is missing or not readable.
    """
    if backbone.config is not None:
        return _read_config(Path(backbone.config))
    if content is None:
        content = read_file(Path(backbone.weights), "model.backbone.weights", torch.device("cpu"))
    return content.get("config")


def cut_classes(network: nn.Module, where: str) -> tuple[int, tuple[str, ...]]:
    """Replace the class layer, and the layers after it in its sequence, by identities.

    Args:
        network: The network; it is changed in place.
        where: Name of the network in messages.

    Returns:
        The width of the features, and the names of the replaced layers, each followed by a dot.
    """
    linear = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    # The class layer of SqueezeNet is a 1x1 convolution before the average pooling.
    layers = linear or [name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
    if not layers:
        raise InputError(f"{where} has no linear layer to replace")
    parent_name, _, own_name = layers[-1].rpartition(".")
    parent = network.get_submodule(parent_name)
    classes = network.get_submodule(layers[-1])
    assert isinstance(classes, nn.Linear | nn.Conv2d)
    width = classes.in_features if isinstance(classes, nn.Linear) else classes.in_channels
    names = [own_name]
    if linear and isinstance(parent, nn.Sequential):
        siblings = [name for name, _ in parent.named_children()]
        names = siblings[siblings.index(own_name) :]
    for name in names:
        setattr(parent, name, nn.Identity())
    return width, tuple(f"{parent_name}.{name}.".lstrip(".") for name in names)


def _named_file(backbone: str, weights: str) -> Path:
    """Return the path at which torch stores downloaded weights of that name."""
    known = torchvision.models.get_model_weights(backbone)
    if weights not in known.__members__:
        raise InputError(
            f"model.weights: {backbone} has no weights {weights!r}{near(weights, list(known.__members__))}; allowed: none, "
            f"{', '.join(known.__members__)}, or a file that ends in {', '.join(WEIGHT_SUFFIXES)}"
        )
    url = known[weights].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        raise InputError(f"model.weights: {backbone} {weights} is not at {path}; Winnow does not download: fetch {url}")
    return path


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _modern(name: str) -> str:
    """Rename `denselayer1.norm.1.weight` in DenseNet files of torchvision to the `denselayer1.norm1.weight` of the network."""
    return re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", name)


def _without(tensors: dict[str, Tensor], dropped: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if not name.startswith(dropped)}


def _read_config(path: Path) -> Any:
    if not path.is_file():
        raise InputError(
            f"model.backbone.config: no such file: {path} (relative paths count from the working directory)"
        )
    return yaml12.load(path.read_text(encoding="utf-8"), str(path)).tree  # YAML includes JSON


def _parse_model(config: Any, source: str) -> Model:
    raw = config.get("model", config) if isinstance(config, dict) else config
    try:
        return TypeAdapter(Model).validate_python(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["model", *map(str, first["loc"])])
        raise InputError(
            f"model.backbone: {source} is not a config with a fixed model: {place}: {first['msg']}"
        ) from error
