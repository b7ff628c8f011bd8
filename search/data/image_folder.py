"""Lists image folders: a folder per split and class, a folder per class, or images with a table of their classes."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from winnow.search.data.foreign import counted, named, shown
from winnow.search.data.labels import check_names
from winnow.search.data.listing import (
    CLASS_FOLDERS,
    SPLITS,
    Listing,
    Part,
    file_items,
    refuse_two,
    split_of,
    text_array,
)
from winnow.search.data.not_classes import (
    refuse_masks,
    refuse_no_classes,
    refuse_parts,
    refuse_repeated_classes,
    twins_note,
)
from winnow.search.data.parquet import list_parquet
from winnow.search.data.path_table import TABLE_SUFFIXES, find_tables, list_tables, unlisted_note
from winnow.search.data.table_values import groups_of
from winnow.search.data.walking import (
    count_loose,
    folders_in,
    holds_images,
    images_in,
    is_image,
    left_out_note,
    refuse_broken_links,
)
from winnow.spaces import schema
from winnow.spaces.errors import InputError


def list_image_folder(path: Path, data: schema.Data) -> Listing:
    """List image files with their classes.

    Args:
        path: A folder `train/CLASS/IMAGE` (and perhaps `validation` and `test`), a folder `CLASS/IMAGE`, a folder with a table
            (`labels.csv`, `metadata.csv`, or one in each split's folder), or such a table itself.
        data: The `data` section of a config. Its columns are those of a table; without one, `groups` is a pattern for the paths.

    Raises:
        InputError: The path is none of these, or more than one.
    """
    if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        return _list_tables({"train": path}, path.parent, data)
    if not path.is_dir():
        raise InputError(
            f"data.path: {path} is no folder; one with train/CLASS/IMAGE in it is needed, or a table of paths "
            f"({', '.join(TABLE_SUFFIXES)})"
        )
    left_out: Counter[str] = Counter()
    folders = folders_in(path, left_out)
    splits = _split_folders(path, folders)
    tables = find_tables(path)
    _refuse_class_named_as_split(path, splits, folders, bool(tables))
    if "train" in splits and not (tables and _hold_loose_images(splits)):
        return _with_splits(path, splits, folders, data, left_out)
    if "train" in splits:
        return _list_tables(tables, path, data)
    if splits:
        raise InputError(f"data.path: {path} holds no folder `train` (found: {named([f.name for f in folders], 5)})")
    with_images = [folder for folder in folders if holds_images(folder)]
    if not tables:
        _refuse_split_words(path, with_images)
    if not tables and len(with_images) == 1 and _is_wrapper(path, with_images[0]):
        listing = list_image_folder(with_images[0], data)
        count_loose(path, left_out)
        notes = (f"read from the only folder, `{shown(with_images[0].name)}`", *left_out_note(left_out))
        return replace(listing, notes=(*notes, *listing.notes))
    if tables and len(with_images) > 1:
        raise InputError(
            f"data.path: {path} holds {named([table.name for table in tables.values()])} and {len(with_images)} folders of "
            f"images ({named([folder.name for folder in with_images])}), so the classes are not certain; name the table in "
            "data.path to use it, or move it away to take the folders as classes"
        )
    if tables:
        return _list_tables(tables, path, data)
    if not with_images:
        present = named(sorted(child.name for child in path.iterdir()), 5) or "nothing"
        raise InputError(
            f"data.path: {path} holds no folder `train`, no class folders with images and no table such as labels.csv "
            f"(found: {present}){_what_is_in(folders)}"
        )
    for folder in with_images:
        if inside := [child.name for child in folders_in(folder, Counter()) if split_of(child.name)]:
            raise InputError(
                f"{shown(folder)}: holds {named(inside)}, so it is not certain whether the folders are classes; write splits "
                "above classes (train/CLASS/IMAGE), or name one of the folders in data.path"
            )
    beside = [child.name for child in sorted(path.iterdir()) if child not in with_images]
    unused = [name for name in beside if Path(name).suffix.lower() in TABLE_SUFFIXES]
    if len(with_images) == 1:
        advice = f"; to use {shown(unused[0])}, name it in data.path" if unused else ""
        raise InputError(
            f"data.path: {path}: at least 2 classes are needed, but there is 1: {shown(with_images[0].name)} "
            f"(beside it: {named(beside) or 'nothing'}). One folder of images per class is needed, or a table (labels.csv) of the "
            f"columns `file_name` and `label`{advice}"
        )
    refuse_parts(path, [folder.name for folder in with_images], unused)
    _refuse_repeated_folders(path, with_images)
    return _of_classes({"train": path}, path, data, left_out, ["classes from the folders; there are no split folders"])


def _list_tables(tables: dict[str, Path], root: Path, data: schema.Data, notes: Sequence[str] = ()) -> Listing:
    """List the images of text tables, or of one Parquet table."""
    if all(table.suffix.lower() != ".parquet" for table in tables.values()):
        return list_tables(tables, root, data, notes)
    if len(tables) > 1:
        names = named([table.name for table in tables.values()])
        raise InputError(f"data.path: {root}: {names}: for Parquet tables of several splits use data.name: parquet")
    listing = list_parquet(tables["train"], data)
    assert listing.files is not None
    return replace(listing, notes=(*listing.notes, *unlisted_note(root, listing.files, tables.values()), *notes))


def _what_is_in(folders: Sequence[Path]) -> str:
    """Return a text about the other contents of folders without images, such as `; left out: .dcm files ...: 10`."""
    left_out: Counter[str] = Counter()
    for folder in folders:
        images_in(folder, left_out)
    return "".join(f"; {note}" for note in left_out_note(left_out))


def _refuse_repeated_folders(path: Path, folders: Sequence[Path]) -> None:
    """Raise InputError if all folders contain the same folders of images, since those may be the classes instead."""
    inside = [{child.name for child in folders_in(folder, Counter()) if holds_images(child)} for folder in folders]
    repeated = sorted(set.intersection(*inside))
    if len(repeated) > 1 and not any(map(_loose_images, folders)):
        raise InputError(
            f"data.path: {path}: {named([folder.name for folder in folders])} all hold the folders {named(repeated)}, so it is not certain "
            "which are the classes; name one of the first in data.path, or move the images of each class into one folder"
        )


def _split_folders(path: Path, folders: Sequence[Path]) -> dict[str, Path]:
    splits: dict[str, Path] = {}
    for split in SPLITS:
        same = [folder for folder in folders if split_of(folder.name) == split]
        refuse_two(path, split, [folder.name for folder in same])
        if same:
            splits[split] = _unpacked(same[0])
    return splits


def _unpacked(folder: Path) -> Path:
    """Return the folder, or the only folder in it if both have the same name, as after unpacking some archives."""
    inside = [child for child in folders_in(folder, Counter()) if holds_images(child)]
    is_repeated = len(inside) == 1 and inside[0].name.lower() == folder.name.lower()
    return inside[0] if is_repeated and not _loose_images(folder) else folder


def _is_wrapper(path: Path, folder: Path) -> bool:
    """Return whether the only folder with images in `path` is a data set rather than a class."""
    is_set = bool(find_tables(folder)) or any(map(holds_images, folders_in(folder, Counter())))
    return is_set and not _loose_images(path)


def _loose_images(folder: Path) -> bool:
    return any(is_image(child.name) and not child.is_dir() for child in folder.iterdir())


def _refuse_split_words(path: Path, folders: Sequence[Path]) -> None:
    """Raise InputError if folders seem to be splits although they are not named so, such as `seg_train` and `seg_test`."""
    words = {split_of(word): folder.name for folder in folders for word in re.split(r"[-_.\d]+", folder.name)}
    words.pop(None, None)
    if "train" in words and len(words) > 1:
        raise InputError(
            f"data.path: {path}: the folders {named(sorted(words.values()))} seem to be splits; rename them to {named(sorted(map(str, words)))}, "
            "so that they are not taken for classes"
        )


def _refuse_class_named_as_split(
    path: Path, splits: dict[str, Path], folders: Sequence[Path], has_tables: bool
) -> None:
    """Raise InputError if the only split folder holds loose images, like the folders beside it, so that it may be a class."""
    beside = [folder.name for folder in folders if split_of(folder.name) is None and _loose_images(folder)]
    if len(splits) == 1 and beside and not has_tables and _hold_loose_images(splits):
        (folder,) = splits.values()
        raise InputError(
            f"data.path: {path}: `{shown(folder.name)}` is the name of a split, but its images lie in no class folder, and {named(beside)} "
            f"beside it hold{'s' if len(beside) == 1 else ''} images too. If it is a class, move all class folders into a new folder named train"
        )


def _refuse_splits_as_classes(folder: Path, classes: Collection[str]) -> None:
    """Raise InputError if class folders are named like splits, as in an archive `train` that contains `train` and `test`."""
    splits = {split_of(name): name for name in classes if split_of(name) is not None}
    if "train" in splits and len(splits) > 1:
        raise InputError(
            f"{shown(folder)}: its folders {named(sorted(splits.values()))} are named like splits, so it is not certain whether they are "
            f"classes; to take them as splits, set data.path: {shown(folder)}; if they are classes, rename them"
        )


def _hold_loose_images(splits: dict[str, Path]) -> bool:
    """Return whether the images of a split are neither in class folders nor in a folder with a table."""
    return any(
        not find_tables(folder) and not any(map(holds_images, folders_in(folder, Counter())))
        for folder in splits.values()
    )


def _with_splits(
    path: Path, splits: dict[str, Path], folders: Sequence[Path], data: schema.Data, left_out: Counter[str]
) -> Listing:
    refuse_broken_links(path)
    others = [folder.name for folder in folders if split_of(folder.name) is None]
    notes = (
        [f"left out: {counted(len(others), 'folder that is', 'folders that are')} no split: {named(others)}"]
        if others
        else []
    )
    tables = {split: _table_of(folder) for split, folder in splits.items()}
    of_folders = {split: table for split, table in tables.items() if table is not None}
    if of_folders and len(of_folders) < len(splits):
        without = [splits[split].name for split in splits if split not in of_folders]
        raise InputError(f"data.path: {path}: {named(without)} has no table, but other splits have; write them alike")
    if of_folders:
        return _list_tables(of_folders, path, data, notes)
    unused = find_tables(path)
    if unused:
        notes.append(
            f"left out: {named([table.name for table in unused.values()])}; the classes are those of the folders"
        )
    count_loose(path, left_out, [table.name for table in unused.values()])
    for folder in splits.values():
        notes += [
            f"left out: {shown(table.relative_to(path))}; the classes are those of the folders"
            for table in find_tables(folder).values()
        ]
    names = ", ".join(f"`{folder.relative_to(path)}` for {split}" for split, folder in splits.items())
    return _of_classes(splits, path, data, left_out, [f"splits and classes from the folders ({names})", *notes])


def _table_of(folder: Path) -> Path | None:
    """Return the table in a split's folder; None if its images are in class folders."""
    tables = find_tables(folder)
    if "train" not in tables or sum(holds_images(child) for child in folders_in(folder, Counter())) > 1:
        return None
    return tables["train"]


def _of_classes(
    splits: dict[str, Path], path: Path, data: schema.Data, left_out: Counter[str], notes: Sequence[str]
) -> Listing:
    for folder in splits.values():
        classes = _class_folders(folder, Counter())
        refuse_no_classes(folder, classes, _without(folder))
        _refuse_splits_as_classes(folder, classes)
        inside = {name: [child.name for child in folders_in(of_class, Counter())] for name, of_class in classes.items()}
        refuse_repeated_classes(folder, inside)
    for folder in _class_folders(splits["train"], Counter()).values():
        if not holds_images(folder):
            raise InputError(f"{shown(folder)}: an empty class folder; no image is in it{_what_is_in([folder])}")
    parts, files, nested = {}, [], []
    for split, folder in splits.items():
        if folder == path:  # its hidden and system folders have been counted already
            left_out["hidden and system folders"] = 0
        images, labels = _images_of(folder, left_out)
        files += images
        nested += _nested_note(folder, images)
        groups = None
        if data.groups is not None:
            groups = groups_of([shown(image.relative_to(path)) for image in images], data.groups)
        parts[split] = Part(text_array(labels), file_items(images, [shown(image) for image in images]), groups)
    notes = (*notes, *nested, *left_out_note(left_out), *twins_note(files))
    return Listing(parts, CLASS_FOLDERS, files=tuple(files), notes=notes)


def _nested_note(folder: Path, images: Sequence[Path]) -> list[str]:
    """Return a sentence about images in sub-folders of class folders, which may be the intended classes; empty if there are none."""
    depth = len(folder.parts) + 2
    nested = [image for image in images if len(image.parts) > depth]
    if not nested:
        return []
    example = shown(nested[0].parent.relative_to(folder))
    if len(nested) < len(images):
        return [
            counted(len(nested), "image lies", "images lie")
            + f" in sub-folders of class folders, such as {example}; the folder above names the class"
        ]
    return [
        f"warning: all images of {shown(folder.name)} lie in sub-folders of class folders, such as {example}; the classes are the folders "
        "above, not these"
    ]


def _class_folders(folder: Path, left_out: Counter[str]) -> dict[str, Path]:
    """Return {class: its folder}. Names are compared in Unicode's composed form, whatever form the file system has them in."""
    classes: dict[str, Path] = {}
    refuse_broken_links(folder)
    folders = folders_in(folder, left_out)
    check_names([child.name for child in folders], shown(folder))
    for child in folders:
        name = unicodedata.normalize("NFC", child.name)
        if name in classes:
            raise InputError(f"{shown(folder)}: two folders are named {name}, in different Unicode forms; merge them")
        classes[name] = child
    if not classes:
        hint = ": its images lie in no class folder" if holds_images(folder) else ""
        raise InputError(
            f"{shown(folder)}: holds no class folders{hint}; one folder of images per class is needed, or a table (labels.csv) of "
            f"the columns `file_name` and `label`{_without(folder)}"
        )
    return classes


def _without(folder: Path) -> str:
    """Return advice on how to leave a split out; empty if that is impossible."""
    split = split_of(folder.name)
    train = [other.name for other in folders_in(folder.parent, Counter()) if split_of(other.name) == "train"]
    if split in (None, "train") or not train:
        return ""
    return f". To leave the {split} split out, set data.path: {shown(folder.parent / train[0])}"


def _images_of(folder: Path, left_out: Counter[str]) -> tuple[list[Path], list[str]]:
    images: list[Path] = []
    labels: list[str] = []
    for name, class_folder in _class_folders(folder, left_out).items():
        of_class = images_in(class_folder, left_out)
        refuse_masks(class_folder, of_class)
        images += of_class
        labels += [name] * len(of_class)
    count_loose(folder, left_out, [table.name for table in find_tables(folder).values()])
    return images, labels
