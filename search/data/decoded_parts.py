"""From lists of encoded images to arrays, by way of the cache: what the parquet and image_folder readers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from winnow.search.data.arrays import Arrays
from winnow.search.data.cache import cached
from winnow.search.data.decode import Encoded, decode, num_channels
from winnow.spaces import schema


@dataclass(frozen=True)
class Part:
    """One split, not read yet: the labels of all its images, and `items(n)`, the first n of them (None: all)."""

    labels: np.ndarray
    items: Callable[[int | None], Sequence[Encoded]]


def decode_parts(
    parts: dict[str, Part], class_names: tuple[str, ...], files: Sequence[Path], data: schema.Data, data_dir: Path
) -> Arrays:
    """Decode `train` and, where they are there and wanted, `validation` and `test`; `files` are all that is read."""
    limit = data.limit if "test" in parts else None
    wanted = [name for name in ("train", "validation", "test") if name in parts]
    if data.validation != "given" and "validation" in wanted:
        wanted.remove("validation")
    options = {"parts": wanted, "limit": limit, "image_size": data.image_size, "channels": data.channels}

    def read() -> Arrays:
        train_items = parts["train"].items(limit)
        channels = data.channels or num_channels(train_items)
        arrays = {}
        for name in wanted:
            items = train_items if name == "train" else parts[name].items(None)
            arrays[f"{name}_images"] = decode(items, data.image_size, channels, strict=data.channels is None)
            arrays[f"{name}_labels"] = parts[name].labels
        return Arrays(class_names=class_names, **arrays)

    return cached(data_dir / ".cache", files, options, read)
