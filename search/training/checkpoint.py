"""Checkpoints: written whole or not at all, read without running code."""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from winnow.search.storage import remote as storage
from winnow.search.training.heartbeat import write_beating


class CorruptCheckpoint(Exception):
    """A checkpoint that cannot be read back; the message names the file."""


@dataclass
class Interval:
    """Decides after which epochs a checkpoint is written.

    Attributes:
        seconds: Smallest number of seconds since the last one, or since the start; 0: after each epoch.
        always: Epochs after which one is always written, besides the last one. Default: none.
    """

    seconds: float
    always: Collection[int] = ()
    _since: float = field(default_factory=time.monotonic)

    def is_due(self, epoch: int, last: bool) -> bool:
        """Return whether a checkpoint is written after this epoch. If so, the seconds are counted from now.

        Args:
            epoch: The epoch, counted from 1.
            last: Whether the training is over.
        """
        now = time.monotonic()
        is_due = last or epoch in self.always or now - self._since >= self.seconds
        self._since = now if is_due else self._since
        return is_due


def save(where: Path | str, state: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        where: Path or URI of the file.
        state: Tensors, numbers, strings and containers of them.

    Raises:
        OSError: It cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_beating(str(where), buffer.getbuffer())


def load(where: Path | str) -> dict[str, Any]:
    """Read what `save` wrote, with all tensors on the CPU.

    Raises:
        CorruptCheckpoint: The file is incomplete, or is not a checkpoint.
        FileNotFoundError: There is no such file.
    """
    try:
        state = torch.load(io.BytesIO(storage.read(str(where))), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise CorruptCheckpoint(f"{where}: incomplete checkpoint ({error})") from error
    if not isinstance(state, dict):
        raise CorruptCheckpoint(f"{where}: holds a {type(state).__name__}, not a checkpoint")
    return state


def to_cpu(value: Any) -> Any:
    """Copy a state to the CPU, keeping memory formats: fused optimizers rely on equal strides."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: to_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_cpu(item) for item in value)
    return value
