"""Lays out a small drawing of a network with one block per layer, whose height shows the feature map and whose width the channels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

COLUMN = 84
"""Width of the column of one block, in pixels."""
HEIGHT = 72
"""Height of the tallest block, in pixels."""
LEAST = 6
MAX_BLOCKS = 14
"""Largest number of blocks. If there are more layers, the drawing leaves out the middle ones."""


@dataclass(frozen=True)
class Block:
    """One block of the drawing."""

    title: str
    size: str
    """The output of the layer in words, such as `16 × 8×8`, or `64 × 128` for 64 tokens."""
    left: float
    top: float
    width: float
    height: float


def network_blocks(config: Mapping[str, Any], image_shape: Sequence[int], num_classes: int) -> list[Block]:
    """Compute the blocks from the image to the classes.

    Args:
        config: A complete config.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of classes.

    Returns:
        The blocks from left to right. A family whose layers are known only to its code is one block.
    """
    layers = [("image", tuple(image_shape)), *_layers(config, tuple(image_shape), num_classes)]
    if len(layers) > MAX_BLOCKS:
        half = MAX_BLOCKS // 2
        layers = [*layers[:half], (f"{len(layers) - 2 * half} more", ()), *layers[-half:]]
    tallest = max(shape[-1] for _, shape in layers if len(shape) == 3)
    return [_block(index, title, shape, tallest) for index, (title, shape) in enumerate(layers)]


def _layers(
    config: Mapping[str, Any], image_shape: tuple[int, ...], num_classes: int
) -> list[tuple[str, tuple[int, ...]]]:
    """Return (title, output shape) of each layer. Pooling and downsampling have no block, since the size of the next layer shows them."""
    from winnow.spaces.schema import Config
    from winnow.spaces.shapes import trace

    model = Config.model_validate(dict(config)).model
    channels, height, width = image_shape
    shapes = trace(model, (channels, height, width), num_classes)
    if not shapes:
        name = getattr(model, "backbone", model.name)
        head = [("hidden", (units,)) for units in getattr(model, "head", None) or []]
        return [(name if isinstance(name, str) else "backbone", ()), *head, ("classes", (num_classes,))]
    kept = [
        (name, shape) for name, shape in shapes if not name.endswith(("pool", "flatten", "features", "downsampling"))
    ]
    return [(_title(name), shape) for name, shape in kept]


def _title(layer: str) -> str:
    """Return the title of a layer, such as `conv 1` for `stages.0.conv`, `block 1` for `blocks.0` and `hidden 1` for `head.0`."""
    parts = layer.split(".")
    if len(parts) == 1:
        return layer
    kind = parts[-1] if parts[-1] in ("conv", "blocks") else "block" if parts[0] == "blocks" else "hidden"
    return f"{kind} {int(parts[1]) + 1}"


def _block(index: int, title: str, shape: tuple[int, ...], tallest: int) -> Block:
    middle = COLUMN * (index + 0.5)
    if len(shape) == 3:
        channels, rows, columns = shape
        height, width = max(LEAST, HEIGHT * max(rows, columns) / tallest), LEAST + 6 * math.log2(channels)
        size = f"{channels} × {rows}×{columns}"
    else:
        units = shape[-1] if shape else 0
        height, width = (min(HEIGHT, LEAST + 6 * math.log2(units)), LEAST) if units else (HEIGHT, COLUMN / 2)
        size = " × ".join(f"{length:,}" for length in shape)
    return Block(
        title, size, round(middle - width / 2, 1), round((HEIGHT - height) / 2, 1), round(width, 1), round(height, 1)
    )
