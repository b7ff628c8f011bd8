"""Computes the output shapes of a network, to check that it can be built for an image size without building it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from winnow.spaces.errors import SpaceError
from winnow.spaces.grammar.problems import KeyPath, show_path

if TYPE_CHECKING:
    from winnow.spaces.schema import Augmentation, Cnn, Config, ConvNext, Mixture, Mlp, Residual, Stage, Vit

ImageShape = tuple[int, int, int]
"""(channels, height, width) of an image."""
Shapes = list[tuple[str, tuple[int, ...]]]
"""(layer, output shape without the batch dimension) of each layer, in order."""

KNOWN_IMAGE_SHAPES: dict[str, ImageShape] = {
    "digits": (1, 8, 8),
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
}


def recorded_shape(study: Mapping[str, Any]) -> ImageShape | None:
    """Return the shape of the images of a run; None if it is not recorded.

    Args:
        study: The content of its study.yaml.
    """
    match (study.get("data") or {}).get("image_shape"):
        case [int(channels), int(height), int(width)]:
            return channels, height, width
    return None


class ShapeError(SpaceError):
    """Raised if the sizes in a config do not fit; `path` is the key path of the value at fault."""

    def __init__(self, path: KeyPath, reason: str) -> None:
        super().__init__(f"{show_path(path)}: {reason}")
        self.path = path
        self.reason = reason


def trace(model: Any, image_shape: ImageShape, num_classes: int) -> Shapes:
    """Compute the output shape of each layer.

    Args:
        model: Any `schema.Model`.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of logits.

    Returns:
        (layer, output shape without the batch dimension) of each layer, in order; empty for a family that is not in TRACES, whose
        shapes only its code knows.

    Raises:
        ShapeError: A layer shrinks the image to nothing; the first such layer is named.
    """
    tracer = TRACES.get(model.name)
    return tracer(model, image_shape, num_classes) if tracer else []


def _check_mirrored_border(path: KeyPath, pixels: int, side: int) -> None:
    if pixels >= side:
        raise ShapeError(path, f"a border can be mirrored up to {side - 1} pixels in these images, but got {pixels}")


def check_shapes(config: Config, image_shape: ImageShape) -> None:
    """Check that network, augmentation, test-time views and normalization fit the shape of the images.

    Args:
        config: The config.
        image_shape: (channels, height, width) of an image.

    Raises:
        ShapeError: One of them does not fit.
    """
    from winnow.spaces.schema import Crop, ResizeCrop

    trace(config.model, image_shape, num_classes=1)
    channels, height, width = image_shape
    extra = config.data.extra.augment if config.data.extra else []
    steps: list[tuple[KeyPath, Augmentation]] = [
        *((("data", "augment", index), step) for index, step in enumerate(config.data.augment)),
        *((("data", "extra", "augment", index), step) for index, step in enumerate(extra)),
    ]
    for path, step in steps:
        if isinstance(step, ResizeCrop) and step.size < max(height, width):
            raise ShapeError(
                (*path, "size"), f"must be at least the image's {max(height, width)} pixels, but got {step.size}"
            )
        if isinstance(step, Crop) and step.fill == "reflect":
            _check_mirrored_border((*path, "padding"), step.padding, min(height, width))
    _check_mirrored_border(("test_shift",), config.test_shift, min(height, width))
    mean = getattr(config.data.normalize, "mean", None)
    if mean is not None and len(mean) != channels:
        raise ShapeError(
            ("data", "normalize", "mean"), f"needs one value for each of the {channels} channels, but got {len(mean)}"
        )


def known_image_shape(data: Any) -> ImageShape | None:
    """Return the image shape of a raw `data` section; None if only the data determine it."""
    data = {"name": data} if isinstance(data, str) else data
    if not isinstance(data, dict):
        return None
    known = KNOWN_IMAGE_SHAPES.get(str(data.get("name")))
    size = data.get("image_size")
    sides = [size, size] if isinstance(size, int) else size
    is_size = isinstance(sides, list) and len(sides) == 2 and all(isinstance(side, int) for side in sides)
    if known is None and not is_size:
        return None
    channels, height, width = known or (_channels_of_statistics(data.get("normalize")), 0, 0)
    if isinstance(sides, list) and is_size:
        height, width = sides
    return data.get("channels") or channels, height, width


def _channels_of_statistics(normalize: Any) -> int:
    mean = normalize.get("mean") if isinstance(normalize, dict) else None
    return len(mean) if isinstance(mean, list) else 3


def _trace_mlp(model: Mlp, image_shape: ImageShape, num_classes: int) -> Shapes:
    channels, height, width = image_shape
    hidden = [(f"hidden.{index}", (units,)) for index, units in enumerate(model.hidden)]
    return [("flatten", (channels * height * width,)), *hidden, ("classes", (num_classes,))]


def _trace_cnn(model: Cnn, image_shape: ImageShape, num_classes: int) -> Shapes:
    shapes: Shapes = []
    channels, height, width = image_shape
    if model.whitening:
        if min(height, width) < model.whitening:
            raise ShapeError(
                ("model", "whitening"),
                f"must not be larger than the image, {height}x{width} pixels, but got {model.whitening}",
            )
        height, width = height - model.whitening + 1, width - model.whitening + 1
        shapes.append(("whitening", (2 * channels * model.whitening**2, height, width)))
    for index, stage in enumerate(model.stages):
        height, width = _convolve(stage, index, height, width)
        shapes.append((f"stages.{index}.conv", (stage.filters, height, width)))
        height, width = _pool(stage, "stages", index, height, width)
        name = "pool" if model.pool_place == "after_activation" else "pool_after_conv"
        shapes += _pool_layer(stage, f"stages.{index}.{name}", height, width)
    return [*shapes, *_trace_head(model, shapes[-1][1], num_classes, model.features == "flatten")]


def _trace_residual(model: Residual, image_shape: ImageShape, num_classes: int) -> Shapes:
    _, height, width = image_shape
    shapes: Shapes = [("stem", (model.stem, height, width))]
    for index, stage in enumerate(model.stages):
        height, width = _ceil_divide(height, stage.stride), _ceil_divide(width, stage.stride)
        shapes.append((f"stages.{index}.blocks", (stage.filters, height, width)))
        height, width = _pool(stage, "stages", index, height, width)
        shapes += _pool_layer(stage, f"stages.{index}.pool", height, width)
    return [*shapes, *_trace_head(model, shapes[-1][1], num_classes, model.features == "flatten")]


def _trace_mixture(model: Mixture, image_shape: ImageShape, num_classes: int) -> Shapes:
    shapes: Shapes = []
    _, height, width = image_shape
    for index, block in enumerate(model.blocks):
        shapes.append((f"blocks.{index}.conv", (block.filters, height, width)))
        height, width = _pool(block, "blocks", index, height, width)
        shapes += _pool_layer(block, f"blocks.{index}.pool", height, width)
    return [*shapes, *_trace_head(model, shapes[-1][1], num_classes, flattened=False)]


def _trace_convnext(model: ConvNext, image_shape: ImageShape, num_classes: int) -> Shapes:
    _, height, width = image_shape
    if min(height, width) < model.patch:
        raise ShapeError(
            ("model", "patch"), f"must not be larger than the image, {height}x{width} pixels, but got {model.patch}"
        )
    height, width = height // model.patch, width // model.patch
    shapes: Shapes = [("stem", (model.stages[0].filters, height, width))]
    for index, stage in enumerate(model.stages):
        if index > 0:
            if min(height, width) < 2:
                reason = f"a {height}x{width} feature map cannot be halved; use fewer stages or a smaller patch"
                raise ShapeError(("model", "stages", index), reason)
            height, width = height // 2, width // 2
            shapes.append((f"stages.{index}.downsampling", (stage.filters, height, width)))
        shapes.append((f"stages.{index}.blocks", (stage.filters, height, width)))
    return [*shapes, ("features", (model.stages[-1].filters,)), ("classes", (num_classes,))]


def _trace_vit(model: Vit, image_shape: ImageShape, num_classes: int) -> Shapes:
    _, height, width = image_shape
    if height % model.patch or width % model.patch:
        reason = f"must divide the height and the width of the image, {height}x{width} pixels, but got {model.patch}"
        raise ShapeError(("model", "patch"), reason)
    rows, columns = height // model.patch, width // model.patch
    tokens = rows * columns + (model.features == "class_token")
    blocks: Shapes = [(f"blocks.{index}", (tokens, model.width)) for index in range(model.depth)]
    return [
        ("patches", (model.width, rows, columns)),
        *blocks,
        ("features", (model.width,)),
        ("classes", (num_classes,)),
    ]


TRACES: dict[str, Callable[[Any, ImageShape, int], Shapes]] = {
    "mlp": _trace_mlp,
    "cnn": _trace_cnn,
    "residual": _trace_residual,
    "mixture": _trace_mixture,
    "convnext": _trace_convnext,
    "vit": _trace_vit,
}


def _trace_head(model: Cnn | Residual | Mixture, last: tuple[int, ...], num_classes: int, flattened: bool) -> Shapes:
    num_features = math.prod(last) if flattened else last[0]
    hidden = [(f"head.{index}", (units,)) for index, units in enumerate(model.head)]
    return [("features", (num_features,)), *hidden, ("classes", (num_classes,))]


def _convolve(stage: Stage, index: int, height: int, width: int) -> tuple[int, int]:
    if stage.padding == "same":
        return _ceil_divide(height, stage.stride), _ceil_divide(width, stage.stride)
    height_left, width_left = (
        (size + 2 * stage.padding - stage.kernel) // stage.stride + 1 for size in (height, width)
    )
    if min(height_left, width_left) < 1:
        reason = (
            f"kernel {stage.kernel}x{stage.kernel} with padding {stage.padding} on a {height}x{width} feature map leaves "
            "nothing; use a larger padding, a smaller kernel or fewer stages"
        )
        raise ShapeError(("model", "stages", index, "kernel"), reason)
    return height_left, width_left


def _pool(stage: Any, layers: str, index: int, height: int, width: int) -> tuple[int, int]:
    if stage.pool == "none":
        return height, width
    size = stage.pool_size
    if min(height, width) < size:
        reason = (
            f"pooling {size}x{size} of a {height}x{width} feature map leaves nothing; "
            f"use `pool: none` here or earlier, or fewer {layers}"
        )
        raise ShapeError(("model", layers, index, "pool"), reason)
    return height // size, width // size


def _pool_layer(stage: Any, name: str, height: int, width: int) -> Shapes:
    return [] if stage.pool == "none" else [(name, (stage.filters, height, width))]


def _ceil_divide(size: int, stride: int) -> int:
    """Return the output size of a convolution with a stride and with padding that would keep the size at stride 1."""
    return -(-size // stride)
