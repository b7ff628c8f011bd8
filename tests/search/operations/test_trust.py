"""A space, a run or an export that somebody else made runs no code of theirs unless the user trusts them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from tests.conftest import REPOSITORY
from tests.helpers.ledgers import make_folder
from winnow.search.cli.main import main
from winnow.search.cli.trust import check_export
from winnow.search.operations.trust import (
    UntrustedCode,
    check_export_code,
    check_run_code,
    check_space_code,
    own_code_hashes,
    remember_code,
)
from winnow.search.settings import settings_for
from winnow.search.storage.json_lines import JsonLines
from winnow.search.storage.run_folder import RunFolder
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.own_code import load
from winnow.spaces.space import validate

EVIL = "open('evil-ran.txt', 'w').write('code of the sender ran')\n"
RECIPE = "data: digits\nepochs: 1\nbatch_size: 64\nmodel: {{name: '{}'}}\noptimizer: {{name: adam, lr: 0.01}}\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Path:
    """A working directory with code of the user's own, and a folder in it that was received."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "own_nets.py").write_text("")
    (tmp_path / "received").mkdir()
    (tmp_path / "received" / "evil.py").write_text(EVIL)
    yield tmp_path
    assert not (tmp_path / "evil-ran.txt").exists()


def export_of(place: Path, name: str) -> Path:
    (place / "received" / "config.yaml").write_text(RECIPE.format(name))
    return place / "received"


def run_of(place: Path) -> RunFolder:
    space = catalog.load("digits")
    return make_folder(place / "runs", space, settings_for(space))


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("received.evil:build", r"lies in this folder itself .*never run from there"),
        ("torch.hub:load", r"names torch.hub:load, which downloads and runs code of others"),
    ],
)
def test_what_never_runs(place, name, message, trusted):
    with pytest.raises(InputError, match=message):
        check_export_code(export_of(place, name), trusted)


@pytest.mark.parametrize("name", ["subprocess:call", "os:system", "no_such_package.nets:build", "sklearn.svm:SVC"])
def test_code_that_is_not_of_the_working_directory_has_to_be_trusted(place, name):
    with pytest.raises(UntrustedCode, match=f"names {name}, so it runs code that is not in your working directory"):
        check_export_code(export_of(place, name), trusted=False)
    check_export_code(export_of(place, name), trusted=True)


BACKBONE = "data: digits\nepochs: 1\nbatch_size: 64\nmodel: {name: transfer, backbone: BACKBONE}\noptimizer: {name: adam, lr: 0.01}\n"


@pytest.mark.parametrize("stored", ["in the weights", "in a file", "one of two files", "in a second file"])
def test_the_code_of_a_backbone_is_asked_for_too(place, stored):
    """Its config lies in another file, which names a custom model."""
    received = place / "received"
    own = {"model": {"name": "received.evil:build"}}
    torch.save({"weights": {}, **({"config": own} if stored == "in the weights" else {})}, received / "w.pt")
    (received / "net.yaml").write_text(yaml.safe_dump(own))
    (received / "harmless.yaml").write_text("model: {name: mlp, hidden: [8]}")
    backbone: dict[str, Any] = {"weights": "received/w.pt"}
    if stored == "in a file":
        backbone["config"] = "received/net.yaml"
    elif stored == "in a second file":
        nested = [{"weights": "received/w.pt", "config": f"received/{name}.yaml"} for name in ("itself", "net")]
        (received / "itself.yaml").write_text(
            json.dumps({"model": [{"name": "transfer", "backbone": b} for b in nested]})
        )
        backbone["config"] = "received/itself.yaml"
    elif stored != "in the weights":
        backbone = {
            "choice": {"a": {**backbone, "config": {"choice": ["received/harmless.yaml", "received/net.yaml"]}}}
        }
    recipe = BACKBONE.replace("BACKBONE", json.dumps(backbone))
    (received / "config.yaml").write_text(recipe)
    with pytest.raises(InputError, match=r"names received\.evil:build, which lies in this folder itself"):
        check_export_code(received, trusted=True)
    (received / "config.yaml").unlink()
    (received / "space.yaml").write_text(recipe)
    with pytest.raises(UntrustedCode, match=r"names received\.evil:build"):
        check_space_code(SimpleNamespace(tree=yaml.safe_load(recipe), source=str(received / "space.yaml")), False)
    (place / "own.yaml").write_text(yaml.safe_dump({"model": {"name": "own_nets:build"}}))
    recipe = BACKBONE.replace("BACKBONE", json.dumps({"weights": "received/w.pt", "config": "own.yaml"}))
    check_space_code(SimpleNamespace(tree=yaml.safe_load(recipe), source=str(received / "space.yaml")), False)


def test_the_question_names_all_code_and_escapes_it(place, monkeypatch):
    """Who says yes trusts every path, and a name must not hide the others by codes of a terminal."""
    recipe = yaml.safe_load(RECIPE.format("nets:build")) | {"loss": {"name": "subprocess:call"}}
    recipe["model"]["name"] = "AA:\x1b[2K\rGo on"
    (place / "received" / "config.yaml").write_text(json.dumps(recipe))
    asked: list[str] = []
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("click.confirm", lambda text, **_: asked.append(text))
    check_export(place / "received", trusted=False)
    (question,) = asked
    assert r"names AA:\x1b[2K\rGo on, subprocess:call, so it runs code" in question


def test_own_code_needs_no_trust(place, monkeypatch):
    check_export_code(export_of(place, "own_nets:build"), trusted=False)
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / "shared_nets.py").write_text("")
    monkeypatch.syspath_prepend(place / "elsewhere")
    monkeypatch.chdir(place / "received")
    with pytest.raises(UntrustedCode):
        check_export_code(export_of(place, "shared_nets:build"), trusted=False)
    monkeypatch.setenv("PYTHONPATH", str(place / "elsewhere"))
    check_export_code(export_of(place, "shared_nets:build"), trusted=False)


@pytest.mark.parametrize(
    "name",
    ["received.evi\u0301l:build", "received.e\u203fvil:build", "received.e\u200dvil:build", "received.evil:build\n"],
)
def test_no_spelling_of_an_import_path_is_taken_for_something_else(place, name):
    """What the schema takes for an import path is looked at, and what it does not take is not imported."""
    file = place / "received" / "config.yaml"
    tree = {**yaml.safe_load(RECIPE.format("mlp")), "model": {"name": name}}
    file.write_text(yaml.safe_dump(tree))
    with pytest.raises(InputError, match="lies in this folder itself"):
        check_export_code(place / "received", trusted=True)
    assert validate(tree)[0] is None
    with pytest.raises(InputError, match="must be an import path"):
        load("model", name)


@pytest.mark.parametrize("has_init", [False, True])
def test_a_module_beside_a_received_run_is_not_the_users_own(place, has_init):
    """`received/run` names `received.evil:build`: the folder that was unpacked here is a package, with or without an `__init__.py`."""
    if has_init:
        (place / "received" / "__init__.py").write_text(EVIL)
    folder = run_of(place)
    study = folder.read_study()
    study["space"]["model"] = {"name": "received.evil:build"}
    folder.study.write_text(yaml.safe_dump(study))
    received = RunFolder(folder.path.rename(place / "received" / "run"))
    with pytest.raises(UntrustedCode, match=r"names received\.evil:build"):
        check_run_code(received, trusted=False)
    (place / "received" / "spaces").mkdir()
    (place / "received" / "spaces" / "space.yaml").write_text(RECIPE.format("received.evil:build"))
    with pytest.raises(UntrustedCode, match=r"names received\.evil:build"):
        check_space_code(catalog.load("received/spaces/space.yaml"), trusted=False)


def test_a_package_of_the_users_own_needs_no_trust(place):
    (place / "own_package").mkdir()
    (place / "own_package" / "nets.py").write_text("")
    with pytest.raises(UntrustedCode):  # a folder without an `__init__.py` may have been received
        check_export_code(export_of(place, "own_package.nets:build"), trusted=False)
    (place / "own_package" / "__init__.py").write_text("")
    check_export_code(export_of(place, "own_package.nets:build"), trusted=False)


def test_what_an_own_module_imports_of_the_standard_library_is_not_its_own(place):
    """`train.py` is the user's own; a received file that names `train:run` would let `subprocess.run` run any command."""
    (place / "borrowing.py").write_text(
        "import functools\n"
        "from os import system\n"
        "from pathlib import Path\n"
        "from subprocess import run\n\n\n"
        "def build(depth):\n"
        "    return depth\n\n\n"
        "deep = functools.partial(build, depth=3)\n"
    )
    for name, own in (("run", "subprocess:run"), ("system", "posix:system"), ("Path", "pathlib.*:Path")):
        with pytest.raises(InputError, match=f"is {own}, which borrowing only imports"):
            load("data set", f"borrowing:{name}")
    assert load("model", "borrowing:deep")() == load("model", "borrowing:build")(3) == 3
    assert load("data set", "os:makedirs") is os.makedirs


def test_a_space_of_the_working_directory_is_the_users_own(place):
    for folder in (place, place / "received"):
        (folder / "space.yaml").write_text(RECIPE.format("sklearn.svm:SVC"))
    check_space_code(catalog.load("space.yaml"), trusted=False)
    with pytest.raises(UntrustedCode):
        check_space_code(catalog.load("received/space.yaml"), trusted=False)


def test_no_config_of_a_run_is_overlooked(place):
    """A resume trains the configs of the journal, a rerun too, and an export builds those of `retrain.jsonl`."""
    folder = run_of(place)
    check_run_code(folder, trusted=False)
    for file in (folder.journal, folder.retrained, folder.warm_start, folder.earlier_runs):
        lines = JsonLines(file)
        lines.append({"user_attr": {"config": {"model": {"name": "subprocess:call"}}}})
        lines.close()
        with pytest.raises(UntrustedCode, match="names subprocess:call"):
            check_run_code(folder, trusted=False)
        file.unlink()
    escaped = json.dumps({"name": "subprocess:call"}).replace("call", "\\u0063all")
    folder.journal.write_text(escaped + "\n")
    with pytest.raises(UntrustedCode, match="names subprocess:call"):
        check_run_code(folder, trusted=False)
    whole = json.dumps({"user_attr": {"config": {"model": {"name": "subprocess:call"}}}})
    for line in (
        whole.replace(" ", "\r").encode() + b"\n",
        f"{whole}\n".encode("utf-16-be"),
    ):  # both are lines to Optuna
        assert json.loads(line)
        folder.journal.write_bytes(line)
        with pytest.raises(UntrustedCode, match="names subprocess:call"):
            check_run_code(folder, trusted=False)
    folder.journal.unlink()
    study = folder.read_study()
    study["space"]["model"] = {"name": "subprocess:call"}
    folder.study.write_text(yaml.safe_dump(study))
    with pytest.raises(UntrustedCode, match="names subprocess:call"):
        check_run_code(folder, trusted=False)


@pytest.mark.parametrize("name", ["study.journal", "retrain.jsonl", "warm_start.jsonl", "earlier_runs.jsonl"])
def test_something_else_than_a_file_is_not_searched_for_code(place, name, capsys):
    """A pipe would block, and a device would never end."""
    folder = run_of(place)
    os.mkfifo(folder.path / name)
    with pytest.raises(SystemExit) as ended:
        main(["resume", str(folder.path)])
    assert ended.value.code == 2
    assert f"{name}: not a file" in capsys.readouterr().err
    (folder.path / name).unlink()
    (folder.path / name).symlink_to("/dev/zero")
    with pytest.raises(InputError, match=f"{name}: not a file"):
        check_run_code(folder, trusted=False)


COMMANDS = (
    *("predict", "resume", "extend", "retrain", "rerun", "verify", "export"),
    *("train", "search", "run", "plan", "prepare"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses(place, command, capsys):
    folder = run_of(place)
    study = folder.read_study()
    study["space"]["model"] = {"name": "subprocess:call"}
    folder.study.write_text(yaml.safe_dump(study))
    given = export_of(place, "subprocess:call")
    arguments = {
        "predict": [str(given), "image.png"],
        "train": [str(given / "config.yaml")],
        "search": [str(given / "config.yaml")],
        "run": [str(given / "config.yaml")],
        "plan": [str(given / "config.yaml")],
        "prepare": [str(given / "config.yaml")],
        "extend": [str(folder.path), "--trials", "1"],
        "rerun": [str(folder.path), "--trial", "0"],
        "verify": [str(folder.path), "--trial", "0"],
    }.get(command, [str(folder.path)])
    with pytest.raises(SystemExit) as ended:
        main([command, *arguments])
    assert ended.value.code == 2
    assert "names subprocess:call" in capsys.readouterr().err


def test_a_data_set_that_is_prepared_is_code_too(place, capsys):
    file = place / "received" / "space.yaml"
    made = place / "code-of-the-sender-ran"
    data = {"name": "os:makedirs", "arguments": {"name": str(made)}, "image_size": 8, "channels": 1}
    tree = {**yaml.safe_load(RECIPE.format("mlp")), "data": data, "model": {"name": "mlp", "hidden": [4]}}
    file.write_text(yaml.safe_dump(tree))
    arguments = ["prepare", str(file), "--data-dir", str(place / "data")]
    for trust in ([], ["--trust-code"]):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *trust])
        assert ended.value.code == 2  # in the second case because that is no data set
        assert made.exists() == bool(trust)
    assert "names os:makedirs" in capsys.readouterr().err


def test_a_run_that_was_begun_here_does_not_ask_again(place, monkeypatch):
    """The printed `winnow resume` works as it is. A copy, which may have been received, is asked about."""
    monkeypatch.setenv("XDG_STATE_HOME", str(place / "state"))
    folder = run_of(place)
    study = folder.read_study()
    study["space"]["model"] = {"name": "sklearn.svm:SVC"}
    folder.study.write_text(yaml.safe_dump(study))
    with pytest.raises(UntrustedCode):
        check_run_code(folder, trusted=False)
    remember_code(folder.path, study["space"])
    check_run_code(folder, trusted=False)
    copy = RunFolder(shutil.copytree(folder.path, place / "received" / "run"))
    with pytest.raises(UntrustedCode):
        check_run_code(copy, trusted=False)
    check_run_code(copy, trusted=True)
    check_run_code(copy, trusted=False)
    study["space"]["model"] = {"name": "subprocess:call"}
    folder.study.write_text(yaml.safe_dump(study))
    with pytest.raises(UntrustedCode, match="names subprocess:call"):
        check_run_code(folder, trusted=False)


def test_a_run_records_the_source_of_its_code(place):
    """A hash of the file of each import path, wherever in the space it is named. Other files do not change it."""
    (place / "mine.py").write_text("def loss(): ...\n")
    tree = {
        "loss": {"name": "mine:loss"},
        "optimizer": {"choice": {"mine:sgd": {"lr": 0.1}, "adam": {}}},
        "data": "digits",
    }
    before = own_code_hashes(tree)
    assert before.keys() == {"mine:loss", "mine:sgd"}
    (place / "others.py").write_text("def loss(): ...\n")
    assert own_code_hashes(tree) == before
    (place / "mine.py").write_text("def loss(): return 1\n")
    after = own_code_hashes(tree)
    assert after.keys() == before.keys()
    assert all(after[path] != before[path] for path in before)
    assert own_code_hashes({"model": "no_such_module:build"}) == {}


@pytest.mark.slow
def test_a_search_notes_the_code_that_it_runs(tmp_path):
    """The whole way: a search with a model of an installed package, then a command that it prints."""
    packages = tmp_path / "site-packages"  # as such a folder, never one of the user's own
    packages.mkdir()
    (packages / "installed_nets.py").write_text(
        "from torch import nn\n\n\n"
        "def build(image_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    (tmp_path / "space.yaml").write_text(RECIPE.format("installed_nets:build"))
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{packages}", "XDG_STATE_HOME": str(tmp_path)}

    def winnow(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "winnow", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)

    searched = winnow("search", "space.yaml", "--trials", "1", "--name", "r")
    assert searched.returncode == 0, searched.stderr
    assert winnow("resume", "runs/r").returncode == 0
    shutil.move(tmp_path / "winnow", tmp_path / "elsewhere")
    asked = winnow("resume", "runs/r")
    assert asked.returncode == 2
    assert "names installed_nets:build" in asked.stderr
