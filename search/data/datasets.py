"""Data sets by name: each reader gives the images of one layout as arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from winnow.search.data.arrays import Arrays
from winnow.search.data.decode import convert
from winnow.search.data.image_folder import read_image_folder
from winnow.search.data.parquet import read_parquet
from winnow.spaces import schema
from winnow.spaces.errors import InputError

NPZ_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}


def _digits(data: schema.Data, data_dir: Path, download: bool) -> Arrays:
    """scikit-learn's 1,797 handwritten digits, 8 x 8, 17 grey levels stretched to 0..255; no test images."""
    # The file that load_digits reads; scikit-learn itself, with pandas and SciPy, takes 1.3 s to import.
    package = find_spec("sklearn")
    assert package is not None  # it is a dependency
    assert package.origin is not None
    rows = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    images = np.round(rows[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    return _converted(Arrays(images, rows[:, -1].astype(np.int64), tuple(str(k) for k in range(10))), data)


def _cifar(name: str, data: schema.Data, data_dir: Path, download: bool) -> Arrays:
    """Parquet shards in `data_dir/cifar10`, or else torchvision's files in `data_dir`."""
    if list((data_dir / name).glob("*.parquet")):
        return read_parquet(data_dir / name, data, data_dir)
    import torchvision

    kind = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[name]
    try:
        with _alone(data_dir, name) if download else nullcontext():
            train, test = (kind(str(data_dir), train=train, download=download) for train in (True, False))
    except (RuntimeError, OSError) as error:
        if download:
            raise InputError(f"data set {name}: the download to {data_dir} failed ({error})") from error
        raise InputError(
            f"data set {name} is not in {data_dir.resolve()} (looked for {name}/*.parquet and torchvision's "
            f"{kind.base_folder}/): fetch it with --download, or say where it is with --data-dir"
        ) from error
    arrays = Arrays(
        train_images=train.data,
        train_labels=np.asarray(train.targets, dtype=np.int64),
        class_names=tuple(train.classes),
        test_images=test.data,
        test_labels=np.asarray(test.targets, dtype=np.int64),
    )
    return _converted(arrays, data)


def _alone(data_dir: Path, name: str) -> FileLock:
    """Several processes that download at once would unpack over each other; the second finds the files and downloads nothing."""
    data_dir.mkdir(parents=True, exist_ok=True)
    return FileLock(data_dir / f".download-{name}.lock")


def _parquet(data: schema.Data, data_dir: Path, download: bool) -> Arrays:
    assert data.path is not None  # by the schema
    return read_parquet(Path(data.path), data, data_dir)


def _image_folder(data: schema.Data, data_dir: Path, download: bool) -> Arrays:
    assert data.path is not None  # by the schema
    return read_image_folder(Path(data.path), data, data_dir)


def _npz(data: schema.Data, data_dir: Path, download: bool) -> Arrays:
    """Arrays `train_images` uint8 [N, H, W] or [N, H, W, C] and `train_labels` [N]; `validation_` and `test_` alike.

    Keras' names (`x_train`, `y_train`) and `class_names` are understood too.
    """
    assert data.path is not None  # by the schema
    path = Path(data.path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        raise InputError(f"data.path: {path} does not exist; an .npz file is needed") from None
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable .npz file ({error})") from error
    arrays: dict[str, Any] = {}
    for part in NPZ_NAMES:
        images, labels = _npz_part(values, part, path)
        if images is not None:
            arrays[f"{part}_images"], arrays[f"{part}_labels"] = images, labels
    if "train_images" not in arrays:
        found = ", ".join(values) or "nothing"
        raise InputError(
            f"{path}: needs the arrays train_images and train_labels (or x_train, y_train), but holds {found}"
        )
    names = values.get("class_names", np.arange(int(arrays["train_labels"].max(initial=-1)) + 1))
    return _converted(Arrays(class_names=tuple(str(name) for name in names), **arrays), data)


def _npz_part(values: dict[str, np.ndarray], part: str, path: Path) -> tuple[np.ndarray | None, np.ndarray | None]:
    for name in NPZ_NAMES[part]:
        for image_key, label_key in ((f"{name}_images", f"{name}_labels"), (f"x_{name}", f"y_{name}")):
            if image_key not in values:
                continue
            if label_key not in values:
                raise InputError(f"{path}: holds {image_key}, but no {label_key}")
            return _checked_images(values[image_key], path, image_key), _checked_labels(
                values[label_key], len(values[image_key]), path, label_key
            )
    return None, None


def _checked_images(images: np.ndarray, path: Path, key: str) -> np.ndarray:
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise InputError(
            f"{path}: {key} must be uint8 [N, H, W] or [N, H, W, C] with 1 or 3 channels, "
            f"but is {images.dtype} {list(images.shape)}"
        )
    return images


def _checked_labels(labels: np.ndarray, num_images: int, path: Path, key: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (num_images,):
        raise InputError(
            f"{path}: {key} must be integers [{num_images}], one per image, but is {labels.dtype} {list(labels.shape)}"
        )
    return labels.astype(np.int64)


def _converted(arrays: Arrays, data: schema.Data) -> Arrays:
    changed: dict[str, Any] = {
        name: convert(images, data.image_size, data.channels)
        for name in ("train_images", "validation_images", "test_images")
        if (images := getattr(arrays, name)) is not None
    }
    return replace(arrays, **changed)


DATASETS: dict[str, Callable[[schema.Data, Path, bool], Arrays]] = {
    "digits": _digits,
    "cifar10": partial(_cifar, "cifar10"),
    "cifar100": partial(_cifar, "cifar100"),
    "parquet": _parquet,
    "npz": _npz,
    "image_folder": _image_folder,
}
