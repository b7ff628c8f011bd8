"""Finds image files: those in a folder and its sub-folders that the installed Pillow decodes, and those that a table names."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from PIL import Image

from winnow.search.data.foreign import foreign, named, shown
from winnow.search.data.listing import is_system, split_of, split_of_shard
from winnow.spaces.errors import InputError

NOT_READ = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
"""Formats that Pillow names but does not decode itself: it needs another program, or only recognises them."""


@cache
def extensions() -> frozenset[str]:
    """Return the file name extensions, in lower case with the dot, of all formats that the installed Pillow decodes."""
    formats = Image.registered_extensions()
    return frozenset(ext for ext, name in formats.items() if name in Image.OPEN and name not in NOT_READ)


def images_in(folder: Path, left_out: Counter[str]) -> list[Path]:
    """Return the image files in a folder and its sub-folders, sorted by path; count other files by reason.

    A folder that links lead to is entered only once; links to folders above are not followed.

    Args:
        folder: The folder to search.
        left_out: Counts of files that are left out, by reason; updated in place.
    """
    return sorted(_walked(folder, left_out), key=lambda path: path.parts)  # three times as fast as comparing paths


def _walked(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    entered = {os.fspath(above) for above in Path(os.path.realpath(folder)).parents}
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(place)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        left_out["hidden and system folders"] += sum(is_system(name) for name in folders)
        folders[:] = sorted(name for name in folders if not is_system(name))
        for name in files:
            reason = why_left_out(name)
            if reason:
                left_out[reason] += 1
            else:
                yield Path(place, name)


def _refuse(error: OSError) -> None:
    """Raise InputError for a folder that cannot be listed; it would otherwise be skipped without a message."""
    raise InputError(f"{shown(error.filename)}: this folder cannot be read ({error.strerror})") from error


def holds_images(folder: Path) -> bool:
    """Return whether a folder or one of its sub-folders contains an image; the search stops at the first."""
    return next(_walked(folder, Counter()), None) is not None


def folders_in(folder: Path, left_out: Counter[str]) -> list[Path]:
    """Return the folders directly in `folder`, sorted, without hidden and system ones, which are counted.

    Args:
        folder: The folder to search.
        left_out: Counts of folders that are left out, by reason; updated in place.
    """
    with foreign(shown(folder), "folder"), os.scandir(folder) as entries:
        folders = sorted(folder / entry.name for entry in entries if _is_folder(entry))
    left_out["hidden and system folders"] += sum(is_system(child.name) for child in folders)
    return [child for child in folders if not is_system(child.name)]


def refuse_broken_links(folder: Path) -> None:
    """Check that no link in a folder leads nowhere where a class or a split may have been.

    Args:
        folder: A folder of class folders or of splits.

    Raises:
        InputError: A link without a suffix leads nowhere; those with one are files, which are counted or reported when they are read.
    """
    with foreign(shown(folder), "folder"), os.scandir(folder) as entries:
        links = sorted(entry.name for entry in entries if entry.is_symlink() and not os.path.exists(entry.path))
    broken = [name for name in links if not os.path.splitext(name)[1] and not is_system(name)]
    if broken:
        raise InputError(
            f"{shown(folder)}: {named(broken)} is a link that leads nowhere, where folders of images are; mend it, or remove it"
        )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one. Only links need another system call, which takes time."""
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def count_loose(folder: Path, left_out: Counter[str], besides: Collection[str] = ()) -> None:
    """Count the files directly in a folder, which belong to no class.

    Args:
        folder: The folder.
        left_out: Counts of files that are left out, by reason; updated in place.
        besides: Names of files that are not counted, since they are reported elsewhere. Default:
            none.
    """
    for child in folder.iterdir():
        if not child.is_dir() and child.name not in besides:
            left_out[why_left_out(child.name) or "images that lie in no class folder"] += 1


def left_out_note(left_out: Mapping[str, int]) -> list[str]:
    """Return one sentence about what was left out; empty if nothing was."""
    reasons = ", ".join(f"{reason}: {num}" for reason, num in sorted(left_out.items()) if num)
    return [f"left out: {reasons}"] if reasons else []


def other_kinds(folder: Path, suffixes: Collection[str]) -> Counter[str]:
    """Count the files directly in a folder, by kind, except those with some suffixes.

    Args:
        folder: The folder.
        suffixes: Suffixes that are not counted, in lower case with the dot. Hidden files are
            counted whatever their suffix is.

    Returns:
        Counts by kind, such as `.txt files` or `hidden files`.

    Raises:
        InputError: The folder cannot be listed.
    """
    with foreign(shown(folder), "folder"):
        names = [child.name for child in folder.iterdir() if not child.is_dir()]
    kinds = ((name, os.path.splitext(name)[1].lower()) for name in names)
    return Counter(
        _other_kind(name, suffix) for name, suffix in kinds if name.startswith(".") or suffix not in suffixes
    )


def _other_kind(name: str, suffix: str) -> str:
    if name.startswith("."):
        return "hidden files"
    return f"{shown(suffix)} files" if suffix else "files without extension"


def is_image(name: str) -> bool:
    """Return whether a file of this name counts as an image."""
    return why_left_out(name) is None


def why_left_out(name: str) -> str | None:
    """Return why a file of this name is not an image, such as `.txt files`; None if it is one."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in extensions() and not name.startswith("."):
        return None
    kind = _other_kind(name, suffix)
    return f"{kind}, which the installed Pillow does not decode" if kind.startswith(".") else kind


def image_path(folder: Path, text: str) -> Path:
    """Return the file that a table refers to by a path relative to its folder.

    Spellings of other systems are tried only if no file has the name itself: with `\\` between
    folders, and in the composed or the decomposed form of Unicode.

    Args:
        folder: Folder of the table.
        text: The path as the table holds it.

    Returns:
        The path of the file. If no spelling exists, that of the text itself.
    """
    path = folder / text
    if (text.isascii() and "\\" not in text) or os.path.exists(path):  # unlike Path.exists, it never raises
        return path
    slashed = text.replace("\\", "/")
    others = (folder / unicodedata.normalize(form, slashed) for form in ("NFC", "NFD"))
    return next((other for other in (folder / slashed, *others) if os.path.exists(other)), path)


def find_files(names: Sequence[str], table: Path) -> tuple[list[Path], str | None]:
    """Return the image that each row of a table refers to, and the folder that was searched for them, if any.

    Paths are relative to the folder of the table. If none of them exists and all are bare names, the images are searched for in
    all sub-folders, or only in the folder `train` if that is beside `train.csv`.

    Args:
        names: Path or name of each image, as the table holds it.
        table: File of the table.

    Raises:
        InputError: Several images have one of the names.
    """
    paths = [image_path(table.parent, name) for name in names]
    if any(map(os.path.exists, paths)) or any("/" in name or "\\" in name for name in names):
        return paths, None
    split = split_of_shard(table.stem)
    same = [folder for folder in folders_in(table.parent, Counter()) if split_of(folder.name) == split]
    folder = same[0] if split is not None and len(same) == 1 else table.parent
    by_name: dict[str, list[Path]] = {}
    for image in images_in(folder, Counter()):
        for name in {image.name, os.path.splitext(image.name)[0]}:
            by_name.setdefault(name, []).append(image)
    for row, name in enumerate(names):
        files = by_name.get(name, [])
        if len(files) > 1:
            raise InputError(
                f"{shown(table)}, row {row}: several images are called {shown(name)}: "
                f"{named([str(file.relative_to(table.parent)) for file in files])}; write their paths into the table"
            )
    any_found = any(name in by_name for name in names)
    return [by_name.get(name, [path])[0] for name, path in zip(names, paths, strict=True)], shown(
        folder
    ) if any_found else None
