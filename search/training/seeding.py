"""Seeds the global generators within a context, so that the draws of a training never depend on an earlier one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch's global generators, from which weights and dropout are drawn, and restore them at the end.

    Args:
        device: The device whose generator is seeded as well.
        seed: The seed.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        _seed_torch(device, seed)
        yield


@contextmanager
def all_seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch's, NumPy's and Python's global generators, from which a user's own loop may draw, and restore them at the end.

    Args:
        device: The device whose generator is seeded as well.
        seed: The seed.
    """
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with seeded(device, seed):
            seed_all(device, seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def seed_all(device: torch.device, seed: int) -> None:
    """Seed torch's, NumPy's and Python's global generators.

    Args:
        device: The device whose generator is seeded as well.
        seed: The seed.
    """
    _seed_torch(device, seed)
    random.seed(seed)
    np.random.seed(seed)


def _seed_torch(device: torch.device, seed: int) -> None:
    # torch.manual_seed would also seed GPUs that this training does not use.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
