"""A user's own model is built before a search in a process of its own, which it may ruin."""

from __future__ import annotations

import os
import signal
import textwrap
from pathlib import Path

import pytest

from tests.helpers.tiny import tiny_config
from winnow.search.operations.build_check import check_own_parts
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Config

NETS = """
    import ctypes, os, signal
    from torch import nn

    def build(image_shape, num_classes, do="nothing"):
        if do == "exit": os._exit(7)
        if do == "segfault": ctypes.string_at(0)
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


def test_what_a_model_changes_in_its_process_stays_there(nets):
    before = os.getcwd(), signal.getsignal(signal.SIGINT)
    check_own_parts([config(nets, do=do) for do in ("chdir", "signals")], (1, 8, 8), 10)
    assert (os.getcwd(), signal.getsignal(signal.SIGINT)) == before
