"""Finds out which Parquet files of a folder are which split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from winnow.search.data.foreign import named, shown
from winnow.search.data.listing import NUMBERS, is_system, split_of, split_of_shard
from winnow.spaces.errors import InputError

SHARD = re.compile(r"[-_.](?P<number>\d+)-of-(?P<count>\d+)(?:-[0-9a-zA-Z]+)?$")
WORDS = re.compile(r"[^A-Za-z]+")


def find_shards(path: Path) -> dict[str, list[Path]]:
    """Return {split: its files}, always with `train`; a single file is training data.

    Raises:
        InputError: There is no training data, or there are too few or too many shards.
    """
    if path.is_file():
        return {"train": [path]}
    if not path.is_dir():
        raise InputError(f"data.path: {path} does not exist; a folder with train-*.parquet or a Parquet file is needed")
    files = _parquet_files(path)
    shards: dict[str, list[Path]] = {}
    for file in files:
        if (split := _split_of_file(file, path)) is not None:
            shards.setdefault(split, []).append(file)
    if not files and (deep := next(_visible(path, "**/*"), None)) is not None:
        raise InputError(
            f"data.path: {path}: {shown(str(deep.relative_to(path)))} lies more than two folders down, where no files are looked for; "
            f"set data.path to a folder nearer to it, such as {shown(deep.parent)}"
        )
    if "train" not in shards:
        present = named([file.name for file in files], 5) or "no Parquet file"
        raise InputError(
            f"data.path: {path} holds no train-*.parquet (found: {present}); name the splits so, or set data.path to one file"
        )
    for split, split_files in shards.items():
        _refuse_missing(path, split, split_files)
    return shards


def _parquet_files(path: Path) -> list[Path]:
    """Return the files of the folder, else those one level down, else two levels down, as `default/train/0000.parquet`."""
    return next(filter(None, _by_depth(path)), [])


def _by_depth(path: Path) -> Iterator[list[Path]]:
    for pattern in ("*", "*/*", "*/*/*"):
        yield sorted(_visible(path, pattern))


def _visible(path: Path, pattern: str) -> Iterator[Path]:
    """Yield the Parquet files that match a pattern below `path`, without hidden files and those of the operating system."""
    files = (file for file in path.glob(pattern) if file.suffix.lower() == ".parquet")
    return (file for file in files if not any(map(is_system, file.relative_to(path).parts)))


def _split_of_file(file: Path, path: Path) -> str | None:
    """Return the split that a file or its folder is named after. Raises InputError if the name contains other words too."""
    is_nested = file.parent != path
    split = split_of_shard(file.stem) or (split_of(file.parent.name) if is_nested else None)
    name = file.parent.name if is_nested and not _names_split(file.stem) else NUMBERS.sub("", file.stem)
    if _names_split(name) and split_of(name) is None:
        raise InputError(
            f"data.path: {path}: {shown(str(file.relative_to(path)))} seems to be a split, but `{shown(name)}` is none of train, "
            "validation and test; rename it to the one that it is, or move it away"
        )
    return split


def _names_split(name: str) -> bool:
    """Return whether a word of the name is that of a split, as in `train_unlabeled`."""
    return any(split_of(word) for word in WORDS.split(name))


def _refuse_missing(path: Path, split: str, files: Sequence[Path]) -> None:
    """Check that there are as many shards as their names say, such as two for `train-00000-of-00002`."""
    if len({file.parent for file in files}) > 1:
        folders = ", ".join(sorted({str(file.parent.relative_to(path)) for file in files}))
        raise InputError(f"data.path: {path} holds {split} shards in several folders ({folders}); name one of them")
    kinds = sorted({NUMBERS.sub("", file.stem) for file in files if split_of_shard(file.stem)})
    if len(kinds) > 1:
        raise InputError(f"data.path: {path} holds {named(kinds, 5)} shards, all {split}; keep one kind")
    matches = [match for file in files if (match := SHARD.search(file.stem))]
    counts = {int(match["count"]) for match in matches}
    if counts and counts != {len(files)}:
        raise InputError(f"data.path: {path} holds {len(files)} of {max(counts)} {split} shards")
    numbers = Counter(match["number"] for match in matches)
    if twice := [number for number, count in numbers.items() if count > 1]:
        raise InputError(f"data.path: {path} holds {split} shard {twice[0]} twice, under two names; keep one of them")


def other_files(path: Path, shards: dict[str, list[Path]]) -> list[str]:
    """Return the Parquet files, up to two levels down, that belong to no split.

    Args:
        path: The folder of the data set.
        shards: The files of each split, from `find_shards`.

    Returns:
        Their paths, relative to `path`.
    """
    used = {file for files in shards.values() for file in files}
    return [str(file.relative_to(path)) for files in _by_depth(path) for file in files if file not in used]
