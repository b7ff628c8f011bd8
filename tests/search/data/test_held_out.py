"""What is held out, sampled and repeated."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.helpers.cases import (
    IMAGES,
    LABELS,
    NAMES,
    column_of,
    parquet,
    refusal,
    text_of,
    tree,
)
from tests.helpers.layouts import png, read
from winnow.search.data.image_data import split
from winnow.search.data.summary import summarize


def test_repeated_images_are_counted(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    shutil.copy(root / "train" / "cat" / "0.png", root / "train" / "cat" / "again.png")
    shutil.copy(root / "train" / "cat" / "0.png", root / "train" / "dog" / "again.png")
    Image.open(root / "train" / "cat" / "1.png").save(root / "test" / "cat" / "same-pixels.bmp")
    data = read(tmp_path, "image_folder")
    assert data.facts["repeated"] == {
        "equal_files": 2,
        "equal_pixels": 3,
        "under_two_labels": 3,
        "within_train": 2,
        "within_test": 0,
        "of_test_also_in_train": 1,
    }
    text = text_of(data)
    assert "3 images repeat an earlier one pixel by pixel, 2 of them as equal files" in text
    assert "warning: 1 image of test is in train too" in text
    assert "warning: 3 images stand under two labels or more" in text


def test_one_image_is_told_in_the_singular(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    shutil.copy(root / "train" / "cat" / "0.png", root / "train" / "cat" / "again.png")
    text = text_of(read(tmp_path, "image_folder"))
    assert "1 image repeats an earlier one pixel by pixel, 1 of them as an equal file" in text


def test_images_that_a_drawn_validation_split_shares_with_training_are_counted(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", per_class=10)
    for file in sorted((root / "train").rglob("*.png")):
        shutil.copy(file, file.with_name(f"again-{file.name}"))
    data = read(tmp_path, "image_folder")
    parts = split(data, None, True, 0)
    fitted = {data.train_images[k].tobytes() for k in parts.train_index}
    shared = sum(data.train_images[k].tobytes() in fitted for k in parts.validation_index)
    assert shared > 0
    assert summarize(data, parts, "")["repeated"]["of_validation_also_in_train"] == shared
    assert f"warning: {shared} images of validation are in train too" in text_of(data)


def test_a_given_validation_split_is_used_and_said(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", parts=("train", "test", "val"))
    data = read(tmp_path, "image_folder")
    assert data.validation_labels is not None
    assert len(data.validation_labels) == 4
    assert "`val` for validation" in text_of(data)
    shutil.rmtree(root / "val")
    assert read(tmp_path, "image_folder").validation_labels is None


def test_the_majority_is_told(tmp_path: Path) -> None:
    for name, num in (("benign", 57), ("malignant", 3)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for k in range(num):
            (tmp_path / "set" / name / f"{k}.png").write_bytes(png(IMAGES[k] if num > 3 else 255 - IMAGES[k]))
    data = read(tmp_path, "image_folder")
    assert "test: 11 benign, 1 malignant (the largest class holds 91.7%)" in text_of(data)
    parts = split(data, None, True, 0)
    assert set(data.train_labels[parts.train_index]) == {0, 1}
    assert summarize(data, parts, "")["majority_share"] == pytest.approx(11 / 12, abs=1e-6)


@pytest.mark.parametrize("groups", ["patient", r"p(\d+)_"], ids=["column", "pattern"])
def test_images_of_one_group_stay_in_one_split(groups: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    rows = []
    for k in range(60):
        (tmp_path / "set" / f"p{k // 4}_{k}.png").write_bytes(png(IMAGES[k]))
        rows.append((f"p{k // 4}_{k}.png", "ab"[(k // 4) % 2], f"patient {k // 4}"))
    with (tmp_path / "set" / "labels.csv").open("w") as stream:
        csv.writer(stream).writerows([("file_name", "label", "patient"), *rows])
    data = read(tmp_path, "image_folder", groups=groups)
    parts = split(data, None, True, seed=1)
    patient = {IMAGES[k].tobytes(): k // 4 for k in range(60)}
    train = {patient[data.train_images[k].tobytes()] for k in parts.train_index}
    validation = {patient[data.train_images[k].tobytes()] for k in parts.validation_index}
    test = {patient[image.tobytes()] for image in data.test_images}
    assert not train & validation
    assert not test & (train | validation)
    assert (len(train), len(validation), len(test)) == (10, 2, 3)
    assert "is not found in 60 of 60 paths" in refusal(tmp_path, groups="q([0-9])")
    assert "no column `camera`" in refusal(tmp_path, groups="camera")


def test_groups_in_two_given_splits_are_refused(tmp_path: Path) -> None:
    tree(tmp_path / "set")
    assert "2 groups are in both train and test: 0, 1" in refusal(tmp_path, groups=r"/(\d)\.png$")


@pytest.mark.parametrize("name", ["parquet", "npz", "image_folder"])
def test_a_limit_takes_all_classes_of_sorted_rows(name: str, tmp_path: Path) -> None:
    order = np.argsort(LABELS[:24], kind="stable")
    root = tmp_path / "set"
    if name == "parquet":
        parquet(
            root,
            lambda rows: {"image": column_of(rows).take(pa.array(order)), "label": np.array(LABELS[:24])[order]},
            test=False,
        )
    elif name == "npz":
        np.savez(tmp_path / "set.npz", train_images=IMAGES[order], train_labels=np.array(LABELS)[order])
        root = tmp_path / "set.npz"
    else:
        for k in order.tolist():
            (root / NAMES[LABELS[k]]).mkdir(parents=True, exist_ok=True)
            (root / NAMES[LABELS[k]] / f"{k}.png").write_bytes(png(IMAGES[k]))
    data = read(tmp_path, name, root, limit=9)
    assert np.bincount(data.train_labels).tolist() == [3, 3, 3]
    assert "a stratified sample of 9 training images" in " ".join(data.notes)
