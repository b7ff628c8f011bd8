"""Small data sets for cases: 60 images that all differ, two or three classes, and what reading them says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.layouts import pictures, png, read
from winnow.search.data.image_data import ImageData, split
from winnow.search.data.summary import summarize
from winnow.spaces.errors import InputError

IMAGES = pictures(60, seed=3)

NAMES = ["ant", "bee", "cat"]


def tree(root: Path, per_class: int = 5, parts: tuple[str, ...] = ("train", "test")) -> Path:
    """Two classes; every image is another one."""
    number = 0
    for part in parts:
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for k in range(per_class if part == "train" else 2):
                (root / part / name / f"{k}.png").write_bytes(png(IMAGES[number]))
                number += 1
    return root


def text_of(data: ImageData, rule: str = "rule") -> str:
    return "\n".join(summarize(data, split(data, None, True, 0), rule)["text"])


def refusal(tmp_path: Path, name: str = "image_folder", path: Path | None = None, **settings: Any) -> str:
    with pytest.raises(InputError) as error:
        read(tmp_path, name, path, **settings)
    return str(error.value)


def cat_pixels(tmp_path: Path, **settings: Any) -> set[bytes]:
    data = read(tmp_path, "image_folder", **settings)
    return {image.tobytes() for image in data.train_images[data.train_labels == 0]}


LABELS = [k % 3 for k in range(30)]

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def column_of(rows: slice) -> pa.Array:
    return pa.array([{"bytes": png(image), "path": None} for image in IMAGES[rows]], IMAGE_TYPE)


def parquet(
    root: Path, make: Callable[[slice], dict[str, Any]], names: list[str] | None = None, test: bool = True
) -> Path:
    metadata = None
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    root.mkdir(exist_ok=True)
    for part, rows in (("train", slice(0, 24)), ("test", slice(24, 30))):
        if part == "train" or test:
            table = pa.table(make(rows)).replace_schema_metadata(metadata)
            pq.write_table(table, root / f"{part}-00000-of-00001.parquet")
    return root


def labelled(make: Callable[[list[int]], Any], **others: Any) -> Callable[[slice], dict[str, Any]]:
    return lambda rows: {
        **{key: value(LABELS[rows]) for key, value in others.items()},
        "image": column_of(rows),
        "label": make(LABELS[rows]),
    }


def truth(data: ImageData, names: list[str]) -> bool:
    """Whether every image has the class that it was given."""
    expected = {IMAGES[k].tobytes(): names[LABELS[k]] for k in range(30)}
    pairs = [
        *zip(data.train_images, data.train_labels, strict=True),
        *zip(data.test_images, data.test_labels, strict=True),
    ]
    return all(expected[image.tobytes()] == data.class_names[label] for image, label in pairs) and len(pairs) == 30
