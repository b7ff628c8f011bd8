"""Names in Parquet data sets: those of splits are taken as they are or refused, those of images are looked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.cases import IMAGE_TYPE, IMAGES, column_of, refusal, text_of
from tests.helpers.layouts import png, read, same_images

LABELS = ["a", "b"] * 6


def shard(file: Path, start: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": column_of(slice(start, start + 12)), "label": LABELS}), file)


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "train-validation-00000-of-00001.parquet",
        "validation_matched-00000-of-00001.parquet",
        "test_unlabeled.parquet",
        "train.clean.100.parquet",
        "val2-00000-of-00001.parquet",
        "cifar-train.parquet",
    ],
)
def test_names_that_are_nearly_splits_are_refused(name: str, beside: bool, tmp_path: Path) -> None:
    if beside:
        shard(tmp_path / "set" / "train-00000-of-00001.parquet")
    shard(tmp_path / "set" / name, 12)
    message = refusal(tmp_path, "parquet")
    assert f"{name} seems to be a split, but" in message
    assert "rename it to the one that it is, or move it away" in message


@pytest.mark.parametrize("name", ["train_unlabeled", "validation_mismatched", "partial-train"])
def test_folders_that_are_nearly_splits_are_refused(name: str, tmp_path: Path) -> None:
    shard(tmp_path / "set" / "default" / "train" / "0000.parquet")
    shard(tmp_path / "set" / "default" / name / "0000.parquet", 12)
    assert f"default/{name}/0000.parquet seems to be a split, but `{name}` is none" in refusal(tmp_path, "parquet")


@pytest.mark.parametrize(
    ("train", "validation"),
    [("training-00000-of-00001-5f2c", "dev-00000-of-00001"), ("Train_0", "valid"), ("train.0", "val-set-0")],
)
def test_other_names_of_splits(train: str, validation: str, tmp_path: Path) -> None:
    shard(tmp_path / "set" / f"{train}.parquet")
    shard(tmp_path / "set" / f"{validation}.parquet", 12)
    data = read(tmp_path, "parquet")
    assert data.validation_images is not None
    assert same_images(data.validation_images, IMAGES[12:24])
    assert len(data.train_labels) + len(data.test_labels) == 12


def table_of_names(file: Path, names: list[str], column: str = "file_name") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({column: names, "label": LABELS[: len(names)]}), file)


def images_in(folder: Path, num: int, start: int = 0) -> None:
    folder.mkdir(parents=True)
    for k in range(num):
        (folder / f"img_{k}.png").write_bytes(png(IMAGES[start + k]))


@pytest.mark.parametrize("layout", ["parquet", "image_folder"])
@pytest.mark.parametrize(("column", "suffix"), [("file_name", ".png"), ("image_id", "")])
def test_images_are_found_by_their_names(layout: str, column: str, suffix: str, tmp_path: Path) -> None:
    images_in(tmp_path / "set" / "images" / "raw", 12)
    table_of_names(tmp_path / "set" / "train.parquet", [f"img_{k}{suffix}" for k in range(12)], column)
    data = read(tmp_path, layout)
    for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        for image, label in zip(images, labels, strict=True):
            number = next(k for k in range(12) if (IMAGES[k] == image).all())
            assert data.class_names[label] == LABELS[number]
    assert len(data.train_labels) + len(data.test_labels) == 12
    assert "train.parquet: the images were found by their names in" in text_of(data)


def test_a_split_is_looked_for_in_its_own_folder(tmp_path: Path) -> None:
    for start, (split, num) in zip((0, 12), (("train", 12), ("test", 6)), strict=True):
        images_in(tmp_path / "set" / split, num, start)
        table_of_names(tmp_path / "set" / f"{split}-00000-of-00001.parquet", [f"img_{k}.png" for k in range(num)])
    data = read(tmp_path, "parquet")
    assert same_images(data.train_images, IMAGES[:12])
    assert same_images(data.test_images, IMAGES[12:18])


def test_a_path_without_bytes_is_looked_for_too(tmp_path: Path) -> None:
    images_in(tmp_path / "set" / "images", 12)
    rows = [{"bytes": None, "path": f"img_{k}.png"} for k in range(12)]
    pq.write_table(pa.table({"image": pa.array(rows, IMAGE_TYPE), "label": LABELS}), tmp_path / "set" / "train.parquet")
    data = read(tmp_path, "parquet")
    assert same_images(np.concatenate([data.train_images, data.test_images]), IMAGES[:12])


def test_a_name_of_two_images_is_refused(tmp_path: Path) -> None:
    for folder in "ab":
        images_in(tmp_path / "set" / "images" / folder, 12)
    table_of_names(tmp_path / "set" / "labels.parquet", [f"img_{k}.png" for k in range(12)])
    message = refusal(tmp_path)
    assert "row 0: several images are called img_0.png: images/a/img_0.png, images/b/img_0.png" in message
    assert "write their paths into the table" in message
