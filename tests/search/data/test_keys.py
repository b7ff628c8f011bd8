"""A key of `data` that changes nothing for the layout that is found is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.helpers.cases import IMAGES, labelled, parquet, refusal, tree
from tests.helpers.layouts import png, read
from winnow.search.data.listing import LAYOUT_KEYS
from winnow.search.data.source import load
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Data

VALUES: dict[str, Any] = {
    "image_column": "image",
    "label_column": "label",
    "one_hot": True,
    "groups": r"(\d+)",
}
READ_BY = {"folders": {"groups"}, "table": {"image_column", "label_column", "groups"}, "npz": {"one_hot", "groups"}}
READ_BY |= {"parquet": READ_BY["table"], "function": {"groups"}, "digits": set()}


def build() -> Any:
    return IMAGES[:20], np.arange(20) % 2


def settings_of(layout: str, root: Path) -> dict[str, Any]:
    if layout == "folders":
        return {"name": "image_folder", "path": str(tree(root / "set"))}
    if layout == "table":
        (root / "set").mkdir()
        rows = "\n".join(f"{k}.png,{'ab'[k % 2]}" for k in range(20))
        (root / "set" / "labels.csv").write_text(f"image,label\n{rows}\n")
        for k in range(20):
            (root / "set" / f"{k}.png").write_bytes(png(IMAGES[k]))
        return {"name": "image_folder", "path": str(root / "set")}
    if layout == "npz":
        np.savez(root / "a.npz", train_images=IMAGES[:20], train_labels=np.arange(20) % 2)
        return {"name": "npz", "path": str(root / "a.npz")}
    if layout == "parquet":
        return {"name": "parquet", "path": str(parquet(root / "set", labelled(pa.array)))}
    return {"name": {"function": f"{__name__}:build", "digits": "digits"}[layout]}


def test_every_key_of_a_layout_is_looked_at() -> None:
    assert set(VALUES) == set(LAYOUT_KEYS)


@pytest.mark.parametrize("key", VALUES)
@pytest.mark.parametrize("layout", READ_BY)
def test_a_key_without_effect_is_refused(layout: str, key: str, tmp_path: Path) -> None:
    settings = settings_of(layout, tmp_path)
    load(Data(**settings), tmp_path / "data")
    if key in READ_BY[layout]:
        return
    with pytest.raises(InputError) as error:
        load(Data(**{**settings, key: VALUES[key]}), tmp_path / "data")
    assert str(error.value).startswith(f"data.{key}: ")
    assert "has no effect on" in str(error.value)


def test_class_folders_with_a_column_name_the_way_on(tmp_path: Path) -> None:
    tree(tmp_path / "set")
    (tmp_path / "set" / "labels.csv").write_text("file_name,kind\ntrain/cat/0.png,x\n")
    message = refusal(tmp_path, label_column="kind")
    assert "data.label_column: 'kind' has no effect on class folders" in message
    assert "name a table in data.path" in message


def test_a_range_for_8_bit_images(tmp_path: Path) -> None:
    tree(tmp_path / "set")
    assert "data.pixel_range: [0.0, 1.0] has no effect, since all images have 8 bits" in refusal(
        tmp_path, pixel_range=[0.0, 1.0]
    )
    np.savez(tmp_path / "a.npz", train_images=IMAGES[:20], train_labels=np.arange(20) % 2)
    assert "has no effect" in refusal(tmp_path, "npz", tmp_path / "a.npz", pixel_range=[0.0, 1.0])


def test_numbers_for_names(tmp_path: Path) -> None:
    tree(tmp_path / "set")
    assert "data.remap_labels: True has no effect on labels that are text" in refusal(tmp_path, remap_labels=True)
    for name in ("cat", "dog"):
        for part in ("train", "test"):
            (tmp_path / "set" / part / name).rename(tmp_path / "set" / part / {"cat": "3", "dog": "12"}[name])
    assert read(tmp_path, "image_folder", remap_labels=True).class_names == ("3", "12")


def test_one_hot_for_plain_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_images=IMAGES[:20], train_labels=np.arange(20) % 2)
    assert "data.one_hot: true, but it is int64 [20]" in refusal(tmp_path, "npz", tmp_path / "a.npz", one_hot=True)


def test_stratified_where_nothing_is_drawn(tmp_path: Path) -> None:
    tree(tmp_path / "set", parts=("train", "test", "val"))
    assert "data.stratified: False has no effect" in refusal(tmp_path, stratified=False)
    assert len(read(tmp_path, "image_folder", stratified=False, validation=0.3).train_labels) == 10


def test_paths_that_an_own_function_does_not_give(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the images have no paths to search in"):
        load(Data(name=f"{__name__}:build", groups=r"(\d)"), tmp_path)


def test_an_own_function_is_called_as_all_own_parts_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"called sys.exit\(3\)"):
        load(Data(name=f"{__name__}:leave"), tmp_path)
    with pytest.raises(InputError, match=r"train: raised SystemExit: 4"):
        load(Data(name=f"{__name__}:leave_later"), tmp_path)
    with pytest.raises(InputError, match=r"the label 9223372036854775808 is too large"):
        load(Data(name=f"{__name__}:large"), tmp_path)


def leave() -> Any:
    raise SystemExit(3)


def leave_later() -> Any:
    yield IMAGES[0], 0
    raise SystemExit(4)


def large() -> Any:
    return IMAGES[:2], [0, 2**63]
