"""Recognises folders and files beside images that are not classes: masks, annotations, and folders of all or some images."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from winnow.search.data.foreign import counted, named, shown
from winnow.spaces.errors import InputError

ALL_IMAGES = ("image", "images", "img", "imgs", "jpegimages")
"""Names, in lower case, of folders that hold the images of all classes."""
ANNOTATIONS = (
    "annotation", "annotations", "masks", "segmentation", "segmentations", "segmentationclass", "segmentationobject",
    "segmentation_masks", "trimap", "trimaps", "ground_truth", "groundtruth", "gt", "labels", "bboxes", "bounding_boxes",
)  # fmt: skip
"""Names, in lower case, of folders that hold masks or annotations. `mask` is left out, since it may be a class, such as faces with masks."""
_DRAWN = "(?:masks?|seg|segmentation|labels?|annotation|trimap|gt|superpixels)"
MASK_FILE = re.compile(rf"(?P<image>.+?)[ _-]{_DRAWN}(?:[ _-]?\d+)?", re.IGNORECASE)
"""The name of a mask without its suffix, beside the image of the same name."""
MASK_OF = re.compile(rf"{_DRAWN}[ _-](?P<image>.+)", re.IGNORECASE)
"""The same with the word at the beginning."""
OF_IMAGES = ("", "img_", "image_", "img-", "image-")
"""Prefixes of the name of an image whose mask is called `mask_7`: `7`, `img_7`, ..."""
PART = re.compile(r".*(?:part|batch|fold|images?|imgs?|shard|chunk|split)[ _-]?\d+", re.IGNORECASE)
"""A folder that holds a part of the images."""


def refuse_no_classes(folder: Path, names: Collection[str], advice: str = "") -> None:
    """Raise InputError if the names of folders show that they are not classes.

    Args:
        folder: The folder that holds them.
        names: Names of all of them.
        advice: Text to append to the message: how to leave out the split that they form. Default: none.
    """
    lower = {name.lower(): name for name in names}
    images = [lower[name] for name in ALL_IMAGES if name in lower]
    drawn = [lower[name] for name in (*ANNOTATIONS, *(("mask",) if images else ())) if name in lower]
    drawn += [name for name in names if _is_drawn_for(name, names)]
    if drawn:
        raise InputError(
            f"{shown(folder)}: the folder {named(drawn)} seems to hold masks or annotations rather than a class; move it away, or "
            f"rename it if it is a class{advice}"
        )
    if images:
        raise InputError(
            f"{shown(folder)}: the folder {named(images)} seems to hold the images of all classes rather than a class; one folder of "
            "images per class is needed, or a table (labels.csv) of the columns `file_name` and `label`; rename it if it is a "
            f"class{advice}"
        )


def _is_drawn_for(name: str, names: Collection[str]) -> bool:
    """Return whether a folder is named like the masks of another one, such as `cat_masks` beside `cat`."""
    match = MASK_FILE.fullmatch(name)
    return match is not None and match["image"] in names and not name.lower().endswith("mask")


def refuse_masks(folder: Path, images: Sequence[Path]) -> None:
    """Raise InputError if some images of a class are masks of others.

    Args:
        folder: The folder of the class.
        images: All images in it and in its sub-folders.
    """
    for inside in sorted({image.parent for image in images}):
        if drawn := [part for part in inside.relative_to(folder).parts if part.lower() in ANNOTATIONS]:
            raise InputError(
                f"{shown(inside)}: the folder {shown(drawn[0])} seems to hold masks or annotations of the class {shown(folder.name)} rather "
                "than its images; move it away"
            )
    stems = {os.path.splitext(image)[0] for image in images}
    masks = [image for image in images if _is_mask(image, stems)]
    if masks:
        seem = counted(len(masks), "image seems to be a mask of another", "images seem to be masks of others")
        raise InputError(
            f"{shown(folder)}: {seem}, because of the names: {named([mask.name for mask in masks])}; move the masks away"
        )


def _is_mask(image: Path, stems: Collection[str]) -> bool:
    """Return whether an image is a mask of one of the images whose paths without suffix are `stems`."""
    stem = os.path.splitext(image.name)[0]
    if match := MASK_FILE.fullmatch(stem):
        return str(image.with_name(match["image"])) in stems
    match = MASK_OF.fullmatch(stem)
    return match is not None and any(str(image.with_name(before + match["image"])) in stems for before in OF_IMAGES)


def twins_note(images: Sequence[Path]) -> list[str]:
    """Return a warning about images whose names differ only by their suffix; empty if there are none."""
    by_stem: dict[str, list[str]] = {}
    for image in images:
        by_stem.setdefault(os.path.splitext(image)[0], []).append(image.name)
    twins = [names for names in by_stem.values() if len(names) > 1]
    if not twins:
        return []
    return [
        f"warning: {len(twins)} times images of one class are called alike but for their suffix, such as {named(twins[0])}; they usually "
        "are copies, or masks and their images"
    ]


def refuse_repeated_classes(folder: Path, inside: Mapping[str, Collection[str]]) -> None:
    """Raise InputError if one class folder contains several of the others again, as after unpacking an archive twice.

    Args:
        folder: The folder that holds them.
        inside: {name of a class folder: names of the folders in it}.
    """
    for name, children in inside.items():
        if len(repeated := sorted(set(children) & inside.keys())) > 1:
            raise InputError(
                f"{shown(folder)}: the folder {shown(name)} holds {named(repeated)}, which lie beside it too, so it is not certain which "
                f"are the classes; move {shown(name)} away, or name it in data.path"
            )


def refuse_parts(folder: Path, names: Collection[str], tables: Sequence[str]) -> None:
    """Check that folders are classes rather than numbered parts of one set, such as `part_1`.

    Args:
        folder: The folder that holds them, named in the error.
        names: Names of the folders, at least one.
        tables: Names of the tables beside them, which may hold the classes.

    Raises:
        InputError: All names are those of parts, and there is a table.
    """
    if tables and all(map(PART.fullmatch, names)):
        raise InputError(
            f"data.path: {shown(folder)}: the folders {named(sorted(names))} seem to be parts of one set rather than classes; to take the "
            f"classes from {named(tables)}, name it in data.path, or move it away to take the folders as classes"
        )
