"""Predicts the classes of image files with an exported winner; they are read as the training images were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from winnow.search.data.decode import Rules, decode_one, many_pixels_allowed
from winnow.search.data.foreign import shown
from winnow.search.data.listing import Encoded
from winnow.search.data.walking import images_in, left_out_note
from winnow.search.winners.winner import Winner, load_export
from winnow.spaces.errors import InputError

BATCH = 32
"""Images that are read before they are answered; the first is answered alone."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one file: probabilities in the order of the classes, or the `error` that kept it from being read."""

    file: str
    probabilities: dict[str, float]
    error: str | None = None
    resized_from: tuple[int, int] | None = None
    """(height, width) of an image that had not the size of the training images."""

    @property
    def ranked(self) -> list[tuple[str, float]]:
        """(class, probability), the most probable first."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])

    @property
    def best(self) -> tuple[str, float]:
        return self.ranked[0]


def predict(folder: Path, files: Sequence[Path]) -> list[Prediction]:
    """Predict each file, in order; a folder stands for the image files in it. Raises InputError if none is an image.

    Args:
        folder: The exported winner.
        files: Image files, or folders of them.

    Returns:
        One prediction for each file.
    """
    return list(predict_each(folder, expanded(files)))


def predict_each(folder: Path, files: Iterable[Path]) -> Iterator[Prediction]:
    """Yield one prediction per file, in order, as they are read; memory does not grow with their number.

    Args:
        folder: An exported winner.
        files: Image files, also as a stream; see `expanded` for folders.
    """
    winner = load_export(folder)
    channels, height, width = winner.image_shape
    pixel_range = winner.config.data.pixel_range
    rules = Rules((height, width), channels, (pixel_range[0], pixel_range[1]) if pixel_range else None)
    waiting = iter(files)
    num = 1
    with many_pixels_allowed():
        while batch := list(islice(waiting, num)):
            yield from _answered(winner, [_read(file, rules) for file in batch])
            num = BATCH


def expanded(files: Sequence[Path], left_out: Counter[str] | None = None) -> list[Path]:
    """Return the files; a folder is replaced by the image files in it and its sub-folders.

    Args:
        files: Image files and folders.
        left_out: Counts the other files in the folders, by reason. Default: they are not counted.

    Raises:
        InputError: A folder holds no image.
    """
    counts: Counter[str] = Counter() if left_out is None else left_out
    return [file for place in files for file in (_of_folder(place, counts) if place.is_dir() else [place])]


def _of_folder(folder: Path, left_out: Counter[str]) -> list[Path]:
    of_folder: Counter[str] = Counter()
    files = images_in(folder, of_folder)
    if not files:
        notes = "".join(f"; {note}" for note in left_out_note(of_folder))
        raise InputError(
            f"{shown(folder)}: the folder contains no image files that the installed Pillow can read{notes}"
        )
    left_out.update(of_folder)
    return files


def _read(file: Path, rules: Rules) -> tuple[Prediction, np.ndarray | None]:
    """Read the pixels as training would have, into a prediction without probabilities yet."""
    name = shown(file)
    try:
        decoded = decode_one(Encoded(name, file), rules)
    except InputError as error:
        return Prediction(name, {}, error=str(error)), None
    size = (decoded.height, decoded.width)
    return Prediction(name, {}, resized_from=None if size == rules.size else size), decoded.pixels


def _answered(winner: Winner, read: list[tuple[Prediction, np.ndarray | None]]) -> Iterator[Prediction]:
    images = [pixels for _, pixels in read if pixels is not None]
    probabilities = iter(winner.predict(np.stack(images)) if images else ())
    for prediction, pixels in read:
        if pixels is None:
            yield prediction
        else:
            named = dict(zip(winner.class_names, next(probabilities).tolist(), strict=True))
            yield Prediction(prediction.file, named, resized_from=prediction.resized_from)
