"""The same images in whatever layout: pixels, labels and splits are the same, and depend on neither names nor order."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from winnow.search.data.image_data import ImageData, split
from winnow.search.data.source import load
from winnow.spaces.schema import Data

CLASSES = ("bird", "10", "2", "cat <b>", "ünï", "__init__", "=1+1", "a,b;c")
Image_ = tuple[str, str, np.ndarray]  # split, class, pixels


@dataclass(frozen=True)
class Pictures:
    """A small data set: (split, class, pixels) of every image."""

    images: tuple[Image_, ...]

    @property
    def names(self) -> list[str]:
        return sorted({name for _, name, _ in self.images})

    @property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(part for part, _, _ in self.images))

    def of(self, part: str) -> list[Image_]:
        return [image for image in self.images if image[0] == part]


@st.composite
def data_sets(draw: st.DrawFn) -> Pictures:
    """Two to four classes, four to seven training images each, perhaps a validation and a test split; every image is unique."""
    names = draw(st.lists(st.sampled_from(CLASSES), min_size=2, max_size=4, unique=True))
    parts = ["train", *draw(st.sampled_from([[], ["test"], ["validation"], ["validation", "test"]]))]
    height, width = draw(st.sampled_from([(4, 4), (5, 7)]))
    channels = draw(st.sampled_from([1, 3]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    found: list[Image_] = []
    for part in parts:
        for name in names:
            for _ in range(draw(st.integers(4, 7)) if part == "train" else draw(st.integers(1, 3))):
                found.append((part, name, random.integers(0, 256, (height, width, channels), dtype=np.uint8)))
    return Pictures(tuple(found))


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, kind)
    return buffer.getvalue()


def shuffled(images: list[Image_], seed: int) -> list[Image_]:
    return [images[k] for k in np.random.default_rng(seed).permutation(len(images))]


# --- layouts: each writes the images, in an order of its own, and says how they are read ------------------------------------


def folders(images: Pictures, place: Path) -> dict[str, Any]:
    for number, (part, name, pixels) in enumerate(shuffled(list(images.images), 1)):
        folder = (
            place / {"train": "Train", "validation": "val", "test": "test"}[part] / name / ("sub" if number % 2 else "")
        )
        folder.mkdir(parents=True, exist_ok=True)
        kind = ("PNG", "BMP", "TIFF")[number % 3]
        (folder / f"{number}.{kind.lower()}").write_bytes(encoded(pixels, kind))
    return {"name": "image_folder", "path": str(place)}


def one_level(images: Pictures, place: Path) -> dict[str, Any] | None:
    if images.splits != ["train"]:
        return None
    for number, (_, name, pixels) in enumerate(shuffled(list(images.images), 2)):
        (place / name).mkdir(parents=True, exist_ok=True)
        (place / name / f"{number}.png").write_bytes(encoded(pixels))
    return {"name": "image_folder", "path": str(place)}


def csv_with_split(images: Pictures, place: Path) -> dict[str, Any]:
    (place / "images").mkdir(parents=True)
    with (place / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "file_name", "label", "split"])
        for number, (part, name, pixels) in enumerate(shuffled(list(images.images), 3)):
            (place / "images" / f"{number}.png").write_bytes(encoded(pixels))
            writer.writerow([number, f"images/{number}.png", name, part])
    return {"name": "image_folder", "path": str(place)}


def metadata_by_split(images: Pictures, place: Path) -> dict[str, Any]:
    for part in images.splits:
        (place / part).mkdir(parents=True)
        lines = []
        for number, (_, name, pixels) in enumerate(shuffled(images.of(part), 4)):
            (place / part / f"{number}.png").write_bytes(encoded(pixels))
            lines.append(json.dumps({"file_name": f"{number}.png", "label": name}))
        (place / part / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return {"name": "image_folder", "path": str(place)}


def table_of(images: list[Image_], labels: pa.Array, names: list[str] | None) -> pa.Table:
    column = pa.array([{"bytes": encoded(pixels), "path": None} for _, _, pixels in images])
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
    return pa.table({"image": column, "label": labels}).replace_schema_metadata(metadata)


def class_labels(images: Pictures, place: Path) -> dict[str, Any]:
    """Hugging Face's, in two shards."""
    place.mkdir()
    for part in images.splits:
        rows = shuffled(images.of(part), 5)
        for number in range(2):
            shard = rows[number::2] or rows
            shard = rows if len(rows) == 1 and number == 0 else [] if len(rows) == 1 else shard
            labels = pa.array([images.names.index(name) for _, name, _ in shard], pa.int64())
            schema_of_all = table_of(rows, pa.array([0] * len(rows), pa.int64()), images.names).schema
            table = table_of(shard, labels, images.names) if shard else schema_of_all.empty_table()
            pq.write_table(table, place / f"{part}-{number:05d}-of-00002.parquet")
    return {"name": "parquet", "path": str(place)}


def text_labels(images: Pictures, place: Path) -> dict[str, Any]:
    """As pandas, Polars and DuckDB write them, in Hugging Face's folders; the test split as a dictionary."""
    for part in images.splits:
        rows = shuffled(images.of(part), 6)
        labels = pa.array([name for _, name, _ in rows])
        (place / "default" / part).mkdir(parents=True)
        table = table_of(rows, labels.dictionary_encode() if part == "test" else labels, None)
        pq.write_table(table, place / "default" / part / "0000.parquet")
    return {"name": "parquet", "path": str(place)}


def paths_in_parquet(images: Pictures, place: Path) -> dict[str, Any]:
    (place / "images").mkdir(parents=True)
    for part in images.splits:
        rows = shuffled(images.of(part), 7)
        for number, (_, _, pixels) in enumerate(rows):
            (place / "images" / f"{part}{number}.png").write_bytes(encoded(pixels))
        columns = {"path": [f"images/{part}{k}.png" for k in range(len(rows))], "class": [name for _, name, _ in rows]}
        pq.write_table(pa.table(columns), place / f"{part}.parquet")
    return {"name": "parquet", "path": str(place)}


def one_hot_columns(images: Pictures, place: Path) -> dict[str, Any]:
    place.mkdir()
    for part in images.splits:
        rows = shuffled(images.of(part), 8)
        table = table_of(rows, pa.array([0] * len(rows)), None).drop_columns(["label"])
        for name in images.names:
            table = table.append_column(name, pa.array([int(name == other) for _, other, _ in rows]))
        pq.write_table(table, place / f"{part}.parquet")
    return {"name": "parquet", "path": str(place), "label_column": images.names}


def npz(images: Pictures, place: Path) -> dict[str, Any]:
    place.mkdir()
    arrays: dict[str, Any] = {"class_names": np.array(images.names)}
    for part in images.splits:
        rows = shuffled(images.of(part), 9)
        arrays[f"{part}_images"] = np.stack([pixels for _, _, pixels in rows])
        arrays[f"{part}_labels"] = np.array([images.names.index(name) for _, name, _ in rows])
    np.savez(place / "set.npz", **arrays)
    return {"name": "npz", "path": str(place / "set.npz")}


def npz_of_text(images: Pictures, place: Path) -> dict[str, Any]:
    place.mkdir()
    arrays: dict[str, Any] = {}
    for part in images.splits:
        rows = shuffled(images.of(part), 10)
        arrays["x_" + part] = np.stack([pixels for _, _, pixels in rows])
        arrays["y_" + part] = np.array([name for _, name, _ in rows])
    np.savez(place / "set.npz", **arrays)
    return {"name": "npz", "path": str(place / "set.npz")}


HELD: dict[str, Pictures] = {}


def build_own(key: str) -> dict[str, Any]:
    """The function of a user."""
    images = HELD[key]
    return {
        part: (
            (pixels[..., 0] if pixels.shape[2] == 1 else pixels, name)
            for _, name, pixels in shuffled(images.of(part), 11)
        )
        for part in images.splits
    }


def own(images: Pictures, place: Path) -> dict[str, Any]:
    HELD["key"] = images
    return {"name": f"{__name__}:build_own", "arguments": {"key": "key"}}


LAYOUTS: tuple[Callable[[Pictures, Path], dict[str, Any] | None], ...] = (
    folders,
    one_level,
    csv_with_split,
    metadata_by_split,
    class_labels,
    text_labels,
    paths_in_parquet,
    one_hot_columns,
    npz,
    npz_of_text,
    own,
)


# --- what must be equal ----------------------------------------------------------------------------------------------------


def contents(data: ImageData, seed: int) -> dict[str, set[tuple[bytes, str]]]:
    """The images of each split with the names of their classes."""
    parts = split(data, None, stratified=True, seed=seed)

    def of(images: np.ndarray, labels: np.ndarray) -> set[tuple[bytes, str]]:
        return {(image.tobytes(), data.class_names[label]) for image, label in zip(images, labels, strict=True)}

    if data.validation_images is not None and data.validation_labels is not None:
        validation = of(data.validation_images, data.validation_labels)
    else:
        validation = of(data.train_images[parts.validation_index], data.train_labels[parts.validation_index])
    train = of(data.train_images[parts.train_index], data.train_labels[parts.train_index])
    return {"train": train, "validation": validation, "test": of(data.test_images, data.test_labels)}


# Every example writes and reads ten data sets; 15 of them take some seconds on a busy machine.
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(images=data_sets(), seed=st.integers(0, 3))
def test_the_layout_changes_neither_pixels_nor_labels_nor_splits(images: Pictures, seed: int) -> None:
    given_images = {(pixels.tobytes(), name) for _, name, pixels in images.images}
    channels = images.images[0][2].shape[2]
    expected: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        for layout in LAYOUTS:
            described = layout(images, Path(folder) / layout.__name__)
            if described is None:
                continue
            data = load(Data.model_validate(described), Path(folder) / "data")
            found = contents(data, seed)
            assert data.image_shape[0] == channels
            assert set.union(*found.values()) == given_images, layout.__name__
            assert sum(map(len, found.values())) == len(given_images), layout.__name__
            for part in images.splits[1:]:
                assert found[part] == {(pixels.tobytes(), name) for _, name, pixels in images.of(part)}
            if layout is not one_hot_columns:  # whose classes are in the order that was given
                assert sorted(data.class_names) == images.names
            expected = expected or found
            assert found == expected, layout.__name__


@pytest.mark.parametrize("layout", [folders, text_labels, npz, csv_with_split], ids=lambda layout: layout.__name__)
def test_other_file_names_and_rows_give_the_same_order_of_training_images(layout: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = [("train", "ab"[k % 2], random.integers(0, 256, (4, 4, 3), dtype=np.uint8)) for k in range(20)]
    first = load(Data.model_validate(layout(Pictures(tuple(images)), tmp_path / "one")), tmp_path / "data")
    second = load(Data.model_validate(layout(Pictures(tuple(images[::-1])), tmp_path / "two")), tmp_path / "data")
    assert first.fingerprint == second.fingerprint
    assert np.array_equal(first.train_images, second.train_images)
    assert np.array_equal(first.test_images, second.test_images)


@pytest.mark.parametrize("settings", [{}, {"limit": 13}, {"has_test": True}], ids=str)
def test_the_order_of_class_names_changes_no_split(settings: dict[str, Any], tmp_path: Path) -> None:
    """Shares of the classes that are equal to the last image are rounded the same way, whichever number a class has."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 4, 4, 3), dtype=np.uint8)
    labels = np.arange(24) % 3
    found = []
    for order in ([0, 1, 2], [2, 0, 1], [1, 0, 2]):
        names, number = [["2", "10", "b"][k] for k in order], np.argsort(order)
        arrays = {"train_images": pixels, "train_labels": number[labels], "class_names": names}
        if "has_test" in settings:
            arrays |= {"test_images": 255 - pixels, "test_labels": number[labels]}
        np.savez(tmp_path / f"{order}.npz", **arrays)
        wanted = Data(name="npz", path=str(tmp_path / f"{order}.npz"), limit=settings.get("limit"))
        found.append([contents(load(wanted, tmp_path / "data"), seed) for seed in range(5)])
    assert found[0] == found[1] == found[2]
