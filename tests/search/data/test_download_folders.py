"""Folders as they come out of archives: what is clear is read, and what seems to be a split is no class."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.cases import refusal, text_of, tree
from tests.helpers.downloads import NAMES, NUM, classes, images_in
from tests.helpers.layouts import read


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train_set", "test_set"),
        ("training-images", "testing_images"),
        ("Trainset", "TestSet"),
        ("train ", "test data"),
        ("set/train", "set/test"),
        ("train/train", "test/Test"),
    ],
)
def test_names_of_split_folders(train: str, test: str, tmp_path: Path) -> None:
    made = tree(tmp_path / "made")
    for name, folder in (("train", train), ("test", test)):
        (tmp_path / "set" / folder).parent.mkdir(parents=True, exist_ok=True)
        (made / name).rename(tmp_path / "set" / folder)
    data = read(tmp_path, "image_folder")
    assert data.class_names == ("cat", "dog")
    assert (len(data.train_labels), len(data.test_labels)) == (10, 4)
    assert classes(data) == ["cat"] * 5 + ["dog"] * 5 + ["cat"] * 2 + ["dog"] * 2


def test_dev_is_the_validation_split(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    (root / "test").rename(root / "dev")
    data = read(tmp_path, "image_folder")
    assert data.validation_labels is not None
    assert len(data.validation_labels) == 4


@pytest.mark.parametrize("names", [("seg_train", "seg_test"), ("train2017", "val2017"), ("My.Train", "My.Test")])
def test_folders_that_seem_to_be_splits_are_no_classes(names: tuple[str, str], tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    for old, new in zip(("train", "test"), names, strict=True):
        (root / old).rename(root / new)
    message = refusal(tmp_path)
    assert "seem to be splits; rename them to" in message
    assert all(name in message for name in names)


def test_classes_with_words_of_splits(tmp_path: Path) -> None:
    root = tree(tmp_path / "set") / "train"
    (root / "cat").rename(root / "train_station")
    (root / "dog").rename(root / "bullet_train")
    assert read(tmp_path, "image_folder", root).class_names == ("bullet_train", "train_station")


def test_a_folder_around_the_classes_is_told(tmp_path: Path) -> None:
    root = tree(tmp_path / "set" / "PetImages", parts=("train",)) / "train"
    (tmp_path / "set" / "readme.md").write_text("")
    root.rename(tmp_path / "set" / "PetImages" / "Pets")
    text = text_of(read(tmp_path, "image_folder"))
    assert "read from the only folder, `PetImages`" in text
    assert "read from the only folder, `Pets`" in text
    assert ".md files, which the installed Pillow does not decode: 1" in text


def test_images_in_one_folder_need_a_table(tmp_path: Path) -> None:
    images_in(tmp_path / "set" / "images")
    (tmp_path / "set" / "labels.txt").write_text("")
    message = refusal(tmp_path)
    assert "at least 2 classes are needed, but there is 1: images (beside it: labels.txt)" in message
    assert "a table (labels.csv) of the columns `file_name` and `label`" in message


def test_a_test_split_without_labels_can_be_left_out(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    images_in(root / "testing", range(20, 24))
    for name in ("cat", "dog"):
        for image in (root / "test" / name).iterdir():
            image.unlink()
        (root / "test" / name).rmdir()
    (root / "test").rmdir()
    message = refusal(tmp_path)
    assert f"To leave the test split out, set data.path: {root / 'train'}" in message
    assert len(classes(read(tmp_path, "image_folder", root / "train"))) == 10


def test_a_table_for_images_of_which_a_split_has_no_class_folders(tmp_path: Path) -> None:
    """As of the German traffic signs."""
    root = tree(tmp_path / "set", parts=("train",))
    images_in(root / "test", range(10, 14))
    rows = [f"train/{c}/{k}.png,{c}" for c in ("cat", "dog") for k in range(5)]
    (root / "Train.csv").write_text("\n".join(["Path,Class", *rows]))
    (root / "Test.csv").write_text("\n".join(["Path,Class", *(f"test/{k}.png,{NAMES[k]}" for k in range(10, 14))]))
    data = read(tmp_path, "image_folder")
    assert classes(data) == ["cat"] * 5 + ["dog"] * 5 + NAMES[10:14]
    assert len(data.test_labels) == 4


def test_folders_that_all_hold_the_same_folders_are_not_certain(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", parts=("train", "test"))
    (root / "train").rename(root / "colour")
    (root / "test").rename(root / "grey")
    message = refusal(tmp_path)
    assert "colour, grey all hold the folders cat, dog, so it is not certain which are the classes" in message
    assert read(tmp_path, "image_folder", root / "colour").class_names == ("cat", "dog")
    images_in(root / "grey", range(20, 22))
    assert read(tmp_path, "image_folder").class_names == ("colour", "grey")


def test_classes_that_seem_to_be_parts_are_warned_of(tmp_path: Path) -> None:
    images_in(tmp_path / "set" / "images_part_1", range(12))
    images_in(tmp_path / "set" / "images_part_2", range(12, NUM))
    text = text_of(read(tmp_path, "image_folder"))
    assert "warning: the classes are named images_part_1, images_part_2, which usually are parts of one set" in text


def test_folders_without_images_say_what_is_in_them(tmp_path: Path) -> None:
    for k in range(NUM):
        (tmp_path / "set" / NAMES[k]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / NAMES[k] / f"{k}.dcm").write_bytes(b"\0")
    assert ".dcm files, which the installed Pillow does not decode: 24" in refusal(tmp_path)
    images_in(tmp_path / "set" / "cat")
    images_in(tmp_path / "set" / "owl")
    message = refusal(tmp_path)
    assert "dog: an empty class folder; no image is in it; left out: .dcm files, which" in message


def test_splits_in_a_folder_called_train_are_no_classes(tmp_path: Path) -> None:
    inner = tree(tmp_path / "set" / "train")
    message = refusal(tmp_path)
    assert f"{inner}: its folders test, train are named like splits" in message
    assert f"set data.path: {inner}" in message
    data = read(tmp_path, "image_folder", inner)
    assert (data.class_names, len(data.train_labels), len(data.test_labels)) == (("cat", "dog"), 10, 4)
    (inner / "train").rename(inner / "car")  # now a single class is called like a split
    assert read(tmp_path, "image_folder").class_names == ("car", "test")


def test_images_in_sub_folders_of_a_class_are_told(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    assert "sub-folders" not in text_of(read(tmp_path, "image_folder"))
    (root / "train" / "cat" / "black").mkdir()
    (root / "train" / "cat" / "0.png").rename(root / "train" / "cat" / "black" / "0.png")
    data = read(tmp_path, "image_folder")
    assert (
        "1 image lies in sub-folders of class folders, such as cat/black; the folder above names the class"
        in text_of(data)
    )
    assert sorted(data.train_labels.tolist()) == [0] * 5 + [1] * 5


def test_classes_below_classes_are_warned_of(tmp_path: Path) -> None:
    tree(tmp_path / "set", parts=("train/animals", "train/pets"))
    for parent, name in (("animals", "cat"), ("pets", "dog")):
        folder = tmp_path / "set" / "train" / parent / name
        folder.rename(folder.with_name(f"{parent} {name}"))
    data = read(tmp_path, "image_folder")
    assert data.class_names == ("animals", "pets")
    assert (
        "warning: all images of train lie in sub-folders of class folders, such as animals/animals cat; the classes"
        in text_of(data)
    )
