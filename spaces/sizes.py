"""Counts the parameters and multiply-adds of a network without building it, which takes microseconds and needs no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from winnow.spaces.shapes import ImageShape, trace

if TYPE_CHECKING:
    from winnow.spaces.schema import Cnn, Config, ConvNext, Limits, Mixture, Mlp, Residual, Vit


class Size(NamedTuple):
    """The size of a network or of a part of it, for one image. `models.summarize` counts the same."""

    parameters: int
    multiply_adds: int


KERNEL_MIXING_POSITIONS = 144
"""Number of positions of a feature map from which one mixed kernel per image is faster on a CPU than mixed inputs (`models.mixture`).

This is 12x12: mixed kernels are slower at 8x8 and faster at 16x16.
"""


def size_of(model: Any, image_shape: ImageShape, num_classes: int) -> Size | None:
    """Count the parameters and multiply-adds of a network.

    Args:
        model: Any `schema.Model`.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of logits.

    Returns:
        The size; None for a family that is not in SIZES, whose size only its code knows.

    Raises:
        ShapeError: A layer shrinks the image to nothing.
    """
    parts = SIZES.get(model.name)
    if parts is None:
        return None
    sizes = list(parts(model, image_shape, num_classes))
    return Size(sum(size.parameters for size in sizes), sum(size.multiply_adds for size in sizes))


def known_excess(limits: Limits | None, config: Config, image_shape: ImageShape, num_classes: int) -> str | None:
    """Describe the limit that the network of a config is known to exceed.

    Args:
        limits: The limits; None if there are none.
        config: The config.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of classes.

    Returns:
        The limit in words; None if no limit is exceeded, or if only a measurement can show it.
    """
    return None if limits is None else limits.exceeded(known_sizes(config, image_shape, num_classes))


def known_sizes(config: Config, image_shape: ImageShape, num_classes: int) -> dict[str, int]:
    """Return the figures of a network that are known before it is built, by the names of the columns of a trial.

    Args:
        config: The config.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of classes.

    Returns:
        The figures; empty if only the code of the network knows them.
    """
    size = size_of(config.model, image_shape, num_classes)
    return {} if size is None else {"num_parameters": size.parameters, "multiply_adds": size.multiply_adds}


def _mlp(model: Mlp, image_shape: ImageShape, num_classes: int) -> Iterator[Size]:
    yield from _head(math.prod(image_shape), model.hidden, num_classes, model.norm)


def _cnn(model: Cnn, image_shape: ImageShape, num_classes: int) -> Iterator[Size]:
    shapes = dict(trace(model, image_shape, num_classes))
    channels = image_shape[0]
    if model.whitening:
        filters, height, width = shapes["whitening"]
        # The filters are fixed: only the biases are parameters.
        yield Size(filters, channels * filters * model.whitening**2 * height * width)
        channels = filters
    for index, stage in enumerate(model.stages):
        positions = math.prod(shapes[f"stages.{index}.conv"][1:])
        bias = model.norm == "none" or model.norm_place != "after_conv"
        if stage.separable:
            yield from _separable_conv(channels, stage.filters, stage.kernel, positions, bias)
        else:
            yield _conv(channels, stage.filters, stage.kernel, positions, bias)
        yield _norm(model.norm, stage.filters)
        yield from _squeeze(stage.squeeze, stage.filters)
        channels = stage.filters
    yield from _head(shapes["features"][0], model.head, num_classes, model.head_norm)


def _residual(model: Residual, image_shape: ImageShape, num_classes: int) -> Iterator[Size]:
    shapes = dict(trace(model, image_shape, num_classes))
    yield from _unit(model, image_shape[0], model.stem, math.prod(image_shape[1:]))
    channels = model.stem
    for index, stage in enumerate(model.stages):
        positions = math.prod(shapes[f"stages.{index}.blocks"][1:])
        for block in range(stage.blocks):
            stride = stage.stride if block == 0 else 1
            for inputs in (channels, stage.filters):
                yield from _unit(model, inputs, stage.filters, positions, model.groups, model.separable)
            yield from _squeeze(model.squeeze, stage.filters)
            if model.skip and (channels != stage.filters or stride != 1):
                yield _conv(channels, stage.filters, 1, positions, bias=model.norm == "none")
                yield _norm(model.norm, stage.filters)
            channels = stage.filters
    yield from _head(shapes["features"][0], model.head, num_classes, model.head_norm, model.logits_norm)


def _mixture(model: Mixture, image_shape: ImageShape, num_classes: int) -> Iterator[Size]:
    shapes = dict(trace(model, image_shape, num_classes))
    channels = image_shape[0]
    for index, block in enumerate(model.blocks):
        positions = math.prod(shapes[f"blocks.{index}.conv"][1:])
        yield _linear(channels, model.convs)
        yield _mixed_conv(channels, block.filters, model.convs, positions)
        if channels != block.filters:
            yield _conv(channels, block.filters, 1, positions, bias=model.norm == "none")
            yield _norm(model.norm, block.filters)
        yield _norm(model.norm, block.filters)
        channels = block.filters
    yield from _head(channels, model.head, num_classes, "none")


def _convnext(model: ConvNext, image_shape: ImageShape, num_classes: int) -> Iterator[Size]:
    shapes = dict(trace(model, image_shape, num_classes))
    channels = model.stages[0].filters
    yield _conv(image_shape[0], channels, model.patch, math.prod(shapes["stem"][1:]), bias=True)
    yield _norm("layer", channels)
    for index, stage in enumerate(model.stages):
        positions = math.prod(shapes[f"stages.{index}.blocks"][1:])
        if index > 0:
            yield _norm("layer", channels)
            yield _conv(channels, stage.filters, 2, positions, bias=True)
        channels, hidden = stage.filters, stage.filters * model.expansion
        for _ in range(stage.blocks):
            yield _conv(channels, channels, stage.kernel, positions, bias=True, groups=channels)
            yield _norm("layer", channels)
            yield _conv(channels, hidden, 1, positions, bias=True)
            yield _conv(hidden, channels, 1, positions, bias=True)
            yield Size(0 if model.layer_scale is None else channels, 0)
    yield _norm("layer", channels)
    yield _linear(channels, num_classes)


def _vit(model: Vit, image_shape: ImageShape, num_classes: int) -> Iterator[Size]:
    shapes = dict(trace(model, image_shape, num_classes))
    tokens, width = shapes["blocks.0"]
    yield _conv(image_shape[0], width, model.patch, math.prod(shapes["patches"][1:]), bias=True)
    yield Size(tokens * width + (width if model.features == "class_token" else 0), 0)
    for _ in range(model.depth):
        yield _norm("layer", 2 * width)  # two norms
        hidden = int(width * model.mlp_ratio)
        for inputs, outputs in ((width, 3 * width), (width, width), (width, hidden), (hidden, width)):
            size = _linear(inputs, outputs)
            yield Size(size.parameters, tokens * size.multiply_adds)
        yield Size(0, 2 * tokens**2 * width)  # products of queries and keys, and of attention weights and values
    yield _norm("layer", width)
    yield _linear(width, num_classes)


SIZES: dict[str, Callable[[Any, ImageShape, int], Iterator[Size]]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "residual": _residual,
    "mixture": _mixture,
    "convnext": _convnext,
    "vit": _vit,
}


def _unit(
    model: Residual, channels: int, filters: int, positions: int, groups: int = 1, separable: bool = False
) -> Iterator[Size]:
    bias = model.norm == "none" or model.norm_place != "after_conv"
    if separable:
        yield from _separable_conv(channels, filters, 3, positions, bias)
    else:
        yield _conv(channels, filters, 3, positions, bias, groups)
    yield _norm(model.norm, filters)


def _separable_conv(channels: int, filters: int, kernel: int, positions: int, bias: bool) -> Iterator[Size]:
    yield _conv(channels, channels, kernel, positions, bias=False, groups=channels)
    yield _conv(channels, filters, 1, positions, bias)


def _squeeze(reduction: int | None, filters: int) -> Iterator[Size]:
    if reduction is not None:
        hidden = max(1, filters // reduction)
        yield _linear(filters, hidden)
        yield _linear(hidden, filters)


def _mixed_conv(channels: int, filters: int, num_convs: int, positions: int) -> Size:
    weights = channels * filters * 9
    mixed_biases = num_convs * filters
    if positions >= KERNEL_MIXING_POSITIONS:
        multiply_adds = num_convs * weights + weights * positions + mixed_biases
    else:
        multiply_adds = num_convs * weights * positions + mixed_biases
    return Size(num_convs * (weights + filters), multiply_adds)


def _head(features: int, widths: list[int], num_classes: int, norm: str, logits_norm: str = "none") -> Iterator[Size]:
    for width in widths:
        yield _linear(features, width, bias=norm == "none")
        yield _norm(norm, width)
        features = width
    yield _linear(features, num_classes, bias=logits_norm == "none")
    yield _norm(logits_norm, num_classes)


def _conv(channels: int, filters: int, kernel: int, positions: int, bias: bool, groups: int = 1) -> Size:
    weights = channels // groups * filters * kernel**2
    return Size(weights + bias * filters, weights * positions)


def _linear(inputs: int, outputs: int, bias: bool = True) -> Size:
    return Size(inputs * outputs + bias * outputs, inputs * outputs)


def _norm(kind: str, width: int) -> Size:
    return Size(0 if kind == "none" else 2 * width, 0)
