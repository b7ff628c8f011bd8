"""A user's own model is built before a search in a process of its own, which it may ruin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.helpers.make_run import make_run
from tests.helpers.tiny import tiny_config
from winnow.search.cli.main import main
from winnow.search.data.source import Source
from winnow.search.operations import build_check, probing, rerunning
from winnow.search.operations.build_check import check_own_parts
from winnow.search.operations.winner_check import check_winners_build
from winnow.search.settings import settings_for
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import RunFolder
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Config
from winnow.spaces.space import Space

NETS = """
    import ctypes, os, signal, sys, time
    from torch import nn

    def build(image_shape, num_classes, do="nothing"):
        if do == "exit": os._exit(7)
        if do == "segfault": ctypes.string_at(0)
        if do == "hang":
            print(os.getpid(), flush=True)
            signal.pause()
        if do == "sleep": time.sleep(1)
        if do == "read": open("read", "w").write(repr(sys.stdin.read()))
        if do == "chdir": os.chdir("/")
        if do == "signals": signal.signal(signal.SIGINT, signal.SIG_IGN)
        channels, height, width = image_shape
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, num_classes))
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch) -> str:
    (tmp_path / "ruinous_nets.py").write_text(textwrap.dedent(NETS))
    monkeypatch.chdir(tmp_path)
    return "ruinous_nets:build"


def config(nets: str, **keys: str) -> Config:
    return tiny_config(data="digits", model={"name": nets, **keys})


DRIVER = """
from winnow.search.operations.build_check import check_own_parts
from tests.search.operations.test_build_check import config
check_own_parts([config("ruinous_nets:build", do="hang")], (1, 8, 8), 10)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_process_ends_with_the_driver(nets, number):
    """However the driver ends, and whatever the model does."""
    path = os.pathsep.join([str(REPOSITORY), *sys.path])
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER], stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert driver.stderr is not None
    child = psutil.Process(int(driver.stderr.readline()))
    driver.send_signal(number)
    assert driver.wait(30) == -number
    child.wait(10)
    driver.stderr.close()


def test_a_model_that_reads_standard_input_finds_it_empty(nets):
    check_own_parts([config(nets, do="read")], (1, 8, 8), 10)
    assert Path("read").read_text() == "''"


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ("exit", r"^model ruinous_nets:build: it ended its process with exit code 7 while it was built$"),
        ("segfault", r"^model ruinous_nets:build: its process was killed by SIGSEGV \(Segmentation fault\) while"),
    ],
)
def test_a_model_that_ends_its_process_is_named(nets, do, message):
    models = [config(nets), config(nets, do=do)]
    with pytest.raises(InputError, match=message):
        check_own_parts(models, (1, 8, 8), 10)


def test_a_plan_builds_models_in_a_process_of_their_own_too(nets, tmp_path, monkeypatch):
    monkeypatch.setattr(probing, "_probe", lambda *_: None)
    data, model = {"name": "digits", "validation": 0.2}, {"name": nets, "do": "exit"}
    tree = {"data": data, "epochs": 1, "batch_size": 64, "model": model, "optimizer": {"name": "adam", "lr": 0.01}}
    space = Space.from_tree(tree, "a test")
    execution: Any = SimpleNamespace(new_source=Source(tmp_path))
    with pytest.raises(InputError, match="ended its process with exit code 7 while it was built"):
        probing.plan_search(space, settings_for(space), execution, lambda _: None)


def test_a_model_that_hangs_is_told_and_named(nets, monkeypatch):
    monkeypatch.setattr(build_check, "STARTING", 0.6)
    monkeypatch.setattr(build_check, "PATIENCE", 0.3)
    said: list[str] = []
    message = r"^model ruinous_nets:build: it was still being built after 1 s; a higher search.trial_timeout allows more time$"
    with pytest.raises(InputError, match=message):
        check_own_parts([config(nets, do="hang")], (1, 8, 8), 10, 1.0, said.append)
    assert said == ["model ruinous_nets:build is still being built after 0 s"]


def test_a_model_that_is_slow_is_told_alone(nets, monkeypatch):
    monkeypatch.setattr(build_check, "PATIENCE", 0.3)
    said: list[str] = []
    assert check_own_parts([config(nets, do="sleep")], (1, 8, 8), 10, 0.1, said.append).num_models == 1
    assert len(said) == 1


def test_a_driver_that_died_leaves_no_traceback():
    command = [sys.executable, "-m", build_check.__name__, "1"]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=REPOSITORY)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_what_a_model_changes_in_its_process_stays_there(nets):
    before = os.getcwd(), signal.getsignal(signal.SIGINT)
    check_own_parts([config(nets, do=do) for do in ("chdir", "signals")], (1, 8, 8), 10)
    assert (os.getcwd(), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.parametrize(("do", "ending"), [("exit", "it ended its process with exit code 7"), ("segfault", "SIGSEGV")])
def test_an_export_and_a_verification_say_which_model_ended_a_process(nets, tmp_path, monkeypatch, do, ending):
    """They build it in their own process next, which would end without a word."""
    raw = config(nets, do=do).model_dump(mode="json")
    folder = RunFolder(make_run(tmp_path / "a"))
    lines = [line | {"config": raw} for line in read_json_lines(folder.retrained)]
    folder.retrained.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match=f"^model {nets}: .*{ending}.* while it was built$"):
        check_winners_build(folder)
    data = SimpleNamespace(image_shape=(1, 8, 8), num_classes=10)
    monkeypatch.setattr("winnow.search.operations.checks.load_recorded", lambda *_: data)
    trial: Any = SimpleNamespace(number=0, user_attrs={"config": raw})
    with pytest.raises(InputError, match=f"^model {nets}: .*{ending}.* while it was built$"):
        list(rerunning._train_again(folder, folder.read_study(), trial, [{"seed": 1}], None, "cpu", 1, 1))


@pytest.mark.parametrize("ensemble", [False, True])
def test_a_prediction_says_which_model_ended_a_process(nets, tmp_path, capsys, ensemble):
    """The command builds it in its own process next, which would end without a word."""
    folder = tmp_path / "export"
    member = folder / "1" if ensemble else folder
    member.mkdir(parents=True)
    about = {"export_version": 1, "image_shape": [1, 8, 8], "class_names": list("0123456789")}
    for path, content in ((member, about), (folder, {**about, "members": ["1"]} if ensemble else about)):
        (path / "model.json").write_text(json.dumps(content))
    (member / "config.yaml").write_text(yaml.safe_dump(config(nets, do="exit").model_dump(mode="json")))
    with pytest.raises(SystemExit, match="2"):
        main(["predict", str(folder), "image.png", "--trust-code"])
    error = capsys.readouterr().err
    assert error == f"winnow: model {nets}: it ended its process with exit code 7 while it was built\n"


def test_only_models_are_tried_if_nothing_else_is_asked_for(nets):
    with pytest.raises(InputError, match="no_such_module"):
        check_own_parts([tiny_config(loss={"name": "no_such_module:loss"})], (3, 8, 8), 3)
    assert (
        check_own_parts([tiny_config(loss={"name": "no_such_module:loss"})], (3, 8, 8), 3, kinds=("model",)).num_models
        == 0
    )
