"""Small data sets that real people have: each is read right, or refused by one message that names the file and the way on."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.helpers.layouts import pictures, png, read
from winnow.search.data.image_data import ImageData, split
from winnow.search.data.summary import summarize
from winnow.spaces.errors import InputError

IMAGES = pictures(60, seed=3)
NAMES = ["ant", "bee", "cat"]


def tree(root: Path, per_class: int = 5, parts: tuple[str, ...] = ("train", "test")) -> Path:
    """Two classes; every image is another one."""
    number = 0
    for part in parts:
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for k in range(per_class if part == "train" else 2):
                (root / part / name / f"{k}.png").write_bytes(png(IMAGES[number]))
                number += 1
    return root


def text_of(data: ImageData, rule: str = "rule") -> str:
    return "\n".join(summarize(data, split(data, None, True, 0), rule)["text"])


def refusal(tmp_path: Path, name: str = "image_folder", path: Path | None = None, **settings: Any) -> str:
    with pytest.raises(InputError) as error:
        read(tmp_path, name, path, **settings)
    return str(error.value)


# --- folders --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cats(tmp_path: Path) -> Path:
    """The folder of cats in a good tree: `set/train/cat`."""
    return tree(tmp_path / "set") / "train" / "cat"


def cat_pixels(tmp_path: Path, **settings: Any) -> set[bytes]:
    data = read(tmp_path, "image_folder", **settings)
    return {image.tobytes() for image in data.train_images[data.train_labels == 0]}


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
    assert "1 images are turned upright" in text_of(read(tmp_path, "image_folder"))


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
    assert "1 images are transparent, laid on white" in text_of(read(tmp_path, "image_folder"))


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
    assert "no training image is left of 1 of 2 classes: cat" in refusal(tmp_path, skip_damaged=True)


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


def test_a_folder_that_cannot_be_listed_is_named(cats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, for whom every folder can be listed."""

    def scandir(place: str) -> Any:
        if Path(place) == cats:
            raise PermissionError(13, "Permission denied", str(cats))
        return original(place)

    original = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    assert f"{cats}: this folder cannot be read (Permission denied)" in refusal(tmp_path)


def test_repeated_images_are_counted(tmp_path: Path) -> None:
    root = tree(tmp_path / "set")
    shutil.copy(root / "train" / "cat" / "0.png", root / "train" / "cat" / "again.png")
    shutil.copy(root / "train" / "cat" / "0.png", root / "train" / "dog" / "again.png")
    Image.open(root / "train" / "cat" / "1.png").save(root / "test" / "cat" / "same-pixels.bmp")
    data = read(tmp_path, "image_folder")
    assert data.facts["repeated"] == {
        "equal_files": 2,
        "equal_pixels": 3,
        "under_two_labels": 3,
        "within_train": 2,
        "within_test": 0,
        "of_test_also_in_train": 1,
    }
    text = text_of(data)
    assert "warning: 1 images of test are in train too" in text
    assert "warning: 3 images stand under two labels or more" in text


def test_a_given_validation_split_is_used_and_said(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", parts=("train", "test", "val"))
    data = read(tmp_path, "image_folder")
    assert data.validation_labels is not None
    assert len(data.validation_labels) == 4
    assert "`val` for validation" in text_of(data)
    shutil.rmtree(root / "val")
    assert read(tmp_path, "image_folder").validation_labels is None


def test_the_majority_is_told(tmp_path: Path) -> None:
    for name, num in (("benign", 57), ("malignant", 3)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for k in range(num):
            (tmp_path / "set" / name / f"{k}.png").write_bytes(png(IMAGES[k] if num > 3 else 255 - IMAGES[k]))
    data = read(tmp_path, "image_folder")
    assert "test: 11 benign, 1 malignant (the largest class holds 91.7%)" in text_of(data)
    parts = split(data, None, True, 0)
    assert set(data.train_labels[parts.train_index]) == {0, 1}
    assert summarize(data, parts, "")["majority_share"] == pytest.approx(11 / 12, abs=1e-6)


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
        ([("file_name", "label"), ("a.png", "")], "1 rows have no `label`"),
        ([("file_name", "kind", "type"), ("a.png", "x", "y")], "it can be any of kind: text, type: text"),
        ([("file_name", "path", "label"), ("a.png", "a.png", "y")], "several columns can be the images"),
        ([("name", "label"), ("a.png", "x")], "say which: data.image_column"),
        ([("file_name", "label", "split"), ("a.png", "x", "dev")], "column `split` is 'dev'"),
        ([("file_name", "label")], "holds no rows"),
    ],
)
def test_what_a_table_lacks(rows: list[tuple[str, ...]], message: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(png(IMAGES[0]))
    with (tmp_path / "set" / "labels.csv").open("w") as stream:
        csv.writer(stream).writerows(rows)
    assert message in refusal(tmp_path)


@pytest.mark.parametrize("groups", ["patient", r"p(\d+)_"], ids=["column", "pattern"])
def test_images_of_one_group_stay_in_one_split(groups: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    rows = []
    for k in range(60):
        (tmp_path / "set" / f"p{k // 4}_{k}.png").write_bytes(png(IMAGES[k]))
        rows.append((f"p{k // 4}_{k}.png", "ab"[(k // 4) % 2], f"patient {k // 4}"))
    with (tmp_path / "set" / "labels.csv").open("w") as stream:
        csv.writer(stream).writerows([("file_name", "label", "patient"), *rows])
    data = read(tmp_path, "image_folder", groups=groups)
    parts = split(data, None, True, seed=1)
    patient = {IMAGES[k].tobytes(): k // 4 for k in range(60)}
    train = {patient[data.train_images[k].tobytes()] for k in parts.train_index}
    validation = {patient[data.train_images[k].tobytes()] for k in parts.validation_index}
    test = {patient[image.tobytes()] for image in data.test_images}
    assert not train & validation
    assert not test & (train | validation)
    assert (len(train), len(validation), len(test)) == (10, 2, 3)
    assert "is not found in 60 of 60 paths" in refusal(tmp_path, groups="q([0-9])")
    assert "no column `camera`" in refusal(tmp_path, groups="camera")


def test_groups_in_two_given_splits_are_refused(tmp_path: Path) -> None:
    tree(tmp_path / "set")
    assert "2 groups stand in train and in test: 0, 1" in refusal(tmp_path, groups=r"/(\d)\.png$")


# --- Parquet --------------------------------------------------------------------------------------------------------------

LABELS = [k % 3 for k in range(30)]
IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def column_of(rows: slice) -> pa.Array:
    return pa.array([{"bytes": png(image), "path": None} for image in IMAGES[rows]], IMAGE_TYPE)


def parquet(
    root: Path, make: Callable[[slice], dict[str, Any]], names: list[str] | None = None, test: bool = True
) -> Path:
    metadata = None
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    root.mkdir(exist_ok=True)
    for part, rows in (("train", slice(0, 24)), ("test", slice(24, 30))):
        if part == "train" or test:
            table = pa.table(make(rows)).replace_schema_metadata(metadata)
            pq.write_table(table, root / f"{part}-00000-of-00001.parquet")
    return root


def labelled(make: Callable[[list[int]], Any], **others: Any) -> Callable[[slice], dict[str, Any]]:
    return lambda rows: {
        **{key: value(LABELS[rows]) for key, value in others.items()},
        "image": column_of(rows),
        "label": make(LABELS[rows]),
    }


def truth(data: ImageData, names: list[str]) -> bool:
    """Whether every image has the class that it was given."""
    expected = {IMAGES[k].tobytes(): names[LABELS[k]] for k in range(30)}
    pairs = [
        *zip(data.train_images, data.train_labels, strict=True),
        *zip(data.test_images, data.test_labels, strict=True),
    ]
    return all(expected[image.tobytes()] == data.class_names[label] for image, label in pairs) and len(pairs) == 30


@pytest.mark.parametrize(
    "make",
    [
        lambda labels: pa.array([NAMES[k] for k in labels]),
        lambda labels: pa.array([NAMES[k] for k in labels], pa.large_string()),
        lambda labels: pa.array([NAMES[k] for k in labels], pa.string_view()),
        lambda labels: pa.array([NAMES[k] for k in labels]).dictionary_encode(),
    ],
    ids=["string", "large", "view", "dictionary"],
)
@pytest.mark.parametrize("decoy", ["id", "__index_level_0__", "width", "anything"])
def test_text_labels_are_classes_whatever_integers_are_beside_them(make: Any, decoy: str, tmp_path: Path) -> None:
    parquet(tmp_path / "set", labelled(make, **{decoy: lambda labels: pa.array([0] * len(labels))}))
    data = read(tmp_path)
    assert data.class_names == tuple(NAMES)
    assert truth(data, NAMES)
    assert "images from column `image`, classes from column `label`" in text_of(data)


def test_types_of_images_and_numbers(tmp_path: Path) -> None:
    def make(rows: slice) -> dict[str, Any]:
        column = pa.array([png(image) for image in IMAGES[rows]], pa.binary()).cast(pa.binary_view())
        return {"photo": column, "label": pa.array(LABELS[rows], pa.uint8())}

    parquet(tmp_path / "set", make)
    assert truth(read(tmp_path), ["0", "1", "2"])


def test_booleans_and_floats(tmp_path: Path) -> None:
    parquet(tmp_path / "a", labelled(lambda labels: pa.array([k > 0 for k in labels])))
    assert read(tmp_path, path=tmp_path / "a").class_names == ("false", "true")
    parquet(
        tmp_path / "b",
        labelled(lambda labels: pa.array([float(k) for k in labels]), idx=lambda labels: pa.array(labels)),
    )
    assert "the label column `label` is double" in refusal(tmp_path, "parquet", tmp_path / "b")
    assert truth(read(tmp_path, path=tmp_path / "b", label_column="label"), ["0", "1", "2"])
    parquet(tmp_path / "c", labelled(lambda labels: pa.array([k + 0.5 for k in labels])))
    assert "row 0 is 0.5, but classes are whole numbers" in refusal(
        tmp_path, "parquet", tmp_path / "c", label_column="label"
    )


def test_classes_as_pandas_polars_and_duckdb_write_them(tmp_path: Path) -> None:
    """Enums and categoricals with a category that no image has, in other orders: always the same data set."""
    duckdb, pandas, polars = (pytest.importorskip(name) for name in ("duckdb", "pandas", "polars"))
    images, names = [png(image) for image in IMAGES[:30]], [NAMES[k] for k in LABELS]
    table = duckdb.connect()
    table.execute("create type animal as enum ('cat', 'bee', 'unused', 'ant')")
    table.execute("create table t(image blob, label animal)")
    table.executemany("insert into t values (?, ?)", list(zip(images, names, strict=True)))
    table.execute(f"copy t to '{tmp_path / 'duckdb.parquet'}'")
    frame = polars.DataFrame({"image": images, "label": names})
    for kind in (polars.Enum(["cat", "bee", "unused", "ant"]), polars.Categorical, polars.String):
        frame.with_columns(polars.col("label").cast(kind)).write_parquet(tmp_path / f"polars-{kind}.parquet"[:40])
    labels = pandas.Categorical(names, ["unused", "cat", "bee", "ant"])
    pandas.DataFrame({"image": images, "label": labels}).iloc[::-1].to_parquet(tmp_path / "pandas.parquet")
    files = sorted(tmp_path.glob("*.parquet"))
    assert len(files) >= 4
    found = [read(tmp_path, path=file) for file in files]
    assert all(truth(data, NAMES) for data in found)
    assert {(data.class_names, data.fingerprint) for data in found} == {(tuple(NAMES), found[0].fingerprint)}


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays(
        [column_of(slice(0, 3)), pa.array([0, 1, 2]), pa.array([2, 1, 0])], ["image", "label", "label"]
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert "a column name occurs twice: label" in refusal(tmp_path, "parquet", tmp_path / "a.parquet")


def test_what_is_ambiguous_is_refused_by_name(tmp_path: Path) -> None:
    def both(rows: slice) -> dict[str, Any]:
        mask = pa.array([{"bytes": png(255 - image), "path": None} for image in IMAGES[rows]], IMAGE_TYPE)
        return {"mask": mask, "photo": column_of(rows), "label": pa.array(LABELS[rows])}

    parquet(tmp_path / "set", both)
    message = refusal(tmp_path, "parquet")
    assert "several columns can be the images: mask: struct<bytes: binary, path: string>, photo: " in message
    assert message.endswith("say which: data.image_column")
    assert truth(read(tmp_path, image_column="photo"), ["0", "1", "2"])
    assert "no column `foto` among mask" in refusal(tmp_path, "parquet", image_column="foto")
    parquet(tmp_path / "lists", labelled(lambda labels: pa.array([[k, 1] for k in labels])))
    assert "several labels per image" in refusal(tmp_path, "parquet", tmp_path / "lists")


def test_one_hot_columns_on_request(tmp_path: Path) -> None:
    def make(rows: slice) -> dict[str, Any]:
        hot = {name: pa.array([int(NAMES[k] == name) for k in LABELS[rows]]) for name in NAMES}
        return {"image": column_of(rows), **hot}

    parquet(tmp_path / "set", make)
    assert "a list of columns, where they are one-hot" in refusal(tmp_path, "parquet")
    assert truth(read(tmp_path, label_column=NAMES), NAMES)
    parquet(tmp_path / "set", lambda rows: {**make(rows), "bee": pa.array([1] * len(LABELS[rows]))})
    assert "row 0 is not one-hot (set: ant, bee)" in refusal(tmp_path, "parquet", label_column=NAMES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda labels: [k + 1 for k in labels], "the labels start at 1: 3 values from 1 to 3"),
        (lambda labels: [k * 4 for k in labels], "the labels have gaps: 3 values from 0 to 8"),
        (lambda labels: [k - 2 for k in labels], "train labels lie in [-2, 0]"),
        (lambda labels: [k * 10**8 for k in labels], "of 200000001 classes: 1, 2, 3, 4, 5, ..."),
    ],
    ids=["from 1", "gaps", "negative", "huge"],
)
def test_numbers_that_are_no_class_numbers(make: Any, message: str, tmp_path: Path) -> None:
    parquet(tmp_path / "set", labelled(lambda labels: pa.array(make(labels))))
    refused = refusal(tmp_path, "parquet")
    assert message in refused
    assert "data.remap_labels: true" in refused
    assert truth(read(tmp_path, remap_labels=True), [str(k) for k in make([0, 1, 2])])


def test_labels_from_1_with_names(tmp_path: Path) -> None:
    parquet(tmp_path / "set", labelled(lambda labels: pa.array([k + 1 for k in labels])), NAMES)
    assert "the labels start at 1" in refusal(tmp_path, "parquet")
    assert truth(read(tmp_path, remap_labels=True), NAMES)


def test_every_file_is_looked_at(tmp_path: Path) -> None:
    root = parquet(tmp_path / "set", labelled(pa.array), NAMES)
    other = parquet(tmp_path / "other", labelled(lambda labels: pa.array([2 - k for k in labels])), NAMES[::-1])
    test = root / "test-00000-of-00001.parquet"
    shutil.copy(other / test.name, test)
    data = read(tmp_path)
    assert truth(data, NAMES), "the names decide, not the numbers"
    assert "its labels are translated by their names" in text_of(data)
    parquet(tmp_path / "other", labelled(pa.array), ["ant", "bee", "cow"])
    shutil.copy(other / test.name, test)
    assert "has class names that the first file has not: cow" in refusal(tmp_path, "parquet")
    parquet(tmp_path / "other", labelled(pa.array), NAMES)
    table = pq.read_table(other / test.name)
    pq.write_table(table.drop_columns(["label"]), test)
    assert "test-00000-of-00001.parquet: has no column `label`" in refusal(tmp_path, "parquet")
    pq.write_table(table.set_column(1, "label", pa.array(["x"] * len(table))), test)
    assert "its column `label` is string, but that of train-00000-of-00001.parquet is int64" in refusal(
        tmp_path, "parquet"
    )
    pq.write_table(table.set_column(1, "label", pa.array([-1] * len(table))), test)
    assert "all test labels are -1, which marks images without a label" in refusal(tmp_path, "parquet")
    pq.write_table(table.slice(0, 0), test)
    assert "the test split holds no image" in refusal(tmp_path, "parquet")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a", "b"], "1 class names stand for several classes each: a"),
        (["a", "b"], "for 2 classes"),
        (["a", "", "b"], "a class name is empty"),
    ],
)
def test_class_names_that_do_not_tell_classes_apart(names: list[str], message: str, tmp_path: Path) -> None:
    parquet(tmp_path / "set", labelled(pa.array), names)
    assert message in refusal(tmp_path, "parquet")


@pytest.mark.parametrize("name", ["parquet", "npz", "image_folder"])
def test_a_limit_takes_all_classes_of_sorted_rows(name: str, tmp_path: Path) -> None:
    order = np.argsort(LABELS[:24], kind="stable")
    root = tmp_path / "set"
    if name == "parquet":
        parquet(
            root,
            lambda rows: {"image": column_of(rows).take(pa.array(order)), "label": np.array(LABELS[:24])[order]},
            test=False,
        )
    elif name == "npz":
        np.savez(tmp_path / "set.npz", train_images=IMAGES[order], train_labels=np.array(LABELS)[order])
        root = tmp_path / "set.npz"
    else:
        for k in order.tolist():
            (root / NAMES[LABELS[k]]).mkdir(parents=True, exist_ok=True)
            (root / NAMES[LABELS[k]] / f"{k}.png").write_bytes(png(IMAGES[k]))
    data = read(tmp_path, name, root, limit=9)
    assert np.bincount(data.train_labels).tolist() == [3, 3, 3]
    assert "a stratified sample of 9 training images" in " ".join(data.notes)


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


# --- npz ------------------------------------------------------------------------------------------------------------------

X, Y = IMAGES[:30], np.array(LABELS)
NPZ: dict[str, tuple[dict[str, Any], str]] = {
    "one-hot": ({"train_labels": np.eye(3, dtype=int)[Y]}, "data.one_hot: true"),
    "objects": (
        {"train_labels": Y.astype(object)},
        "train_labels is an array of Python objects, which is never unpickled",
    ),
    "object images": ({"train_images": np.array([None] * 30)}, "train_images is an array of Python objects"),
    "names 2-d": ({"class_names": np.array([["a", "b"], ["c", "d"]])}, "class_names must be [K]"),
    "names twice": ({"class_names": ["a", "a", "b"]}, "stand for several classes each: a"),
    "object names": (
        {"class_names": np.array(["a", "b", "c"], dtype=object)},
        "class_names is an array of Python objects",
    ),
    "channels first": ({"train_images": X.transpose(0, 3, 1, 2)}, "its channels come first"),
    "floats": ({"train_images": X / 255}, "data.pixel_range: [black, white]"),
    "no pixels": ({"train_images": X[:, :0]}, "there is nothing in them"),
    "short": ({"train_labels": Y[:-1]}, "train_labels must be integers [30]"),
    "from 1": ({"train_labels": Y + 1}, "the labels start at 1"),
    "empty test": ({"test_images": X[:0], "test_labels": Y[:0]}, "the test split holds no image"),
    "two validations": (
        {"val_images": X, "val_labels": Y, "valid_images": X, "valid_labels": Y},
        "holds valid_images, val_images, both the validation images",
    ),
}


@pytest.mark.parametrize("case", NPZ)
def test_what_npz_refuses(case: str, tmp_path: Path) -> None:
    arrays, message = NPZ[case]
    np.savez(tmp_path / "a.npz", **{"train_images": X, "train_labels": Y, **arrays})
    refused = refusal(tmp_path, "npz", tmp_path / "a.npz")
    assert message in refused
    assert str(tmp_path / "a.npz") in refused


def test_npz_on_request(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz", train_images=X / 255, train_labels=np.eye(3)[Y], train_camera=Y * 0 + np.arange(30) // 5
    )
    data = read(tmp_path, "npz", tmp_path / "a.npz", one_hot=True, pixel_range=[0.0, 1.0], groups="camera")
    assert truth(data, ["0", "1", "2"])
    assert data.train_groups is not None
    with_alpha = np.concatenate([X, np.zeros_like(X[..., :1])], axis=3)
    np.savez(tmp_path / "b.npz", train_images=with_alpha, train_labels=Y)
    assert set(np.unique(read(tmp_path, "npz", tmp_path / "b.npz").train_images)) == {255}


def test_an_array_under_the_name_of_an_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    assert "it is a single array, an .npy file under another name" in refusal(tmp_path, "npz", tmp_path / "a.npz")


# --- own data sets --------------------------------------------------------------------------------------------------------


def build(kind: str, path: str = "") -> Any:
    """A user's function, which may return anything."""
    return {
        "arrays": (X, Y),
        "iterable": zip(list(X), [NAMES[k] for k in LABELS], strict=False),
        "mapping": {"train": (X[:24], Y[:24]), "test": (X[24:], Y[24:])},
        "number": 7,
        "wrong split": {"trian": (X, Y)},
        "floats": (X / 255, Y),
        "short": (X, Y[:-1]),
        "labels": (X, [{}] * 30),
    }[kind]


@pytest.mark.parametrize("kind", ["arrays", "iterable", "mapping"])
def test_an_own_data_set(kind: str, tmp_path: Path) -> None:
    from winnow.search.data.source import load
    from winnow.spaces.schema import Data

    data = load(Data(name=f"{__name__}:build", arguments={"kind": kind}), tmp_path)
    assert truth(data, NAMES if kind == "iterable" else ["0", "1", "2"])
    assert len(data.fingerprint) == 16
    assert len(list((tmp_path / ".cache").glob("*/about.json"))) == 1


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("no_such_module_:build", {}, "importing no_such_module_ failed with ModuleNotFoundError"),
        (f"{__name__}:biuld", {}, "has no function biuld; did you mean build?"),
        (f"{__name__}:build", {"sort": 1}, "it was given sort, and takes kind, path"),
        (f"{__name__}:build", {"kind": "missing"}, "raised KeyError"),
        (f"{__name__}:build", {"kind": "number"}, "must be (images, labels), or an iterable of (image, label)"),
        (f"{__name__}:build", {"kind": "wrong split"}, "returned a split 'trian'"),
        (f"{__name__}:build", {"kind": "floats"}, "must be uint8 [H, W] or [H, W, C]"),
        (f"{__name__}:build", {"kind": "short"}, "30 images, but 29 labels"),
        (f"{__name__}:build", {"kind": "labels"}, "labels are integers or texts"),
    ],
)
def test_what_an_own_data_set_may_not_be(name: str, arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    from winnow.search.data.source import load
    from winnow.spaces.schema import Data

    with pytest.raises(InputError) as error:
        load(Data(name=name, arguments=arguments), tmp_path)
    assert message in str(error.value)
    assert str(error.value).startswith("data set ")
