"""Masks, annotations and folders of all images are no classes; the message names the folder and the way on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.cases import IMAGES, refusal, text_of, tree
from tests.helpers.layouts import png, read


def images_in(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names):
        (folder / name).write_bytes(png(IMAGES[40 + k]))


@pytest.mark.parametrize("name", ["masks", "Annotations", "labels", "cat_masks", "SegmentationClass"])
@pytest.mark.parametrize("split", ["train", "."])
def test_a_folder_of_masks_is_no_class(name: str, split: str, tmp_path: Path) -> None:
    root = tree(tmp_path / "set") if split == "train" else tree(tmp_path / "made", parts=("train",)) / "train"
    path = root if split == "." else None
    images_in(root / split / name, ["0.png", "1.png"])
    message = refusal(tmp_path, path=path)
    assert f"the folder {name} seems to hold masks or annotations rather than a class; move it away" in message


def test_a_mask_on_a_face_may_be_a_class(tmp_path: Path) -> None:
    for name in ("mask", "no_mask"):
        images_in(tmp_path / "set" / name, [f"{k}.png" for k in range(6)])
    data = read(tmp_path, "image_folder")
    assert data.class_names == ("mask", "no_mask")
    assert len(data.train_labels) + len(data.test_labels) == 12


@pytest.mark.parametrize("name", ["mask", "masks", "labels"])
def test_images_and_their_masks_are_no_classes(name: str, tmp_path: Path) -> None:
    images_in(tmp_path / "set" / "images", ["0.png", "1.png"])
    images_in(tmp_path / "set" / name, ["0.png", "1.png"])
    assert f"the folder {name} seems to hold masks" in refusal(tmp_path)


def test_a_folder_of_all_images_is_no_class(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", parts=("train",))
    images_in(root / "val" / "images", ["val_0.png", "val_1.png"])
    message = refusal(tmp_path)
    assert "val: the folder images seems to hold the images of all classes" in message
    assert f"To leave the validation split out, set data.path: {root / 'train'}" in message


def test_masks_inside_a_class_folder(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    images_in(root / "train" / "cat" / "masks", ["0.png"])
    assert "the folder masks seems to hold masks or annotations of the class cat" in refusal(tmp_path)


@pytest.mark.parametrize(
    "name", ["0_mask.png", "1-seg.tif", "2 mask 1.png", "3_Segmentation.gif", "mask_0.png", "0_superpixels.png"]
)
def test_masks_that_are_called_like_images(name: str, tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    images_in(root / "test" / "dog", [name.replace("2", "1").replace("3", "0")])
    message = refusal(tmp_path)
    assert "dog: 1 image seems to be a mask of another" in message
    assert message.endswith("move the masks away")


def test_a_name_like_that_of_a_mask_without_its_image(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    images_in(root / "train" / "cat", ["surgical_mask.png", "sea label.png"])
    assert len(read(tmp_path, "image_folder").train_labels) == 12


def test_parts_beside_a_table_are_no_classes(tmp_path: Path) -> None:
    for k in (1, 2):
        images_in(tmp_path / "set" / f"images_part_{k}", [f"{k}{n}.png" for n in range(4)])
    rows = "".join(f"{k}{n},{'ab'[n % 2]}\n" for k in (1, 2) for n in range(4))
    table = tmp_path / "set" / "HAM_metadata.csv"
    table.write_text("image_id,label\n" + rows)
    assert re.search(r"seem to be parts of one set .* name it in data.path", refusal(tmp_path))
    assert read(tmp_path, "image_folder", table).class_names == ("a", "b")


def test_a_table_in_the_folder_of_a_split_with_classes_is_told(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    (root / "train" / "metadata.csv").write_text("file_name,label\ncat/0.png,x\n")
    text = text_of(read(tmp_path, "image_folder"))
    assert "left out: train/metadata.csv; the classes are those of the folders" in text
    assert "csv files" not in text


@pytest.mark.parametrize("name", ["unlabeled", "BACKGROUND_Google"])
def test_classes_that_are_none_are_warned_of(name: str, tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    (root / "train" / "dog").rename(root / "train" / name)
    (root / "test" / "dog").rename(root / "test" / name)
    assert f"warning: a class is named {name}, which usually marks images without a label" in text_of(
        read(tmp_path, "image_folder")
    )


def test_images_of_one_name_and_two_suffixes_are_told(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    (root / "train" / "cat" / "0.jpg").write_bytes(png(IMAGES[40]))
    data = read(tmp_path, "image_folder")
    assert len(data.train_labels) == 11
    assert (
        "warning: 1 times images of one class are called alike but for their suffix, such as 0.jpg, 0.png"
        in text_of(data)
    )
    (root / "train" / "cat" / "0.jpg").rename(root / "train" / "dog" / "9.jpg")
    assert "alike but for their suffix" not in text_of(read(tmp_path, "image_folder"))


def test_an_archive_that_was_unpacked_twice(tmp_path: Path) -> None:
    root = tree(tmp_path / "made", parts=("train",)) / "train"
    tree(root / "plants", parts=("train",))
    (root / "plants" / "train").rename(tmp_path / "inner")
    (root / "plants").rmdir()
    (tmp_path / "inner").rename(root / "plants")
    message = refusal(tmp_path, path=root)
    assert "the folder plants holds cat, dog, which lie beside it too" in message
    assert "move plants away, or name it in data.path" in message
    assert read(tmp_path, "image_folder", root / "plants").class_names == ("cat", "dog")


def test_a_class_called_train_is_not_guessed(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("train", "bus", "car"):
        images_in(root / name, [f"{k}.png" for k in range(4)])
    assert "If it is a class, move all class folders into a new folder named train" in refusal(tmp_path)
    moved = tmp_path / "moved"
    moved.mkdir()
    root.rename(moved / "train")
    assert sorted(read(tmp_path, "image_folder", moved).class_names) == ["bus", "car", "train"]
