"""Recognises images of more than 8 bits per channel, and converts them to 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from winnow.spaces.errors import InputError

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
WIDE_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
WHOLE_RANGE = (0.0, 65535.0)
"""The only range that colours of 16 bits can have, since Pillow returns only their upper 8 bits."""
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
WHITE_IS_ZERO, UNSIGNED, SIGNED = 0, 1, 2


def has_no_colour(image: Image.Image, content: bytes | np.ndarray) -> bool:
    """Return whether an open image is grey.

    Pillow opens grey PNG files of 16 bits with transparency as colour images, so the header is read
    too.

    Args:
        image: The open image.
        content: Bytes of its file, or the pixels that it was made from.
    """
    is_grey_png = image.format == "PNG" and isinstance(content, bytes) and content[25] in (0, 4)
    return image.mode in GREY_MODES or is_grey_png


def widen_transparent_grey(image: Image.Image, content: bytes | np.ndarray) -> None:
    """Correct the transparent value of a PNG of 2 or 4 bits in place.

    Pillow widens the pixels to 8 bits, but not that value. Other images stay as they are.

    Args:
        image: The open image; its `info["transparency"]` is changed.
        content: Bytes of its file, or the pixels that it was made from.
    """
    if image.format != "PNG" or not isinstance(content, bytes) or content[25] != 0 or content[24] not in (2, 4):
        return
    if "transparency" in image.info:
        image.info["transparency"] *= 255 // (2 ** content[24] - 1)


def is_reduced(image: Image.Image, content: bytes | np.ndarray) -> bool:
    """Return whether Pillow silently keeps only the upper 8 bits of each channel of an open image.

    Args:
        image: The open image.
        content: Bytes of its file, whose header states the depth; pixels are never reduced.
    """
    if image.mode in WIDE_MODES or not isinstance(content, bytes):
        return False
    if image.format == "PNG":
        return content[24] == 16
    if image.format == "TIFF":
        return max(_tag(image, BITS, (8,))) > 8
    if image.format == "PPM":
        return _most(image) > 255
    if image.format == "AVIF":
        start = content.find(b"av1C")
        return start >= 0 and bool(content[start + 6] & 0x40)
    if image.format == "SGI":
        return content[3] == 2
    if image.format == "JPEG2000":
        start = content.find(b"\xff\x4f\xff\x51")
        return start >= 0 and (content[start + 42] & 0x7F) + 1 > 8
    return False


def remember_most(image: Image.Image) -> None:
    """Store in `image.info` which value is white in an open PGM of more than 8 bits; Pillow scales that value to 65535."""
    if image.format == "PPM" and image.mode == "I":
        image.info["most"] = _most(image)


def _most(image: Image.Image) -> int:
    """Return which value is white in an open PPM or PGM."""
    tile = getattr(image, "tile", [])
    arguments = tile[0].args if tile else ()
    numbers = [value for value in arguments if isinstance(value, int)] if isinstance(arguments, tuple) else []
    return numbers[-1] if numbers else 65535 if image.mode == "I" else 255


def check_usual(
    image: Image.Image, pixel_range: tuple[float, float] | None, is_deep: bool, is_trained: bool = False
) -> None:
    """Check that Pillow reads the pixels of an image as its file holds them.

    Args:
        image: An open image.
        pixel_range: As in `Rules`.
        is_deep: Result of `is_reduced` for the image.
        is_trained: As in `Rules`.

    Raises:
        ValueError: Pillow would return different pixels.
    """
    if image.format == "TIFF" and image.mode not in WIDE_MODES and SIGNED in _tag(image, SAMPLE_FORMAT, (UNSIGNED,)):
        raise ValueError("its pixels are signed 8-bit numbers; save them as unsigned numbers")
    if not is_deep:
        return
    if "transparency" in image.info:
        raise ValueError("one of its 16-bit colours is transparent; save it with an alpha channel, or with 8 bits")
    if pixel_range is not None and pixel_range != WHOLE_RANGE:
        limit = "Pillow reads only the upper 8 bits of colours with more than 8 bits"
        if is_trained:
            raise ValueError(
                f"{limit}, but the network was trained on pixels scaled by data.pixel_range: {list(pixel_range)}; save it with 8 bits"
            )
        raise ValueError(
            f"{limit}, so data.pixel_range can be [0, 65535] or null for them; save them with 8 bits to scale them otherwise"
        )


def wide_values(image: Image.Image, upright: Image.Image) -> np.ndarray:
    """Return the pixels of an image in a wide mode, [H, W], as its file holds them.

    Pillow reads unsigned numbers of 32 bits as signed ones, and scales those of PGM (`remember_most`). Both changes are undone.

    Args:
        image: The image as it was opened, with the tags of its file.
        upright: The same image, turned upright.
    """
    values = np.asarray(upright)
    if (most := image.info.get("most", 65535)) != 65535:
        return np.round(values * (most / 65535)).astype(np.int64)
    is_unsigned = image.format == "TIFF" and _tag(image, SAMPLE_FORMAT, (UNSIGNED,))[0] == UNSIGNED
    return values.view(np.uint32) if image.mode == "I" and is_unsigned else values


def narrowed(values: np.ndarray, pixel_range: tuple[float, float]) -> np.ndarray:
    """Scale numbers so that `low` becomes 0 and `high` 255, rounded and clipped: uint8 of the same shape.

    Args:
        values: Pixels of any shape and numeric type.
        pixel_range: (low, high) of the pixels.

    Raises:
        ValueError: One of them is not a number.
    """
    low, high = pixel_range
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    if np.isnan(scaled).any():
        raise ValueError("it has pixels that are not a number")
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def fit(values: np.ndarray, pixel_range: tuple[float, float]) -> tuple[bool, bool]:
    """Compare pixels with the range that the user states for them.

    Args:
        values: Pixels of any shape and numeric type.
        pixel_range: (low, high) of the pixels.

    Returns:
        Whether more than half of them are outside the range; and if not, whether they differ by less than a tenth of it.
    """
    low, high = pixel_range
    span = float(values.max()) - float(values.min())
    is_outside = bool(((values < low) | (values > high)).mean() > 0.5)
    return is_outside, not is_outside and 0 < span < (high - low) / 10


def narrowed_image(
    image: Image.Image,
    upright: Image.Image,
    pixel_range: tuple[float, float] | None,
    where: str,
    is_trained: bool = False,
) -> tuple[Image.Image, bool, tuple[bool, bool]]:
    """Convert an image of a wide mode to 8-bit grey. A transparent colour becomes white, and inverted values are inverted back.

    Args:
        image: The image as it was opened, with the tags of its file.
        upright: The same image, turned upright.
        pixel_range: As in `Rules`.
        where: Name of the image, for errors.
        is_trained: As in `Rules`.

    Returns:
        The image, whether some of it was transparent, and the result of `fit` for its pixels.

    Raises:
        InputError: There is no range.
        ValueError: A pixel is not a number.
    """
    values = wide_values(image, upright)
    if pixel_range is None:
        most = image.info.get("most")
        depth = "float" if image.mode == "F" else "16-bit" if image.mode != "I" or most else "32-bit"
        found = f"{where}: {depth} pixels (Pillow's mode {image.mode})"
        lie_in = f"(its values lie in [{values.min():g}, {values.max():g}])"
        if is_trained:
            raise InputError(
                f"{found}, but the network was trained on images with 8 bits per channel; convert the image {lie_in}"
            )
        raise InputError(
            f"{found}, but 8 bits per channel are needed; say which values are black and white: data.pixel_range: "
            f"{'[0.0, 1.0]' if image.mode == 'F' else f'[0, {most or 65535}]'} {lie_in}"
        )
    pixels = narrowed(values, pixel_range)
    # Pillow applies this tag only to images of 8 bits.
    if image.format == "TIFF" and _tag(image, PHOTOMETRIC, 1) == WHITE_IS_ZERO:
        pixels = 255 - pixels
    hidden = values == image.info["transparency"] if "transparency" in image.info else np.zeros(values.shape, bool)
    pixels[hidden] = 255
    return Image.fromarray(pixels), bool(hidden.any()), fit(values, pixel_range)


def _tag(image: Image.Image, tag: int, default: Any) -> Any:
    return getattr(image, "tag_v2", {}).get(tag, default)
