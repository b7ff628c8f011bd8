"""Small data sets in the layouts that the readers know."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from winnow.search.data.image_data import ImageData
from winnow.search.data.source import load
from winnow.spaces.schema import Data

NAMES = ["cat", "dog", "owl"]


def pictures(num: int, seed: int = 0, size: tuple[int, int] = (5, 6), channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, *size, channels), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()


def same_images(given: np.ndarray, expected: np.ndarray) -> bool:
    """Whether the same images are there, in whatever order."""
    return sorted(image.tobytes() for image in given) == sorted(image.tobytes() for image in expected)


def labels_by_image(images: np.ndarray, labels: np.ndarray) -> dict[bytes, int]:
    """{pixels: label}; the images are all different."""
    return {image.tobytes(): int(label) for image, label in zip(images, labels, strict=True)}


def read(tmp_path: Path, name: str = "parquet", path: Path | None = None, **settings: Any) -> ImageData:
    return load(Data(name=name, path=str(path or tmp_path / "set"), **settings), tmp_path / "data")


def write_shard(
    file: Path,
    images: Sequence[np.ndarray | bytes | None],
    labels: Sequence[int | None],
    names: list[str] | None = NAMES,
) -> None:
    content = [image if image is None or isinstance(image, bytes) else png(image) for image in images]
    column = pa.array(
        [{"bytes": c, "path": None} for c in content], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
    schema = pa.schema([("image", column.type), ("label", pa.int64())], metadata=metadata)
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table([column, pa.array(labels, pa.int64())], schema=schema), file, row_group_size=4)


def parquet_set(folder: Path, validation: bool = False) -> dict[str, np.ndarray]:
    """Two shards of 6 training images, 6 test images."""
    images = {"train": pictures(12), "test": pictures(6, 1), "validation": pictures(3, 2)}
    for part in range(2):
        rows = slice(6 * part, 6 * part + 6)
        write_shard(folder / f"train-0000{part}-of-00002.parquet", list(images["train"][rows]), [0, 1, 2, 0, 1, 2])
    write_shard(folder / "test-00000-of-00001.parquet", list(images["test"]), [2, 1, 0, 2, 1, 0])
    if validation:
        write_shard(folder / "validation-00000-of-00001.parquet", list(images["validation"]), [0, 1, 2])
    return images
