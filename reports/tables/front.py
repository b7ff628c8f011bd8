"""Makes the rows of the front: the completed trials of a search with several objectives that no other trial dominates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunFacts

Row = dict[str, Any]
FIGURES = ("objective", "num_parameters", "multiply_adds", "latency_ms", "epoch_seconds")


def front_rows(run: RunFacts, trials: list[Row], winners: list[Row]) -> list[Row]:
    """Make one row per trial of the front, by rank; no rows if the search has one objective.

    Args:
        run: The run.
        trials: Rows of the table `trials`.
        winners: Rows of the table `winners`, which tell the test accuracies.
    """
    if not run.costs:
        return []
    from winnow.spaces.fronts import front

    baseline = _baseline(run)
    rows = [
        row
        for row in trials
        if row["status"] == TrialStatus.COMPLETED
        and row["in_space"]
        and row["objective"] is not None
        and _config(row) != baseline
    ]
    costs = [[row[cost] for cost in run.costs] for row in rows]
    order = front([row["objective"] for row in rows], costs, run.maximize)
    tested = {row["trial"]: row["test_accuracy"] for row in winners if not row["baseline"]}
    return [
        {
            "run": run.name,
            "rank": rank,
            "trial": rows[index]["trial"],
            **{figure: rows[index][figure] for figure in FIGURES},
            "test_accuracy": tested.get(rows[index]["trial"]),
        }
        for rank, index in enumerate(order, start=1)
    ]


def _config(row: Row) -> Any:
    return None if row["config"] is None else json.loads(row["config"])


def _baseline(run: RunFacts) -> Any:
    """The complete config of the baseline, which is no winner; False if there is none."""
    raw = run.space.baseline
    return False if raw is None else run.space.config(raw).model_dump(mode="json")
