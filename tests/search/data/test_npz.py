"""The npz reader, and the cache of decoded images."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.helpers.layouts import labels_by_image, parquet_set, pictures, png, read, same_images, write_shard
from tests.helpers.tiny import write_npz
from winnow.search.data import reading
from winnow.search.data.decode import Decoded, Rules
from winnow.search.data.listing import Encoded
from winnow.search.data.source import load
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Data

# --- npz ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("train", "test"), [("train_{}", "test_{}"), ("{}_train", "{}_test")])
def test_npz(train: str, test: str, tmp_path: Path) -> None:
    images = pictures(9, channels=1)[..., 0]
    keys = ("images", "labels") if train.startswith("train") else ("x", "y")
    arrays = {
        train.format(keys[0]): images,
        train.format(keys[1]): np.arange(9, dtype=np.uint8)[:, None] % 3,
        test.format(keys[0]): pictures(3, channels=1)[..., 0],
        test.format(keys[1]): np.arange(3)[:, None],
    }
    data = read(tmp_path, "npz", write_npz(tmp_path / "a.npz", **arrays))
    assert data.image_shape == (1, 5, 6)
    assert labels_by_image(data.train_images, data.train_labels) == labels_by_image(images, np.arange(9) % 3)
    assert data.train_labels.dtype == np.int64


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": np.zeros(3)}, "needs the arrays train_images and train_labels .* but holds pixels"),
        ({"train_images": pictures(3)}, "holds train_images, but no train_labels"),
        (
            {"train_images": pictures(3) / 255, "train_labels": [0, 1, 2]},
            "train_images must be uint8, but is float64; .*data.pixel_range",
        ),
        ({"train_images": pictures(3), "train_labels": [0, 1]}, r"train_labels must be integers \[3\]"),
        (
            {"train_images": pictures(3), "train_labels": [0, 2, 2]},
            "no training image of 1 of 3 classes: 1 .the labels have gaps",
        ),
        (
            {"train_images": pictures(3), "train_labels": [-1, 0, 1]},
            r"train labels lie in \[-1, 1\].*data.remap_labels",
        ),
        ({"train_images": pictures(3), "train_labels": [0, 0, 0]}, "at least 2 classes are needed"),
        ({"train_images": pictures(0), "train_labels": np.zeros(0, int)}, "the train split holds no image"),
        *(
            (
                {"train_images": np.zeros((3, *shape), np.uint8), "train_labels": [0, 1, 2]},
                f"last one; .* {shape[0]} pixels.*{way_on}",
            )
            for shape, way_on in [
                ((3, 8, 3), "PNG"),
                ((3, 3, 3), "PNG"),
                ((3, 8, 4), "PNG"),
                ((4, 8, 4), "PNG"),
                ((1, 8, 1), "H, W"),
                ((3, 8, 1), "H, W"),
                ((1, 8, 3), "H, W"),
            ]
        ),
        ({"train_images": np.zeros((3, 4, 8, 8), np.uint8), "train_labels": [0, 1, 2]}, "its channels come first"),
        (
            {"x_train": pictures(2), "y_train": [0, 1], "x_test": pictures(2, size=(4, 4)), "y_test": [0, 1]},
            r"image shapes differ between splits \(train 5x6x3, test 4x4x3\)",
        ),
    ],
)
def test_what_npz_refuses(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, "npz", write_npz(tmp_path / "a.npz", **arrays))


def test_grey_images_without_an_axis_of_channels_are_certain(tmp_path: Path) -> None:
    images = pictures(9, size=(3, 8), channels=1)[..., 0]
    data = read(tmp_path, "npz", write_npz(tmp_path / "a.npz", train_images=images, train_labels=np.arange(9) % 3))
    assert data.image_shape == (1, 3, 8)


def test_dev_arrays_are_the_validation_split(tmp_path: Path) -> None:
    arrays = {"train_images": pictures(9), "train_labels": np.arange(9) % 3}
    images = pictures(3, 1)
    path = write_npz(tmp_path / "a.npz", **arrays, dev_images=images, dev_labels=[2, 1, 0])
    data = read(tmp_path, "npz", path)
    assert data.validation_images is not None
    assert np.array_equal(data.validation_images, images)


def test_no_npz(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path, "npz")
    (tmp_path / "set").write_bytes(b"PK not a zip")
    with pytest.raises(InputError, match=r"not a readable \.npz file"):
        read(tmp_path, "npz")
    np.savez(tmp_path / "pickled.npz", train_images=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="train_images"):
        read(tmp_path, "npz", tmp_path / "pickled.npz")


# --- CIFAR --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_that_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{name} is not in .*--download, or give its folder with --data-dir"):
        load(Data(name=name), tmp_path)


def test_cifar_is_found_as_parquet_in_the_data_folder(tmp_path: Path) -> None:
    images = parquet_set(tmp_path / "cifar10")
    data = load(Data(name="cifar10"), tmp_path)
    assert np.array_equal(data.train_images, images["train"]), "the published order is kept"
    assert data.name == "cifar10"


# --- cache --------------------------------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that were decoded since."""
    names: list[str] = []

    def counting(item: Encoded, rules: Rules) -> Decoded:
        names.append(item.where)
        return decode_one(item, rules)

    decode_one = reading.decode_one
    monkeypatch.setattr(reading, "decode_one", counting)
    return names


def test_decoded_images_are_cached_until_content_or_options_change(tmp_path: Path, decoded: list[str]) -> None:
    parquet_set(tmp_path / "set", validation=True)

    def num_decoded(**settings: Any) -> int:
        decoded.clear()
        read(tmp_path, **settings)
        return len(decoded)

    first = read(tmp_path, validation=0.5)
    assert len(decoded) == 12 + 6
    assert num_decoded(validation=0.5) == 0
    again = read(tmp_path, validation=0.25)  # which share is held out does not matter
    assert (again.fingerprint, again.class_names) == (first.fingerprint, first.class_names)
    assert num_decoded(validation=0.5, limit=5) == 5 + 6
    assert num_decoded(validation=0.5, image_size=4) == 12 + 6
    assert num_decoded() == num_decoded(validation="given") + 12 + 3 + 6
    file = tmp_path / "set" / "test-00000-of-00001.parquet"
    os.utime(file, ns=(0, 0))
    assert num_decoded(validation=0.5) == 0, "the time of change says nothing"
    other = list(pictures(6, seed=9))
    write_shard(file, other, [2, 1, 0, 2, 1, 0])
    os.utime(file, ns=(0, 0))
    assert num_decoded(validation=0.5) == 12 + 6
    assert np.array_equal(read(tmp_path, validation=0.5).test_images, other)


def test_a_damaged_cache_is_read_anew(tmp_path: Path, decoded: list[str]) -> None:
    parquet_set(tmp_path / "set")
    first = read(tmp_path)
    files = sorted((tmp_path / "data" / ".cache").glob("*/*.npy")) + list(
        (tmp_path / "data" / ".cache").glob("*/*.json")
    )
    assert len(files) == 7
    for file in files:
        content = file.read_bytes()
        for damage in (b"", content[:-1], content[:-1] + bytes([content[-1] ^ 1]), b"nonsense"):
            if "records" in file.name and len(damage) == len(content):
                continue  # sizes and keys of the summary alone
            file.write_bytes(damage)
            decoded.clear()
            assert read(tmp_path).fingerprint == first.fingerprint
            assert len(decoded) == 18, (file.name, damage[-5:])


def test_a_cache_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    images = parquet_set(tmp_path / "set")
    (tmp_path / "data").write_text("a file where the folder should be")
    assert same_images(read(tmp_path).train_images, images["train"])


def test_an_archive_that_unpacks_to_gigabytes_is_refused_before_that(tmp_path: Path) -> None:
    file = tmp_path / "bomb.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("train_images.npy", "w") as member:
        for _ in range(1100):
            member.write(bytes(10**6))
    started = time.monotonic()
    with pytest.raises(InputError, match=r"bomb.npz: unpacks to 1\.1 GB from .* MB, which real arrays do not"):
        read(tmp_path, "npz", file)
    assert time.monotonic() - started < 1


def test_an_array_that_is_in_an_archive_twice_is_refused(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", train_images=pictures(9), train_labels=np.arange(9) % 3)
    with zipfile.ZipFile(path) as archive:
        labels = archive.read("train_labels.npy")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("train_labels.npy", labels)
    with pytest.raises(InputError, match=r"a\.npz: holds the array train_labels more than once"):
        read(tmp_path, "npz", path)


def test_groups_of_an_archive_are_told(tmp_path: Path) -> None:
    arrays = {"train_images": pictures(12), "train_labels": np.arange(12) % 2, "train_patient": np.arange(12) // 2}
    data = read(tmp_path, "npz", write_npz(tmp_path / "a.npz", **arrays), groups="patient")
    assert data.facts["taken"] == [
        "train: images from `train_images`, classes from `train_labels`, groups from `train_patient`"
    ]


def test_missing_groups_are_no_group(tmp_path: Path) -> None:
    """Polars and numpy write NaN for a missing number; all of these images would be one patient."""
    patients = np.repeat([0.0, 1.0, np.nan], 4)
    arrays = {"train_images": pictures(12), "train_labels": np.arange(12) % 2, "train_patient": patients}
    with pytest.raises(InputError, match=r"train_patient: 4 rows have no value \(NaN\), the first: row 8"):
        read(tmp_path, "npz", write_npz(tmp_path / "a.npz", **arrays), groups="patient")
    columns = {"image": [png(image) for image in pictures(12)], "label": ["a", "b"] * 6, "patient": patients}
    pl.DataFrame(columns).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"column `patient`: 4 rows have no value \(NaN\), the first: row 8"):
        read(tmp_path, "parquet", tmp_path / "a.parquet", groups="patient")


def test_groups_that_are_too_large_to_hold_one_out_are_the_cause(tmp_path: Path) -> None:
    arrays = {"train_images": pictures(12), "train_labels": np.arange(12) % 2, "train_patient": np.arange(12) // 6}
    with pytest.raises(InputError, match=r"no test image is left; no group of data\.groups is small enough"):
        read(tmp_path, "npz", write_npz(tmp_path / "a.npz", **arrays), groups="patient")
