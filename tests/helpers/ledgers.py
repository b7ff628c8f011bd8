"""Drives a ledger without Ray: a run folder, what a worker would report, and what the study says afterwards."""

from __future__ import annotations

import json
import math
import random

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from winnow.search.settings import Settings
from winnow.search.storage.run_folder import RunFolder, create
from winnow.search.study.ledger import Ledger
from winnow.search.study.trials import Assignment
from winnow.spaces.space import Space

SHAPE = (1, 8, 8)
RECORDED_DATA = {
    "name": "digits",
    "fingerprint": "0123456789abcdef",
    "image_shape": [*SHAPE],
    "num_classes": 10,
    "class_names": [str(digit) for digit in range(10)],
    "num_train": 1150,
    "num_validation": 287,
    "num_test": 360,
}
"""The section `data` of a `study.yaml`."""


STEPS = (  # a grid instead of the continuous ranges of digits
    "optimizer={choice: {adam: {lr: {log: [0.001, 0.01], step: 10}}, sgd: {lr: 0.1, momentum: {float: [0.8, 0.9], step: 0.05}}}}",
    "schedule=constant",
    "model.dropout={float: [0.0, 0.4], step: 0.2}",
    "model.depth={int: [1, 2]}",
)


def make_folder(tmp_path, space: Space, settings: Settings) -> RunFolder:
    return create(
        tmp_path,
        None,
        "run",
        {"schema_version": 1, "space": space.tree, "settings": settings.to_dict(), "data": RECORDED_DATA},
    )


def study_of(folder: RunFolder) -> optuna.Study:
    return optuna.load_study(study_name="winnow", storage=JournalStorage(JournalFileBackend(str(folder.journal))))


def report(assignment: Assignment, epoch: int, value: float | None = None, **more) -> dict:
    """What a worker would report: a curve that rises to a level that the config decides."""
    level = random.Random(json.dumps(assignment.config, sort_keys=True)).uniform(0.3, 0.95)
    accuracy = level * (1 - math.exp(-epoch / 3)) if value is None else value
    figures = {"epoch": epoch, "validation_accuracy": accuracy, "validation_loss": 1 - accuracy, "diverged": False}
    return {**figures, "last": epoch == assignment.config["epochs"], "weights_epoch": epoch, **more}


def run_to_the_end(ledger: Ledger, crash_after: int | None = None) -> bool:
    """One worker; False if the driver "crashed" after so many reports (the ledger is simply dropped)."""
    num_reports = 0
    while (assignment := ledger.ask()) is not None:
        for epoch in range(assignment.recorded + 1, assignment.config["epochs"] + 1):
            if crash_after is not None and num_reports == crash_after:
                return False
            num_reports += 1
            if not ledger.record(assignment.number, report(assignment, epoch)):
                break
    ledger.close()
    return True


def outcome(folder: RunFolder) -> list[tuple]:
    """Everything a study says of its trials, without times."""
    return [
        (t.number, t.state.name, t.value, t.params, t.intermediate_values, t.user_attrs.get("status"))
        for t in study_of(folder).get_trials(deepcopy=False)
    ]
