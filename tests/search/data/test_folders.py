"""Folders and tables of paths as people have them: each is read right, or refused by a message that names the way on."""

from __future__ import annotations

import csv
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.cases import (
    IMAGES,
    cat_pixels,
    refusal,
    text_of,
    tree,
)
from tests.helpers.layouts import pictures, png, read


def test_every_format_that_pillow_reads(cats: Path, tmp_path: Path) -> None:
    extra = pictures(9, seed=8)
    kinds = [
        ("jfif", "JPEG"),
        ("jpe", "JPEG"),
        ("jp2", "JPEG2000"),
        ("tga", "TGA"),
        ("pcx", "PCX"),
        ("qoi", "QOI"),
        ("ppm", "PPM"),
    ]
    for (suffix, kind), pixels in zip(kinds, extra, strict=False):
        Image.fromarray(pixels).save(cats / f"x.{suffix}", kind)
    (cats / "deep" / "deeper").mkdir(parents=True)
    Image.fromarray(extra[7]).save(cats / "deep" / "deeper" / "n.PNG", "PNG")
    Image.fromarray(extra[8]).save(cats / "wrong.jpg", "PNG")
    (cats / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (cats / "notes.txt").write_text("hello")
    (cats / ".DS_Store").write_bytes(b"\0")
    (cats / "__MACOSX").mkdir()
    (cats / "__MACOSX" / "._0.png").write_bytes(b"Mac")
    data = read(tmp_path, "image_folder")
    assert np.bincount(data.train_labels).tolist() == [5 + 9, 5]
    lossless = {pixels.tobytes() for pixels in extra[3:]}
    assert lossless <= cat_pixels(tmp_path)
    assert "left out: .heic files, which the installed Pillow does not decode: 1" in text_of(data)
    assert ".txt files, which the installed Pillow does not decode: 1" in text_of(data)
    assert "hidden and system folders: 1" in text_of(data)


def test_names_of_folders(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    cats = root / "test" / "cat"
    cats.rename(root / "test" / "Cat")
    assert "Cat differs from cat by its letters' case alone" in refusal(tmp_path)
    (root / "test" / "Cat").rename(cats)
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    (root / "train" / "cat").rename(root / "train" / composed)
    cats.rename(root / "test" / decomposed)
    assert read(tmp_path, "image_folder").class_names == (composed, "dog")
    shutil.copytree(root / "train" / composed, root / "train" / decomposed)
    assert "two folders are named café, in different Unicode forms" in refusal(tmp_path)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    strange = os.fsencode(root / "train" / "cat") + b"/caf\xe9.png"
    Path(os.fsdecode(strange)).write_bytes(b"junk")
    assert r"caf\xe9.png: not a readable image" in refusal(tmp_path)
    os.rename(root / "train" / "cat", os.fsencode(root / "train") + b"/caf\xe9")
    assert r"the class name caf\xe9 is not valid UTF-8; rename it" in refusal(tmp_path)


def test_a_folder_with_the_name_of_an_image_and_links_in_a_circle(cats: Path, tmp_path: Path) -> None:
    (cats / "dir.png").mkdir()
    (cats / "dir.png" / "a.png").write_bytes(png(IMAGES[59]))
    (cats / "loop").symlink_to(cats)
    assert np.bincount(read(tmp_path, "image_folder").train_labels).tolist() == [6, 5]


def test_a_table_beside_folders_of_classes_is_not_guessed(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for k in range(4):
            (root / name / f"{k}.png").write_bytes(png(IMAGES[k + 4 * (name == "dog")]))
    rows = [(f"{name}/{k}.png", "even" if k % 2 else "odd") for name in ("cat", "dog") for k in range(4)]
    with (root / "labels.csv").open("w") as stream:
        csv.writer(stream, delimiter=";").writerows([("path", "target"), *rows])
    assert "so the classes are not certain; name the table in data.path" in refusal(tmp_path)
    assert read(tmp_path, "image_folder", root / "labels.csv").class_names == ("even", "odd")
    (root / "labels.csv").rename(tmp_path / "labels.csv")
    assert read(tmp_path, "image_folder").class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("file_name", "label"), ("a.png", "x"), ("no.png", "y")], "no.png: no such file"),
        ([("file_name", "label"), ("a.png",)], "labels.csv, line 2: 1 values, but the header names 2 columns"),
        ([("file_name", "label"), ("a.png", "")], "1 row has no `label`"),
        ([("file_name", "kind", "type"), ("a.png", "x", "y")], "it may be any of kind: text, type: text"),
        ([("file_name", "path", "label"), ("a.png", "a.png", "y")], "several columns may contain the images"),
        ([("name", "label"), ("a.png", "x")], "say which: data.image_column"),
        ([("file_name", "label", "split"), ("a.png", "x", "other")], "column `split` is 'other'"),
        ([("file_name", "label")], "holds no rows"),
    ],
)
def test_what_a_table_lacks(rows: list[tuple[str, ...]], message: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(png(IMAGES[0]))
    with (tmp_path / "set" / "labels.csv").open("w") as stream:
        csv.writer(stream).writerows(rows)
    assert message in refusal(tmp_path)
