"""Predicts the classes of image files with an exported winner. They are read as the training images were."""

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
"""Number of images that are read and predicted together. The first one is predicted alone."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one file: probabilities in the order of the classes, or the `error` why it cannot be read."""

    file: str
    probabilities: dict[str, float]
    error: str | None = None
    resized_from: tuple[int, int] | None = None
    """(height, width) of the image, if it differs from that of the training images."""

    @property
    def ranked(self) -> list[tuple[str, float]]:
        """(class, probability) of each class, the most probable first."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])

    @property
    def best(self) -> tuple[str, float]:
        return self.ranked[0]


def predict(folder: Path, files: Sequence[Path]) -> list[Prediction]:
    """Predict each file, in order; a folder stands for the image files in it.

    Args:
        folder: The exported winner.
        files: Image files, or folders of them.

    Returns:
        One prediction for each file.

    Raises:
        InputError: A folder contains no image, or the exported winner is damaged.
    """
    return list(predict_each(folder, expanded(files)))


def predict_each(folder: Path, files: Iterable[Path]) -> Iterator[Prediction]:
    """Yield one prediction per file, in order, as the files are read. Memory does not grow with their number.

    Args:
        folder: The exported winner.
        files: Image files, which may come from a generator; `expanded` replaces folders by their files.
    """
    winner = load_export(folder)
    channels, height, width = winner.image_shape
    pixel_range = winner.config.data.pixel_range
    scaled = (pixel_range[0], pixel_range[1]) if pixel_range else None
    rules = Rules((height, width), channels, scaled, is_trained=True)
    waiting = iter(files)
    num = 1
    with many_pixels_allowed():
        while batch := list(islice(waiting, num)):
            yield from _predicted(winner, [_read(file, rules) for file in batch])
            num = BATCH


def expanded(files: Sequence[Path], left_out: Counter[str] | None = None) -> list[Path]:
    """Return the files; a folder is replaced by the image files in it and its sub-folders.

    Args:
        files: Image files and folders.
        left_out: Counter of the other files in the folders, by reason. Default: they are not counted.

    Raises:
        InputError: A folder contains no image.
    """
    counts: Counter[str] = Counter() if left_out is None else left_out
    return [file for path in files for file in (_of_folder(path, counts) if path.is_dir() else [path])]


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
    """Read a file as training would have, and return a prediction without probabilities and the pixels."""
    name = shown(file)
    try:
        decoded = decode_one(Encoded(name, file), rules)
    except InputError as error:
        return Prediction(name, {}, error=str(error)), None
    size = (decoded.height, decoded.width)
    return Prediction(name, {}, resized_from=None if size == rules.size else size), decoded.pixels


def _predicted(winner: Winner, read: list[tuple[Prediction, np.ndarray | None]]) -> Iterator[Prediction]:
    images = [pixels for _, pixels in read if pixels is not None]
    probabilities = iter(winner.predict(np.stack(images)) if images else ())
    for prediction, pixels in read:
        if pixels is None:
            yield prediction
        else:
            named = dict(zip(winner.class_names, next(probabilities).tolist(), strict=True))
            yield Prediction(prediction.file, named, resized_from=prediction.resized_from)
