"""The cache and the record of prepared sets go by content: a change of pixels is noticed, a change of a setting is none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.helpers.cases import tree
from tests.helpers.layouts import pictures, png, read
from winnow.search.cli.main import main
from winnow.search.data import reading


def winnow(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


def overwrite(file: Path, content: bytes) -> None:
    """With equal size and times."""
    before = file.stat()
    assert len(content) == before.st_size
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns


def test_other_pixels_in_a_file_of_equal_size_and_time(tmp_path: Path) -> None:
    file = tree(tmp_path / "set") / "train" / "cat" / "0.png"
    Image.fromarray(pictures(1, seed=91)[0]).save(file.with_suffix(".bmp"), "BMP")
    file.unlink()
    file = file.with_suffix(".bmp")
    before = read(tmp_path, "image_folder")
    other = pictures(1, seed=92)[0]
    Image.fromarray(other).save(tmp_path / "other.bmp")
    overwrite(file, (tmp_path / "other.bmp").read_bytes())
    after = read(tmp_path, "image_folder")
    assert after.fingerprint != before.fingerprint
    assert other.tobytes() in {image.tobytes() for image in after.train_images}


def test_another_image_in_a_parquet_file_of_equal_size_and_time(tmp_path: Path) -> None:
    def write(first: np.ndarray) -> bytes:
        images = [first, *(np.full((4, 4, 3), k, np.uint8) for k in range(9))]
        raw = [b"P6 4 4 255\n" + image.tobytes() for image in images]
        table = pa.table({"image": raw, "label": [k % 2 for k in range(10)]})
        pq.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False)
        return (tmp_path / "a.parquet").read_bytes()

    second = write(np.full((4, 4, 3), 201, np.uint8))
    write(np.full((4, 4, 3), 200, np.uint8))
    before = read(tmp_path, path=tmp_path / "a.parquet")
    overwrite(tmp_path / "a.parquet", second)
    after = read(tmp_path, path=tmp_path / "a.parquet")
    assert 201 in after.train_images or 201 in after.test_images
    assert after.fingerprint != before.fingerprint


def test_a_copy_with_other_times_is_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "set")
    before = read(tmp_path, "image_folder")
    shutil.copytree(tmp_path / "set", tmp_path / "copy")
    for file in (tmp_path / "copy").rglob("*.png"):
        os.utime(file, (1, 1))
    monkeypatch.setattr(reading, "decode_one", None)  # to decode would fail
    assert read(tmp_path, "image_folder", tmp_path / "copy").fingerprint == before.fingerprint


@pytest.mark.parametrize("parts", [("train", "test"), ("train", "test", "val")])
def test_settings_that_change_no_image_do_not_make_the_images_others(
    parts: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path / "set", parts=parts)
    monkeypatch.chdir(tmp_path)
    place = ["--set", "data.name=image_folder", "--data-dir", "data"]
    for change in (
        "validation=0.3",
        "validation=0.25",
        "sampling=balanced",
        "stratified=true",
        "normalize=none",
        "augment=flip",
    ):
        assert winnow("prepare", "digits", *place, "--set", "data.path=set", "--set", f"data.{change}") == 0, change
    if "val" in parts:
        assert winnow("prepare", "digits", *place, "--set", "data.path=set", "--set", "data.validation=given") == 0
    assert "not those that were prepared" not in "".join(capsys.readouterr())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "set").mkdir()
    for part in parts:
        for name in ("cat", "dog"):
            (tmp_path / "elsewhere" / "set" / part / name).mkdir(parents=True)
            for k in range(5):
                content = png(pictures(1, seed=500 + 10 * len(part + name) + k + (name == "dog"))[0])
                (tmp_path / "elsewhere" / "set" / part / name / f"{k}.png").write_bytes(content)
    monkeypatch.chdir(tmp_path / "elsewhere")
    place[-1] = str(tmp_path / "data")
    assert winnow("prepare", "digits", *place, "--set", "data.path=set", "--set", "data.validation=0.3") == 0, (
        "the same relative path, but another folder"
    )
