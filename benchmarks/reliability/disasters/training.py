"""Trainings without networks: every figure of an epoch follows from config, seed and the epochs before it, as in a real training.

The real worker code runs around them, so checkpoints are written, read and repeated as ever. A training that continues from a wrong
checkpoint gives other figures, and so is seen.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.reliability.disasters.processes import (
    DEVICE,
    LASTING,
    RESTORABLE,
    change_state,
    device_breaks,
    is_clean,
    simulated_processes,
)
from winnow.search.storage import remote as storage
from winnow.spaces.epoch_figures import EPOCH_FIGURES

EPOCH_SECONDS = (1.0, 100.0)
SHAPE = (1, 8, 8)
DATA = SimpleNamespace(
    image_shape=SHAPE, num_classes=10, fingerprint="simulated", checked_nodes=None, validation_names={}
)
DATA_FACTS = {
    "name": "digits",
    "fingerprint": DATA.fingerprint,
    "image_shape": [*SHAPE],
    "num_classes": DATA.num_classes,
    "class_names": [str(digit) for digit in range(10)],
    "num_train": 1150,
    "num_validation": 287,
    "num_test": 360,
    "summary": {"text": [], "image_size": [8, 8], "channels": 1, "splits": {}},
}
"""What `describe_data` says of these images."""


@dataclass(frozen=True)
class Fate:
    """The end of a training: `completed`, or another status and the epoch in which it happens.

    A training that runs out of memory does so only with whole batches, unless `always`.
    """

    status: str
    epoch: int = 0
    always: bool = False


def fate_of(config: str, seed: int, epochs: int) -> Fate:
    """The fate of a training, most of which complete."""
    draw, epoch = _share(config, seed, "fate"), 1 + int(_share(config, seed, "when") * epochs)
    if draw < 0.06:
        return Fate("diverged", epoch)
    if draw < 0.12:
        return Fate("failed", epoch)
    if draw < 0.18:
        return Fate("out_of_memory", epoch, always=draw < 0.15)
    return Fate("completed")


def _poison_of(config: str, seed: int) -> str | None:
    """The part of the state of its process that a training changes or breaks; most do neither."""
    draw = _share(config, seed, "poison")
    return RESTORABLE if draw < 0.1 else LASTING if draw < 0.2 else DEVICE if draw < 0.25 else None


@cache
def figures_of(config: str, seed: int, epoch: int, epochs: int) -> dict[str, Any]:
    """The figures of one epoch; those that no clock decides are what a run must hold at the end."""
    fate = fate_of(config, seed, epochs)
    diverged = fate.status == "diverged" and epoch == fate.epoch
    level = _share(config, 0, "level")
    accuracy = level * (1 - math.exp(-epoch / 3)) + 0.02 * _share(config, seed, f"noise {epoch}")
    value = math.nan if diverged else round(accuracy, 6)
    steering = {"epoch": epoch, "diverged": diverged, "last": diverged or epoch == epochs, "weights_epoch": epoch}
    steering["wall_seconds"] = EPOCH_SECONDS[_share(config, 0, "speed") < 0.5]  # also of an epoch that diverged
    return {figure.name: steering.get(figure.name, value) for figure in EPOCH_FIGURES}


def key_of(config: dict[str, Any]) -> str:
    """The config as a text, the same wherever it comes from."""
    return json.dumps(config, sort_keys=True)


class _Result:
    def __init__(self, figures: dict[str, Any], chain: str) -> None:
        self.epoch, self.diverged, self.last = figures["epoch"], figures["diverged"], figures["last"]
        self.weights_epoch, self.replays_graphs = self.epoch, False
        self.train_loss = self.train_accuracy = figures["train_accuracy"]
        self.images_per_second = 1000.0
        self._figures, self._chain = figures, chain

    def figures(self) -> dict[str, Any]:
        return dict(self._figures)

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "chain": self._chain, "weights": [float(self.epoch)] * 4}

    def weights(self) -> dict[str, list[float]]:
        return {"w": [float(self.epoch)] * 4}


def _train(
    config: Any, data: Any, device: Any, seed: int, checkpoint: Any = None, micro_batches: int = 1, team: Any = None
) -> Iterator[_Result]:
    raw = config.model_dump(mode="json")
    epochs = raw.get("stop_after") or raw["epochs"]
    key, chain = key_of(raw), checkpoint["chain"] if checkpoint else ""
    fate, poison = fate_of(key, seed, epochs), _poison_of(key, seed)
    if not is_clean():
        raise AssertionError("the training starts in a process that an earlier one changed")
    for epoch in range(checkpoint["epoch"] + 1 if checkpoint else 1, epochs + 1):
        if epoch == fate.epoch and fate.status == "failed":
            raise RuntimeError(f"a bug of its own: {seed}")  # three equal ones would end the search
        if epoch == fate.epoch and fate.status == "out_of_memory" and (fate.always or micro_batches == 1):
            raise torch.OutOfMemoryError("CUDA out of memory")
        if chain != chain_of(key, seed, epoch - 1):
            raise AssertionError(f"epoch {epoch} continues from something else than epoch {epoch - 1}")
        chain = chain_of(key, seed, epoch)
        if poison == DEVICE and device_breaks(f"{key} {seed}"):
            raise RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED")
        if poison in (RESTORABLE, LASTING):
            change_state(poison)
        figures = figures_of(key, seed, epoch, epochs)
        yield _Result(figures, chain)
        if figures["last"]:
            return


@cache
def chain_of(config: str, seed: int, epoch: int) -> str:
    """The state of a training after an epoch, as a digest of everything that was trained before."""
    return "" if epoch == 0 else _digest(chain_of(config, seed, epoch - 1), config, seed, epoch).hex()


def _answer(config: Any, weights: Any, on_device: Any, output: str) -> None:
    storage.write(output, b"answers " * 20)


def _test(config: Any, weights: Any, on_device: Any, data: Any, output: str) -> dict[str, float | None]:
    storage.write(output, b"predictions " * 20)
    return {"test_loss": 0.5, "test_accuracy": 0.9}


@contextmanager
def simulated_training() -> Iterator[None]:
    """Replace the training of the workers by the simulated one within this context."""
    summary = SimpleNamespace(num_parameters=100, multiply_adds=1000)
    on_device = SimpleNamespace(mean=(0.5,), std=(0.5,))
    with ExitStack() as stack:
        for target, stand_in in {
            "winnow.search.training.loop.train": _train,
            "winnow.models.summarize": lambda *_: summary,
            "winnow.search.training.device_data.DeviceData.build": lambda *_, **__: on_device,
            "winnow.search.training.final_test.evaluate_test_set": _test,
            "winnow.search.training.validation_answers.write_validation_answers": _answer,
            # About memory, of which there is none here; it takes a long time.
            "winnow.search.ray_backend.worker.release_memory": lambda: None,
        }.items():
            stack.enter_context(patch(target, stand_in))
        stack.enter_context(simulated_processes())
        yield


@cache
def _share(config: str, seed: int, what: str) -> float:
    return int.from_bytes(_digest(config, seed, what)[:6], "big") / 2**48


def _digest(*parts: Any) -> bytes:
    return hashlib.blake2b("\n".join(map(str, parts)).encode(), digest_size=12).digest()
