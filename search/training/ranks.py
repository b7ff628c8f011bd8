"""One training on several devices of a node: a process each, every batch shared out among them, gradients averaged.

The caller's process is rank 0: it evaluates, decides, checkpoints and reports, as when it trains alone. The other ranks are processes
that it starts (`search/training/rank_process.py`); they wait between epochs and live for as many trainings as the caller's process does.
The batch is that of the config, whatever the number of ranks. Batch norm takes the statistics of a rank's part, as
`DistributedDataParallel` does by default, and keeps the running ones of rank 0; without batch norm and dropout the updates are those of
one device up to rounding. A checkpoint holds nothing of the ranks, so a training may go on with another number of them.
"""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Literal

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from search.training.data import ImageData
from spaces.schema import Config

HOST = "127.0.0.1"
START_SECONDS = 300.0  # for the processes to import torch and to find each other, on a busy machine
EXPLANATION_SECONDS = 2.0  # in which a rank that failed says why
HANG_SECONDS = 20.0  # after a rank's death; NCCL does not notice it, gloo does at once


class RankLost(Exception):
    """A process of this training was killed: the whole training is lost, and goes on from its checkpoint elsewhere."""


@dataclass(frozen=True)
class Rank:
    """The place of this process among those that train one network."""

    index: int = 0
    count: int = 1

    def parallel(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model as it is to be called in training: gradients are then the mean over the ranks."""
        if self.count == 1:
            return model
        # Looking for unused parameters also keeps the buckets of the first step for good, so that a resumed training adds up
        # in the same order as one that was not interrupted.
        ids = [device.index or 0] if device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, find_unused_parameters=True)

    def shares(self, num_images: int, least: int) -> bool:
        """Whether a batch is shared out; one with fewer than `least` images for each rank is trained whole by every rank."""
        return self.count > 1 and num_images // self.count >= least

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Over all ranks, in place."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values


@dataclass(frozen=True)
class Task:
    """What a rank needs for one training beside the images."""

    config: Config
    split_seed: int
    use: Literal["search", "retrain"]
    seed: int
    checkpoint: dict[str, Any] | None
    micro_batches: int


class Team:
    """Rank 0's hold on the others. One team to a process, since torch has one default process group."""

    def __init__(self, count: int, device: torch.device, threads: int) -> None:
        self.rank = Rank(0, count)
        self.kind = device.type
        self.closed = False
        self._fingerprint = ""
        self._connections: list[Connection] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        if device.type == "cpu" and sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        store = distributed.TCPStore(HOST, 0, count, is_master=True, wait_for_workers=False)
        for index in range(1, count):
            here, there = Pipe()
            command = [sys.executable, "-m", "search.training.rank_process", str(there.fileno())]
            paths = os.pathsep.join(path for path in sys.path if path)  # code that Ray sent, a user's own model
            self._processes.append(
                subprocess.Popen(
                    [*command, str(index), str(count), str(store.port), device.type, str(threads)],
                    pass_fds=[there.fileno()],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": paths},
                )
            )
            there.close()
            self._connections.append(here)
        threading.Thread(target=self._watch, daemon=True).start()
        with self.supervised():
            join(store, self.rank, device.type)

    def begin(self, data: ImageData, task: Task) -> None:
        """A new training on every rank; the one of before, if it has not ended, is dropped."""
        with self.supervised():
            images = data if data.fingerprint != self._fingerprint else None
            self._send(("begin", images, task))
            self._fingerprint = data.fingerprint

    def epoch(self, lr_scale: float) -> None:
        """Let every rank train an epoch; rank 0 does its own part next. `lr_scale`: what rank 0 decided on the plateau."""
        self._send(("epoch", lr_scale))

    @contextmanager
    def supervised(self) -> Iterator[None]:
        """What goes wrong here ends the team, and is told as what it is: a rank's own error, a rank that was lost."""
        try:
            yield
        except BaseException as error:
            own = not isinstance(error, RuntimeError | OSError) or isinstance(error, torch.OutOfMemoryError)
            cause = None if own else self._cause()
            self.close()
            if cause is not None:
                raise cause from error
            raise

    def close(self) -> None:
        """End all ranks. Between trainings nothing is lost by it."""
        if self.closed:
            return
        self.closed = True
        for process in self._processes:
            process.kill()
            process.wait()
        for connection in self._connections:
            connection.close()
        if distributed.is_initialized():
            with suppress(RuntimeError):  # of a group whose others are gone
                distributed.destroy_process_group()

    def _send(self, message: tuple[Any, ...]) -> None:
        # Not Connection.send: with torch in the process it would pass tensors on through a server of its own.
        packed = pickle.dumps(message)
        for connection in self._connections:
            connection.send_bytes(packed)

    def _cause(self) -> Exception | None:
        """Why a rank ended; None if none did: then the error is rank 0's own."""
        deadline = time.monotonic() + EXPLANATION_SECONDS
        said: Exception | None = None
        while time.monotonic() < deadline:
            for index, process in enumerate(self._processes, start=1):
                if (process.poll() or 0) < 0:
                    return RankLost(f"rank {index} of {self.rank.count} was killed (signal {-process.returncode})")
            # A rank that lost the connection to one that was killed says so too, so a word alone does not end the wait at once.
            if said is None and (said := self._word()) is not None:
                deadline = min(deadline, time.monotonic() + 0.3)
            time.sleep(0.02)
        return said

    def _word(self) -> Exception | None:
        """What a rank said before it ended, or that it ended without a word."""
        for index, (process, connection) in enumerate(zip(self._processes, self._connections, strict=True), start=1):
            with suppress(EOFError, OSError):
                if connection.poll():
                    kind, text = pickle.loads(connection.recv_bytes())
                    return MemoryError(text) if kind == "out_of_memory" else RuntimeError(f"rank {index}: {text}")
            if process.poll():
                return RuntimeError(f"rank {index} ended with exit code {process.returncode}")
        return None

    def _watch(self) -> None:
        """NCCL waits for a dead rank, and nothing can interrupt it: then this process ends too, as a worker that was lost."""
        while all(process.poll() is None for process in self._processes):
            time.sleep(1.0)
        time.sleep(HANG_SECONDS)
        if not self.closed:
            os._exit(1)


def team_of(count: int, device: torch.device, threads: int) -> Team | None:
    """The team of this process, started if need be; None where one process trains alone. `threads`: of each rank."""
    global _team
    if count == 1:
        return None
    if _team is None or _team.closed or (_team.rank.count, _team.kind) != (count, device.type):
        if _team is not None:
            _team.close()
        _team = Team(count, device, threads)
        atexit.register(_team.close)
    return _team


_team: Team | None = None


def join(store: distributed.Store, rank: Rank, kind: str) -> None:
    """Make the process group; in every rank."""
    distributed.init_process_group(
        "nccl" if kind == "cuda" else "gloo",
        store=store,
        rank=rank.index,
        world_size=rank.count,
        timeout=timedelta(seconds=START_SECONDS),
    )


def device_of(rank: Rank, kind: str) -> torch.device:
    """Rank i has the i-th of the GPUs that this process sees."""
    return torch.device(kind, rank.index) if kind == "cuda" else torch.device(kind)
