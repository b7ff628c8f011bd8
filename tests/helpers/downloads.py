"""Sets of images as they come out of archives, with a table of their classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.helpers.cases import IMAGES, refusal
from tests.helpers.layouts import labels_by_image, png, read
from winnow.search.data.image_data import ImageData

NUM = 24


NAMES = ["cat" if k % 2 else "dog" for k in range(NUM)]


def images_in(folder: Path, rows: range = range(NUM)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k in rows:
        (folder / f"{k}.png").write_bytes(png(IMAGES[k]))
    return folder


def read_table(tmp_path: Path, text: str, file: str = "labels.csv", **settings: Any) -> ImageData:
    images_in(tmp_path / "set" / "images")
    (tmp_path / "set" / file).write_text(text)
    return read(tmp_path, "image_folder", **settings)


def refused_table(tmp_path: Path, text: str, **settings: Any) -> str:
    images_in(tmp_path / "set" / "images")
    (tmp_path / "set" / "labels.csv").write_text(text)
    return refusal(tmp_path, **settings)


def table(header: str = "path,label", row: str = "images/{k}.png,{name}", names: list[str] = NAMES) -> str:
    return "\n".join([header, *(row.format(k=k, name=names[k]) for k in range(NUM))]) + "\n"


def classes(data: ImageData) -> list[str]:
    """The class that each of the images has."""
    labels = labels_by_image(data.train_images, data.train_labels) | labels_by_image(data.test_images, data.test_labels)
    return [data.class_names[labels[image.tobytes()]] for image in IMAGES[: len(labels)]]
