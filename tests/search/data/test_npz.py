"""The npz reader, and the cache of decoded images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.layouts import parquet_set, pictures, read
from tests.helpers.tiny import write_npz
from winnow.search.data import decoded_parts as encoded
from winnow.search.data.decode import Encoded
from winnow.search.data.image_data import load
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Data

# --- npz ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("train", "test"), [("train_{}", "test_{}"), ("{}_train", "{}_test")])
def test_npz(train: str, test: str, tmp_path: Path) -> None:
    keys = ("images", "labels") if train.startswith("train") else ("x", "y")
    arrays = {
        train.format(keys[0]): pictures(9, channels=1)[..., 0],
        train.format(keys[1]): np.arange(9, dtype=np.uint8)[:, None] % 3,
        test.format(keys[0]): pictures(3, channels=1)[..., 0],
        test.format(keys[1]): np.arange(3)[:, None],
    }
    data = read(tmp_path, "npz", write_npz(tmp_path / "a.npz", **arrays))
    assert data.image_shape == (1, 5, 6)
    assert data.train_labels.tolist() == [0, 1, 2] * 3
    assert data.train_labels.dtype == np.int64


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": np.zeros(3)}, "needs the arrays train_images and train_labels .* but holds pixels"),
        ({"train_images": pictures(3)}, "holds train_images, but no train_labels"),
        (
            {"train_images": pictures(3) / 255, "train_labels": [0, 1, 2]},
            "train_images must be uint8 .* but is float64",
        ),
        ({"train_images": pictures(3), "train_labels": [0, 1]}, r"train_labels must be integers \[3\]"),
        ({"train_images": pictures(3), "train_labels": [0, 2, 2]}, "no training image of 1 of 3 classes: 1"),
        ({"train_images": pictures(3), "train_labels": [-1, 0, 1]}, r"train labels lie in \[-1, 1\]"),
        ({"train_images": pictures(3), "train_labels": [0, 0, 0]}, "at least 2 classes are needed"),
        ({"train_images": pictures(0), "train_labels": np.zeros(0, int)}, "the train split holds no image"),
        (
            {"x_train": pictures(2), "y_train": [0, 1], "x_test": pictures(2, size=(4, 4)), "y_test": [0, 1]},
            r"image shapes differ between splits \(train 5x6x3, test 4x4x3\)",
        ),
    ],
)
def test_what_npz_refuses(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, "npz", write_npz(tmp_path / "a.npz", **arrays))


def test_no_npz(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path, "npz")
    (tmp_path / "set").write_bytes(b"PK not a zip")
    with pytest.raises(InputError, match=r"not a readable \.npz file"):
        read(tmp_path, "npz")
    np.savez(tmp_path / "pickled.npz", train_images=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"not a readable \.npz file"):
        read(tmp_path, "npz", tmp_path / "pickled.npz")


# --- CIFAR --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_that_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{name} is not in .*--download, or say where it is with --data-dir"):
        load(Data(name=name), tmp_path)


def test_cifar_is_found_as_parquet_in_the_data_folder(tmp_path: Path) -> None:
    images = parquet_set(tmp_path / "cifar10")
    data = load(Data(name="cifar10"), tmp_path)
    assert np.array_equal(data.train_images, images["train"])
    assert data.name == "cifar10"


# --- cache --------------------------------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what was decoded since."""
    sizes: list[int] = []

    def counting(items: Sequence[Encoded], *arguments: Any, **keywords: Any) -> np.ndarray:
        sizes.append(len(items))
        return decode(items, *arguments, **keywords)

    decode = encoded.decode
    monkeypatch.setattr(encoded, "decode", counting)
    return sizes


def test_decoded_images_are_cached_until_files_or_options_change(tmp_path: Path, decoded: list[int]) -> None:
    parquet_set(tmp_path / "set", validation=True)
    first = read(tmp_path)
    assert decoded == [12, 6]
    again = read(tmp_path)
    assert decoded == [12, 6]
    assert again.fingerprint == first.fingerprint
    assert again.class_names == first.class_names
    read(tmp_path, limit=5)
    assert decoded == [12, 6, 5, 6]
    read(tmp_path, image_size=4)
    assert decoded[4:] == [12, 6]
    read(tmp_path, validation="given")
    assert decoded[6:] == [12, 3, 6]
    file = tmp_path / "set" / "test-00000-of-00001.parquet"
    os.utime(file, ns=(0, 0))
    read(tmp_path)
    assert decoded[9:] == [12, 6]


def test_a_damaged_cache_is_read_anew(tmp_path: Path, decoded: list[int]) -> None:
    parquet_set(tmp_path / "set")
    first = read(tmp_path)
    (cache,) = (tmp_path / "data" / ".cache").glob("*.npz")
    for damage in (b"", cache.read_bytes()[:200], cache.read_bytes()[:-100], b"nonsense"):
        cache.write_bytes(damage)
        decoded.clear()
        assert read(tmp_path).fingerprint == first.fingerprint
        assert decoded == [12, 6]


def test_a_cache_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    images = parquet_set(tmp_path / "set")
    (tmp_path / "data").write_text("a file where the folder should be")
    assert np.array_equal(read(tmp_path).train_images, images["train"])
