"""Tells in what the training and the test of the baseline differ from those of the winners, which the gain over it includes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from winnow.reports.facts import VIEWS, views_of
from winnow.reports.statuses import STATUS_WORDS
from winnow.reports.text import wording
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

Row = Mapping[str, Any]

START_POINT = "start_from:"
"""What the source of a trial of a start point begins with."""


def baseline_words(run: RunData, winners: Sequence[Row]) -> str:
    """Return the baseline in words that say whether it was trained under the protocol of the winners.

    Args:
        run: The run.
        winners: The rows of `winners`.
    """
    if protocol_differences(run, winners):
        return "the baseline, which was not trained and tested under the same protocol"
    return "the baseline trained under the same protocol"


def protocol_differences(run: RunData, winners: Sequence[Row]) -> list[str]:
    """Describe in what the training and the test of the baseline differ from those of the winners.

    In the search, validation images choose the epoch and the learning rates of a trial (early stopping, `weights`, plateau). A
    baseline that completed as a trial of the search is retrained with these decisions, as the winners are. One that did not has none.

    Args:
        run: The run.
        winners: The rows of `winners`.

    Returns:
        Sentences; none if it is trained and tested as the winners are, or if it was not tested.
    """
    baseline = next((row for row in winners if row["baseline"] and row["num_seeds"]), None)
    if baseline is None:
        return []
    config = json.loads(baseline["config"])
    winner = next((row for row in winners if not row["baseline"] and row["num_seeds"]), None)
    sentences = [*_undecided(run, baseline, config), *([] if winner is None else _other_views(baseline, winner))]
    return [*sentences, *(["The gain over the baseline includes this difference."] if sentences else [])]


def _undecided(run: RunData, baseline: Row, config: Row) -> list[str]:
    """Describe what no validation images decided for the baseline."""
    kept = any(row["keep_validation"] for row in run.retrain_rows() if row["baseline"])
    if baseline["trial"] is not None or kept:
        return []
    rules = {
        "early stopping": config.get("early_stopping"),
        "choice of weights": config.get("weights", "last") != "last",
    }
    missed = [name for name, is_asked in rules.items() if is_asked]
    tried = _trial_of(run, config)
    why = "was not a trial of the search"
    if tried is not None:
        why = f"did not complete in the search (trial {tried['trial']}: {STATUS_WORDS[tried['status']]})"
    facts = []
    if missed:
        remedy = (
            " As a trial (`start_from`, if it lies in the space) it is treated as the winners are."
            if tried is None
            else ""
        )
        facts.append(
            f"The baseline {why}, so its {wording.listed(missed)} had no validation images to decide by: it was trained for all its "
            f"epochs and tested with its last weights.{remedy}"
        )
    if config["schedule"]["name"] == "plateau" and config["schedule"].get("reductions") is None:
        facts.append(f"The plateau schedule of the baseline watched the training loss, as the baseline {why}.")
    return facts


def _trial_of(run: RunData, config: Row) -> Row | None:
    """Return the row of a trial that started from the baseline and did not complete; None if there is none."""
    from winnow.spaces.identity import same_training

    started = [row for row in run.trial_rows() if str(row["source"]).startswith(START_POINT) and row["config"]]
    open_or_failed = [row for row in started if row["status"] != TrialStatus.COMPLETED]
    return next((row for row in open_or_failed if same_training(json.loads(row["config"]), dict(config))), None)


def _other_views(baseline: Row, winner: Row) -> list[str]:
    first, second = views_of(winner), views_of(baseline)
    other = [key for key in VIEWS if first.get(key) != second.get(key)]
    keys = wording.listed([f"`{key}`" for key in other])
    return (
        [f"Winner {winner['rank']} was tested over other views of each image than the baseline ({keys})."]
        if other
        else []
    )
