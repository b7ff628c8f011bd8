"""`keep_predictions`: what completed trials answer for the validation images, and the table made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from tests.helpers.make_run import make_run
from tests.search.study.test_failures import assignment, job, tiny_data
from winnow import reports
from winnow.search.operations.searching import _fetch_answers
from winnow.search.ray_backend.worker import trial_reports
from winnow.search.storage.run_folder import RunFolder, answers_name


def test_the_answers_of_the_last_epoch_have_its_figures(tmp_path: Path) -> None:
    trial = assignment()
    keeping = replace(job(tmp_path / "checkpoints"), predictions=str(tmp_path / "predictions"))
    file = tmp_path / "predictions" / answers_name(trial.number)
    figures = []
    for report in trial_reports(trial, tiny_data(), keeping):
        figures.append(report)
        assert file.exists() == report["last"], "only of a trial that trained to its end"
    with np.load(file) as arrays:
        right = arrays["predicted"] == arrays["true"]
        assert right.mean() == figures[-1]["validation_accuracy"]
        assert -np.log(arrays["probability_true"]).mean() == pytest.approx(figures[-1]["validation_loss"], rel=1e-4)
        assert np.array_equal(arrays["true"], tiny_data().train_labels[arrays["index"]])
        assert np.array_equal(arrays["probabilities"].argmax(1), arrays["predicted"])


def test_nothing_is_kept_unasked(tmp_path: Path) -> None:
    list(trial_reports(assignment(), tiny_data(), job(tmp_path)))
    assert not list(tmp_path.rglob("validation-*.npz"))


def test_the_table_has_the_completed_trials(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    rows = {row["trial"]: row["status"] for row in reports.read(folder).rows("trials")}
    completed, stopped = (next(t for t, status in rows.items() if status == each) for each in ("completed", "stopped"))
    probabilities = np.eye(10, dtype=np.float16)[:4] * 0.5 + 0.05
    for trial in (completed, stopped):
        np.savez(
            folder / "predictions" / answers_name(trial),
            index=np.array([7, 1, 5, 2]),
            true=np.array([0, 1, 2, 9]),
            predicted=np.array([0, 1, 2, 3]),
            confidence=np.full(4, 0.55, np.float32),
            probability_true=np.array([0.55, 0.55, 0.55, 0.05], np.float32),
            probabilities=probabilities,
        )
    run = reports.read(reports.write(folder).parent.parent)
    table = run.rows("validation")
    assert {row["trial"] for row in table} == {completed}
    assert [row["index"] for row in table] == [7, 1, 5, 2]
    assert [row["correct"] for row in table] == [True, True, True, False]
    assert [row["true_class"] for row in table] == ["0", "1", "2", "9"]
    assert table[0]["probabilities"] == pytest.approx(probabilities[0].tolist())


def test_answers_in_a_storage_are_copied_into_the_run(tmp_path: Path) -> None:
    folder, shared = make_run(tmp_path / "run"), tmp_path / "shared"
    said: list[str] = []
    view: Any = SimpleNamespace(message=said.append)
    study = yaml.safe_load((folder / "study.yaml").read_text())
    (folder / "study.yaml").write_text(yaml.safe_dump(study | {"storage": str(shared)}))
    (shared / "predictions").mkdir(parents=True)
    for trial in (2, 5):
        (shared / "predictions" / answers_name(trial)).write_bytes(b"answers of %d" % trial)
    _fetch_answers(RunFolder(folder), [2, 7], view)
    copied = {path.name: path.read_bytes() for path in (folder / "predictions").glob("validation-*")}
    assert copied == {answers_name(2): b"answers of 2"}
    assert said == [
        f"the predictions of trial 7 are no longer in the storage: {shared / 'predictions' / answers_name(7)}"
    ]
