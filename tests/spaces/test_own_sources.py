"""The files of the user's own parts: what a part imports is recorded with it, and travels with it to a cluster."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from winnow.search.operations.rerunning import _code
from winnow.search.operations.trust import own_code_hashes
from winnow.search.ray_backend.runtime_env import runtime_env
from winnow.spaces.errors import InputError
from winnow.spaces.own_sources import imported_sources, source_of
from winnow.spaces.space import Space

FILES = {
    "my_nets.py": "import json, torch, my_layers\nfrom my_tools.norms import scale\nfrom winnow.spaces import catalog\n",
    "my_layers.py": "def build():\n    import my_late\n    return my_late\n",
    "my_late.py": "import my_layers  # a circle\nimport no_such_module\nimport broken\n",
    "broken.py": "def (\n",
    "unused.py": "",
    "my_tools/__init__.py": "from . import around\n",
    "my_tools/around.py": "",
    "my_tools/norms.py": "from .deep.inner import value\nfrom ..beyond import nothing\n",
    "my_tools/unused.py": "",
    "my_tools/deep/inner.py": "value = 1\n",
    "site-packages/bought.py": "import my_layers\n",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "site-packages"), *sys.path])
    return tmp_path


def space_with(name: str) -> Space:
    optimizer = {"name": "adam", "lr": 0.01}
    tree = {"data": "digits", "epochs": 1, "batch_size": 8, "model": {"name": name}, "optimizer": optimizer}
    return Space.from_tree(tree, source="space.yaml")


def test_what_a_part_imports_is_found_without_running_it(place):
    found = imported_sources("my_nets")
    expected = [
        *("broken", "my_late", "my_layers", "my_tools", "my_tools.around", "my_tools.deep.inner", "my_tools.norms"),
    ]
    assert list(found) == expected
    assert found["my_tools"] == place / "my_tools" / "__init__.py"
    assert found["my_tools.deep.inner"] == place / "my_tools" / "deep" / "inner.py"
    assert not {"my_nets", "my_layers"} & sys.modules.keys()
    assert list(imported_sources("my_tools.norms")) == ["my_tools", "my_tools.around", "my_tools.deep.inner"]


def test_installed_packages_and_winnow_are_not_followed(place):
    assert imported_sources("bought") == {}
    assert imported_sources("winnow.spaces.catalog") == {}
    assert imported_sources("sklearn.svm") == {}
    assert source_of("bought") == place / "site-packages" / "bought.py"
    assert [source_of(name) for name in ("no_such_module", "my_layers.inner", "my_tools.deep", "sys")] == [None] * 4


def test_a_change_of_an_imported_module_is_a_change_of_the_code(place):
    tree = {"model": {"name": "my_nets:build"}}
    before = own_code_hashes(tree)
    assert before.keys() == {"my_nets:build", *imported_sources("my_nets")}
    (place / "my_late.py").write_text(FILES["my_late.py"] + "WIDTH = 3\n")
    after = own_code_hashes(tree)
    assert {name for name in before if before[name] != after[name]} == {"my_late"}


def test_imported_modules_travel_to_a_cluster(place):
    with runtime_env([space_with("my_nets:build")]) as shipped:
        sent = shipped["py_modules"]
        assert {Path(each).name for each in sent} == {
            *("winnow", "my_nets.py", "my_layers.py", "my_late.py", "broken.py", "my_tools"),
        }


def test_a_compiled_module_beside_a_part_is_refused_for_a_cluster(place):
    (place / "fast_kernels.so").write_bytes(b"\x7fELF")
    (place / "my_nets.py").write_text("import fast_kernels\n")
    assert list(imported_sources("my_nets")) == ["fast_kernels"]
    with (
        pytest.raises(InputError, match=r"module fast_kernels: neither a package nor a \.py file here"),
        runtime_env([space_with("my_nets:build")]),
    ):
        pass


def test_a_rerun_names_the_module_that_changed(place):
    """A module that was the user's own then and is no longer found is named too. Records of before list parts alone."""
    tree = {"model": {"name": "my_nets:build"}}
    before = own_code_hashes(tree)
    assert all(was == now for _, was, now in _code(before))
    (place / "my_late.py").write_text("")
    changed = {name: now for name, was, now in _code(before) if was != now}
    assert changed.pop("my_late") != before["my_late"]
    assert changed == {"broken": "not found"}
    assert all(was == now for _, was, now in _code({"my_nets:build": before["my_nets:build"]}))
