"""Encoded images -> one uint8 array; sizes and channels made equal where the config says so."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from winnow.spaces.errors import InputError

GREY_MODES = ("1", "L", "LA")
WIDE_MODES = ("I", "I;16", "I;16B", "I;16L", "F")
NUM_LOOKED_AT = 1000
IMAGES_PER_TASK = 256

S = TypeVar("S")


@dataclass(frozen=True)
class Encoded:
    """`where` names the image to the user; `content` is the file's bytes or its path."""

    where: str
    content: bytes | Path


def decode(items: Sequence[Encoded], image_size: int | None, channels: int, strict: bool = True) -> np.ndarray:
    """uint8 [N, H, W, channels], squares of `image_size` pixels where that is given.

    InputError names an image that cannot be read, one that differs in size where no `image_size` is given, and, if
    `strict`, one in colour where `channels` is 1 (otherwise it is turned to grey).
    """

    def decode_one(item: Encoded) -> np.ndarray:
        with _opened(item) as image:
            if strict and channels == 1 and image.mode not in GREY_MODES:
                raise InputError(f"{item.where}: a colour image among grey ones; set `data.channels` to 1 or 3")
            try:
                return _fit(image, image_size, channels)
            except (OSError, SyntaxError, ValueError) as error:  # PIL raises all three for damaged files
                raise InputError(f"{item.where}: not a readable image ({error})") from error

    arrays = _in_threads(decode_one, items)
    first = next(arrays)
    images = np.empty((len(items), *first.shape), dtype=np.uint8)
    for i, array in enumerate(chain([first], arrays)):
        if array.shape != first.shape:
            raise InputError(
                f"{items[i].where}: the image is {_size(array)}, but {items[0].where} is {_size(first)}; "
                "sizes differ, so set `data.image_size`"
            )
        images[i] = array
    return images


def num_channels(items: Sequence[Encoded]) -> int:
    """3 if one of the first images is in colour, else 1."""
    for item in items[:NUM_LOOKED_AT]:
        with _opened(item) as image:
            if image.mode not in GREY_MODES:
                return 3
    return 1


def convert(images: np.ndarray, image_size: int | None, channels: int | None) -> np.ndarray:
    """uint8 [N, H, W, C] to other sizes or channels; the same array where nothing changes."""
    num, height, width, given_channels = images.shape
    channels = channels or given_channels
    if image_size in (None, height) and image_size in (None, width) and channels == given_channels:
        return images

    def convert_one(array: np.ndarray) -> np.ndarray:
        return _fit(Image.fromarray(array.squeeze(2) if given_channels == 1 else array), image_size, channels)

    return np.stack(list(_in_threads(convert_one, images))) if num else images


def _opened(item: Encoded) -> Image.Image:
    source = item.content if isinstance(item.content, Path) else io.BytesIO(item.content)
    try:
        image = Image.open(source)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise InputError(f"{item.where}: not a readable image ({error})") from error
    if image.mode in WIDE_MODES:
        raise InputError(
            f"{item.where}: pixels of mode {image.mode}, but 8 bits per channel are needed; convert it first"
        )
    return image


def _fit(image: Image.Image, image_size: int | None, channels: int) -> np.ndarray:
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    if image_size is not None and image.size != (image_size, image_size):
        image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
    array = np.asarray(image)
    return array[..., None] if channels == 1 else array


def _in_threads(function: Callable[[S], np.ndarray], items: Sequence[S] | np.ndarray) -> Iterator[np.ndarray]:
    """`function` of each item, in order. PIL's decoders release the interpreter lock; processes were no faster."""
    tasks = [items[i : i + IMAGES_PER_TASK] for i in range(0, len(items), IMAGES_PER_TASK)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for arrays in pool.map(lambda task: [function(item) for item in task], tasks):
            yield from arrays


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
