"""`winnow prepare`: one process converts, the rest find it done; damage and absence are told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.helpers.served_cifar import served_cifar
from tests.helpers.tiny import write_npz
from winnow.search.cli.main import main


def winnow(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return end.value.code or 0


def images(path: Path, value: int = 0) -> Path:
    shades = np.full((12, 8, 8), value, dtype=np.uint8)
    labels = np.arange(12) % 3
    return write_npz(path, train_images=shades, train_labels=labels, test_images=shades, test_labels=labels)


def test_it_is_checked_against_what_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = images(tmp_path / "mine.npz")
    command = ("prepare", "digits", "--set", "data.name=npz", "--set", f"data.path={file}", "--offline")
    assert winnow(*command) == 0
    first = capsys.readouterr().out
    assert "npz: 10 train, 2 validation, 12 test images of 3 classes, 8x8 pixels (height x width), grey" in first
    assert "23 images repeat an earlier one pixel by pixel" in first
    assert "prepared before" not in first
    assert winnow(*command) == 0
    assert ", as it was prepared before" in capsys.readouterr().out
    images(file, value=1)
    assert winnow(*command) == 2
    message = capsys.readouterr().err
    assert "not those that were prepared before" in message
    assert "delete" not in message
    assert winnow(*command, "--accept-change") == 0
    assert winnow(*command) == 0
    assert ", as it was prepared before" in capsys.readouterr().out


def test_offline_downloads_nothing(tmp_path, capsys):
    assert winnow("prepare", "cifar10", "--data-dir", str(tmp_path / "data"), "--offline") == 2
    assert "data set cifar10 is not in" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "data").write_text("")
    assert winnow("prepare", "digits", "--data-dir", str(tmp_path / "data")) == 2
    assert "cannot keep a data set here" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_that_ask_at_once_download_once(tmp_path):
    """Three commands, one server: the archive is fetched once. Only the archive's address and checksums are put in its place."""
    with served_cifar(tmp_path / "served") as served:
        code = f'{served.preamble}\nfrom winnow.search.cli.main import main\nmain(["prepare", "cifar10", "--data-dir", "data"])'
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "no_proxy": "127.0.0.1"}
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
            )
            for _ in range(3)
        ]
        said = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert served.requests == ["/cifar10.tar.gz"]
    assert len({text.partition(",  ")[0].split("fingerprint ")[1][:16] for text in said}) == 1
    assert len(json.loads((tmp_path / "data" / "prepared.json").read_text())) == 1


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"], ids=["torn", "a list", "no UTF-8"])
def test_a_damaged_record_is_named(content, tmp_path, capsys):
    (tmp_path / "prepared.json").write_bytes(content)
    assert winnow("prepare", "digits", "--data-dir", str(tmp_path), "--offline") == 2
    assert f"{tmp_path / 'prepared.json'}: not a readable record of data sets (" in capsys.readouterr().err
