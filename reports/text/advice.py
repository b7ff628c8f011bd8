"""Advice on what to try next, each piece with its reason."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from winnow.reports.statuses import FAILED_STATUSES
from winnow.reports.text import wording
from winnow.reports.text.terminal import best_first
from winnow.spaces.grammar.nodes import draw
from winnow.spaces.space import AtLeast, Space, validate
from winnow.spaces.stub_trials import completions

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData
    from winnow.spaces.space import Parameter

Row = dict[str, Any]

NEAR = 0.1
"""Distance from an end, as a share of the range, up to which a value counts as close to it."""
MIN_TRIALS = 4
"""Trials needed for advice on a range."""


def advice(run: RunData) -> list[str]:
    """Suggest what to try next, each suggestion with its reason; empty before the first finished epoch."""
    trials, winners = run.rows("trials"), run.rows("winners")
    if not best_first(run, trials):
        return []
    return [
        *_advice_on_the_end(run, trials, winners),
        *_advice_on_winners(winners),
        *_advice_on_edges(run, trials),
        *_advice_on_failures(trials),
        *_advice_on_reuse(run),
    ]


def _advice_on_the_end(run: RunData, trials: list[Row], winners: list[Row]) -> list[str]:
    """Advice for a search that was interrupted, was not retrained, or was still improving when it ended."""
    completed = [row for row in trials if row["status"] == "completed"]
    planned = run.settings.get("trials") or 0
    if len(trials) < planned or any(row["status"] == "running" for row in trials):
        return [
            f"The search has not finished. If it is not running, resume it: `{wording.command('resume', run.path)}`"
        ]
    if completed and not winners:
        return [f"Retrain the best trials to measure their test accuracy: `{wording.command('retrain', run.path)}`"]
    best = best_first(run, trials)[0]["trial"]
    if len(trials) >= 10 and best >= 0.8 * len(trials):
        return [
            f"The best trial, {best}, was among the last of {len(trials)}, so more trials may find a better one: `{wording.command('extend', run.path)} --trials {len(trials)}`"
        ]
    return []


def _advice_on_reuse(run: RunData) -> list[str]:
    config = run.path / "report" / "winner.yaml"
    return [f"To start the next search from this winner, put `start_from: [{config}]` into its space."]


def _advice_on_winners(winners: list[Row]) -> list[str]:
    tested = [row for row in winners if row["test_accuracy_low"] is not None and not row["baseline"]]
    suggestions = []
    if (
        tested
        and tested[0]["search_accuracy"] is not None
        and tested[0]["search_accuracy"] > tested[0]["test_accuracy_high"]
    ):
        suggestions.append(
            f"The validation accuracy in the search lies above the interval of the test accuracy (gap {wording.points(tested[0]['gap'])}): "
            "a larger validation split (data.validation) makes the selection more reliable."
        )
    if tested and tested[0]["gain_low"] is not None and tested[0]["gain_low"] <= 0 <= tested[0]["gain_high"]:
        suggestions.append(
            "The interval of the gain contains 0: the test shows no difference to the baseline, so prefer the one that is smaller or "
            "faster. Do not add seeds until the interval excludes 0: that would find a difference where none is."
        )
    if len(tested) > 1 and tested[1]["test_accuracy_high"] >= tested[0]["test_accuracy_low"]:
        smallest = min(tested, key=lambda row: (row["num_parameters"] or math.inf, row["rank"]))
        if smallest is not tested[0] and smallest["test_accuracy_high"] >= tested[0]["test_accuracy_low"]:
            suggestions.append(
                f"The intervals of the winners overlap: winner {smallest['rank']} has {wording.count(smallest['num_parameters'])} "
                f"weights instead of {wording.count(tested[0]['num_parameters'])} and may be as good."
            )
    return suggestions


def _advice_on_edges(run: RunData, trials: list[Row]) -> list[str]:
    """Advice for a numeric range if most of the best quarter of the trials lie close to one end and the schema allows more."""
    ranked = best_first(run, trials)
    best = ranked[: max(MIN_TRIALS, len(ranked) // 4)]
    suggestions = []
    columns = {parameter.study_name: parameter.path for parameter in run.space.parameters()}
    for parameter in run.space.parameters():
        low, high = getattr(parameter.domain, "low", None), getattr(parameter.domain, "high", None)
        values = [row[parameter.path] for row in best if _had(row, parameter, columns)]
        if low is None or high is None or low >= high or len(values) < MIN_TRIALS:
            continue
        for end, name in ((low, "lower"), (high, "upper")):
            near = sum(_distance(value, end, low, high, parameter.domain.is_log) <= NEAR for value in values)
            if near > len(values) / 2 and _can_widen(run.space, parameter, end, other=high if end == low else low):
                suggestions.append(
                    f"{parameter.study_name}: {near} of the best {len(values)} trials are close to the {name} end "
                    f"of the range ({end:g}): widen the range there."
                )
    return suggestions


def _can_widen(space: Space, parameter: Parameter, end: float, other: float) -> bool:
    """Whether the schema allows a value slightly beyond `end`, seen from the `other` end of the range."""
    if parameter.domain.arrow_kind == "int":
        beyond = end + (1 if end > other else -1)
    elif parameter.domain.is_log:
        beyond = end * (end / other) ** 0.01
    else:
        beyond = end + 0.01 * (end - other)
    fixed = {**dict(parameter.conditions), parameter.study_name: beyond}
    problems = validate(draw(space.root, next(completions(fixed, 0))))[1]
    return all(problem.of_combination for problem in problems)


def _had(row: Row, parameter: Parameter, columns: dict[str, str]) -> bool:
    """Whether the trial had this parameter. Branches share a column: `optimizer.lr` belongs to Adam or to SGD."""
    if row.get(parameter.path) is None:
        return False
    conditions = [(row[columns[name]], value) for name, value in parameter.conditions]
    return all(actual >= value.count if isinstance(value, AtLeast) else actual == value for actual, value in conditions)


def _distance(value: float, end: float, low: float, high: float, is_log: bool) -> float:
    """Distance of a value from an end, as a share of the range."""
    if is_log:
        value, end, low, high = (math.log(x) for x in (value, end, low, high))
    return abs(value - end) / (high - low)


def _advice_on_failures(trials: list[Row]) -> list[str]:
    ran = [row for row in trials if row["status"] != "skipped"]
    failed = [row for row in ran if row["status"] in FAILED_STATUSES]
    if len(failed) * 10 <= len(ran):
        return []
    return [
        f"{len(failed)} of {len(ran)} trials failed. See the section Failures, and remove their cause from the space."
    ]
