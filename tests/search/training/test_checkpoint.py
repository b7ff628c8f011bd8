"""Checkpoint files: whole, or known to be broken."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from winnow.search.training.checkpoint import CorruptCheckpoint, load, save

STATE = {"epoch": 3, "model": {"w": torch.arange(64.0)}, "history": [{"epoch": 1, "last": False, "note": None}]}


def test_what_is_saved_comes_back_with_its_memory_format(tmp_path: Path) -> None:
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    save(tmp_path / "deep" / "a.pt", {**STATE, "weight": weight})
    state = load(tmp_path / "deep" / "a.pt")
    assert state["history"] == STATE["history"]
    assert torch.equal(state["weight"], weight)
    assert state["weight"].stride() == weight.stride()
    assert os.listdir(tmp_path / "deep") == ["a.pt"]


def test_a_torn_file_is_corrupt_wherever_it_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save(path, STATE)
    whole = path.read_bytes()
    for size in [0, 1, 10, *range(50, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptCheckpoint, match=r"a\.pt"):
            load(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_foreign_files_are_refused_and_run_no_code(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"not a checkpoint at all")
    with pytest.raises(CorruptCheckpoint):
        load(path)
    torch.save([1, 2], path)
    with pytest.raises(CorruptCheckpoint, match="holds a list"):
        load(path)

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "evil"),)

    for write in (torch.save, lambda value, file: file.write_bytes(pickle.dumps(value))):
        write({"epoch": Evil()}, path)
        with pytest.raises(CorruptCheckpoint):
            load(path)
        assert not (tmp_path / "evil").exists()


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    save(path, STATE)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        save(path, {"epoch": 4})
    assert load(path)["epoch"] == 3
    assert os.listdir(tmp_path) == ["a.pt"]


def test_no_file_is_no_corrupt_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.pt")
