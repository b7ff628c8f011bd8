"""Decodes an image to uint8 pixels by stated rules.

- EXIF: the image is turned upright.
- Transparency: the image is laid on white.
- 16-bit grey, 32-bit and float pixels: scaled by `data.pixel_range`, refused without it.
- Colours of 10 to 16 bits: the upper 8 bits of each channel.
- Several frames: the first one is used.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntFlag
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps

from winnow.search.data.depth import (
    GREY_MODES,
    WIDE_MODES,
    check_usual,
    fit,
    has_no_colour,
    is_reduced,
    narrowed,
    narrowed_image,
    remember_most,
    wide_values,
    widen_transparent_grey,
)
from winnow.search.data.foreign import foreign, read_chunks
from winnow.search.data.listing import Encoded
from winnow.search.storage.provenance import available_cpus
from winnow.spaces.errors import InputError

GROUND = (255, 255, 255, 255)
"""Background of transparent images: white."""
USUAL_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
ORIENTATION = 0x0112
EXIF_KEYS = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}
"""Keys of `Image.info` that may hold an orientation; a TIFF has tags instead."""
IMAGES_PER_TASK = 256

T = TypeVar("T")
S = TypeVar("S")


class Trait(IntFlag):
    """What a reader of the summary should know about an image."""

    TRANSPARENT = 1
    ROTATED = 2
    FRAMES = 4
    WIDE = 8
    REDUCED = 16
    OUTSIDE = 32
    NARROW = 64
    GREY = 128
    COLOUR = 256


@dataclass(frozen=True)
class Rules:
    """How every image becomes pixels."""

    size: tuple[int, int] | None = None
    """(height, width) in pixels; None: the size of the image."""
    channels: int = 3
    pixel_range: tuple[float, float] | None = None
    is_trained: bool = False
    """Whether a network was trained with these rules. If so, no message advises other rules."""


@dataclass(frozen=True)
class Decoded:
    """Pixels uint8 [H, W, C] and facts about the image they came from."""

    pixels: np.ndarray
    file_key: int
    """Equal for equal bytes of the file."""
    pixel_key: int
    """Equal for equal pixels."""
    height: int
    width: int
    """Size in pixels, turned upright, before the image was resized."""
    is_grey: bool
    traits: Trait


def is_grey(item: Encoded) -> bool:
    """Return whether the image has no colour, from its header alone. Raises InputError if it cannot be read."""
    if isinstance(item.content, np.ndarray):
        return item.content.shape[2] in (1, 2)
    content = content_of(item)
    with opened(item, content) as image:
        return has_no_colour(image, content)


def is_wide(item: Encoded) -> bool:
    """Return whether the image needs `Rules.pixel_range`, from its header alone. Raises InputError if it cannot be read."""
    if isinstance(item.content, np.ndarray):
        return item.content.dtype != np.uint8
    with opened(item, content_of(item)) as image:
        return image.mode in WIDE_MODES


def size_of(item: Encoded) -> tuple[int, int]:
    """Return (height, width) of the upright image, from its header. Raises InputError if it cannot be read."""
    if isinstance(item.content, np.ndarray):
        return item.content.shape[0], item.content.shape[1]
    with opened(item, content_of(item)) as image, foreign(item.where, "image"):
        # For a TIFF, Pillow already reports the size of the upright image.
        is_on_its_side = image.format != "TIFF" and image.getexif().get(ORIENTATION, 1) in range(5, 9)
        return (image.width, image.height) if is_on_its_side else (image.height, image.width)


def decode_one(item: Encoded, rules: Rules) -> Decoded:
    """Decode one image.

    Args:
        item: The image.
        rules: Size, channels and pixel range of the result.

    Raises:
        InputError: It cannot be read; the message names it.
    """
    content, traits, fits = content_of(item), Trait(0), (False, False)
    if isinstance(content, np.ndarray) and content.dtype != np.uint8:
        assert rules.pixel_range is not None  # else it is refused when it is listed
        with foreign(item.where, "image"):
            fits = fit(content, rules.pixel_range)
            content, traits = narrowed(content, rules.pixel_range), Trait.WIDE
    with opened(item, content) as image, foreign(item.where, "image"):
        # An MPO is a photo with its preview.
        has_frames = getattr(image, "is_animated", False) and image.format != "MPO"
        grey, is_deep = has_no_colour(image, content), is_reduced(image, content)
        check_usual(image, rules.pixel_range, is_deep, rules.is_trained)
        is_turned = image.format == "TIFF" and _is_turned(image)
        widen_transparent_grey(image, content)
        remember_most(image)
        image.load()  # Pillow turns a TIFF upright itself here, and finds the EXIF data at the end of a PNG
        is_turned = is_turned or _is_turned(image)
        upright = ImageOps.exif_transpose(image) if is_turned else image
        if image.mode in WIDE_MODES:
            opaque, is_transparent, fits = narrowed_image(
                image, upright, rules.pixel_range, item.where, rules.is_trained
            )
            traits |= Trait.WIDE
        else:
            opaque = on_ground(upright)
            is_transparent = opaque is not upright
        applied = {
            Trait.FRAMES: has_frames,
            Trait.ROTATED: is_turned,
            Trait.TRANSPARENT: is_transparent,
            Trait.REDUCED: is_deep,
            Trait.OUTSIDE: fits[0],
            Trait.NARROW: fits[1],
            Trait.GREY: grey and rules.channels == 3,
            Trait.COLOUR: not grey and rules.channels == 1,
        }
        for trait in [trait for trait, applies in applied.items() if applies]:
            traits |= trait
        width, height = opaque.size
        pixels = _fit(opaque, rules.size, rules.channels)
    return Decoded(pixels, _key(content), _key(pixels, str(pixels.shape)), height, width, grey, traits)


def _is_turned(image: Image.Image) -> bool:
    if image.format != "TIFF" and not EXIF_KEYS & image.info.keys():  # getexif is as slow as decoding a small image
        return False
    return image.getexif().get(ORIENTATION, 1) in range(2, 9)


def upright_pixels(image: Image.Image) -> np.ndarray:
    """Return the pixels of an image in memory, upright and opaque: [H, W] or RGB [H, W, 3], with the depth of the image."""
    remember_most(image)
    upright = ImageOps.exif_transpose(image)
    if image.mode in WIDE_MODES:
        return wide_values(image, upright)
    opaque = on_ground(upright)
    if opaque.mode not in ("L", "RGB"):
        opaque = opaque.convert("L" if opaque.mode in GREY_MODES else "RGB")
    return np.asarray(opaque)


def content_of(item: Encoded) -> bytes | np.ndarray:
    """Return the bytes of the file, or the pixels. A pipe is refused, since opening it would block forever."""
    if not isinstance(item.content, Path):
        return item.content
    with foreign(item.where, "image"):
        return b"".join(read_chunks(item.content))


@contextmanager
def opened(item: Encoded, content: bytes | np.ndarray) -> Iterator[Image.Image]:
    """Open an image with Pillow, and close it when the block ends.

    Args:
        item: The image; its `where` is named in errors.
        content: What `content_of` returned for it: the bytes of a file, or pixels uint8 [H, W, C].

    Yields:
        The open image; its pixels may not be loaded yet.

    Raises:
        InputError: It is empty, of no known format, or has no pixels.
    """
    with foreign(item.where, "image"):
        if isinstance(content, np.ndarray):
            image = Image.fromarray(content.squeeze(2) if content.shape[2] == 1 else content)
        else:
            if not content:
                raise InputError(f"{item.where}: not a readable image (it is empty)")
            image = _recognised(content, item.where)
        if not image.width or not image.height:
            raise InputError(f"{item.where}: not a readable image (it is {image.height}x{image.width} pixels)")
    with image:
        yield image


def _recognised(content: bytes, where: str) -> Image.Image:
    """Open an image. The usual formats are tried first, since trying all forty takes as long as decoding a small image."""
    with suppress(Image.UnidentifiedImageError):
        return Image.open(io.BytesIO(content), formats=USUAL_FORMATS)
    try:
        return Image.open(io.BytesIO(content))
    except Image.UnidentifiedImageError:
        raise InputError(f"{where}: not a readable image (of no format that Pillow knows)") from None


@contextmanager
def many_pixels_allowed() -> Iterator[None]:
    """Suppress Pillow's warning about images above 89 million pixels. It still refuses those above 179 million."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def in_threads(function: Callable[[S], T], items: Iterator[S]) -> Iterator[T]:
    """Yield the result of a function for each item, in order, computed some items ahead in threads.

    Pillow's decoders release the interpreter lock; processes were not faster.

    Args:
        function: Called in a thread with each item.
        items: The items.
    """
    workers = available_cpus()
    if workers == 1:  # a second thread would only wait for the first
        yield from map(function, items)
        return

    def run(task: list[S]) -> list[T]:
        return [function(item) for item in task]

    with ThreadPoolExecutor(workers) as pool:
        pending: list[Any] = []
        while task := list(islice(items, IMAGES_PER_TASK)):
            pending.append(pool.submit(run, task))
            if len(pending) > 2 * workers:
                yield from pending.pop(0).result()
        for future in pending:
            yield from future.result()


def on_ground(image: Image.Image) -> Image.Image:
    """Lay a transparent image on white; return an opaque image unchanged."""
    if not image.has_transparency_data:
        return image
    if image.mode in ("RGBa", "La"):
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    layered = image.convert("RGBA")
    if layered.getchannel("A").getextrema()[0] == 255:
        return image
    was_grey = image.mode in GREY_MODES
    flat = Image.alpha_composite(Image.new("RGBA", layered.size, GROUND), layered)
    return flat.convert("L" if was_grey else "RGB")


def _fit(image: Image.Image, size: tuple[int, int] | None, channels: int) -> np.ndarray:
    mode = "L" if channels == 1 else "RGB"
    if image.mode == "LAB":  # Pillow converts it only to RGB
        image = image.convert("RGB")
    if image.mode != mode:
        image = image.convert(mode)
    if size is not None and image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    array = np.asarray(image)
    return array[..., None] if channels == 1 else array


def _key(content: bytes | np.ndarray, *prefix: str) -> int:
    digest = blake2b("".join(prefix).encode(), digest_size=8)
    digest.update(np.ascontiguousarray(content).data if isinstance(content, np.ndarray) else content)
    return int.from_bytes(digest.digest(), "little")
