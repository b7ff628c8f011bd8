"""Readers: each layout gives the images that were put in, and says what is wrong with what it cannot read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.layouts import NAMES, labels_by_image, parquet_set, pictures, png, read, write_shard
from winnow.search.data.datasets import DATASETS
from winnow.search.data.source import load
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Data


def test_the_registry_holds_what_the_schema_names() -> None:
    assert set(DATASETS) == set(Data.model_fields["name"].annotation.__args__[0].__args__)


# --- digits -------------------------------------------------------------------------------------------------------


def test_digits(tmp_path: Path) -> None:
    data = load(Data(name="digits"), tmp_path)
    assert data.image_shape == (1, 8, 8)
    assert data.num_classes == 10
    assert data.train_images.dtype == np.uint8
    assert data.train_images.max() == 255
    assert len(np.unique(data.train_images)) == 17
    assert (len(data.train_labels), len(data.test_labels)) == (1438, 359)
    assert np.all(np.abs(np.bincount(data.test_labels) - 35.9) < 2)
    assert "held out as the test set" in data.notes[0]
    again = load(Data(name="digits"), tmp_path)
    assert again.fingerprint == data.fingerprint
    assert load(Data(name="digits", limit=100), tmp_path).fingerprint != data.fingerprint


def test_sizes_and_channels_of_arrays_can_be_changed(tmp_path: Path) -> None:
    data = load(Data(name="digits", image_size=12, channels=3, limit=20), tmp_path)
    assert data.train_images.shape == (20, 12, 12, 3)
    assert np.array_equal(data.train_images[..., 0], data.train_images[..., 2])


# --- parquet ------------------------------------------------------------------------------------------------------


def test_parquet(tmp_path: Path) -> None:
    images = parquet_set(tmp_path / "set")
    data = read(tmp_path)
    assert labels_by_image(data.train_images, data.train_labels) == labels_by_image(images["train"], np.arange(12) % 3)
    assert np.array_equal(data.test_images, images["test"])
    assert data.test_labels.tolist() == [2, 1, 0] * 2
    assert data.class_names == ("cat", "dog", "owl")
    assert data.image_shape == (3, 5, 6)
    assert data.validation_images is None
    assert data.notes == ()


def test_a_limit_is_a_sample_of_all_classes_and_leaves_the_test_whole(tmp_path: Path) -> None:
    images = parquet_set(tmp_path / "set")
    data = read(tmp_path, limit=7)
    assert np.bincount(data.train_labels).tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])
    assert labels_by_image(data.train_images, data.train_labels).items() <= (
        labels_by_image(images["train"], np.arange(12) % 3).items()
    )
    assert np.array_equal(data.train_images, read(tmp_path, limit=7).train_images)
    assert len(data.test_labels) == 6
    assert len(read(tmp_path, limit=1000).train_labels) == 12
    with pytest.raises(InputError, match=r"data.limit: 2 images cannot cover all 3 classes"):
        read(tmp_path, limit=2)


def test_parquet_given_validation(tmp_path: Path) -> None:
    images = parquet_set(tmp_path / "set", validation=True)
    data = read(tmp_path, validation="given")
    assert np.array_equal(data.validation_images, images["validation"])
    assert np.array_equal(read(tmp_path).validation_images, images["validation"]), "it is used by default"
    unused = read(tmp_path, validation=0.5)
    assert unused.validation_images is None
    assert "the validation split of the data set (3 images) is not used" in unused.notes[0]
    parquet_set(tmp_path / "other")
    with pytest.raises(InputError, match=r"data.validation: `given`, but .*other has no validation split"):
        read(tmp_path, path=tmp_path / "other", validation="given")


def test_parquet_other_spellings(tmp_path: Path) -> None:
    """Binary images, CIFAR-100's two labels, no class names, files without shard numbers, one folder down."""
    images = pictures(6)
    column = pa.array([png(image) for image in images], pa.binary())
    labels = {"fine_label": [0, 1, 2, 0, 1, 2], "coarse_label": [0] * 6}
    (tmp_path / "set" / "plain_text").mkdir(parents=True)
    for part in ("train", "test"):
        pq.write_table(pa.table({"img": column, **labels}), tmp_path / "set" / "plain_text" / f"{part}.parquet")
    data = read(tmp_path)
    assert data.class_names == ("0", "1", "2")
    assert labels_by_image(data.train_images, data.train_labels) == labels_by_image(images, np.arange(6) % 3)


def test_a_single_parquet_file_gives_up_a_test_set(tmp_path: Path) -> None:
    write_shard(tmp_path / "all.parquet", list(pictures(30)), [0, 1, 2] * 10)
    data = read(tmp_path, path=tmp_path / "all.parquet")
    assert (len(data.train_labels), len(data.test_labels)) == (24, 6)
    assert np.bincount(data.test_labels).tolist() == [2, 2, 2]
    limited = read(tmp_path, path=tmp_path / "all.parquet", limit=10)
    assert np.array_equal(limited.test_images, data.test_images)
    assert len(limited.train_images) == 10
    assert {image.tobytes() for image in limited.train_images} <= {image.tobytes() for image in data.train_images}


def test_what_parquet_refuses(tmp_path: Path) -> None:
    def refused(message: str, **settings: Any) -> None:
        with pytest.raises(InputError, match=message):
            read(tmp_path, **settings)

    refused("set does not exist")
    (tmp_path / "set").mkdir()
    refused(r"holds no train-\*\.parquet \(found: no Parquet file\)")
    (tmp_path / "set" / "train-00000-of-00001.parquet").write_bytes(b"PAR1 no")
    refused("train-00000-of-00001.parquet: not a readable Parquet file")
    parquet_set(tmp_path / "set")
    refused("holds 3 of 2 train shards")
    (tmp_path / "set" / "train-00000-of-00001.parquet").unlink()
    (tmp_path / "set" / "train-00001-of-00002.parquet").unlink()
    refused("holds 1 of 2 train shards")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": [0, 1]}, "no column of encoded images .* among label: int64"),
        ({"image": ["a", "b"], "label": [0, 1]}, "2 of 2 images cannot be read: .*row 0, a: no such file"),
        ({"image": [b"a", b"b"], "name": ["x", "y"]}, "no label column .*among name: string; .*data.label_column"),
        (
            {"image": [b"a", b"b"], "x": [0, 1], "y": [0, 1]},
            "the label column is ambiguous.*x: int64, y: int64; say which: data.label_column",
        ),
    ],
)
def test_parquet_without_its_columns(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    with pytest.raises(InputError, match=message):
        read(tmp_path, path=tmp_path / "train.parquet")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([b"junk", *pictures(5)], [0, 1, 2, 0, 1, 2], "train.parquet, row 0: not a readable image"),
        ([*pictures(5), png(pictures(1)[0])[:60]], [0, 1, 2, 0, 1, 2], "train.parquet, row 5: not a readable image"),
        ([None, *pictures(5)], [0, 1, 2, 0, 1, 2], "row 0: not a readable image .it is empty"),
        (
            [*pictures(5), pictures(1, size=(4, 4))[0]],
            [0, 1, 2, 0, 1, 2],
            "row 5: the image is 4x4, but .*row 0 is 5x6 .height x width",
        ),
        (list(pictures(6)), [0, 1, None, 0, 1, 2], "1 row has no `label`"),
        (list(pictures(6)), [0, 1, 1, 0, 1, 1], "no training image of 1 of 3 classes: owl"),
        (
            list(pictures(6)),
            [0, 1, 7, 0, 1, 2],
            r"train labels lie in \[0, 7\], but must lie in \[0, 2\] for 3 classes",
        ),
    ],
)
def test_damaged_parquet(images: list, labels: list, message: str, tmp_path: Path) -> None:
    write_shard(tmp_path / "train.parquet", images, labels)
    with pytest.raises(InputError, match=message):
        read(tmp_path, path=tmp_path / "train.parquet")


# --- image folder -------------------------------------------------------------------------------------------------


def folder_set(path: Path, splits: Sequence[str] = ("train", "test"), per_class: int = 4) -> None:
    for i, split in enumerate(splits):
        for k, name in enumerate(NAMES):
            (path / split / name).mkdir(parents=True)
            for j, image in enumerate(pictures(per_class, seed=10 * i)):
                (path / split / name / f"{j}.png").write_bytes(png(np.full_like(image, 50 * k + j)))


def test_image_folder(tmp_path: Path) -> None:
    folder_set(tmp_path / "set", ("train", "val", "test"))
    (tmp_path / "set" / "train" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "set" / "train" / ".cache").mkdir()
    data = read(tmp_path, "image_folder", validation="given")
    assert data.class_names == ("cat", "dog", "owl")
    assert data.train_images.shape == (12, 5, 6, 3)
    assert data.validation_images is not None
    # Every pixel says which class and file the image came from.
    assert np.array_equal(data.train_images[:, 0, 0, 0] // 50, data.train_labels)
    assert sorted(data.train_images[:, 0, 0, 0].tolist()) == [50 * k + j for k in range(3) for j in range(4)]


def test_a_limited_image_folder_holds_all_classes(tmp_path: Path) -> None:
    folder_set(tmp_path / "set", per_class=20)
    data = read(tmp_path, "image_folder", limit=21)
    assert np.bincount(data.train_labels).tolist() == [7, 7, 7]


def test_an_image_folder_without_test_gives_one_up(tmp_path: Path) -> None:
    folder_set(tmp_path / "set", ("train",), per_class=10)
    data = read(tmp_path, "image_folder")
    assert (len(data.train_labels), len(data.test_labels)) == (24, 6)
    assert "held out" in data.notes[0]


def test_what_image_folder_refuses(tmp_path: Path) -> None:
    root = tmp_path / "set"

    def refused(message: str) -> None:
        with pytest.raises(InputError, match=message):
            read(tmp_path, "image_folder")

    refused("set is no folder")
    (root / "pictures").mkdir(parents=True)
    refused(r"holds no folder `train`, no class folders with images and no table .* \(found: pictures\)")
    (root / "train").mkdir()
    refused("train: holds no class folders")
    (root / "train" / "cat").mkdir()
    refused("cat: an empty class folder")
    folder_set(tmp_path / "other")
    for name in NAMES:
        (root / "train" / name).mkdir(exist_ok=True)
        (root / "train" / name / "0.png").write_bytes(png(pictures(1)[0]))
    (root / "test" / "emu").mkdir(parents=True)
    (root / "test" / "emu" / "0.png").write_bytes(png(pictures(1)[0]))
    refused("test has 1 class that train has not: emu")
    (root / "test" / "emu").rename(root / "test" / "cat")
    assert np.bincount(read(tmp_path, "image_folder").test_labels, minlength=3).tolist() == [1, 0, 0]
    (root / "test").rename(root / "valid")
    (root / "val").mkdir()
    refused("holds val and valid, both a validation split; keep one of them")


def test_sizes_and_colours(tmp_path: Path) -> None:
    root = tmp_path / "set"
    folder_set(root)
    (root / "train" / "cat" / "0.png").write_bytes(png(pictures(1, size=(9, 7), channels=1)[0]))
    with pytest.raises(InputError, match=r"sizes differ, so set `data.image_size`"):
        read(tmp_path, "image_folder")
    data = read(tmp_path, "image_folder", image_size=8)
    assert data.image_shape == (3, 8, 8)
    assert read(tmp_path, "image_folder", image_size=8, channels=1).image_shape == (1, 8, 8)


def test_a_colour_image_late_among_grey_ones_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grey, colour = png(pictures(1, channels=1)[0]), png(pictures(1)[0])
    write_shard(tmp_path / "train.parquet", [grey] * 5 + [colour], [0, 1, 2, 0, 1, 2])
    assert read(tmp_path, path=tmp_path / "train.parquet").image_shape == (3, 5, 6)
    monkeypatch.setattr("winnow.search.data.reading.NUM_LOOKED_AT", 2)
    write_shard(tmp_path / "train.parquet", [grey, grey, colour], [0, 1, 2])
    with pytest.raises(InputError, match=r"row 2: a colour image among greyscale images; set `data.channels`"):
        read(tmp_path, path=tmp_path / "train.parquet")
