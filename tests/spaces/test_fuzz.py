"""Whatever stands in a file or after `--set`: it loads, or there is one message; never a traceback."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from winnow.spaces import catalog
from winnow.spaces.errors import SpaceError
from winnow.spaces.grammar import yaml12

TREES = {
    name: yaml12.load((catalog.PACKAGE / f"{folder}{name}.yaml").read_text(), name).tree
    for folder, name in (("catalog/", "digits"), ("catalog/", "cifar100-cnn"), ("", "recipes/cifar100-a3"))
}
WORDS = [
    "choice",
    "int",
    "float",
    "log",
    "repeat",
    "of",
    "step",
    "name",
    "depth",
    "stages",
    "adam",
    "cnn",
    "lr",
    "flip",
    "x",
]

junk = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 40) | st.floats() | st.sampled_from(WORDS) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=6,
)


def paths(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(found for key, value in items for found in paths(value, (*path, key)))]


@st.composite
def spoilt(draw: Any) -> Any:
    """A shipped file in which one or two values are replaced, removed or added."""
    tree = copy.deepcopy(TREES[draw(st.sampled_from(list(TREES)))])
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from([path for path in paths(tree) if path]))
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        change = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if change == "remove":
            del parent[path[-1]]
        elif change == "add" and isinstance(parent, dict):
            parent[draw(st.sampled_from(WORDS))] = draw(junk)
        else:
            parent[path[-1]] = draw(junk)
        if not tree:
            break
    return tree


def load_or_refuse(text: str, *overrides: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "space.yaml"
        path.write_text(text, encoding="utf-8")
        with contextlib.suppress(SpaceError):
            space = catalog.load(path, overrides)
            assert space.example()
            assert space.size() >= 1


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spoilt())
def test_spoilt_files(tree: Any) -> None:
    load_or_refuse(yaml.safe_dump(tree, allow_unicode=True))


@example("digits", ["optimizer", "name"], [])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(list(TREES)),
    st.lists(st.sampled_from([*WORDS, "model", "optimizer", "0", "schedule"]), min_size=1, max_size=4),
    junk,
)
def test_any_override(name: str, keys: list[str], value: Any) -> None:
    shown = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
    load_or_refuse(yaml.safe_dump(TREES[name]), f"{'.'.join(keys)}={shown}")


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_any_text(text: str) -> None:
    load_or_refuse(text.encode("utf-8", "ignore").decode())


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff\xfe", b"- &a [*a]", b"{" * 3000, b"%YAML 9.9\n---\na: 1"])
def test_any_bytes(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_bytes(data)
    with pytest.raises(SpaceError):
        catalog.load(tmp_path / "space.yaml")
