"""Arrays in npz files and from functions of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.cases import (
    IMAGES,
    LABELS,
    NAMES,
    refusal,
    truth,
)
from tests.helpers.layouts import read
from winnow.spaces.errors import InputError

X, Y = IMAGES[:30], np.array(LABELS)

NPZ: dict[str, tuple[dict[str, Any], str]] = {
    "one-hot": ({"train_labels": np.eye(3, dtype=int)[Y]}, "data.one_hot: true"),
    "objects": (
        {"train_labels": Y.astype(object)},
        "train_labels is an array of Python objects, which is never unpickled",
    ),
    "object images": ({"train_images": np.array([None] * 30)}, "train_images is an array of Python objects"),
    "names 2-d": ({"class_names": np.array([["a", "b"], ["c", "d"]])}, "class_names must be [K]"),
    "names twice": ({"class_names": ["a", "a", "b"]}, "1 class name stands for several classes each: a"),
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
    "test from 1": (
        {"test_images": X, "test_labels": Y + 1},
        "these labels start at 1, those of train at 0: number them alike in all splits",
    ),
    "names too few": ({"class_names": ["a", "b"]}, "for 2 classes; every class needs a name"),
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
        "rows": [{"image": image, "label": 0} for image in X],
        "texts": ["ab", "cd"],
        "triples": [(image, 0, 1) for image in X],
        "nothing": [],
        "no split": {},
        "one-hot": (X, np.eye(3)[Y]),
        "booleans": (X, Y > 1),
        "mixed": (X, ["a", 1] * 15),
        "objects": ([object()] * 30, Y),
        "twice": {"val": (X, Y), "valid": (X, Y), "train": (X, Y)},
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
        (f"{__name__}:build", {"sort": 1}, "it was called with sort, and takes kind, path"),
        (f"{__name__}:build", {"kind": "missing"}, "raised KeyError"),
        (f"{__name__}:build", {"kind": "number"}, "must be (images, labels), or an iterable of (image, label)"),
        (f"{__name__}:build", {"kind": "wrong split"}, "returned a split 'trian'"),
        (f"{__name__}:build", {"kind": "floats"}, "must be uint8 [H, W] or [H, W, C]"),
        (f"{__name__}:build", {"kind": "short"}, "30 images, but 29 labels"),
        (f"{__name__}:build", {"kind": "labels"}, "labels must be all integers or all text"),
        (
            f"{__name__}:build",
            {"kind": "rows"},
            "must be (images, labels), or an iterable of (image, label) (TypeError: one is dict)",
        ),
        (f"{__name__}:build", {"kind": "texts"}, "TypeError: one is str"),
        (f"{__name__}:build", {"kind": "triples"}, "too many values to unpack"),
        (f"{__name__}:build", {"kind": "nothing"}, "the train split holds no image"),
        (f"{__name__}:build", {"kind": "no split"}, "returned nothing, but no train split"),
        (f"{__name__}:build", {"kind": "one-hot"}, "labels must be all integers or all text"),
        (f"{__name__}:build", {"kind": "booleans"}, "labels must be all integers or all text"),
        (f"{__name__}:build", {"kind": "mixed"}, "labels must be all integers or all text"),
        (f"{__name__}:build", {"kind": "objects"}, "is object; an array, a PIL image, bytes or a path is needed"),
        (f"{__name__}:build", {"kind": "twice"}, "returned two validation splits"),
    ],
)
def test_what_an_own_data_set_may_not_be(name: str, arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    from winnow.search.data.source import load
    from winnow.spaces.schema import Data

    with pytest.raises(InputError) as error:
        load(Data(name=name, arguments=arguments), tmp_path)
    assert message in str(error.value)
    assert str(error.value).startswith((f"data set {name}", f"{name}: "))
