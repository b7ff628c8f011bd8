"""A space over own images is checked against their real size, also where nothing is trained; one spelling of that size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.helpers.layouts import pictures, png, read
from winnow.search.cli.main import main
from winnow.search.data.decode import size_of
from winnow.search.data.listing import Encoded
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Data
from winnow.spaces.shapes import known_image_shape


def winnow(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return end.value.code or 0


def space_file(tmp_path: Path, num_pools: int, **data: object) -> str:
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
        for k, image in enumerate(pictures(6, seed=ord(name[0]), size=(32, 32))):
            (tmp_path / "set" / name / f"{k}.png").write_bytes(png(image))
    tree = {
        "data": {"name": "image_folder", "path": str(tmp_path / "set"), **data},
        "epochs": 1,
        "batch_size": 4,
        "model": {"name": "cnn", "stages": [{"filters": 4, "pool": "max"}] * num_pools},
        "optimizer": {"choice": {"adam": {"lr": {"log": [0.001, 0.01]}}}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree))
    return str(tmp_path / "mine.yaml")


@pytest.mark.parametrize("command", [("spaces",), ("plan", "--no-probe", "--trials", "4")], ids=lambda words: words[0])
def test_pools_that_leave_nothing_are_refused_before_anything_runs(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *options = command
    assert winnow(name, space_file(tmp_path, 5), *options) == 0
    printed = capsys.readouterr().out
    assert ("12 images: 36.9 kB decoded, held in memory" in " ".join(printed.split())) == (name == "plan")
    assert winnow(name, space_file(tmp_path, 6), *options) == 2
    assert "pooling 2x2 of a 1x1 feature map leaves nothing" in capsys.readouterr().err
    assert winnow(name, space_file(tmp_path, 6, image_size=[64, 64]), *options) == 0


def test_a_space_whose_images_are_not_here_can_be_printed(tmp_path: Path) -> None:
    file = space_file(tmp_path, 6)
    (tmp_path / "set").rename(tmp_path / "elsewhere")
    assert winnow("spaces", file) == 0


def test_one_spelling_of_sizes(tmp_path: Path) -> None:
    square, wide = (Data(name="npz", path="x", image_size=size) for size in (24, [24, 40]))
    assert (square.size, wide.size) == ((24, 24), (24, 40))
    assert known_image_shape({"name": "cifar10", "image_size": [24, 40]}) == (3, 24, 40)
    space_file(tmp_path, 1)
    for size, shape in ((20, (3, 20, 20)), ([20, 12], (3, 20, 12))):
        assert read(tmp_path, "image_folder", image_size=size).image_shape == shape
    for wrong in ([24], [24, 40, 3], [2, 40], "24"):
        with pytest.raises(ValueError, match="image_size"):
            Data(name="npz", path="x", image_size=wrong)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_header_tells_the_size_of_the_upright_image(kind: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((4, 9, 3), dtype=np.uint8)).save(tmp_path / "a", kind, exif=exif)
    assert size_of(Encoded("a", tmp_path / "a")) == ((9, 4) if orientation == 6 else (4, 9))


def test_unreadable_images_say_so(tmp_path: Path) -> None:
    file = space_file(tmp_path, 1)
    for image in (tmp_path / "set").rglob("*.png"):
        image.write_bytes(b"junk")
    with pytest.raises(InputError, match="12 of 12 images cannot be read"):
        read(tmp_path, "image_folder")
    assert winnow("spaces", file) == 2
