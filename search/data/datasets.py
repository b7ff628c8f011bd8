"""Data sets by name: each reader lists the images of one layout."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from winnow.search.data.image_folder import list_image_folder
from winnow.search.data.listing import KNOWN, Listing, Part, array_items, refuse_unused_keys
from winnow.search.data.locking import locked
from winnow.search.data.npz import list_npz
from winnow.search.data.own import list_own
from winnow.search.data.parquet import list_parquet
from winnow.spaces import schema
from winnow.spaces.errors import InputError


def list_dataset(data: schema.Data, data_dir: Path, download: bool) -> Listing:
    """List the data set that a config names; no image is decoded.

    Args:
        data: The `data` section of a config.
        data_dir: Folder of the data sets.
        download: Whether a missing data set is downloaded.
    """
    if ":" in data.name:
        listing = list_own(data, data_dir / ".cache")
    else:
        listing = DATASETS[data.name](data, data_dir, download)
    refuse_unused_keys(listing, data)
    return listing


def _digits(data: schema.Data, data_dir: Path, download: bool) -> Listing:
    """List scikit-learn's 1,797 handwritten digits: 8 x 8 pixels, 17 grey levels stretched to 0..255, no test images."""
    # The file that load_digits reads; scikit-learn itself, with pandas and SciPy, takes 1.3 s to import.
    package = find_spec("sklearn")
    assert package is not None  # it is a dependency
    assert package.origin is not None
    rows = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    images = np.round(rows[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    train = Part(rows[:, -1].astype(np.int64), array_items(images, "digits"))
    return Listing({"train": train}, KNOWN, tuple(str(k) for k in range(10)), keep_order=True)


def _cifar(name: str, data: schema.Data, data_dir: Path, download: bool) -> Listing:
    """List CIFAR from Parquet shards in `data_dir/NAME`, or else from torchvision's files in `data_dir`."""
    if list((data_dir / name).glob("*.parquet")):
        return replace(list_parquet(data_dir / name, data), keep_order=True)
    import torchvision

    kind = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[name]
    try:
        with _alone(data_dir, name) if download else nullcontext():
            sets = {
                split: kind(str(data_dir), train=split == "train", download=download) for split in ("train", "test")
            }
    except (RuntimeError, OSError) as error:
        if download:
            raise InputError(f"data set {name}: the download to {data_dir} failed ({error})") from error
        raise InputError(
            f"data set {name} is not in {data_dir.resolve()} (looked for {name}/*.parquet and torchvision's "
            f"{kind.base_folder}/): download it with --download, or give its folder with --data-dir"
        ) from error
    parts = {split: _torchvision_part(stored, name) for split, stored in sets.items()}
    return Listing(parts, KNOWN, tuple(sets["train"].classes), keep_order=True)


def _torchvision_part(stored: Any, name: str) -> Part:
    return Part(np.asarray(stored.targets, dtype=np.int64), array_items(stored.data, name))


def _alone(data_dir: Path, name: str) -> AbstractContextManager[None]:
    """Return a context with a lock for a download, so that two processes do not unpack the same files; the second one then finds them."""
    data_dir.mkdir(parents=True, exist_ok=True)
    return locked(data_dir / f".download-{name}.lock")


def _path(data: schema.Data) -> Path:
    assert data.path is not None  # by the schema
    return Path(data.path)


DATASETS: dict[str, Callable[[schema.Data, Path, bool], Listing]] = {
    "digits": _digits,
    "cifar10": partial(_cifar, "cifar10"),
    "cifar100": partial(_cifar, "cifar100"),
    "parquet": lambda data, data_dir, download: list_parquet(_path(data), data),
    "npz": lambda data, data_dir, download: list_npz(_path(data), data),
    "image_folder": lambda data, data_dir, download: list_image_folder(_path(data), data),
}
