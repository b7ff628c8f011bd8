"""Pixels of every kind of file: turned upright, laid on white, scaled by a stated rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.cases import (
    cat_pixels,
    refusal,
    text_of,
)
from tests.helpers.layouts import pictures, read


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("tif", "TIFF"), ("webp", "WEBP")])
def test_exif_turns_images_upright(orientation: int, suffix: str, kind: str, cats: Path, tmp_path: Path) -> None:
    undo = [
        None,
        "FLIP_LEFT_RIGHT",
        "ROTATE_180",
        "FLIP_TOP_BOTTOM",
        "TRANSPOSE",
        "ROTATE_90",
        "TRANSVERSE",
        "ROTATE_270",
    ]
    upright = Image.fromarray(pictures(1, seed=9)[0])
    name = undo[orientation - 1]
    assert name is not None
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright.transpose(Image.Transpose[name])
    stored.save(cats / f"turned.{suffix}", kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.asarray(upright).tobytes() in cat_pixels(tmp_path)
    assert "1 image is turned upright" in text_of(read(tmp_path, "image_folder"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_transparency_is_laid_on_white(mode: str, cats: Path, tmp_path: Path) -> None:
    """What is hidden under alpha 0 does not show."""
    pixels = np.full((5, 6, 4), 60, dtype=np.uint8)
    pixels[..., 3] = 255
    pixels[:2, :, :3], pixels[:2, :, 3] = 200, 0
    image, options = Image.fromarray(pixels), {}
    if mode == "P":
        image, options = image.convert("RGB").quantize(4), {}
        options["transparency"] = image.getpixel((0, 0))
    elif mode == "L":
        image, options = image.convert("RGB").convert("L"), {"transparency": 200}
    else:
        image = image.convert(mode)
    image.save(cats / "ghost.png", **options)
    expected = np.full((5, 6, 3), 60, dtype=np.uint8)
    expected[:2] = 255
    assert expected.tobytes() in cat_pixels(tmp_path)
    assert "1 image is transparent, laid on white" in text_of(read(tmp_path, "image_folder"))


def test_wide_pixels_need_a_range(tmp_path: Path) -> None:
    for name, value in (("cat", 0), ("dog", 1)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for k in range(5):
            grey = np.full((4, 4), 1000 * value + 10 * k, dtype=np.uint16)
            grey[0, 0] = 4095
            Image.fromarray(grey).save(tmp_path / "set" / name / f"{k}.png")
    assert "16-bit pixels (Pillow's mode I;16), but 8 bits per channel are needed" in refusal(tmp_path)
    assert "data.pixel_range: [0, 65535]" in refusal(tmp_path)
    data = read(tmp_path, "image_folder", pixel_range=[0, 4095])
    assert set(data.train_images[:, 0, 0].ravel().tolist()) == {255}
    values = set(np.unique(data.train_images)) | set(np.unique(data.test_images))
    assert values == {round((1000 * v + 10 * k) * 255 / 4095) for v in (0, 1) for k in range(5)} | {255}
    assert data.image_shape == (1, 4, 4)


def test_float_images(cats: Path, tmp_path: Path) -> None:
    values = np.linspace(0, 1, 30, dtype=np.float32).reshape(5, 6)
    Image.fromarray(values).save(cats / "f.tif")
    assert "f.tif: float pixels" in refusal(tmp_path)
    expected = np.repeat(np.round(values * 255).astype(np.uint8)[..., None], 3, axis=2)
    assert expected.tobytes() in cat_pixels(tmp_path, pixel_range=[0.0, 1.0])
    values[0, 0] = np.nan
    Image.fromarray(values).save(cats / "f.tif")
    assert "not a number" in refusal(tmp_path, pixel_range=[0.0, 1.0])


def test_grey_images_among_colour_ones_are_counted(cats: Path, tmp_path: Path) -> None:
    assert "grey" not in text_of(read(tmp_path, "image_folder"))
    for name in ("0.png", "1.png"):
        with Image.open(cats / name) as image:
            image.convert("L").save(cats / name)
    assert "2 images are grey, taken as colour (2 train)" in text_of(read(tmp_path, "image_folder"))
    assert "12 images are in colour, turned grey" in text_of(read(tmp_path, "image_folder", channels=1))


def test_sizes_of_the_files_are_told_by_split(cats: Path, tmp_path: Path) -> None:
    assert "resized" not in text_of(read(tmp_path, "image_folder"))
    for file in (tmp_path / "set" / "test").rglob("*.png"):
        with Image.open(file) as image:
            image.resize((12, 10)).save(file)
    text = text_of(read(tmp_path, "image_folder", image_size=[5, 6]))
    assert "files of test, 10x12 pixels, were resized to 5x6" in text
    assert "files of train" not in text
    with Image.open(cats / "0.png") as image:
        image.resize((9, 7)).save(cats / "0.png")
    text = text_of(read(tmp_path, "image_folder", image_size=[5, 6]))
    assert "files of train have 2 sizes, 5 to 7 pixels high and 6 to 9 wide; all were resized to 5x6" in text
