"""Creates the rows of the Pareto front of a search with several objectives: the completed trials that no other trial dominates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from winnow.reports.schemas.search import FRONT_METRICS, FRONT_TESTS
from winnow.reports.tables.candidates import candidates
from winnow.spaces.epoch_figures import is_cost, name_on_test_images

if TYPE_CHECKING:
    from winnow.reports.run_data import RunFacts

Row = dict[str, Any]
FIGURES = ("objective", *FRONT_METRICS, "num_parameters", "multiply_adds", "latency_ms", "epoch_seconds")


def front_rows(run: RunFacts, trials: list[Row], winners: list[Row]) -> list[Row]:
    """Return one row per trial of the front, by rank; no rows if the search has only one objective.

    Args:
        run: The run.
        trials: Rows of the table `trials`.
        winners: Rows of the table `winners`, from which the values on the test images are taken.
    """
    if not run.further:
        return []
    chosen = candidates(run, trials, winners)
    tested = {row["trial"]: row for row in winners if not row["baseline"]}
    return [
        {
            "run": run.name,
            "rank": rank,
            "trial": row["trial"],
            **{figure: row[figure] for figure in FIGURES},
            **{name: tested.get(row["trial"], {}).get(name) for name in FRONT_TESTS},
        }
        for rank, row in enumerate(chosen, start=1)
    ]


def columns_of_tests(run: RunFacts) -> list[str]:
    """Return the columns of the front with values on the test images: the accuracy, and each metric among the objectives."""
    metrics = [name_on_test_images(name) for name in run.ranked_by if not is_cost(name)]
    return list(dict.fromkeys(["test_accuracy", *metrics]))
