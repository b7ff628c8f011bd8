"""Two processes that want the same images: one waits for the other, and says so if it takes long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from winnow.search.data import locking
from winnow.search.data.arrays import RECORD, Arrays, SplitArrays
from winnow.search.data.cache import cached
from winnow.search.data.datasets import list_dataset
from winnow.search.data.prepare import prepare
from winnow.spaces import schema
from winnow.spaces.errors import InputError


def decode(folder: Path) -> None:
    split = SplitArrays(np.zeros((2, 4, 4, 1), np.uint8), np.arange(2), np.zeros(2, RECORD))
    cached(folder, "key", lambda scratch: Arrays({"train": split, "test": split}, ("a", "b")))


def download(folder: Path) -> None:
    with suppress(InputError):  # there is no network here
        list_dataset(schema.Data.model_validate({"name": "cifar10"}), folder, download=True)


def refuse(*arguments: object, **more: object) -> None:
    raise RuntimeError("no network")


@pytest.mark.parametrize(
    ("name", "work"),
    [
        ("key.lock", decode),
        (".prepare.lock", lambda folder: prepare("digits", [], folder, offline=True)),
        (".download-cifar10.lock", download),
    ],
)
def test_a_long_wait_for_a_lock_names_its_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    work: Callable[[Path], object],
) -> None:
    """As behind a process that was stopped."""
    monkeypatch.setattr(locking, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("torchvision.datasets.CIFAR10", refuse)
    held = FileLock(tmp_path / name)
    held.acquire()
    waiting = threading.Thread(target=work, args=(tmp_path,), daemon=True)
    waiting.start()
    told, until = "", time.monotonic() + 20
    while not told.endswith("\n") and time.monotonic() < until:
        time.sleep(0.05)
        told += capsys.readouterr().err
    assert told == (
        f"winnow: waiting for another process, which prepares the same images and holds {tmp_path / name}\n"
    )
    assert waiting.is_alive()
    held.release()
    waiting.join(60)
    assert not waiting.is_alive()
    assert capsys.readouterr().err == ""


def test_a_free_lock_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    decode(tmp_path)
    assert capsys.readouterr().err == ""
