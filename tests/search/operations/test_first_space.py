"""`winnow init`: what it says of a folder, and whether the file that it writes can be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.cases import IMAGES, tree
from tests.helpers.layouts import png
from winnow.search.data.source import load
from winnow.search.operations.first_space import first_space
from winnow.spaces import catalog
from winnow.spaces.errors import InputError


def written(root: Path) -> tuple[Path, str]:
    file = root.parent / "space.yaml"
    return file, "\n".join(first_space(root, file))


def refusal(root: Path) -> str:
    with pytest.raises(InputError) as error:
        first_space(root, root.parent / "space.yaml")
    assert not (root.parent / "space.yaml").exists()
    return str(error.value)


def usable(file: Path) -> bool:
    data = catalog.load(file).example().data
    return load(data, file.parent / "data").class_names == ("cat", "dog")


def test_what_was_taken_for_what_is_said(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    (root / "extra").mkdir()
    file, text = written(root)
    assert "14 images of 2 classes: 5 cat, 5 dog" in text
    assert "splits and classes from the folders (`train` for train, `test` for test)" in text
    assert "left out: 1 folder that is no split: extra" in text
    assert usable(file)


def test_a_table(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", parts=("train",))
    rows = [f"train/{name}/{k}.png,{name}" for name in ("cat", "dog") for k in range(5)]
    (root / "mine.csv").write_text("\n".join(["path,label", *rows]))
    file, text = written(root / "mine.csv")
    assert "mine.csv: paths of the images from column `path`, classes from column `label`" in text
    assert usable(file)


def test_labels_that_a_search_would_refuse_are_refused_at_once(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    (root / "test" / "unknown").mkdir()
    (root / "test" / "unknown" / "0.png").write_bytes(png(IMAGES[30]))
    assert "test has 1 class that train has not: unknown" in refusal(root)


def test_images_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    (root / "train" / "cat" / "bad.png").write_bytes(b"")
    text = written(root)[1]
    assert "warning: 1 of 11 images cannot be read, the first: " in text
    assert "bad.png: not a readable image (it is empty); data.skip_damaged: true" in text
    (root.parent / "space.yaml").unlink()
    for image in (root / "train").rglob("*.png"):
        image.write_bytes(b"x")
    assert "none of the images can be read; " in refusal(root)


def test_wide_images_are_told_and_their_range_is_a_line_to_fill(tmp_path: Path) -> None:
    for k in range(10):
        folder = tmp_path / "set" / ("cat", "dog")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[k, ..., 0].astype(np.uint16)).save(folder / f"{k}.png")
    file, text = written(tmp_path / "set")
    assert "warning: 10 of 10 images have more than 8 bits per channel" in text
    assert "data.pixel_range" in text
    file.write_text(file.read_text().replace("# pixel_range: [0, 65535]", "pixel_range: [0, 255]"))
    assert usable(file)


def test_names_with_line_ends(tmp_path: Path) -> None:
    root = tree(tmp_path / "my\nset", parts=("train",))
    (root / "train" / "cat").rename(root / "train" / "c\nat")
    file, text = written(root)
    assert "5 c\\nat" in text
    assert catalog.load(file).example().data.path == str(root)
