"""CIFAR-10 in the layout of CINIC-10: the reader of image folders finds the same images in three parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cinic_tree import drawn, write_tree
from tests.helpers.tiny import tiny_data
from winnow.search.data.image_data import ImageData
from winnow.search.data.source import load
from winnow.spaces.schema import Data


@pytest.fixture
def source() -> ImageData:
    data = tiny_data(40)
    random = np.random.default_rng(0)
    return replace(
        data,
        train_images=random.integers(0, 256, data.train_images.shape, dtype=np.uint8),
        test_images=random.integers(0, 256, data.test_images.shape, dtype=np.uint8),
        class_names=("airplane", "automobile", "bird"),
    )


def pixels_by_class(images: np.ndarray, labels: np.ndarray) -> list[tuple[int, bytes]]:
    return sorted((int(label), image.tobytes()) for image, label in zip(images, labels, strict=True))


def test_the_reader_finds_the_same_images(source: ImageData, tmp_path: Path) -> None:
    counts = write_tree(source, tmp_path / "cinic10", 9)
    assert counts == {"train": 31, "valid": 9, "test": len(source.test_labels)}
    assert {file.name for file in tmp_path.iterdir()} == {"cinic10"}
    assert {file.name for file in (tmp_path / "cinic10").iterdir()} == {"train", "valid", "test", "ORIGIN.txt"}
    read = load(Data(name="image_folder", path=str(tmp_path / "cinic10"), validation="given"), tmp_path)
    assert read.class_names == source.class_names
    assert read.validation_images is not None
    assert read.validation_labels is not None
    both = [(read.train_images, read.train_labels), (read.validation_images, read.validation_labels)]
    assert [len(labels) for _, labels in both] == [31, 9]
    found = sorted(pixel for part in both for pixel in pixels_by_class(*part))
    assert found == pixels_by_class(source.train_images, source.train_labels)
    assert pixels_by_class(read.test_images, read.test_labels) == pixels_by_class(
        source.test_images, source.test_labels
    )
    assert np.bincount(read.validation_labels).tolist() == [3, 3, 3]


def test_bad_numbers_and_an_existing_folder_are_refused(source: ImageData, tmp_path: Path) -> None:
    for number in (2, 40):
        with pytest.raises(
            ValueError, match=rf"between 1 and 1\d of the 1\d images of each class .* but {number} give"
        ):
            write_tree(source, tmp_path / "tree", number)
    with pytest.raises(FileExistsError, match="exists; choose another --output"):
        write_tree(source, tmp_path, 9)
    assert np.array_equal(drawn(source.train_labels, 9, 3), drawn(source.train_labels, 9, 3))
