"""Recognises folders and files beside images that are no classes: masks, annotations, folders of all images, and parts of them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from winnow.search.data.foreign import named, shown
from winnow.spaces.errors import InputError

ALL_IMAGES = ("image", "images", "img", "imgs", "jpegimages")
"""Names, in lower case, of folders that hold the images of all classes."""
ANNOTATIONS = (
    "annotation", "annotations", "masks", "segmentation", "segmentations", "segmentationclass", "segmentationobject",
    "segmentation_masks", "trimap", "trimaps", "ground_truth", "groundtruth", "gt", "labels", "bboxes", "bounding_boxes",
)  # fmt: skip
"""Names, in lower case, of folders that hold what is drawn for each image. `mask` alone may be a class, of faces with masks."""
MASK_FILE = re.compile(
    r"(?P<image>.+?)[ _-](?:mask|masks|seg|segmentation|label|labels|annotation|trimap|gt)(?:[ _-]?\d+)?", re.IGNORECASE
)
"""The name of a mask without its suffix, beside the image of the same name."""
PART = re.compile(r".*(?:part|batch|fold|images?|imgs?|shard|chunk|split)[ _-]?\d+", re.IGNORECASE)
"""A folder that holds a part of the images."""


def refuse_no_classes(folder: Path, names: Collection[str], way_on: str = "") -> None:
    """Raise InputError if folders beside each other are no classes by their names.

    Args:
        folder: They lie in it.
        names: Of all of them.
        way_on: How to leave out the split that they make.
    """
    lower = {name.lower(): name for name in names}
    images = [lower[name] for name in ALL_IMAGES if name in lower]
    drawn = [lower[name] for name in (*ANNOTATIONS, *(("mask",) if images else ())) if name in lower]
    drawn += [name for name in names if _is_drawn_for(name, names)]
    if drawn:
        raise InputError(
            f"{shown(folder)}: the folder {named(drawn)} seems to hold masks or annotations rather than a class; move it away, or "
            f"rename it if it is a class{way_on}"
        )
    if images:
        raise InputError(
            f"{shown(folder)}: the folder {named(images)} seems to hold the images of all classes rather than a class; one folder of "
            "images per class is needed, or a table (labels.csv) of the columns `file_name` and `label`; rename it if it is a "
            f"class{way_on}"
        )


def _is_drawn_for(name: str, names: Collection[str]) -> bool:
    """Return whether a folder is called like another one and its masks, as `cat_masks` beside `cat`."""
    match = MASK_FILE.fullmatch(name)
    return match is not None and match["image"] in names and not name.lower().endswith("mask")


def refuse_masks(folder: Path, images: Sequence[Path]) -> None:
    """Raise InputError if some images of a class are masks of others.

    Args:
        folder: That of the class.
        images: All images in it and in its sub-folders.
    """
    for inside in sorted({image.parent for image in images}):
        if drawn := [part for part in inside.relative_to(folder).parts if part.lower() in ANNOTATIONS]:
            raise InputError(
                f"{shown(inside)}: the folder {shown(drawn[0])} seems to hold masks or annotations of the class {shown(folder.name)} rather "
                "than its images; move it away"
            )
    stems = {os.path.splitext(image)[0] for image in images}
    matches = {image: MASK_FILE.fullmatch(os.path.splitext(image.name)[0]) for image in images}
    masks = [image for image, match in matches.items() if match and str(image.with_name(match["image"])) in stems]
    if masks:
        raise InputError(
            f"{shown(folder)}: {len(masks)} images seem to be masks of others, since they are called like them: "
            f"{named([mask.name for mask in masks])}; move them away"
        )


def refuse_parts(folder: Path, names: Collection[str], tables: Sequence[str]) -> None:
    """Raise InputError if folders are parts of one set by their names, and a table beside them may hold the classes."""
    if tables and all(map(PART.fullmatch, names)):
        raise InputError(
            f"data.path: {shown(folder)}: the folders {named(sorted(names))} seem to be parts of one set rather than classes; to take the "
            f"classes from {named(tables)}, name it in data.path, or move it away to take the folders as classes"
        )
