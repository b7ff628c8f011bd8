"""The messages about trials between the ledger, its workers and its listeners. Imports no Optuna, which workers do not need."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Assignment:
    """One trial as a worker receives it.

    Attributes:
        number: Its number in the study.
        seed: Seed of its training.
        config: Its complete config.
        recorded: Epochs of it that the study holds already; the worker does not report them again.
        source: `sampler`, or `start_from:NAME` for a config that was given.
        micro_batches: Above 1 after the trial ran out of memory: each batch goes through the network in this many pieces.
    """

    number: int
    seed: int
    config: dict[str, Any]
    recorded: int = 0
    source: str = "sampler"
    micro_batches: int = 1

    def to_json(self) -> str:
        """Return the assignment as one text, which keeps Tune's bookkeeping of nested configs small."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        return cls(**json.loads(text))


@dataclass
class OpenTrial:
    """A trial that has not ended: it runs, waits for a worker, or is paused.

    Attributes:
        assignment: What its worker was given.
        epoch: Its last recorded epoch, 0 before the first.
        values: Objective by epoch.
        losses: How often its worker was lost.
    """

    assignment: Assignment
    epoch: int = 0
    values: dict[int, float] = field(default_factory=dict)
    losses: int = 0

    @property
    def continued(self) -> Assignment:
        """Return the assignment for its next worker, which starts from the recorded state."""
        return Assignment(**{**vars(self.assignment), "recorded": self.epoch})


@dataclass(frozen=True)
class Event:
    """An event of a search that its views show.

    Attributes:
        kind: `started`, `epoch`, `paused` or `ended`; `auditing` and `audited` for a stopped trial that is trained to its end;
            `retrained` after the search.
        number: Number of the trial.
        config: Its config.
        record: Of an epoch its line in `epochs.jsonl`; of a retraining its `result` as in `retrain.jsonl`, and its `curve`.
        status: How it ended.
        value: The objective.
    """

    kind: str
    number: int
    config: dict[str, Any]
    record: dict[str, Any] = field(default_factory=dict)
    status: str | None = None
    value: float | None = None
