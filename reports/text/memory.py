"""Describes what a search learned from earlier runs."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any

from winnow.reports.statuses import UNRANKED_STATUSES
from winnow.reports.text import wording

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData


@dataclass(frozen=True)
class EarlierRun:
    """The use of one earlier run in a search.

    Attributes:
        name: Name of the run.
        facts: A row of the table `memory` about the run.
        weight: Mean weight of the run over the suggestions of this search.
        main_for: (trial, share) of the suggestions to which the run contributed most, in order, without those in `without_result`.
        without_result: The trials among the suggestions to which the run contributed most that gave no result: they failed or were
            infeasible.
    """

    name: str
    facts: dict[str, Any]
    weight: float
    main_for: list[tuple[int, float]]
    without_result: list[int]


def earlier_runs(run: RunData) -> list[EarlierRun]:
    """Summarize each earlier run, starting with the largest weight; empty if the search learned from no run."""
    if not run.study.get("earlier_runs"):
        return []
    rows = run.rows("memory")
    failed = _without_result(run)
    largest: dict[int, float] = {}
    for row in rows:
        largest[row["trial"]] = max(largest.get(row["trial"], 0.0), row["share"] or 0.0)
    summaries = []
    for name in dict.fromkeys(row["earlier_run"] for row in rows):
        own = [row for row in rows if row["earlier_run"] == name]
        main = [(r["trial"], r["share"]) for r in own if r["share"] and r["share"] == largest[r["trial"]]]
        main_for = [each for each in main if each[0] not in failed]
        without_result = [trial for trial, _ in main if trial in failed]
        summaries.append(EarlierRun(name, own[0], mean(row["weight"] for row in own), main_for, without_result))
    return sorted(summaries, key=lambda each: -each.weight)


def memory_sentence(run: RunData) -> str:
    """Return a sentence about the earlier runs that the search learned from, and their weights; empty if there are none."""
    summaries = earlier_runs(run)
    if not summaries:
        return ""
    trials = {row["trial"] for row in run.rows("memory")}
    suggested = {row["trial"] for row in run.rows("memory") if row["share"] is not None}
    failed = suggested & _without_result(run)
    apart = f" ({len(failed)} of these failed or {'was' if len(failed) == 1 else 'were'} infeasible)" if failed else ""
    weights = wording.listed([f"{each.name} ({each.weight:.2f})" for each in summaries])
    return (
        f"The search learned from {wording.plural(len(summaries), 'earlier run')}, which suggested {len(suggested)} of "
        f"{wording.plural(len(trials), 'trial')}{apart}; mean weights: {weights}."
    )


def _without_result(run: RunData) -> set[int]:
    """Return the trials that failed or were infeasible, so that their configs were suggested but not compared with others."""
    return {row["trial"] for row in run.trial_rows() if row["status"] in UNRANKED_STATUSES}
