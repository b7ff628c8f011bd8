"""Finds images that a table calls by their file names alone, or by these without extension."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from winnow.search.data.foreign import named, shown
from winnow.search.data.listing import split_of
from winnow.search.data.table_values import image_path
from winnow.search.data.walking import folders_in, images_in
from winnow.spaces.errors import InputError


def find_files(names: Sequence[str], table: Path) -> tuple[list[Path], str | None]:
    """Return the image that each row of a table means, and the folder that was searched for them, if one had to be.

    Paths are relative to the folder of the table. Where none of them exists and all are bare names, the images are looked for
    anywhere below; if `train.csv` has a folder `train` beside it, below that.

    Args:
        names: What the table says of each image.
        table: Its file.

    Raises:
        InputError: Several images have one of the names.
    """
    paths = [image_path(table.parent, name) for name in names]
    if any(map(os.path.exists, paths)) or any("/" in name or "\\" in name for name in names):
        return paths, None
    split = split_of(table.stem)
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
    found = any(name in by_name for name in names)
    return [by_name.get(name, [path])[0] for name, path in zip(names, paths, strict=True)], shown(
        folder
    ) if found else None
