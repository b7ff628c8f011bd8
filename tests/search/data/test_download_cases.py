"""Data sets as they come out of archives and spreadsheets: what is clear is read, and what seems to be a split is no class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.helpers.cases import IMAGES, column_of, refusal, text_of, tree
from tests.helpers.layouts import labels_by_image, png, read
from tests.helpers.tiny import write_npz
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


# --- folders ------------------------------------------------------------------------------------------------------


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


# --- tables of text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        table("Path,Label"),
        table("Filename,Class"),
        table("IMAGE,Category"),
        table("path, label", "images/{k}.png, {name}"),
        table("path, label", '"images/{k}.png", "{name}"'),
        table("path,label,,", "images/{k}.png,{name},,"),
        table() + ",\n , \n",
        table('path;label;"note, more, of it"', "images/{k}.png;{name};x"),
        table("id,label", "{k},{name}"),
        table("image_id,label", "{k}.png,{name}"),
        table("id,file_name,label", "x{k},{k}.png,{name}"),
    ],
)
def test_spellings_of_tables(text: str, tmp_path: Path) -> None:
    assert classes(read_table(tmp_path, text)) == NAMES


def test_two_columns_that_differ_by_case(tmp_path: Path) -> None:
    text = table("path,label,Label", "images/{k}.png,{name},x")
    assert "it can be any of label: text, Label: text" in refused_table(tmp_path, text)


def test_images_found_by_their_names(tmp_path: Path) -> None:
    text = table("id,label", "{k},{name}")
    data = read_table(tmp_path, text)
    assert f"labels.csv: the images were found by their names in {tmp_path / 'set'}" in text_of(data)
    (tmp_path / "set" / "images" / "more").mkdir()
    (tmp_path / "set" / "images" / "more" / "3.jpg").write_bytes(png(IMAGES[30]))
    assert "row 3: several images are called 3: images/3.png, images/more/3.jpg" in refused_table(tmp_path, text)
    missing = refused_table(tmp_path, text.replace("\n3,", "\n333,"))
    assert "333: no such file; data.skip_damaged: true" in missing


def test_images_are_looked_for_in_the_folder_of_the_split(tmp_path: Path) -> None:
    images_in(tmp_path / "set" / "train_images")
    for k in range(4):
        file = images_in(tmp_path / "set" / "test_images", range(0)) / f"{k}.png"
        file.write_bytes(png(IMAGES[30 + k]))
    (tmp_path / "set" / "train.csv").write_text(table("id,label", "{k},{name}"))
    (tmp_path / "set" / "test.csv").write_text("id\n0\n1\n2\n3\n")
    message = refusal(tmp_path)
    way_on = tmp_path / "set" / "train.csv"
    assert f"has no column `label`, which train.csv has; to leave this split out, set data.path: {way_on}" in message
    assert classes(read(tmp_path, "image_folder", way_on)) == NAMES


def test_numbers_with_a_point_are_no_names(tmp_path: Path) -> None:
    numbers = ["3.0" if k % 2 else "7" for k in range(NUM)]
    assert "the label column `label` is floats; classes are integers or text" in refused_table(
        tmp_path, table(names=numbers)
    )
    assert classes(read(tmp_path, "image_folder", label_column="label")) == ["3" if k % 2 else "7" for k in range(NUM)]
    measured = table(names=[f"{k / 7:.2f}" for k in range(NUM)])
    assert "row 1 is 0.14" in refused_table(tmp_path, measured, label_column="label")


def test_one_hot_columns_of_text(tmp_path: Path) -> None:
    rows = [f"images/{k}.png,{int(k % 2)}.0,{1 - k % 2}" for k in range(NUM)]
    text = "\n".join(["image,cat,dog", *rows])
    assert classes(read_table(tmp_path, text, label_column=["cat", "dog"])) == NAMES
    wrong = text.replace("images/3.png,1.0", "images/3.png,yes")
    assert "could not convert string to float: 'yes'" in refused_table(tmp_path, wrong, label_column=["cat", "dog"])


def test_a_blank_is_no_label(tmp_path: Path) -> None:
    assert "1 rows have no `label`, the first: row 0" in refused_table(tmp_path, table(names=["  ", *NAMES[1:]]))


# --- columns that say the split -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("data set", ["train", "test"]),
        ("mode", ["Training", "val"]),
        ("Usage", ["Training", "PublicTest"]),
        ("ml_use", ["TRAIN", "UNASSIGNED"]),
        ("is_valid", ["True", "False"]),
        ("is_train", ["1", "0"]),
        ("test", ["no", "yes"]),
    ],
)
def test_columns_of_other_names_that_divide(layout: str, name: str, values: list[str], tmp_path: Path) -> None:
    of_rows = [values[k % 2] for k in range(NUM)]
    if layout == "csv":
        rows = [f"images/{k}.png,{NAMES[k]},{of_rows[k]}" for k in range(NUM)]
        message = refused_table(tmp_path, "\n".join([f"path,label,{name}", *rows]))
    else:
        typed: list[Any] = [value == "True" for value in of_rows] if "True" in values else of_rows
        typed = [int(value) for value in typed] if "1" in values else typed
        columns = {"image": column_of(slice(0, NUM)), "label": NAMES, name: typed}
        (tmp_path / "set").mkdir()
        pq.write_table(pa.table(columns), tmp_path / "set" / "train.parquet")
        message = refusal(tmp_path, "parquet")
    assert f"column `{name}` seems to say which split a row is of" in message


@pytest.mark.parametrize(
    ("name", "values"), [("kind", ["train", "bus"]), ("fold", ["1", "2"]), ("valid", ["a", "b"]), ("mode", ["train"])]
)
def test_columns_that_do_not_divide(name: str, values: list[str], tmp_path: Path) -> None:
    rows = [f"images/{k}.png,{NAMES[k]},{values[k % len(values)]}" for k in range(NUM)]
    assert classes(read_table(tmp_path, "\n".join([f"path,label,{name}", *rows]))) == NAMES


def test_a_split_of_numbers_is_not_passed_over(tmp_path: Path) -> None:
    columns = {"image": column_of(slice(0, NUM)), "label": NAMES, "split": [k % 3 for k in range(NUM)]}
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "set" / "train.parquet")
    assert "row 0: column `split` is '0'; it must be train, validation or test" in refusal(tmp_path, "parquet")


def test_the_only_integers_are_not_taken_for_classes(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    columns = {"image": column_of(slice(0, NUM)), "age": [k % 3 for k in range(NUM)]}
    pq.write_table(pa.table(columns), tmp_path / "set" / "train.parquet")
    assert "no label column (named `label`) among age: int64; say which: data.label_column" in refusal(
        tmp_path, "parquet"
    ).replace("image: struct<bytes: binary, path: string>, ", "")


# --- names of classes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "warning"),
    [
        (["rust", "scab", "rust scab"], "warning: a class is named rust scab, after several other classes"),
        (["Mass", "Nodule", "Nodule|Mass"], "warning: a class is named Nodule|Mass, after several other classes"),
        (["7", "7.0", "x"], "warning: classes whose names differ by case, blanks or zeros alone: '7' and '7.0'"),
        (["red", "dark red", "blue"], None),
        (["1", "1.5", "x"], None),
    ],
)
def test_names_that_look_like_several_labels(names: list[str], warning: str | None, tmp_path: Path) -> None:
    text = text_of(read_table(tmp_path, table(names=[names[k % 3] for k in range(NUM)])))
    assert ("warning" in text) is (warning is not None)
    assert warning is None or warning in text


def test_a_column_of_names_that_are_all_different(tmp_path: Path) -> None:
    message = refused_table(tmp_path, table(names=[f"n{k}" for k in range(NUM)]))
    assert "every class has a single image, of which none can be held out: are these classes?" in message


# --- shards and arrays --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("train", "train-small"), ("train_clean-0", "train_noisy-0"), ("train-0", "train_s0")]
)
def test_kinds_of_shards_are_not_merged(names: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in names:
        pq.write_table(
            pa.table({"image": column_of(slice(0, NUM)), "label": NAMES}), tmp_path / "set" / f"{name}.parquet"
        )
    assert "shards, all train; keep one kind" in refusal(tmp_path, "parquet")


def test_shards_with_a_hash(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for part, name in enumerate(("0-of-2-a09b74b3", "1-of-2-ffe19c00")):
        rows = slice(12 * part, 12 * part + 12)
        columns = {"image": column_of(rows), "label": NAMES[rows]}
        pq.write_table(pa.table(columns), tmp_path / "set" / f"train-{name}.parquet")
    assert classes(read(tmp_path)) == NAMES


def test_a_text_that_is_no_path_is_cut(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    columns = {"image": ["iVBORw0KGgo" * 100] * NUM, "label": NAMES}
    pq.write_table(pa.table(columns), tmp_path / "set" / "train.parquet")
    assert "row 0, iVBORw0KGgoiVBORw0KGgoiVBORw0KGgoiVBORw0 ...:" in refusal(tmp_path, "parquet")


def test_capital_letters_and_types_of_arrays(tmp_path: Path) -> None:
    file = write_npz(tmp_path / "set.npz", X_train=IMAGES[:NUM], y_train=np.array(NAMES))
    assert classes(read(tmp_path, "npz", file)) == NAMES
    write_npz(file, X_train=IMAGES[:NUM], y_train=np.arange(NUM) % 2 * 1.0)
    assert "if its numbers are whole, store labels.astype(int)" in refusal(tmp_path, "npz", file)
    write_npz(file, X_train=IMAGES[:NUM], y_train=np.array(NAMES).astype("S"))
    assert "store labels.astype(str)" in refusal(tmp_path, "npz", file)


@pytest.mark.parametrize(
    ("pixel_range", "told"),
    [
        ([0, 255], None),
        ([0, 1], "24 images are of pixels that lie mostly outside data.pixel_range"),
        ([0, 65535], "24 images are of pixels that differ by less than a tenth of data.pixel_range"),
    ],
)
@pytest.mark.parametrize("layout", ["npz", "png"])
def test_a_range_that_does_not_fit_is_told(
    layout: str, pixel_range: list[float], told: str | None, tmp_path: Path
) -> None:
    images = IMAGES[:NUM, ..., 0].astype(np.uint16)
    if layout == "npz":
        file = write_npz(tmp_path / "set.npz", train_images=images, train_labels=np.arange(NUM) % 2)
        data = read(tmp_path, "npz", file, pixel_range=pixel_range)
    else:
        for k in range(NUM):
            (tmp_path / "set" / NAMES[k]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[k]).save(tmp_path / "set" / NAMES[k] / f"{k}.png")
        data = read(tmp_path, "image_folder", pixel_range=pixel_range)
    text = text_of(data)
    assert ("pixels that" in text) is (told is not None)
    assert told is None or told in text


def test_a_refused_image_says_its_values(tmp_path: Path) -> None:
    for k in range(NUM):
        (tmp_path / "set" / NAMES[k]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array([[0, 1023]], np.uint16)).save(tmp_path / "set" / NAMES[k] / f"{k}.png")
    assert "data.pixel_range: [0, 65535] (its values lie in [0, 1023])" in refusal(tmp_path)


# --- folders that are no classes ----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("twin", ["cat\u200b", "cat\xa0", "CAT", "\uff43at"])
def test_names_that_look_alike_are_warned_of(twin: str, tmp_path: Path) -> None:
    text = text_of(read_table(tmp_path, table(names=[twin, *NAMES[1:]])))
    assert "warning: classes whose names differ by case, blanks or zeros alone" in text


def test_folders_without_images_say_what_is_in_them(tmp_path: Path) -> None:
    for k in range(NUM):
        (tmp_path / "set" / NAMES[k]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / NAMES[k] / f"{k}.dcm").write_bytes(b"\0")
    assert ".dcm files, which the installed Pillow does not decode: 24" in refusal(tmp_path)
    images_in(tmp_path / "set" / "cat")
    images_in(tmp_path / "set" / "owl")
    message = refusal(tmp_path)
    assert "dog: an empty class folder; no image is in it; left out: .dcm files, which" in message


def test_a_table_of_another_name_is_named(tmp_path: Path) -> None:
    images_in(tmp_path / "set" / "images")
    (tmp_path / "set" / "birds.csv").write_text(table())
    assert "; to use birds.csv, name it in data.path" in refusal(tmp_path)
    assert classes(read(tmp_path, "image_folder", tmp_path / "set" / "birds.csv")) == NAMES
