"""What an exported winner says of image files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from winnow.search.data.decode import Encoded, decode
from winnow.search.data.image_folder import EXTENSIONS
from winnow.search.winners.winner import Winner, load_export
from winnow.spaces.errors import InputError


@dataclass(frozen=True)
class Prediction:
    """Of one file: probabilities by class, in the order of the classes; or the `error` that kept it from being read."""

    file: str
    probabilities: dict[str, float]
    error: str | None = None
    resized_from: tuple[int, int] | None = None
    """(width, height) of an image that had not the size of the training images."""

    @property
    def best(self) -> tuple[str, float]:
        return max(self.probabilities.items(), key=lambda item: item[1])


def predict(folder: Path, files: Sequence[Path]) -> list[Prediction]:
    """One prediction per file, in order; a folder stands for the image files in it. InputError where none is an image."""
    winner = load_export(folder)
    listed = [file for given in files for file in _expanded(given)]
    read: dict[int, tuple[np.ndarray, tuple[int, int] | None]] = {}
    errors: dict[int, str] = {}
    for k, file in enumerate(listed):
        try:
            read[k] = _pixels(file, winner)
        except InputError as error:
            errors[k] = str(error)
    probabilities = iter(winner.predict(np.stack([image for image, _ in read.values()])) if read else ())
    found = []
    for k, file in enumerate(listed):
        if k in errors:
            found.append(Prediction(str(file), {}, error=errors[k]))
        else:
            named = dict(zip(winner.class_names, next(probabilities).tolist(), strict=True))
            found.append(Prediction(str(file), named, resized_from=read[k][1]))
    return found


def _expanded(given: Path) -> list[Path]:
    if not given.is_dir():
        return [given]
    files = sorted(p for p in given.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))
    if not files:
        raise InputError(f"{given}: a folder without image files ({', '.join(EXTENSIONS)})")
    return files


def _pixels(file: Path, winner: Winner) -> tuple[np.ndarray, tuple[int, int] | None]:
    """uint8 [H, W, C] as training would have read it, and the size that it had if it was another."""
    channels, height, width = winner.image_shape
    item = Encoded(str(file), file)
    given = _size(item)
    if given == (width, height):
        return decode([item], None, channels, strict=False)[0], None
    if width != height:
        raise InputError(f"{file}: the image is {given[0]}x{given[1]}, but the network takes {width}x{height}")
    return decode([item], width, channels, strict=False)[0], given


def _size(item: Encoded) -> tuple[int, int]:
    try:
        with Image.open(item.content) as image:
            return image.size
    except FileNotFoundError:
        raise InputError(f"{item.where}: no such file") from None
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(f"{item.where}: not a readable image ({error})") from error
