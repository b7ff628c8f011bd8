"""Image folders: one folder per split, in it one folder per class, in it image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from winnow.search.data.arrays import Arrays
from winnow.search.data.decode import Encoded
from winnow.search.data.decoded_parts import Part, decode_parts
from winnow.spaces import schema
from winnow.spaces.errors import InputError

SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}
EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
ORDER_SEED = 0


def read_image_folder(path: Path, data: schema.Data, data_dir: Path) -> Arrays:
    """`path/train/CLASS/*.png`, likewise `validation` (or `valid`, `val`) and `test`; classes are the folder names, sorted.

    The images of a split are put into a fixed random order, so that the first `data.limit` are a fair sample.
    """
    if not path.is_dir():
        raise InputError(f"data.path: {path} is no folder; one with train/CLASS/IMAGE in it is needed")
    folders = {split: folder for split in SPLIT_FOLDERS if (folder := _split_folder(path, split)) is not None}
    if "train" not in folders:
        found = ", ".join(sorted(child.name for child in path.iterdir())[:5]) or "nothing"
        raise InputError(f"data.path: {path} holds no folder `train` (found: {found})")
    class_names = _class_names(folders["train"])
    parts, files = {}, []
    for split, folder in folders.items():
        part, part_files = _part(folder, class_names)
        parts[split] = part
        files.extend(part_files)
    return decode_parts(parts, class_names, files, data, data_dir)


def _split_folder(path: Path, split: str) -> Path | None:
    found = [path / name for name in SPLIT_FOLDERS[split] if (path / name).is_dir()]
    if len(found) > 1:
        raise InputError(f"data.path: {path} holds {' and '.join(folder.name for folder in found)}; keep one of them")
    return found[0] if found else None


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")))
    if not names:
        raise InputError(f"{folder}: holds no class folders; one folder of images per class is needed")
    return names


def _part(folder: Path, class_names: tuple[str, ...]) -> tuple[Part, list[Path]]:
    if unknown := set(_class_names(folder)) - set(class_names):
        raise InputError(f"{folder}: class folders that train/ has not: {', '.join(sorted(unknown))}")
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        images = _images(folder / name)
        if not images:
            raise InputError(f"{folder / name}: an empty class folder; no image ({', '.join(EXTENSIONS)}) in it")
        files.extend(images)
        labels.extend([label] * len(images))
    order = np.random.default_rng(ORDER_SEED).permutation(len(files))
    shuffled = [files[i] for i in order]

    def items(num: int | None) -> Sequence[Encoded]:
        return [Encoded(str(file), file) for file in shuffled[:num]]

    return Part(np.asarray(labels, dtype=np.int64)[order], items), files


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))
