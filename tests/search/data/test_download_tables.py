"""Tables beside images, as spreadsheets and competitions write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.cases import IMAGES, column_of, refusal, text_of
from tests.helpers.downloads import NAMES, NUM, classes, images_in, read_table, refused_table, table
from tests.helpers.layouts import png, read


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
    assert "it may be any of label: text, Label: text" in refused_table(tmp_path, text)


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
    assert "1 row has no `label`, the first: row 0" in refused_table(tmp_path, table(names=["  ", *NAMES[1:]]))


def test_a_table_of_another_name_is_named(tmp_path: Path) -> None:
    images_in(tmp_path / "set" / "images")
    (tmp_path / "set" / "birds.csv").write_text(table())
    assert "; to use birds.csv, name it in data.path" in refusal(tmp_path)
    assert classes(read(tmp_path, "image_folder", tmp_path / "set" / "birds.csv")) == NAMES


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
    assert f"column `{name}` seems to name the split of each row" in message


@pytest.mark.parametrize(
    ("name", "values"), [("kind", ["train", "bus"]), ("fold", ["1", "2"]), ("valid", ["a", "b"]), ("mode", ["train"])]
)
def test_columns_that_do_not_divide(name: str, values: list[str], tmp_path: Path) -> None:
    rows = [f"images/{k}.png,{NAMES[k]},{values[k % len(values)]}" for k in range(NUM)]
    assert classes(read_table(tmp_path, "\n".join([f"path,label,{name}", *rows]))) == NAMES


def test_a_table_whose_split_column_contradicts_its_name(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    images_in(tmp_path / "set" / "images")
    for name in ("train", "test"):
        rows = [f"images/{k}.png,{NAMES[k]},train" for k in range(NUM)]
        (tmp_path / "set" / f"{name}.csv").write_text("\n".join(["path,label,split", *rows]))
    assert "test.csv, row 0: column `split` is 'train', but the file is the test split" in refusal(tmp_path)


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
