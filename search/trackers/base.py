"""The interface of an experiment tracker, and the figures of an epoch that it receives."""

from __future__ import annotations

from typing import Any, Protocol

from winnow.spaces.epoch_figures import EPOCH_FIGURES

FIGURES = tuple(figure.name for figure in EPOCH_FIGURES if figure.drawn)

Record = dict[str, Any]


class Tracker(Protocol):
    """Writes the trainings of a run to an experiment tracker.

    `name` is the name of a training: `trial-00007`, `retrain-00007-s123` or `retrain-baseline-s123`. `params` are the
    parameters of the space that are active in it, by config path.
    """

    errors: tuple[type[Exception], ...]
    """Exceptions of its library that mean it cannot write."""

    def start(self, name: str, params: Record) -> None:
        """Begin a training, or continue a known one."""

    def epoch(self, name: str, record: Record) -> None:
        """Write one line of `epochs.jsonl`."""

    def end(self, name: str, status: str, results: dict[str, float]) -> None:
        """End a training; `results` are its objective, or its figures on the test images."""

    def close(self) -> None:
        """Write everything that is still buffered."""


def figures(record: Record) -> dict[str, float]:
    """The figures of an epoch that can be drawn; a figure that is not finite is null in the record, and left out."""
    return {name: float(record[name]) for name in FIGURES if record.get(name) is not None}
