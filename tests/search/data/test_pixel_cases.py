"""Files whose pixels Pillow gives otherwise than the file holds them, or that have several images: the right pixels, or refused."""

from __future__ import annotations

import base64
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from tests.helpers.images import COLOUR, COLOUR_ALPHA, GREY, GREY_ALPHA, raw_png, raw_tiff
from tests.helpers.layouts import pictures
from winnow.search.data.decode import Rules, Trait, decode_one, is_grey
from winnow.search.data.listing import Encoded
from winnow.spaces.errors import InputError

DEEP = np.array([[0, 4095, 65535], [300, 256, 255]])
UPPER = DEEP >> 8
WHOLE = (0.0, 65535.0)


def pixels_of(content: bytes, channels: int = 1, pixel_range: tuple[float, float] | None = None) -> np.ndarray:
    pixels = decode_one(Encoded("a", content), Rules(None, channels, pixel_range)).pixels
    return pixels[..., 0] if channels == 1 else pixels


def traits_of(content: bytes) -> Trait:
    return decode_one(Encoded("a", content), Rules()).traits


def refusal(content: bytes, pixel_range: tuple[float, float] | None = None) -> str:
    with pytest.raises(InputError) as error:
        decode_one(Encoded("a.img", content), Rules(None, 1, pixel_range))
    assert str(error.value).startswith("a.img: ")
    return str(error.value)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_trained_network_is_given_no_other_rules() -> None:
    deep, colours = raw_png(DEEP, GREY), raw_png(np.stack([DEEP] * 3, axis=-1), COLOUR)
    for content, pixel_range, advice in (
        (deep, None, "trained on images with 8 bits per channel; convert the image (its values lie in [0, 65535])"),
        (colours, (0.0, 4095.0), "scaled by data.pixel_range: [0.0, 4095.0]; save it with 8 bits"),
    ):
        with pytest.raises(InputError) as error:
            decode_one(Encoded("a.img", content), Rules(None, 1, pixel_range, is_trained=True))
        assert str(error.value).removesuffix(")").endswith(advice.removesuffix(")"))


# --- palettes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "palette", "first"),
    [
        (16, struct.pack("<HH", 0x7C00, 0x001F), (255, 0, 0)),
        (24, bytes([0, 0, 255, 255, 0, 0]), (255, 0, 0)),
        (32, bytes([0, 0, 255, 255, 255, 0, 0, 255]), (255, 0, 0)),
        (32, bytes([0, 0, 255, 0, 255, 0, 0, 255]), (255, 255, 255)),
    ],
    ids=["16", "24", "32", "32, transparent"],
)
def test_colour_maps_of_tga(depth: int, palette: bytes, first: tuple[int, int, int]) -> None:
    header = struct.pack("<BBBHHBHHHHBB", 0, 1, 1, 0, 2, depth, 0, 0, 4, 4, 8, 0x20)
    pixels = pixels_of(header + palette + bytes([0] * 8 + [1] * 8), 3)
    assert (pixels[:2] == first).all()
    assert (pixels[2:] == (0, 0, 255)).all()
    assert (first == (255, 255, 255)) == (Trait.TRANSPARENT in traits_of(header + palette + bytes([0] * 8 + [1] * 8)))


# --- deep PNG -----------------------------------------------------------------------------------------------------


def test_16_bit_colours_are_their_upper_8_bits_and_that_is_told() -> None:
    content = raw_png(np.stack([DEEP, DEEP[::-1], DEEP], axis=-1), COLOUR)
    assert np.array_equal(pixels_of(content, 3), np.stack([UPPER, UPPER[::-1], UPPER], axis=-1))
    assert np.array_equal(pixels_of(content, 3, WHOLE), pixels_of(content, 3))
    assert Trait.REDUCED in traits_of(content)
    assert not is_grey(Encoded("a", content))
    assert "data.pixel_range can be [0, 65535] or null" in refusal(content, (0.0, 4095.0))


def test_16_bit_colours_with_transparency() -> None:
    alpha = np.array([[65535, 65535, 65535], [0, 0, 65535]])
    content = raw_png(np.stack([DEEP, DEEP, DEEP, alpha], axis=-1), COLOUR_ALPHA)
    expected = np.where(alpha == 0, 255, UPPER)
    assert np.array_equal(pixels_of(content, 3), np.stack([expected] * 3, axis=-1))
    assert Trait.TRANSPARENT | Trait.REDUCED in traits_of(content)


def test_16_bit_grey_with_transparency_is_grey() -> None:
    """Pillow opens it as colours of 8 bits."""
    alpha = np.array([[65535, 0, 65535], [65535, 65535, 65535]])
    content = raw_png(np.stack([DEEP, alpha], axis=-1), GREY_ALPHA)
    assert is_grey(Encoded("a", content))
    assert decode_one(Encoded("a", content), Rules(None, 1)).is_grey
    assert np.array_equal(pixels_of(content), np.where(alpha == 0, 255, UPPER))


def test_16_bit_grey_is_scaled_and_its_transparent_value_is_white() -> None:
    content = raw_png(DEEP, GREY, chunks=((b"tRNS", struct.pack(">H", 300)),))
    assert pixels_of(content, 1, (0.0, 4095.0)).tolist() == [[0, 255, 255], [255, 16, 16]]
    assert Trait.TRANSPARENT in decode_one(Encoded("a", content), Rules(None, 1, WHOLE)).traits
    assert "16-bit pixels" in refusal(content)


@pytest.mark.parametrize("bits", [2, 4])
def test_a_transparent_grey_of_few_bits_is_white(bits: int) -> None:
    column = np.array([[0], [1], [2], [3]]) << (8 - bits)  # one pixel in each row
    content = raw_png(column, GREY, bits, ((b"tRNS", struct.pack(">H", 1)),))
    step = 255 // (2**bits - 1)
    assert pixels_of(content)[:, 0].tolist() == [0, 255, 2 * step, 3 * step]


def test_a_transparent_16_bit_colour_is_refused() -> None:
    content = raw_png(np.stack([DEEP] * 3, axis=-1), COLOUR, chunks=((b"tRNS", struct.pack(">HHH", 300, 300, 300)),))
    assert "one of its 16-bit colours is transparent" in refusal(content)


def test_one_bit() -> None:
    bits = Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8)).convert("1")
    assert pixels_of(saved(bits, "PNG")).tolist() == [[0, 255], [255, 0]]
    assert pixels_of(saved(bits, "PNG", transparency=0)).tolist() == [[255, 255], [255, 255]]
    assert pixels_of(saved(bits, "TIFF")).tolist() == [[0, 255], [255, 0]]


def test_a_palette_with_transparent_and_half_transparent_entries() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 100, 0])
    image.putdata([0, 1, 2])
    content = saved(image, "PNG", transparency=bytes([255, 0, 128]))
    assert pixels_of(content, 3)[0].tolist() == [[0, 0, 0], [255, 255, 255], [127, 177, 127]]


# --- TIFF ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "pixel_range", "expected"),
    [
        (np.array([[0, 4095, 8190]], np.uint16), (0.0, 8190.0), [0, 128, 255]),
        (np.array([[-100, 0, 155]], np.int16), (-100.0, 155.0), [0, 100, 255]),
        (np.array([[0, 2**31, 2**32 - 1]], np.uint32), (0.0, 2.0**32 - 1), [0, 128, 255]),
        (np.array([[-(2**31), 0, 2**31 - 1]], np.int32), (-(2.0**31), 2.0**31), [0, 128, 255]),
        (np.array([[-1.0, 0.0, 9.0]], np.float32), (-1.0, 1.0), [0, 128, 255]),
    ],
)
def test_numbers_of_tiff(values: np.ndarray, pixel_range: tuple[float, float], expected: list[int]) -> None:
    """Pillow gives unsigned numbers of 32 bits as negative ones above 2^31."""
    assert pixels_of(raw_tiff(values), 1, pixel_range)[0].tolist() == expected
    if values.dtype not in (np.uint16, np.float32):
        assert "of no format that Pillow knows" in refusal(raw_tiff(values, photometric=0), pixel_range)
        return
    inverted = pixels_of(raw_tiff(values, photometric=0), 1, pixel_range)[0].tolist()
    assert inverted == [255 - value for value in expected], (
        "as for 8 bits, small numbers are bright if the file says so"
    )
    assert "data.pixel_range" in refusal(raw_tiff(values))


def test_8_bit_tiff_whose_small_numbers_are_bright() -> None:
    assert pixels_of(raw_tiff(np.array([[0, 70, 255]], np.uint8), photometric=0))[0].tolist() == [255, 185, 0]


def test_signed_bytes_and_colours_of_16_bits_in_tiff() -> None:
    assert "signed 8-bit numbers" in refusal(raw_tiff(np.array([[-5, 5]], np.int8)))
    content = raw_tiff(np.stack([DEEP.astype(np.uint16)] * 3, axis=-1), photometric=2)
    assert np.array_equal(pixels_of(content, 3)[..., 0], UPPER)
    assert Trait.REDUCED in traits_of(content)


def test_big_endian_tiff() -> None:
    content = saved(Image.frombytes("I;16B", (3, 2), DEEP.astype(">u2").tobytes()), "TIFF")
    assert np.array_equal(pixels_of(content, 1, WHOLE), np.round(DEEP * 255 / 65535))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_float_that_is_no_number(bad: float) -> None:
    content = raw_tiff(np.array([[0.0, bad]], np.float32))
    if np.isnan(bad):
        assert "pixels that are not a number" in refusal(content, (0.0, 1.0))
    else:
        assert pixels_of(content, 1, (0.0, 1.0))[0].tolist() == [0, 255]


def test_doubles_and_unknown_compressions_are_refused() -> None:
    assert "not a readable image" in refusal(raw_tiff(np.zeros((2, 2))), (0.0, 1.0))


# --- other colours ------------------------------------------------------------------------------------------------


def test_inks_and_other_colour_spaces() -> None:
    inks = Image.merge("CMYK", [Image.new("L", (4, 4), value) for value in (255, 0, 0, 0)])
    assert pixels_of(saved(inks, "TIFF"), 3)[0, 0].tolist() == [0, 255, 255]
    assert np.abs(pixels_of(saved(inks, "JPEG", quality=100), 3)[0, 0] - np.array([0, 255, 255])).max() <= 2
    ycbcr = saved(Image.new("RGB", (8, 8), (200, 10, 30)).convert("YCbCr"), "TIFF")
    assert np.abs(pixels_of(ycbcr, 3)[0, 0].astype(int) - [200, 10, 30]).max() <= 2
    lab = saved(Image.merge("LAB", [Image.new("L", (4, 4), value) for value in (255, 128, 128)]), "TIFF")
    assert pixels_of(lab, 3)[0, 0].min() >= 250, "L* of 100 is white"
    assert pixels_of(lab, 1)[0, 0] >= 250


@pytest.mark.parametrize("premultiplied", ["RGBa"])
def test_premultiplied_transparency(premultiplied: str) -> None:
    image = Image.new("RGBA", (2, 1), (200, 100, 0, 255))
    image.putpixel((0, 0), (200, 100, 0, 0))
    content = saved(image, "TIFF")
    assert pixels_of(content, 3)[0].tolist() == [[255, 255, 255], [200, 100, 0]]


# --- several frames -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("GIF", {"duration": 50}),
        ("PNG", {"duration": 50}),
        ("WEBP", {"lossless": True, "duration": 50}),
        ("TIFF", {}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
    ],
)
def test_the_first_frame_counts_and_that_is_told(kind: str, options: dict[str, Any]) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    frames = [Image.new("RGB", (8, 8), colour) for colour in colours]
    several = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert np.abs(pixels_of(several, 3).astype(int) - colours[0]).max() <= 3 * (kind == "AVIF")
    assert Trait.FRAMES in traits_of(several)
    single = saved(frames[0], kind, **{key: value for key, value in options.items() if key != "duration"})
    assert Trait.FRAMES not in traits_of(single)


# --- EXIF ---------------------------------------------------------------------------------------------------------

CORNERS = np.zeros((16, 24), dtype=np.uint8)
CORNERS[:8, 12:], CORNERS[8:, :12], CORNERS[8:, 12:] = 80, 160, 240
STORED = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_90", "TRANSVERSE", "ROTATE_270")


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_jpeg(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(CORNERS).transpose(Image.Transpose[STORED[orientation - 2]])
    content = saved(stored, "JPEG", exif=exif, quality=100)
    assert np.abs(pixels_of(content).astype(int) - CORNERS).max() <= 2
    assert Trait.ROTATED in traits_of(content)


@pytest.mark.parametrize("orientation", [0, 1, 9, 77])
def test_orientations_that_mean_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(CORNERS), "PNG", exif=exif)
    assert np.array_equal(pixels_of(content), CORNERS)
    assert Trait.ROTATED not in traits_of(content)


def test_a_turned_image_of_16_bits() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(Image.fromarray(np.rot90(DEEP.astype(np.uint16)).copy()), "PNG", exif=exif)
    assert np.array_equal(pixels_of(content, 1, WHOLE), np.round(DEEP * 255 / 65535))


# --- damaged ------------------------------------------------------------------------------------------------------


def huge_png() -> bytes:
    content = bytearray(raw_png(np.zeros((2, 2)), GREY, depth=8))
    content[16:24] = struct.pack(">II", 200_000, 200_000)
    return bytes(content)


def empty_png() -> bytes:
    content = bytearray(raw_png(np.zeros((2, 2)), GREY, depth=8))
    content[16:24] = struct.pack(">II", 0, 2)
    return bytes(content)


JPEG = saved(Image.fromarray(pictures(1, size=(64, 64))[0]), "JPEG")


@pytest.mark.parametrize(
    "content",
    [
        JPEG[: len(JPEG) // 2],
        JPEG[:20],
        huge_png(),
        empty_png(),
        b"BM" + struct.pack("<IHHIIiiHH", 54, 0, 0, 54, 40, 2_000_000, 2_000_000, 1, 24) + b"\0" * 24,
        b"P6 0 0 255\n",
        b"P5 99999999 99999999 255\n\0",
        b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0;",
        b"\xff\xd8\xff",
        saved(Image.new("RGB", (40, 40)), "WEBP")[:-12],
        saved(Image.fromarray(pictures(1, size=(40, 40))[0]), "TIFF")[:-3000],
    ],
    ids=[
        "half JPEG",
        "JPEG head",
        "huge PNG",
        "empty PNG",
        "huge BMP",
        "empty PPM",
        "huge PGM",
        "GIF",
        "SOI",
        "WEBP",
        "TIFF",
    ],
)
def test_damaged_files_are_one_message(content: bytes) -> None:
    assert "not a readable image" in refusal(content)


def test_training_and_plan_read_the_same_sizes(tmp_path: Path) -> None:
    """The size is read from the header, before anything is decoded."""
    from winnow.search.data.decode import size_of

    exif = Image.Exif()
    exif[0x0112] = 8
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        item = Encoded("a", saved(Image.fromarray(CORNERS), kind, exif=exif))
        decoded = decode_one(item, Rules(None, 1))
        assert size_of(item) == (decoded.height, decoded.width) == (24, 16)


# --- depths that only the header tells ----------------------------------------------------------------------------

TEN_BIT_AVIF = base64.b64decode(
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAAD5bWV0YQAAAAAAAAAvaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAFBpY3R1cmVIYW5k"
    "bGVyAAAAAA5waXRtAAAAAAABAAAAHmlsb2MAAAAARAAAAQABAAAAAQAAASEAAAAdAAAAKGlpbmYAAAAAAAEAAAAaaW5mZQIAAAAAAQAAYXYwMUNvbG9y"
    "AAAAAGppcHJwAAAAS2lwY28AAAAUaXNwZQAAAAAAAAAQAAAAEAAAABBwaXhpAAAAAAMKCgoAAAAMYXYxQ4EgQAAAAAATY29scm5jbHgAAgACAAIAAAAA"
    "F2lwbWEAAAAAAAAAAQABBAECgwQAAAAlbWRhdAoFOAz/24QyFBKAAABAAAAACeNO8umrZbcbFDQ4"
)
"""16 x 16 pixels of the colour (100, 50, 200), encoded with 10 bits."""


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_colours_of_10_bits_in_avif_are_told() -> None:
    assert np.abs(pixels_of(TEN_BIT_AVIF, 3).astype(int) - (100, 50, 200)).max() <= 3
    assert Trait.REDUCED in traits_of(TEN_BIT_AVIF)
    assert "data.pixel_range can be [0, 65535] or null" in refusal(TEN_BIT_AVIF, (0.0, 1023.0))
    assert Trait.REDUCED not in traits_of(saved(Image.new("RGB", (16, 16)), "AVIF"))


@pytest.mark.parametrize("most", [300, 1023, 65535])
def test_deep_colours_of_ppm_are_told(most: int) -> None:
    content = f"P6 2 1 {most}\n".encode() + np.array([0, most, most // 2, 1, 2, most], ">u2").tobytes()
    expected = np.round(np.array([[[0, most, most // 2], [1, 2, most]]]) * (255 / most))
    assert np.abs(pixels_of(content, 3) - expected).max() <= 1
    assert Trait.REDUCED in traits_of(content)
    assert Trait.REDUCED not in traits_of(b"P6 1 1 255\n\x01\x02\x03")


@pytest.mark.parametrize("most", [300, 1023, 4095, 65535])
@pytest.mark.parametrize("is_text", [True, False])
def test_deep_grey_of_pgm_is_scaled_from_the_numbers_of_the_file(most: int, is_text: bool) -> None:
    values = np.array([0, 1, most // 3, most])
    header = f"{'P2' if is_text else 'P5'} 4 1 {most}\n".encode()
    content = header + (" ".join(map(str, values)).encode() if is_text else values.astype(">u2").tobytes())
    expected = np.round(values * (255 / most))
    assert np.array_equal(pixels_of(content, pixel_range=(0.0, float(most)))[0], expected)
    message = refusal(content)
    assert f"data.pixel_range: [0, {most}] (its values lie in [0, {most:g}])" in message
    assert "16-bit pixels" in message
