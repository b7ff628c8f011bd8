"""The messages about trials between the ledger, its workers and its listeners.

This module does not import Optuna, which workers do not need.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Assignment:
    """One trial as a worker receives it.

    Attributes:
        number: Number of the trial in the study.
        seed: Seed of its training.
        config: Its complete config.
        recorded: Number of its epochs that the study already holds; the worker does not report them again.
        source: Where the config comes from: `sampler`, `start_from:NAME` for a start point, or `further:NUMBER` for an earlier
            trial that is trained for longer.
        micro_batches: Number of pieces in which each batch goes through the network; above 1 after the trial ran out of memory.
    """

    number: int
    seed: int
    config: dict[str, Any]
    recorded: int = 0
    source: str = "sampler"
    micro_batches: int = 1

    def to_json(self) -> str:
        """Return the assignment as one string, which keeps Tune's bookkeeping of nested configs small."""
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        return cls(**json.loads(text))


@dataclass
class OpenTrial:
    """A trial that has not ended: it runs, waits for a worker, or is paused.

    Attributes:
        assignment: The assignment of its current or last worker.
        epoch: Its last recorded epoch; 0 before the first.
        objectives: `Settings.metrics` by epoch, each by its name, of the weights kept so far; empty for an epoch without values.
        losses: How often its worker was lost.
    """

    assignment: Assignment
    epoch: int = 0
    objectives: dict[int, dict[str, float]] = field(default_factory=dict)
    losses: int = 0

    @property
    def continued(self) -> Assignment:
        """The assignment for the next worker, which starts from the recorded state."""
        return Assignment(**{**vars(self.assignment), "recorded": self.epoch})


@dataclass(frozen=True)
class Event:
    """An event of a search, as it is sent to views and other listeners.

    Attributes:
        kind: `started`, `epoch`, `paused` or `ended`; `auditing` and `audited` for a stopped trial that is trained to its end;
            `retrained` after the search.
        number: Number of the trial.
        config: Its config.
        record: For an epoch, its line in `epochs.jsonl`; for the end of a trial, its `error` or `reason`, if any; for a retraining,
            its `result` as in `retrain.jsonl`, and its `curve`.
        status: How the trial ended; None if it has not.
        value: The objective; None if there is none.
    """

    kind: str
    number: int
    config: dict[str, Any]
    record: dict[str, Any] = field(default_factory=dict)
    status: str | None = None
    value: float | None = None
