"""Tables of paths as other programs write them: right, or refused by one message that says where."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.cases import refusal, text_of
from tests.helpers.layouts import read
from tests.helpers.twenty import NAMES, NUM, images_in, truth
from winnow.search.data.image_data import ImageData


def read_table(tmp_path: Path, text: str | bytes, name: str = "labels.csv", **settings: Any) -> ImageData:
    images_in(tmp_path / "set")
    (tmp_path / "set" / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(tmp_path, "image_folder", **settings)


def refused(tmp_path: Path, text: str | bytes, name: str = "labels.csv", **settings: Any) -> str:
    images_in(tmp_path / "set")
    (tmp_path / "set" / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return refusal(tmp_path, **settings)


def lines(separator: str = ",", header: str = "file_name,label", end: str = "\n", **changes: str) -> str:
    rows = [f"{k}.png{separator}{changes.get(f'row{k}', NAMES[k])}" for k in range(NUM)]
    return end.join([header.replace(",", separator), *rows]) + end


# --- how the text is written --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + lines(),
        lines(";"),
        lines("\t"),
        lines(end="\r\n"),
        lines() + "\n\n",
        "\n".join(f'"{line.split(",")[0]}","{line.split(",")[1]}"' for line in lines().splitlines()),
        lines().replace("file_name,label", "label_,label").replace("label_", "filename"),
        "\n".join(f"{n},{line}" for n, line in zip(["", *range(NUM)], lines().splitlines(), strict=True)),
    ],
    ids=["BOM", "semicolons", "tabs", "CRLF", "blank lines", "quotes", "filename", "pandas index"],
)
def test_ways_to_write_a_table(text: str, tmp_path: Path) -> None:
    assert truth(read_table(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lines().encode("utf-16"), "labels.csv: not a readable table"),
        (lines(row0="caf\xe9").encode("latin-1"), "labels.csv: not a readable table"),
        ("sep=,\n" + lines(), "labels.csv"),
        (lines("|"), "among file_name|label: text"),
        (lines().partition("\n")[2], "among 0.png: text, a: text"),
        ("file_name,label", "labels.csv: holds no rows"),
        ("", "labels.csv: holds no rows"),
        (
            lines().replace("label", "kind", 1),
            "no label column (named `label`) among kind: text; say which: data.label_column",
        ),
        (lines(row3="x,y"), "labels.csv, line 5: 3 values"),
        (lines(row3='"x'), "labels.csv: not a readable table (unexpected end of data)"),
        (lines(row3='"[0, 1]"', row4="['a']"), "the label ['a'] is a list: several labels per image"),
        (lines(row3=""), "1 row has no `label`, the first: row 3"),
        (lines() + "2.png\n", "labels.csv, line 22: 1 values"),
        (lines() + ".,a\n", "no regular file"),
        (lines() + "https://example.org/a.png,a\n", "no such file"),
        (lines() + "../other/a.png,a\n", "other/a.png: no such file"),
    ],
)
def test_tables_that_are_refused(text: str | bytes, message: str, tmp_path: Path) -> None:
    assert message in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["-1", "0", "1"], "train labels are numbers from -1; negative labels usually mark images without one"),
        (["0", "1", "nan"], None),
    ],
)
def test_marks_of_a_missing_label(names: list[str], message: str | None, tmp_path: Path) -> None:
    of_rows = [names[k % 3] for k in range(NUM)]
    text = lines(**{f"row{k}": name for k, name in enumerate(of_rows)})
    if message is not None:
        assert message in refused(tmp_path, text)
        assert truth(read(tmp_path, "image_folder", remap_labels=True), of_rows)
    else:
        assert "warning: a class is named nan, which usually marks images without a label" in text_of(
            read_table(tmp_path, text)
        )


def test_numbers_are_sorted_as_numbers_and_zeros_are_warned_of(tmp_path: Path) -> None:
    names = ["1", "01", "10", "2"]
    of_rows = [names[k % 4] for k in range(NUM)]
    data = read_table(tmp_path, lines(**{f"row{k}": name for k, name in enumerate(of_rows)}))
    assert data.class_names == ("01", "1", "2", "10")
    assert truth(data, of_rows)
    assert "differ by case, blanks or zeros alone: '01' and '1'" in text_of(data)


# --- paths --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_paths_of_other_systems(form: str, tmp_path: Path) -> None:
    """Backslashes, and the other form of Unicode than the file system has."""
    other = "NFD" if form == "NFC" else "NFC"
    names = images_in(tmp_path / "set", [unicodedata.normalize(form, f"café {k}/ü.png") for k in range(NUM)])
    rows = [
        f"{unicodedata.normalize(other, name)},{label}".replace("/", "\\")
        for name, label in zip(names, NAMES, strict=True)
    ]
    (tmp_path / "set" / "labels.csv").write_text("\n".join(["path,label", *rows]))
    assert truth(read(tmp_path, "image_folder", tmp_path / "set" / "labels.csv"))
    pq.write_table(
        pa.table({"path": [row.split(",")[0] for row in rows], "label": NAMES}), tmp_path / "set" / "a.parquet"
    )
    assert truth(read(tmp_path, "parquet", tmp_path / "set" / "a.parquet"))


def test_a_backslash_in_a_name_is_itself(tmp_path: Path) -> None:
    images_in(tmp_path / "set", [f"x\\{k}.png" for k in range(NUM)])
    (tmp_path / "set" / "labels.csv").write_text(
        "path,label\n" + "\n".join(f"x\\{k}.png,{NAMES[k]}" for k in range(NUM))
    )
    assert truth(read(tmp_path, "image_folder"))


def test_absolute_paths_and_paths_above(tmp_path: Path) -> None:
    images_in(tmp_path / "elsewhere")
    (tmp_path / "set").mkdir()
    places = [str(tmp_path / "elsewhere"), "../elsewhere"]
    rows = [f"{places[k // 2 % 2]}/{k}.png,{NAMES[k]}" for k in range(NUM)]
    (tmp_path / "set" / "labels.csv").write_text("\n".join(["path,label", *rows]))
    assert truth(read(tmp_path, "image_folder"))


def test_a_column_without_a_name_is_named_as_such(tmp_path: Path) -> None:
    """The row numbers that pandas writes first."""
    images_in(tmp_path / "set")
    rows = [f"{k},{k}.png,{NAMES[k]}" for k in range(NUM)]
    (tmp_path / "set" / "labels.csv").write_text("\n".join([",path,label", *rows]))
    assert "left out: columns without a name\n" in text_of(read(tmp_path, "image_folder")) + "\n"


def test_one_image_in_two_rows(tmp_path: Path) -> None:
    data = read_table(tmp_path, lines() + "0.png,b\n1.png,b\n")
    assert data.facts["repeated"]["equal_files"] == 2
    assert "warning: 2 images stand under two labels or more" in text_of(data)


def test_folders_of_splits_in_the_paths(tmp_path: Path) -> None:
    """One table above folders of loose images, as Hugging Face writes it, and one per split, as Kaggle does."""
    parts = ["train" if k < 12 else "val" if k < 16 else "test" for k in range(NUM)]
    names = images_in(tmp_path / "set", [f"{part}/{k}.png" for k, part in enumerate(parts)])
    rows = [f"{name},{label}" for name, label in zip(names, NAMES, strict=True)]
    (tmp_path / "set" / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    data = read(tmp_path, "image_folder")
    assert truth(data)
    assert data.validation_labels is not None
    assert (len(data.train_labels), len(data.validation_labels), len(data.test_labels)) == (12, 4, 4)
    assert "splits (train, validation, test) from the first folder of the paths" in text_of(data)
    (tmp_path / "set" / "metadata.csv").unlink()
    for part in set(parts):
        of_part = [row for row in rows if row.startswith(part)]
        (tmp_path / "set" / f"{part}.csv").write_text("\n".join(["file_name,label", *of_part]))
    again = read(tmp_path, "image_folder")
    assert again.fingerprint == data.fingerprint
    assert truth(again)


def test_paths_of_which_some_begin_with_a_split(tmp_path: Path) -> None:
    names = images_in(tmp_path / "set", [f"{'test' if k > 15 else 'pictures'}/{k}.png" for k in range(NUM)])
    rows = [f"{name},{label}" for name, label in zip(names, NAMES, strict=True)]
    (tmp_path / "set" / "labels.csv").write_text("\n".join(["file_name,label", *rows]))
    assert "4 paths begin with the name of a split, but 16 do not" in refusal(
        tmp_path, path=tmp_path / "set" / "labels.csv"
    )


def test_several_tables_for_one_split(tmp_path: Path) -> None:
    images_in(tmp_path / "set")
    for name in ("labels.csv", "train.csv"):
        (tmp_path / "set" / name).write_text(lines())
    assert "holds labels.csv and train.csv, both a table of the split" in refusal(tmp_path)


def test_a_test_table_without_labels(tmp_path: Path) -> None:
    images_in(tmp_path / "set")
    (tmp_path / "set" / "train.csv").write_text(lines())
    (tmp_path / "set" / "test.csv").write_text("file_name\n0.png\n")
    assert "test.csv: has no column `label`, which train.csv has" in refusal(tmp_path)


# --- JSON ---------------------------------------------------------------------------------------------------------


def json_text(labels: list[Any]) -> str:
    return "\n".join(json.dumps({"file_name": f"{k}.png", "label": label}) for k, label in enumerate(labels))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1 if k % 2 else "1" for k in range(NUM)], "values of several types"),
        ([True if k % 2 else "x" for k in range(NUM)], "values of several types"),
        ([{"id": k % 2} for k in range(NUM)], "`label` is lists"),
        ([k % 2 + 0.5 for k in range(NUM)], "is floats"),
    ],
)
def test_json_labels(labels: list[Any], message: str, tmp_path: Path) -> None:
    assert message in refused(tmp_path, json_text(labels), "metadata.jsonl")


@pytest.mark.parametrize("bad", [0.5, float("nan"), float("inf")])
def test_json_numbers_that_are_not_whole_on_request(bad: float, tmp_path: Path) -> None:
    labels: list[Any] = [float(k % 2) for k in range(NUM)]
    labels[7] = bad
    message = refused(tmp_path, json_text(labels), "metadata.jsonl", label_column="label")
    assert f"column `label`: row 7 is {bad}, but classes are whole numbers or text" in message


@pytest.mark.parametrize("line", ["[1, 2]", "3", '{"file_name": "0.png", "label": 1, "label": 2}', "{", "null"])
def test_lines_that_are_no_record(line: str, tmp_path: Path) -> None:
    message = refused(tmp_path, json_text([k % 2 for k in range(NUM)]) + "\n" + line, "metadata.jsonl")
    assert f"metadata.jsonl: not a readable table (line {NUM + 1}" in message


def test_line_separators_inside_a_json_text(tmp_path: Path) -> None:
    """They are no ends of lines."""
    labels = ["a\u2028" if k % 2 else "b\x85" for k in range(NUM)]
    text = "\n".join(
        json.dumps({"file_name": f"{k}.png", "label": name}, ensure_ascii=False) for k, name in enumerate(labels)
    )
    assert truth(read_table(tmp_path, text, "metadata.jsonl"), labels)


@pytest.mark.parametrize(
    "name",
    ["a\0.png", "é" * 300 + ".png", "x" * 300 + ".png", "\\" * 300, "\ud800.png", "", " ", "/dev/zero", "a/" * 3000],
)
def test_paths_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    """Each is a damaged image like others."""
    text = json_text([k % 2 for k in range(NUM)]) + "\n" + json.dumps({"file_name": name, "label": 1})
    message = refused(tmp_path, text, "metadata.jsonl")
    if not name.strip():
        assert "1 row has no `file_name`" in message
        return
    assert "data.skip_damaged: true leaves such images out" in message
    data = read(tmp_path, "image_folder", skip_damaged=True)
    assert truth(data, ["01"[k % 2] for k in range(NUM)])
    pq.write_table(
        pa.table(
            {
                "path": [f"{k}.png" for k in range(NUM)] + [name.replace("\ud800", "?")],
                "label": [k % 2 for k in range(NUM + 1)],
            }
        ),
        tmp_path / "set" / "a.parquet",
    )
    refusal(tmp_path, "parquet", tmp_path / "set" / "a.parquet")
    assert truth(
        read(tmp_path, "parquet", tmp_path / "set" / "a.parquet", skip_damaged=True), ["01"[k % 2] for k in range(NUM)]
    )


def test_a_label_that_is_half_a_character(tmp_path: Path) -> None:
    labels = ["\ud800" if k % 2 else "b" for k in range(NUM)]
    message = refused(tmp_path, json_text(labels), "metadata.jsonl")
    assert r"the class name \ud800 is not valid UTF-8; rename it" in message


def test_one_hot_columns_of_text_are_asked_for(tmp_path: Path) -> None:
    rows = "".join(f"{k}.png,{int(NAMES[k] == 'a')},{int(NAMES[k] == 'b')}\n" for k in range(NUM))
    message = refused(tmp_path, "file_name,a,b\n" + rows)
    assert message.endswith(
        "it may be any of a: text, b: text; say which: data.label_column (a list of columns if they are one-hot)"
    )
    assert truth(read(tmp_path, "image_folder", label_column=["a", "b"]))


@pytest.mark.parametrize("values", [["0.5", "1e-05"], ["1E-1", "2"], ["1.0", "nan"], ["0.25", "-inf"]], ids=str)
def test_numbers_with_exponents_are_no_classes(values: list[str], tmp_path: Path) -> None:
    rows = "".join(f"{k}.png,{values[k % 2]}\n" for k in range(NUM))
    assert "the label column `label` is floats; classes are integers or text" in refused(
        tmp_path, "file_name,label\n" + rows
    )
    assert "classes are whole numbers or text" in refusal(tmp_path, label_column="label")


def test_names_that_look_like_numbers_with_exponents_are_classes(tmp_path: Path) -> None:
    names = [("1e5", "nan")[name == "b"] for name in NAMES]
    rows = "".join(f"{k}.png,{name}\n" for k, name in enumerate(names))
    assert truth(read_table(tmp_path, "file_name,label\n" + rows), names)


def test_images_that_a_parquet_table_does_not_list_are_counted(tmp_path: Path) -> None:
    images_in(tmp_path / "set")
    table = pa.table({"file_name": [f"{k}.png" for k in range(NUM - 1)], "label": NAMES[: NUM - 1]})
    pq.write_table(table, tmp_path / "set" / "metadata.parquet")
    (tmp_path / "set" / "notes.txt").touch()
    text = text_of(read(tmp_path, "image_folder"))
    assert "left out: 1 image in " in text
    assert ".txt files, which the installed Pillow does not decode: 1" in text
    assert ".parquet files" not in text


def test_other_files_beside_a_table_are_counted(tmp_path: Path) -> None:
    assert "left out" not in text_of(read_table(tmp_path, lines(), "train.csv"))
    for name in ("sample_submission.csv", "notes.txt", "Thumbs.db", ".hidden"):
        (tmp_path / "set" / name).write_text("file_name,label\n")
    text = text_of(read(tmp_path, "image_folder"))
    for kind in (".csv files", ".db files", ".txt files"):
        assert f"{kind}, which the installed Pillow does not decode: 1" in text
    assert "hidden files: 1" in text
