"""Names of classes, shards and arrays of data sets from elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.helpers.cases import IMAGES, column_of, refusal, text_of
from tests.helpers.downloads import NAMES, NUM, classes, read_table, refused_table, table
from tests.helpers.layouts import read
from tests.helpers.tiny import write_npz


@pytest.mark.parametrize(
    ("names", "warning"),
    [
        (["rust", "scab", "rust scab"], "warning: a class is named rust scab, after other classes"),
        (["Mass", "Nodule", "Nodule|Mass"], "warning: a class is named Nodule|Mass, after other classes"),
        (["Mass", "Nodule", "Mass|Effusion"], "warning: a class is named Mass|Effusion, after other classes"),
        (["Mass", "Nodule", "A|B"], None),
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
    assert "every class has only one image, so none can be held out; check that these are classes" in message


@pytest.mark.parametrize("twin", ["cat\u200b", "cat\xa0", "CAT", "\uff43at"])
def test_names_that_look_alike_are_warned_of(twin: str, tmp_path: Path) -> None:
    text = text_of(read_table(tmp_path, table(names=[twin, *NAMES[1:]])))
    assert "warning: classes whose names differ by case, blanks or zeros alone" in text


@pytest.mark.parametrize(
    "names", [("train", "training"), ("train-data", "train-set-0"), ("train-00000-of-00001", "Train_0")]
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
