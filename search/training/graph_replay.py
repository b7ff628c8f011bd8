"""Replays the forward and backward pass of a network as CUDA graphs, if a measurement of a few steps finds that faster.

Networks on small images launch hundreds of short kernels in a step, and the GPU waits for the launches. A graph launches them at once. They
are the same kernels on the same values, so a training has the same numbers with and without it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import nn

from winnow.search.training.seeding import seeded

SETTLING_STEPS = 3
"""Steps that are not measured, in which libraries choose algorithms and allocate memory."""
MEASURED_STEPS = 10
"""Steps that are measured with each way of calling the network. The fastest one counts, since an epoch may end within the others."""
STEPS_UNTIL_CHOSEN = 2 * (SETTLING_STEPS + MEASURED_STEPS) + 1
"""Steps after which the way of calling the network is chosen; the recording is made halfway."""


def has_graphs(device: torch.device) -> bool:
    """Return whether passes can be recorded on a device."""
    return device.type == "cuda"


class GraphReplay(nn.Module):
    """Calls a network in training: directly at first, then as recorded graphs, and then in the faster way.

    Batches of another size than the first one always go through the network directly.
    """

    def __init__(self, network: nn.Module) -> None:
        """`network` is on a CUDA device, is trained by one process, and gets each batch as a whole.

        The gradients of a graph lie where the next replay writes, so they cannot be accumulated over pieces of a batch.
        """
        super().__init__()
        gc.collect()  # the graphs of an earlier training of this process are in reference cycles, and hold memory
        self.network = network
        self._graphs: nn.Module | None = None
        self._shape: torch.Size | None = None
        self._num_steps = 0
        self._direct_starts: list[float] = []
        self._replay_starts: list[float] = []

    @property
    def is_used(self) -> bool:
        """Whether batches are replayed, in the measurement or after it."""
        return self._graphs is not None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits, float [n, K], of images [n, C, H, W]. The next call overwrites them."""
        self._shape = self._shape or images.shape
        if images.shape != self._shape:
            return self.network(images)
        self._measure(images)
        return self.network(images) if self._graphs is None else self._graphs(images)

    def _measure(self, images: torch.Tensor) -> None:
        """Count a step, and record or drop the graphs at the steps where it is due."""
        self._num_steps += 1
        direct_end = SETTLING_STEPS + MEASURED_STEPS + 1
        if SETTLING_STEPS < self._num_steps <= direct_end:
            self._direct_starts.append(_now(images.device))
        elif self._graphs and direct_end + SETTLING_STEPS <= self._num_steps <= STEPS_UNTIL_CHOSEN:
            self._replay_starts.append(_now(images.device))
        if self._num_steps == direct_end:
            self._graphs = _recorded(self.network, images)
        elif self._num_steps == STEPS_UNTIL_CHOSEN and self._replay_starts:
            is_faster = _shortest(self._replay_starts) <= _shortest(self._direct_starts)
            self._graphs = self._graphs if is_faster else None


def _shortest(starts: list[float]) -> float:
    """Return the duration of the fastest step in seconds."""
    return min(after - before for before, after in pairwise(starts))


def _now(device: torch.device) -> float:
    """Return the time in seconds after the device has finished its work."""
    torch.cuda.synchronize(device)
    return time.perf_counter()


def _recorded(network: nn.Module, images: torch.Tensor) -> nn.Module | None:
    """Record the passes of a network; None if it cannot be recorded, such as a custom model that waits for the device."""
    kind = images.device.type
    number_type = torch.get_autocast_dtype(kind)
    is_mixed = torch.is_autocast_enabled(kind)
    try:
        with (
            _same_stream(images.device),
            _unchanged(network, images.device),
            torch.autocast(kind, number_type, is_mixed, cache_enabled=False),
        ):
            passes = _Passes(network)
            torch.cuda.make_graphed_callables(passes, (torch.empty_like(images).copy_(images),))
            return passes
    except (
        RuntimeError,
        AssertionError,
    ):  # torch raises RuntimeError for every error of CUDA, too little memory among them
        return None


@contextmanager
def _same_stream(device: torch.device) -> Iterator[None]:
    """Return to the current stream after a recording.

    A recording that fails may leave its own stream as the current one, where every later step would run.
    """
    if not has_graphs(device):
        yield
        return
    before = torch.cuda.current_stream(device)
    try:
        yield
    finally:
        torch.cuda.set_stream(before)


class _Passes(nn.Module):
    """Stands for the network in a recording, which replaces the method `forward` of what it records."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.train(network.training)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)


@contextmanager
def _unchanged(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Undo what the passes of a recording change: the statistics of batch norms and the state of the random generator."""
    before = [buffer.clone() for buffer in network.buffers()]
    try:
        with seeded(device, 0):
            yield
    finally:
        for buffer, value in zip(network.buffers(), before, strict=True):
            buffer.copy_(value)
