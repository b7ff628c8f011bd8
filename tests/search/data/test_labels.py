"""Labels and class names of every type: right, or refused with the cause."""

from __future__ import annotations

import json
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.cases import (
    IMAGE_TYPE,
    IMAGES,
    LABELS,
    NAMES,
    column_of,
    labelled,
    parquet,
    refusal,
    text_of,
    truth,
)
from tests.helpers.layouts import png, read


@pytest.mark.parametrize(
    "make",
    [
        lambda labels: pa.array([NAMES[k] for k in labels]),
        lambda labels: pa.array([NAMES[k] for k in labels], pa.large_string()),
        lambda labels: pa.array([NAMES[k] for k in labels], pa.string_view()),
        lambda labels: pa.array([NAMES[k] for k in labels]).dictionary_encode(),
    ],
    ids=["string", "large", "view", "dictionary"],
)
@pytest.mark.parametrize("decoy", ["id", "__index_level_0__", "width", "anything"])
def test_text_labels_are_classes_whatever_integers_are_beside_them(make: Any, decoy: str, tmp_path: Path) -> None:
    parquet(tmp_path / "set", labelled(make, **{decoy: lambda labels: pa.array([0] * len(labels))}))
    data = read(tmp_path)
    assert data.class_names == tuple(NAMES)
    assert truth(data, NAMES)
    assert "images from column `image`, classes from column `label`" in text_of(data)


def test_types_of_images_and_numbers(tmp_path: Path) -> None:
    def make(rows: slice) -> dict[str, Any]:
        column = pa.array([png(image) for image in IMAGES[rows]], pa.binary()).cast(pa.binary_view())
        return {"photo": column, "label": pa.array(LABELS[rows], pa.uint8())}

    parquet(tmp_path / "set", make)
    assert truth(read(tmp_path), ["0", "1", "2"])


def test_booleans_and_floats(tmp_path: Path) -> None:
    parquet(tmp_path / "a", labelled(lambda labels: pa.array([k > 0 for k in labels])))
    assert read(tmp_path, path=tmp_path / "a").class_names == ("false", "true")
    parquet(
        tmp_path / "b",
        labelled(lambda labels: pa.array([float(k) for k in labels]), idx=lambda labels: pa.array(labels)),
    )
    assert "the label column `label` is double" in refusal(tmp_path, "parquet", tmp_path / "b")
    assert truth(read(tmp_path, path=tmp_path / "b", label_column="label"), ["0", "1", "2"])
    parquet(tmp_path / "c", labelled(lambda labels: pa.array([k + 0.5 for k in labels])))
    assert "row 0 is 0.5, but classes are whole numbers" in refusal(
        tmp_path, "parquet", tmp_path / "c", label_column="label"
    )


def test_classes_as_pandas_polars_and_duckdb_write_them(tmp_path: Path) -> None:
    """Enums and categoricals with a category that no image has, in other orders: always the same data set."""
    duckdb, pandas, polars = (pytest.importorskip(name) for name in ("duckdb", "pandas", "polars"))
    images, names = [png(image) for image in IMAGES[:30]], [NAMES[k] for k in LABELS]
    table = duckdb.connect()
    table.execute("create type animal as enum ('cat', 'bee', 'unused', 'ant')")
    table.execute("create table t(image blob, label animal)")
    table.executemany("insert into t values (?, ?)", list(zip(images, names, strict=True)))
    table.execute(f"copy t to '{tmp_path / 'duckdb.parquet'}'")
    frame = polars.DataFrame({"image": images, "label": names})
    for kind in (polars.Enum(["cat", "bee", "unused", "ant"]), polars.Categorical, polars.String):
        frame.with_columns(polars.col("label").cast(kind)).write_parquet(tmp_path / f"polars-{kind}.parquet"[:40])
    labels = pandas.Categorical(names, ["unused", "cat", "bee", "ant"])
    pandas.DataFrame({"image": images, "label": labels}).iloc[::-1].to_parquet(tmp_path / "pandas.parquet")
    files = sorted(tmp_path.glob("*.parquet"))
    assert len(files) >= 4
    found = [read(tmp_path, path=file) for file in files]
    assert all(truth(data, NAMES) for data in found)
    assert {(data.class_names, data.fingerprint) for data in found} == {(tuple(NAMES), found[0].fingerprint)}


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays(
        [column_of(slice(0, 3)), pa.array([0, 1, 2]), pa.array([2, 1, 0])], ["image", "label", "label"]
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert "a column name occurs twice: label" in refusal(tmp_path, "parquet", tmp_path / "a.parquet")


def test_what_is_ambiguous_is_refused_by_name(tmp_path: Path) -> None:
    def both(rows: slice) -> dict[str, Any]:
        mask = pa.array([{"bytes": png(255 - image), "path": None} for image in IMAGES[rows]], IMAGE_TYPE)
        return {"mask": mask, "photo": column_of(rows), "label": pa.array(LABELS[rows])}

    parquet(tmp_path / "set", both)
    message = refusal(tmp_path, "parquet")
    assert "several columns may contain the images: mask: struct<bytes: binary, path: string>, photo: " in message
    assert message.endswith("say which: data.image_column")
    assert truth(read(tmp_path, image_column="photo"), ["0", "1", "2"])
    assert "no column `foto` among mask" in refusal(tmp_path, "parquet", image_column="foto")
    parquet(tmp_path / "lists", labelled(lambda labels: pa.array([[k, 1] for k in labels])))
    assert "several labels per image" in refusal(tmp_path, "parquet", tmp_path / "lists")


def test_one_hot_columns_on_request(tmp_path: Path) -> None:
    def make(rows: slice) -> dict[str, Any]:
        hot = {name: pa.array([int(NAMES[k] == name) for k in LABELS[rows]]) for name in NAMES}
        return {"image": column_of(rows), **hot}

    parquet(tmp_path / "set", make)
    assert "a list of columns if they are one-hot" in refusal(tmp_path, "parquet")
    assert truth(read(tmp_path, label_column=NAMES), NAMES)
    parquet(tmp_path / "set", lambda rows: {**make(rows), "bee": pa.array([1] * len(LABELS[rows]))})
    assert "row 0 is not one-hot (set: ant, bee)" in refusal(tmp_path, "parquet", label_column=NAMES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda labels: [k + 1 for k in labels], "the labels start at 1: 3 values from 1 to 3"),
        (lambda labels: [k * 4 for k in labels], "the labels have gaps: 3 values from 0 to 8"),
        (lambda labels: [k - 2 for k in labels], "train labels lie in [-2, 0]"),
        (lambda labels: [k * 10**8 for k in labels], "of 200000001 classes: 1, 2, 3, 4, 5, ..."),
    ],
    ids=["from 1", "gaps", "negative", "huge"],
)
def test_numbers_that_are_no_class_numbers(make: Any, message: str, tmp_path: Path) -> None:
    parquet(tmp_path / "set", labelled(lambda labels: pa.array(make(labels))))
    refused = refusal(tmp_path, "parquet")
    assert message in refused
    assert "data.remap_labels: true" in refused
    assert truth(read(tmp_path, remap_labels=True), [str(k) for k in make([0, 1, 2])])


def test_labels_from_1_with_names(tmp_path: Path) -> None:
    parquet(tmp_path / "set", labelled(lambda labels: pa.array([k + 1 for k in labels])), NAMES)
    assert "the labels start at 1" in refusal(tmp_path, "parquet")
    assert truth(read(tmp_path, remap_labels=True), NAMES)


def test_every_file_is_looked_at(tmp_path: Path) -> None:
    root = parquet(tmp_path / "set", labelled(pa.array), NAMES)
    other = parquet(tmp_path / "other", labelled(lambda labels: pa.array([2 - k for k in labels])), NAMES[::-1])
    test = root / "test-00000-of-00001.parquet"
    shutil.copy(other / test.name, test)
    data = read(tmp_path)
    assert truth(data, NAMES), "the names decide, not the numbers"
    assert "its labels are translated by their names" in text_of(data)
    names = "`train-00000-of-00001.parquet` for train, `test-00000-of-00001.parquet` for test"
    assert f"splits from the names of the files ({names})" in text_of(data)
    parquet(tmp_path / "other", labelled(pa.array), ["ant", "bee", "cow"])
    shutil.copy(other / test.name, test)
    assert "has class names that the first file has not: cow" in refusal(tmp_path, "parquet")
    parquet(tmp_path / "other", labelled(pa.array), NAMES)
    table = pq.read_table(other / test.name)
    pq.write_table(table.drop_columns(["label"]), test)
    message = refusal(tmp_path, "parquet")
    assert "test-00000-of-00001.parquet: has no column `label`" in message
    train = root / "train-00000-of-00001.parquet"
    assert message.endswith(f"to leave the test split out, set data.path: {train}")
    assert len(read(tmp_path, path=train).train_labels) + len(read(tmp_path, path=train).test_labels) == 24
    pq.write_table(table.set_column(1, "label", pa.array(["x"] * len(table))), test)
    assert "its column `label` is string, but that of train-00000-of-00001.parquet is int64" in refusal(
        tmp_path, "parquet"
    )
    pq.write_table(table.set_column(1, "label", pa.array([-1] * len(table))), test)
    assert "all test labels are -1, which marks images without a label" in refusal(tmp_path, "parquet")
    pq.write_table(table.slice(0, 0), test)
    assert "the test split holds no image" in refusal(tmp_path, "parquet")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a", "b"], "1 class name stands for several classes each: a"),
        (["a", "b"], "for 2 classes"),
        (["a", "", "b"], "a class name is empty"),
    ],
)
def test_class_names_that_do_not_tell_classes_apart(names: list[str], message: str, tmp_path: Path) -> None:
    parquet(tmp_path / "set", labelled(pa.array), names)
    assert message in refusal(tmp_path, "parquet")


def test_decimals_that_floats_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    parquet(tmp_path / "set", labelled(lambda labels: pa.array([Decimal(2**53 + (k > 0)) for k in labels])))
    message = refusal(tmp_path, "parquet", label_column="label", remap_labels=True)
    assert "too large for a class number; write classes as text" in message


@pytest.mark.parametrize(
    "metadata",
    [
        "{not JSON",
        json.dumps({"info": {"features": []}}),
        json.dumps({"info": {"features": {"label": {"names": {"1": "ant", "2": "bee", "3": "cat"}}}}}),
    ],
    ids=["no JSON", "a list", "from 1"],
)
def test_metadata_that_cannot_be_understood_are_warned_of(metadata: str, tmp_path: Path) -> None:
    root = parquet(tmp_path / "set", labelled(pa.array))
    assert "Hugging Face" not in text_of(read(tmp_path))
    file = root / "train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(file).replace_schema_metadata({"huggingface": metadata}), file)
    data = read(tmp_path)
    assert data.class_names == ("0", "1", "2")
    assert f"warning: the Hugging Face metadata of {file.name} cannot be understood" in text_of(data)
