"""Parquet shards and class folders as other programs leave them: right, or refused by one message that says where."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.cases import IMAGES, refusal, text_of
from tests.helpers.layouts import png, read
from tests.helpers.twenty import NAMES, NUM, images_in, truth

# --- Parquet ------------------------------------------------------------------------------------------------------


def write_parquet(file: Path, labels: Any, rows: slice = slice(0, NUM), **columns: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    column = pa.array([{"bytes": png(image), "path": None} for image in IMAGES[:NUM][rows]])
    pq.write_table(pa.table({"image": column, "label": labels, **columns}), file)


def test_a_folder_whose_name_looks_like_a_partition(tmp_path: Path) -> None:
    write_parquet(tmp_path / "label=7" / "split=x" / "all.parquet", pa.array(NAMES))
    assert truth(read(tmp_path, "parquet", tmp_path / "label=7" / "split=x" / "all.parquet"))


def test_one_shard_under_two_names(tmp_path: Path) -> None:
    for name in ("aa", "bb"):
        write_parquet(tmp_path / "set" / f"train-00000-of-00002-{name}.parquet", pa.array(NAMES))
    assert "holds train shard 00000 twice, under two names" in refusal(tmp_path, "parquet")


def test_what_else_is_in_a_folder_of_parquet_files(tmp_path: Path) -> None:
    """An extension in capital letters is not passed over, and other files are counted."""
    write_parquet(tmp_path / "set" / "train.parquet", pa.array(NAMES)[:12], slice(0, 12))
    write_parquet(tmp_path / "set" / "test.PARQUET", pa.array(NAMES)[12:], slice(12, NUM))
    for name in ("README.md", "labels.csv", ".gitattributes"):
        (tmp_path / "set" / name).write_text("x")
    data = read(tmp_path)
    assert truth(data)
    assert len(data.test_labels) == 8
    assert "left out: .csv files: 1, .md files: 1, hidden files: 1" in text_of(data)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pa.array([0, 1] * 10, pa.timestamp("s")), "timestamp"),
        (pa.array([0, 1] * 10, pa.date32()), "date32"),
        (pa.array([0, None] * 10, pa.int8()), "10 rows have no `label`"),
        (pa.array([float("nan"), 1.0] * 10), "the label column `label` is double"),
        (pa.array([{"id": 0}, {"id": 1}] * 10), "struct<id: int64>"),
        (pa.array(["[1]", "[0]"] * 10), "several labels per image"),
        (pa.array([[0, 1]] * NUM, pa.list_(pa.int64(), 2)), "several labels per image"),
        (pa.nulls(NUM), "`label` is null"),
    ],
)
def test_types_that_are_no_labels(labels: pa.Array, message: str, tmp_path: Path) -> None:
    write_parquet(tmp_path / "set" / "train.parquet", labels)
    assert message in refusal(tmp_path, "parquet")


def test_a_half_float_that_is_nan_on_request(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set" / "train.parquet", pa.array([float("nan"), 1.0] * 10))
    assert "row 0 is nan, but classes are whole numbers" in refusal(tmp_path, "parquet", label_column="label")


def test_a_dictionary_of_numbers(tmp_path: Path) -> None:
    numbers = pa.DictionaryArray.from_arrays(pa.array([k % 2 for k in range(NUM)]), pa.array([1, 0, 9]))
    write_parquet(tmp_path / "set" / "train.parquet", numbers)
    assert truth(read(tmp_path), ["10"[k % 2] for k in range(NUM)])


def test_shards_whose_labels_are_of_unlike_types(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set" / "train-0.parquet", pa.array([0, 1] * 5), slice(0, 10))
    write_parquet(tmp_path / "set" / "train-1.parquet", pa.array(["a", "b"] * 5), slice(10, 20))
    assert "train-1.parquet: its column `label` is string, but that of train-0.parquet is int64" in refusal(
        tmp_path, "parquet"
    )
    write_parquet(tmp_path / "set" / "train-1.parquet", pa.array([0, 1] * 5, pa.uint8()), slice(10, 20))
    assert truth(read(tmp_path), ["01"[k % 2] for k in range(NUM)])


# --- folders ------------------------------------------------------------------------------------------------------


def test_loose_and_system_files_are_counted(tmp_path: Path) -> None:
    images_in(tmp_path / "set", [f"{NAMES[k]}/{k}.png" for k in range(NUM)])
    for name in ("Thumbs.db", "README", ".DS_Store", "a/Thumbs.db", "notes.txt"):
        (tmp_path / "set" / name).write_bytes(b"x")
    (tmp_path / "set" / "cover.png").write_bytes(png(IMAGES[NUM]))
    (tmp_path / "set" / "@eaDir").mkdir()
    data = read(tmp_path, "image_folder")
    assert truth(data)
    text = text_of(data)
    for words in (
        ".db files, which the installed Pillow does not decode: 2",
        ".txt files, which the installed Pillow does not decode: 1",
        "files without extension: 1",
        "hidden files: 1",
        "images that lie in no class folder: 1",
        "hidden and system folders: 1",
    ):
        assert words in text


def test_a_class_folder_that_is_a_link_to_another(tmp_path: Path) -> None:
    images_in(tmp_path / "set", [f"{NAMES[k]}/{k}.png" for k in range(NUM)])
    (tmp_path / "set" / "c").symlink_to(tmp_path / "set" / "a")
    data = read(tmp_path, "image_folder")
    assert "warning: 20 images stand under two labels or more" in text_of(data)
    assert data.class_names == ("a", "b", "c")


def test_names_that_terminals_and_pages_would_take_for_commands(tmp_path: Path) -> None:
    strange = ["<b>x", "\x1b[31mred", "a\u202eb", "n" * 200, "line\nbreak", "$(id)", "`x`", "{{x}}"]
    names = [strange[k % 8] for k in range(NUM + 20)]
    for k, name in enumerate(names):
        (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name / f"{k}.png").write_bytes(png(IMAGES[k]))
    data = read(tmp_path, "image_folder")
    assert set(data.class_names) == set(strange)
    text = text_of(data)
    assert all(line.isprintable() for line in text.split("\n"))
    assert "<b>x" in text
    assert r"\x1b[31mred" in text
    assert r"a\u202eb" in text


def test_files_in_both_forms_of_unicode_are_two_images(tmp_path: Path) -> None:
    names = [f"{NAMES[k]}/{unicodedata.normalize('NFC' if k < 10 else 'NFD', f'é{k % 10}.png')}" for k in range(NUM)]
    assert len(set(names)) == NUM
    images_in(tmp_path / "set", names)
    assert truth(read(tmp_path, "image_folder"))


def test_hard_links_and_links_to_files(tmp_path: Path) -> None:
    images_in(tmp_path / "elsewhere")
    for k in range(NUM):
        (tmp_path / "set" / NAMES[k]).mkdir(parents=True, exist_ok=True)
        place = tmp_path / "set" / NAMES[k] / f"{k}.png"
        if k % 4 < 2:
            place.symlink_to(tmp_path / "elsewhere" / f"{k}.png")
        else:
            os.link(tmp_path / "elsewhere" / f"{k}.png", place)
    assert truth(read(tmp_path, "image_folder"))


# --- columns that say the split -----------------------------------------------------------------------------------

PARTS = ["train" if k < 12 else "Val" if k < 16 else "test" for k in range(NUM)]


@pytest.mark.parametrize("layout", ["file", "shards", "paths", "csv"])
@pytest.mark.parametrize("name", ["split", "Split", "subset", "FOLD"])
def test_a_column_of_splits_in_every_table(layout: str, name: str, tmp_path: Path) -> None:
    names = images_in(tmp_path / "set" / "images")
    settings: dict[str, Any] = {"name": "image_folder", "path": tmp_path / "set"}
    if layout == "csv":
        rows = [f"images/{names[k]},{NAMES[k]},{PARTS[k]}" for k in range(NUM)]
        (tmp_path / "set" / "labels.csv").write_text("\n".join([f"file_name,label,{name}", *rows]))
    elif layout == "paths":
        paths = [f"images/{each}" for each in names]
        pq.write_table(pa.table({"file_name": paths, "label": NAMES, name: PARTS}), tmp_path / "set" / "labels.parquet")
    else:
        settings = {"name": "parquet", "path": tmp_path / "shards" / "train-0.parquet"}
        for number, rows_of in enumerate((slice(0, 13), slice(13, NUM)) if layout == "shards" else (slice(0, NUM),)):
            file = tmp_path / "shards" / f"train-{number}.parquet"
            write_parquet(
                file, pa.array(NAMES[rows_of]), rows_of, **{name: pa.array(PARTS[rows_of]).dictionary_encode()}
            )
        if layout == "shards":
            settings["path"] = tmp_path / "shards"
    if name.lower() != "split":
        message = refusal(tmp_path, **settings)
        assert f"column `{name}` seems to name the split of each row; rename it to `split`" in message
        return
    data = read(tmp_path, **settings)
    assert truth(data)
    assert data.validation_labels is not None
    assert (len(data.train_labels), len(data.validation_labels), len(data.test_labels)) == (12, 4, 4)
    assert {image.tobytes() for image in data.test_images} == {image.tobytes() for image in IMAGES[16:NUM]}
    assert len(set(data.test_names)) == 4
    assert "splits from column `split`" in text_of(data)


def test_a_column_that_is_no_split_is_left_alone(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set" / "train.parquet", pa.array(NAMES), set=pa.array(["x", "y"] * 10))
    assert truth(read(tmp_path))
    write_parquet(tmp_path / "set" / "train.parquet", pa.array(NAMES), split=pa.array(["x", "y"] * 10))
    assert "row 0: column `split` is 'x'; it must be train, validation or test" in refusal(tmp_path, "parquet")
    write_parquet(tmp_path / "set" / "train.parquet", pa.array(NAMES), split=pa.array(["test"] * NUM))
    assert "no row belongs to the split train" in refusal(tmp_path, "parquet")


def test_files_that_lie_too_deep_are_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set" / "a" / "b" / "c" / "train.parquet", pa.array(NAMES))
    message = refusal(tmp_path, "parquet")
    assert "a/b/c/train.parquet lies more than two folders down" in message
    assert message.endswith(f"such as {tmp_path / 'set' / 'a' / 'b' / 'c'}")


def test_a_file_whose_split_column_contradicts_its_name(tmp_path: Path) -> None:
    for name, splits in {"train": ["train"] * NUM, "test": ["test"] * (NUM - 1) + ["train"]}.items():
        write_parquet(tmp_path / "set" / f"{name}.parquet", pa.array(NAMES), split=pa.array(splits))
    message = refusal(tmp_path, "parquet")
    assert f"test.parquet, row {NUM - 1}: column `split` is 'train', but the file is the test split" in message
    write_parquet(tmp_path / "set" / "test.parquet", pa.array(NAMES), split=pa.array(["test"] * NUM))
    assert truth(read(tmp_path))


def test_columns_that_are_left_out_are_told(tmp_path: Path) -> None:
    write_parquet(
        tmp_path / "set" / "train.parquet",
        pa.array(NAMES),
        fold=pa.array([k % 5 for k in range(NUM)]),
        age=pa.array([7] * NUM),
    )
    text = text_of(read(tmp_path))
    assert "left out: columns fold, age; `data.groups: fold` would keep the images of one fold in one split" in text
    assert "left out: columns age\n" in text_of(read(tmp_path, groups="fold")) + "\n"


def test_parquet_files_further_down_and_in_hidden_folders(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set" / ".cache" / "train.parquet", pa.array(NAMES))
    assert "holds no train-*.parquet (found: no Parquet file)" in refusal(tmp_path, "parquet")
    write_parquet(tmp_path / "set" / "train.parquet", pa.array(NAMES))
    write_parquet(tmp_path / "set" / "test" / "0000.parquet", pa.array(NAMES))
    data = read(tmp_path)
    assert truth(data)
    assert "left out: 1 Parquet files that belong to no split: test/0000.parquet" in text_of(data)
