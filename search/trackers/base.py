"""The interface of an experiment tracker, and the figures of an epoch that it receives."""

from __future__ import annotations

from typing import Any, Protocol

from winnow.spaces.epoch_figures import EPOCH_FIGURES

FIGURES = tuple(figure.name for figure in EPOCH_FIGURES if figure.drawn)

Record = dict[str, Any]


class Tracker(Protocol):
    """Writes the trainings of a run to an experiment tracker.

    A training has a name: `trial-00007`, `retrain-00007-s123` or `retrain-baseline-s123`.
    """

    errors: tuple[type[Exception], ...]
    """Exceptions of its library that mean that it cannot write."""

    def start(self, name: str, params: Record) -> None:
        """Begin a training, or continue a known one.

        Args:
            name: Name of the training: `trial-00007`, `retrain-00007-s123` or
                `retrain-baseline-s123`.
            params: Active parameters of the space, by config path.
        """

    def epoch(self, name: str, record: Record) -> None:
        """Write the figures of one epoch.

        Args:
            name: Name of a training that was started.
            record: One line of `epochs.jsonl`. An epoch that the tracker already has is not written
                again.
        """

    def end(self, name: str, status: str, results: dict[str, float]) -> None:
        """End a training.

        Args:
            name: Name of a training that was started.
            status: Status of the trial or retraining, such as `completed`.
            results: The objective of a trial, or the figures of a retraining on the test images, by
                name.
        """

    def close(self) -> None:
        """Write everything that is still buffered."""

    def abandon(self) -> None:
        """Let go of a tracker that failed or does not answer, so that it cannot delay the end of the process.

        Another thread may still be waiting in one of the other methods. The next start writes what is missing.
        """


def figures(record: Record) -> dict[str, float]:
    """Return the figures of an epoch that can be drawn. Those that are not finite are null in the record, and are left out."""
    return {name: float(record[name]) for name in FIGURES if record.get(name) is not None}
