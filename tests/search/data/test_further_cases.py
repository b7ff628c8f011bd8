"""Further data sets as people have them: names, numbers and places that are easily read wrongly without a word."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.helpers.layouts import labels_by_image, pictures, png, read, same_images
from tests.helpers.tiny import write_npz
from winnow.search.data import own, space_left
from winnow.search.data.decode import upright_pixels
from winnow.search.data.image_data import ImageData, split
from winnow.search.data.source import load
from winnow.search.data.summary import summarize
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Data

IMAGES = pictures(20, seed=3)
HALVES = [k % 2 for k in range(20)]


def refusal(tmp_path: Path, name: str, path: Path | None = None, **settings: Any) -> str:
    with pytest.raises(InputError) as error:
        read(tmp_path, name, path, **settings)
    return str(error.value)


def class_folders(root: Path, names: tuple[str, ...] = ("cat", "dog")) -> Path:
    for k, image in enumerate(IMAGES):
        folder = root / names[k % len(names)]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{k}.png").write_bytes(png(image))
    return root


def shard(root: Path, labels: pa.Array, metadata: dict[str, str] | None = None) -> Path:
    root.mkdir(parents=True)
    column = pa.array([{"bytes": png(image), "path": None} for image in IMAGES])
    table = pa.table({"image": column, "label": labels}).replace_schema_metadata(metadata)
    pq.write_table(table, root / "train.parquet")
    return root


def json_lines(root: Path, labels: list[Any]) -> Path:
    """With a decoy: another column that could be the classes."""
    root.mkdir()
    lines = []
    for k, (image, label) in enumerate(zip(IMAGES, labels, strict=True)):
        (root / f"{k}.png").write_bytes(png(image))
        lines.append(json.dumps({"file_name": f"{k}.png", "label": label, "category": "ab"[k // 10]}))
    (root / "metadata.jsonl").write_text("\n".join(lines))
    return root


def truth(data: ImageData, names: list[str]) -> bool:
    """Whether every image has the class that it was given."""
    labels = labels_by_image(data.train_images, data.train_labels) | labels_by_image(data.test_images, data.test_labels)
    found = [data.class_names[labels[image.tobytes()]] for image in IMAGES]
    return found == names


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([None if k == 3 else k % 2 for k in range(20)], "1 row has no `label`, the first: row 3"),
        ([k % 2 + 0.5 for k in range(20)], "the label column `label` is floats"),
        ([[k % 2] for k in range(20)], "`label` is lists: several labels per image"),
    ],
)
def test_json_labels_are_not_passed_over_for_another_column(labels: list[Any], message: str, tmp_path: Path) -> None:
    json_lines(tmp_path / "set", labels)
    assert message in refusal(tmp_path, "image_folder")


def test_json_labels_that_are_whole_on_request(tmp_path: Path) -> None:
    json_lines(tmp_path / "set", [float(k % 2) for k in range(20)])
    assert truth(read(tmp_path, "image_folder", label_column="label"), [str(k) for k in HALVES])


@pytest.mark.parametrize(
    ("labels", "value"),
    [
        (pa.array([2**63 + k for k in HALVES], pa.uint64()), "9223372036854775808"),
        (pa.array([(k + 1) * 1e300 for k in HALVES]), "1e+300"),
    ],
)
def test_labels_too_large_for_a_class_number(labels: pa.Array, value: str, tmp_path: Path) -> None:
    shard(tmp_path / "set", labels)
    message = refusal(tmp_path, "parquet", remap_labels=True, label_column="label")
    assert f"row 0 is {value}, too large for a class number" in message


def test_names_in_two_unicode_forms_are_one_class(tmp_path: Path) -> None:
    forms = [unicodedata.normalize("NFC" if k % 4 == 1 else "NFD", "café") if k % 2 else "dog" for k in range(20)]
    expected = ["café" if k else "dog" for k in HALVES]
    shard(tmp_path / "set", pa.array(forms))
    assert truth(read(tmp_path), expected)
    write_npz(tmp_path / "a.npz", train_images=IMAGES, train_labels=np.array(forms))
    assert truth(read(tmp_path, "npz", tmp_path / "a.npz"), expected)


def test_class_names_by_number(tmp_path: Path) -> None:
    features = {"label": {"names": {"0": "dog", "1": "cat"}, "_type": "ClassLabel"}}
    shard(tmp_path / "set", pa.array(HALVES), {"huggingface": json.dumps({"info": {"features": features}})})
    assert truth(read(tmp_path), ["cat" if k else "dog" for k in HALVES])


def test_class_names_as_bytes_are_refused(tmp_path: Path) -> None:
    names = np.array([b"cat", b"dog"])
    write_npz(tmp_path / "a.npz", train_images=IMAGES, train_labels=HALVES, class_names=names)
    assert "class_names must be text, but is |S3" in refusal(tmp_path, "npz", tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("name", "file"), [("parquet", "train.parquet"), ("image_folder", "labels.csv"), ("npz", "a.npz")]
)
def test_a_pipe_is_not_waited_for(name: str, file: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    os.mkfifo(tmp_path / "set" / file)
    path = tmp_path / "set" / (file if name == "npz" else "")
    assert f"{file}: not a readable" in refusal(tmp_path, name, path)


def test_a_table_with_null_characters(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "labels.csv").write_text("file_name,label\na\0.png,cat\n")
    assert "labels.csv: not a readable table (it holds null characters)" in refusal(tmp_path, "image_folder")


@pytest.mark.parametrize("target", ["..", "../.."])
def test_a_link_upwards_does_not_bring_the_images_of_other_classes(target: str, tmp_path: Path) -> None:
    class_folders(tmp_path / "set" / "train")
    (tmp_path / "set" / "train" / "cat" / "loop").symlink_to(target)
    assert truth(read(tmp_path, "image_folder"), ["dog" if k else "cat" for k in HALVES])


def test_splits_below_classes_are_refused(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        class_folders(tmp_path / "set" / name, ("train", "test"))
    assert "holds test, train, so it is not certain whether the folders are classes" in refusal(
        tmp_path, "image_folder"
    )


def test_groups_that_are_neither_column_nor_pattern(tmp_path: Path) -> None:
    class_folders(tmp_path / "set", ("patient1", "patient2"))
    message = refusal(tmp_path, "image_folder", groups="patient")
    assert "data.groups: 'patient' is neither a column nor a pattern with one group in parentheses" in message


def test_class_names_that_differ_by_case_alone_are_told(tmp_path: Path) -> None:
    class_folders(tmp_path / "set", ("Cat", "cat"))
    data = read(tmp_path, "image_folder")
    text = summarize(data, split(data, None, True, 0), "rule")["text"]
    assert "warning: classes whose names differ by case, blanks or zeros alone: 'Cat' and 'cat'" in text


# --- large sets without much memory -------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_an_npz_file_that_is_too_large_for_the_memory(
    save: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space_left, "MEMORY_SHARE", 0.0)
    images = IMAGES if kind == "uint8" else (IMAGES / np.float32(255)).astype(np.float32)
    save(tmp_path / "a.npz", train_images=images, train_labels=HALVES)
    settings = {} if kind == "uint8" else {"pixel_range": [0.0, 1.0]}
    data = read(tmp_path, "npz", tmp_path / "a.npz", **settings)
    assert isinstance(data.train_images, np.memmap)
    assert truth(data, [str(k) for k in HALVES])
    assert same_images(np.concatenate([data.train_images, data.test_images]), IMAGES)


def build(kind: str) -> Any:
    """The function of a user."""
    if kind == "modes":
        return {"train": zip(in_modes(), HALVES, strict=True)}
    return ((image, "ab"[k]) for image, k in zip(IMAGES, HALVES, strict=True))


def in_modes() -> Iterator[Image.Image]:
    """Grey images in modes whose arrays look like others: four inks are no colours with transparency."""
    for k in range(20):
        grey = Image.new("L", (6, 5), 10 * k)
        if k % 4 == 0:
            yield Image.merge("CMYK", [Image.new("L", (6, 5), value) for value in (0, 0, 0, 255 - 10 * k)])
        elif k % 4 == 1:
            yield grey.convert("YCbCr")
        elif k % 4 == 2:
            yield Image.merge("LA", [Image.new("L", (6, 5), 0), Image.new("L", (6, 5), 255 - 10 * k)])
        else:
            yield grey.convert("RGB")


def test_an_iterable_is_kept_in_a_file_until_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "KEPT_IN_MEMORY", 1)
    data = load(Data(name=f"{__name__}:build", arguments={"kind": "iterable"}), tmp_path)
    assert truth(data, ["ab"[k] for k in HALVES])
    again = load(Data(name=f"{__name__}:build", arguments={"kind": "iterable"}), tmp_path)
    assert again.fingerprint == data.fingerprint
    assert len(list((tmp_path / ".cache").glob("*/about.json"))) == 1


def test_pillow_images_of_every_mode(tmp_path: Path) -> None:
    data = load(Data(name=f"{__name__}:build", arguments={"kind": "modes"}), tmp_path)
    images = np.concatenate([data.train_images, data.test_images])
    assert sorted({tuple(image[0, 0]) for image in images}) == [(10 * k,) * 3 for k in range(20)]


def test_a_palette_whose_entries_are_transparent_is_laid_on_white() -> None:
    """As Pillow makes of a transparent image; saved as PNG, its transparency is in another place."""
    pixels = np.full((4, 4, 4), (200, 10, 30, 255), np.uint8)
    pixels[:2, :, 3] = 0
    image = Image.fromarray(pixels).quantize(4)
    assert (image.mode, "transparency" in image.info) == ("P", False)
    upright = upright_pixels(image)
    assert (upright[:2] == 255).all()
    assert (upright[2:] == (200, 10, 30)).all()
