"""The Optuna study of a run, and what the ledger and its listeners pass around about trials."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from winnow.search.settings import Direction
from winnow.search.storage.run_folder import RunFolder, repair_journal
from winnow.spaces.errors import InputError

STUDY_NAME = "winnow"

ENDED_STATES = {
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "out_of_memory": TrialState.FAIL,
    "lost": TrialState.FAIL,
    "failed": TrialState.FAIL,
}


def open_study(folder: RunFolder, direction: Direction) -> tuple[JournalStorage, optuna.Study, int]:
    """To be called under the lock of the run."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    repair_journal(folder.journal)
    # Optuna's own lock is a link that a killed driver leaves behind; in a folder that was moved since, Optuna waits for it for ever.
    Path(f"{folder.journal}.lock").unlink(missing_ok=True)
    try:
        storage = JournalStorage(JournalFileBackend(str(folder.journal)))
        study = optuna.create_study(storage=storage, study_name=STUDY_NAME, direction=direction, load_if_exists=True)
    except OSError as error:
        raise InputError(f"{folder.journal}: cannot be opened ({error.strerror or error})") from error
    return storage, study, storage.get_study_id_from_name(STUDY_NAME)


@dataclass(frozen=True)
class Assignment:
    """One trial as a worker gets it; `recorded` epochs of it are in the study already."""

    number: int
    seed: int
    config: dict[str, Any]
    recorded: int = 0
    source: str = "sampler"
    micro_batches: int = 1
    """Above 1 after a trial ran out of memory: each batch goes through the network in so many pieces."""


@dataclass
class OpenTrial:
    assignment: Assignment
    epoch: int = 0
    values: dict[int, float] = field(default_factory=dict)
    losses: int = 0
    """How often its worker was lost."""


@dataclass(frozen=True)
class Event:
    """Something a person who watches would like to see: `started`, `epoch`, `paused`, `ended`; `auditing`, `audited`.

    `retrained` after the search: `record` has the `result` as in retrain.jsonl, and its `curve`.
    """

    kind: str
    number: int
    config: dict[str, Any]
    record: dict[str, Any] = field(default_factory=dict)
    status: str | None = None
    value: float | None = None


def ending(record: dict[str, Any]) -> str:
    """The status of a trial whose last epoch this is. A trial that ran its last epoch is completed, whatever ASHA says."""
    if record["diverged"]:
        return "diverged"
    return "completed" if record["last"] else "stopped"
