"""Checkpoints: written whole or not at all, read without running code."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from winnow.search.storage import remote as storage


class CorruptCheckpoint(Exception):
    """A checkpoint that cannot be read back; the message names the file."""


def save(where: Path | str, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings and containers of them) to a path or a URI. OSError if it cannot be written."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    storage.write(str(where), buffer.getbuffer())


def load(where: Path | str) -> dict[str, Any]:
    """What `save` wrote, on the CPU. CorruptCheckpoint for a torn or foreign file, FileNotFoundError for none."""
    try:
        state = torch.load(io.BytesIO(storage.read(str(where))), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise CorruptCheckpoint(f"{where}: not a whole checkpoint ({error})") from error
    if not isinstance(state, dict):
        raise CorruptCheckpoint(f"{where}: holds a {type(state).__name__}, not a checkpoint")
    return state
