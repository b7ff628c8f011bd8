"""Tells how many seeds the figures of a retrained config are from, in the search and in retraining, and which they leave out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from winnow.reports.statuses import STATUS_WORDS
from winnow.reports.text import wording
from winnow.spaces.epoch_figures import name_on_test_images
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData


OBJECTIVE, ACCURACY = "num_objective_seeds", "num_seeds"
"""The columns of `winners` that count the seeds with a value of the objective, and with a test accuracy: all that completed."""


def seeds_text(row: Mapping[str, Any], noun: str = "seed", of: str = OBJECTIVE) -> str:
    """Return the seeds that a mean is over, such as `3 seeds` or `3 of 5 seeds (1 did not complete, 1 without a value)`.

    Args:
        row: A row of `winners`.
        noun: The word for a seed in the singular. Default: `seed`.
        of: `OBJECTIVE` or `ACCURACY`, of which the mean is. Default: `OBJECTIVE`.
    """
    counts = {"did not complete": row["num_failed"], "without a value": row[ACCURACY] - row[of]}
    missing = _listed({reason: num for reason, num in counts.items() if num})
    return f"{of_all(row, of)} {noun}s ({missing})" if missing else wording.plural(row[of], noun)


def of_all(row: Mapping[str, Any], of: str = OBJECTIVE) -> str:
    """Return the number of seeds that a mean is over, such as `3`, or `3 of 5` if others have no value.

    Args:
        row: A row of `winners`.
        of: `OBJECTIVE` or `ACCURACY`, of which the mean is. Default: `OBJECTIVE`.
    """
    num_all = row[ACCURACY] + row["num_failed"]
    return f"{row[of]}" if row[of] == num_all else f"{row[of]} of {num_all}"


def search_value_text(run: RunData, row: Mapping[str, Any]) -> str:
    """Return the objective of a config in the search, such as `97.41 %`, or `97.41 % (mean of 2 of 3 repeats)` if it ran several times.

    Args:
        run: The run.
        row: A row of `winners`.
    """
    return with_repeats(wording.objective_text(run, row["search_objective"]), row)


def mean_of_repeats_text(row: Mapping[str, Any]) -> str:
    """Return the repeats that a value in the search is from, such as `mean of 2 of 3 repeats`; empty if the config ran once.

    Args:
        row: A row with `num_repeats`, the number of completed trials with the config, and `num_incomplete_repeats`.
    """
    num, of_all_repeats = row["num_repeats"], row["num_repeats"] + row["num_incomplete_repeats"]
    if of_all_repeats == 1:
        return ""
    of = f"{num} of {of_all_repeats}" if of_all_repeats > num else f"{num}"
    return f"{'from' if num == 1 else 'mean of'} {of} repeats"


def with_repeats(text: str, row: Mapping[str, Any]) -> str:
    """Return a text about a value in the search with its repeats, such as `97.41 % (mean of 2 of 3 repeats)`, if its config ran several times.

    Args:
        text: The text.
        row: A row as for `mean_of_repeats_text`.
    """
    repeats = mean_of_repeats_text(row)
    return f"{text} ({repeats})" if repeats else text


def repeats_text(winners: Iterable[Mapping[str, Any]]) -> str:
    """Return sentences about the repeats of the winners in the search; empty if none was repeated.

    Args:
        winners: Rows of `winners`.
    """
    rows = [row for row in winners if not row["baseline"]]
    missing = [row["num_incomplete_repeats"] for row in rows]
    if all(row["num_repeats"] == 1 for row in rows) and not any(missing):
        return ""
    of = [f" of the {row['num_repeats'] + num}" if num else "" for row, num in zip(rows, missing, strict=True)]
    counts = ", ".join(
        f"{row['num_repeats']}{all_} of winner {row['rank']}" for row, all_ in zip(rows, of, strict=True)
    )
    text = f"The search ranked each config by the mean of its completed repeats: {counts}."
    if any(missing):
        text += (
            " The others were stopped early, failed or have not ended. As the search stops the worse ones, a mean without them flatters its "
            "config."
        )
    return text


def left_out(run: RunData, winners: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return one sentence for each config whose figures leave some of its retrainings out.

    The mean, the interval and the gain then hold only for trainings that end well.

    Args:
        run: The run.
        winners: Rows of `winners`. Configs without any value are left out, since they have no figures.
    """
    texts = (left_out_text(run, row, "the baseline" if row["baseline"] else f"winner {row['rank']}") for row in winners)
    return list(filter(None, texts))


def left_out_text(run: RunData, winner: Mapping[str, Any], whose: str) -> str:
    """Return the sentence of `left_out` for one config; empty if its figures are from all retrainings.

    Args:
        run: The run.
        winner: A row of `winners`.
        whose: The config in words, such as `winner 1`.
    """
    reasons, num_all = _reasons(run, winner), winner[ACCURACY] + winner["num_failed"]
    num_missing = sum(reasons.values())
    if num_missing in (0, num_all):
        return ""
    verb = "has" if num_missing == 1 else "have"
    return (
        f"{num_missing} of the {num_all} retrainings of {whose} {verb} no {wording.tested_name(run)} ({_listed(reasons)}), so its "
        "figures describe only the others."
    )


def without_value_text(run: RunData, winner: Mapping[str, Any], whose: str) -> str:
    """Return that a config has no value of the objective on the test images, such as `winner 1 has no test AUROC (3 diverged)`.

    Args:
        run: The run.
        winner: A row of `winners` without a value.
        whose: The config in words, such as `winner 1`.
    """
    return f"{whose} has no {wording.tested_name(run)} ({_listed(_reasons(run, winner))})"


def _reasons(run: RunData, winner: Mapping[str, Any]) -> Counter[str]:
    """Count why retrainings of a config have no value of the objective on the test images."""
    tested = name_on_test_images(run.objective)
    rows = _retrains(run, winner)
    return Counter(_reason(row) for row in rows if row["status"] != TrialStatus.COMPLETED or row[tested] is None)


def of_completed(run: RunData, winner: Mapping[str, Any], column: str) -> list[Any]:
    """Return the known values of a column of `retrains` for the completed retrainings of one config.

    Args:
        run: The run.
        winner: A row of `winners`.
        column: The column, such as `num_epochs`.
    """
    rows = [row for row in _retrains(run, winner) if row["status"] == TrialStatus.COMPLETED]
    return [row[column] for row in rows if row[column] is not None]


def _retrains(run: RunData, winner: Mapping[str, Any]) -> list[dict[str, Any]]:
    keys = ("rank", "trial", "baseline")
    return [row for row in run.retrain_rows() if all(row[key] == winner[key] for key in keys)]


def _reason(row: Mapping[str, Any]) -> str:
    return "without a value" if row["status"] == TrialStatus.COMPLETED else STATUS_WORDS[row["status"]]


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{num} {reason}" for reason, num in reasons.items())
