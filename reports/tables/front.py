"""Creates the rows of the Pareto front of a search with several objectives: the completed trials that no other trial dominates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from winnow.reports.tables.candidates import candidates

if TYPE_CHECKING:
    from winnow.reports.run_data import RunFacts

Row = dict[str, Any]
FIGURES = ("objective", "num_parameters", "multiply_adds", "latency_ms", "epoch_seconds")


def front_rows(run: RunFacts, trials: list[Row], winners: list[Row]) -> list[Row]:
    """Return one row per trial of the front, by rank; no rows if the search has only one objective.

    Args:
        run: The run.
        trials: Rows of the table `trials`.
        winners: Rows of the table `winners`, from which the test accuracies are taken.
    """
    if not run.costs:
        return []
    chosen = candidates(run, trials, winners)
    tested = {row["trial"]: row["test_accuracy"] for row in winners if not row["baseline"]}
    return [
        {
            "run": run.name,
            "rank": rank,
            "trial": row["trial"],
            **{figure: row[figure] for figure in FIGURES},
            "test_accuracy": tested.get(row["trial"]),
        }
        for rank, row in enumerate(chosen, start=1)
    ]
