"""Damaged files: all are counted, the first few named, and left out on request."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.helpers.cases import (
    IMAGES,
    labelled,
    parquet,
    refusal,
    tree,
)
from tests.helpers.layouts import pictures, read
from winnow.spaces.errors import InputError


def fifo(place: Path) -> None:
    os.mkfifo(place / "bad.png")


def bomb(place: Path) -> None:
    Image.new("1", (20000, 20000)).save(place / "bad.png")


def large_text(place: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", "a" * 3_000_000, zip=True)
    Image.fromarray(IMAGES[0]).save(place / "bad.png", pnginfo=info)


def wrong_sum(place: Path) -> None:
    content = bytearray((place / "0.png").read_bytes())
    content[-20] ^= 255
    content[45] ^= 255
    (place / "bad.png").write_bytes(content)


def torn(place: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pictures(1, size=(99, 99))[0]).save(buffer, "JPEG")
    (place / "bad.png").write_bytes(buffer.getvalue()[:900])


DAMAGED: list[Callable[[Path], Any]] = [
    fifo,
    bomb,
    large_text,
    wrong_sum,
    torn,
    lambda place: (place / "bad.png").symlink_to("/nonexistent/a.png"),
    lambda place: (place / "bad.png").symlink_to(place / "bad.png"),
    lambda place: (place / "bad.png").write_bytes(b""),
    lambda place: (place / "bad.png").write_text("<html>404</html>"),
    lambda place: (place / "bad.png").write_bytes(b"GIF89a\0\0\0\0\0\0\0;"),
]


@pytest.mark.parametrize("damage", range(len(DAMAGED)))
def test_one_damaged_file_is_named_and_left_out_on_request(damage: int, cats: Path, tmp_path: Path) -> None:
    DAMAGED[damage](cats)
    message = refusal(tmp_path)
    assert message.startswith(f"{cats / 'bad.png'}: ")
    assert message.endswith("; data.skip_damaged: true leaves such images out")
    data = read(tmp_path, "image_folder", skip_damaged=True)
    assert np.bincount(data.train_labels).tolist() == [5, 5]
    assert "left out: 1 of 15 images that cannot be read: " in data.notes[0]


def test_files_left_out_are_those_of_this_set_though_another_was_decoded_to_the_same(tmp_path: Path) -> None:
    for name in ("first", "second"):
        cats = tree(tmp_path / name) / "train" / "cat"
        (cats / f"{name}.png").symlink_to("/nonexistent/a.png")
        data = read(tmp_path, "image_folder", tmp_path / name, skip_damaged=True)
        assert f"{cats / name}.png: no such file" in data.notes[0]


def as_paths(path: str) -> list[tuple[str, str]]:
    return [(str(file), file.parent.name) for file in sorted((Path(path) / "train").glob("*/*.png"))]


def test_files_left_out_are_named_where_they_are_now_though_a_function_lists_them(tmp_path: Path) -> None:
    root = tree(tmp_path / "first")
    (root / "train" / "cat" / "bad.png").write_bytes(b"junk")
    for place in (root, root.with_name("second")):
        if not place.exists():
            root.rename(place)
        data = read(tmp_path, f"{__name__}:as_paths", place, skip_damaged=True)
        assert any(f"{place / 'train' / 'cat' / 'bad.png'}: not a readable image" in note for note in data.notes)


def test_all_damaged_files_are_counted_and_three_are_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", per_class=12)
    for file in sorted((root / "train").rglob("*.png"))[::3]:
        file.write_bytes(b"not an image")
    (root / "test" / "dog" / "0.png").write_bytes(b"")
    message = refusal(tmp_path)
    assert message.startswith("9 of 28 images cannot be read: ")
    assert message.count("not a readable image") == 3
    data = read(tmp_path, "image_folder", skip_damaged=True)
    assert (len(data.train_labels), len(data.test_labels)) == (16, 3)
    assert "left out: 9 of 28 images" in data.notes[0]


def test_a_class_that_damage_empties_is_named(cats: Path, tmp_path: Path) -> None:
    for file in cats.iterdir():
        file.write_bytes(b"junk")
    assert "no training image is left for 1 of 2 classes: cat" in refusal(tmp_path, skip_damaged=True)


@pytest.mark.parametrize("place", ["train/owl", "test"], ids=["class", "split"])
def test_a_link_to_nowhere_in_place_of_a_folder_is_refused(place: str, tmp_path: Path) -> None:
    root = tree(tmp_path / "set", parts=("train",))
    (root / place).symlink_to("/nonexistent/folder")
    assert f"{root / place}".removesuffix(f"/{Path(place).name}") in refusal(tmp_path)
    assert f"{Path(place).name} is a link that leads nowhere" in refusal(tmp_path)
    (root / place).unlink()
    (root / "train" / "notes.txt").symlink_to("/nonexistent/notes.txt")
    assert "left out: .txt files" in " ".join(read(tmp_path, "image_folder").facts["taken"])


def test_a_folder_that_cannot_be_listed_is_named(cats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, for whom every folder can be listed."""

    def scandir(place: str) -> Any:
        if Path(place) == cats:
            raise PermissionError(13, "Permission denied", str(cats))
        return original(place)

    original = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    assert f"{cats}: this folder cannot be read (Permission denied)" in refusal(tmp_path)


def test_damaged_parquet_is_one_message(tmp_path: Path) -> None:
    root = parquet(tmp_path / "set", labelled(pa.array))
    file = root / "train-00000-of-00001.parquet"
    content = file.read_bytes()
    for damage in (
        b"",
        b"PAR1",
        content[:-9],
        content[:200] + content[300:],
        b"version https://git-lfs.github.com/spec/v1\n",
    ):
        file.write_bytes(damage)
        assert str(file) in refusal(tmp_path, "parquet")
    for place in range(0, len(content), max(1, len(content) // 40)):
        broken = bytearray(content)
        broken[place] ^= 0xFF
        file.write_bytes(broken)
        with suppress(InputError):  # whatever Arrow raises; a byte of a name may also go unnoticed
            read(tmp_path)
