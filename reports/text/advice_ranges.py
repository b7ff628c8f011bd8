"""Advises on ranges whose best values are close to an end that may be moved, and on ranges in which trainings diverge."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from winnow.reports.statuses import value_at_end
from winnow.reports.text import wording
from winnow.spaces.grammar.nodes import draw
from winnow.spaces.space import AtLeast, Space, validate
from winnow.spaces.stub_trials import completions
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData
    from winnow.spaces.space import Parameter

Row = dict[str, Any]

NEAR = 0.1
"""Distance from an end, as a share of the range, up to which a value counts as close to it."""
WIDER = 0.3
"""Share of the range by which it is widened."""
MIN_TRIALS = 4
"""Number of trials needed for advice on a range."""
LOWER = 100
"""Factor by which the lower end of the learning rate is lowered if all trainings diverged."""
PURE = 0.8
"""Minimum share of diverged trials above a value, and of other trials below it, for the value to be advised as the upper end."""


@dataclass(frozen=True)
class Change:
    """A change of one range, with its reason."""

    text: str
    override: str
    """The value of `--set` that makes the change."""


def changed_command(run: RunData, change: Change) -> str:
    """Return the command that continues the run in a changed space, with a quarter more trials but at least `MIN_TRIALS`.

    Args:
        run: The run.
        change: The change of one range.
    """
    trials = max(MIN_TRIALS, len(run.trial_rows()) // 4)
    more = ("--trials", str(trials), "--set", change.override, "--accept-space-change")
    return wording.command("extend", run.path, *more)


def wider_ranges(run: RunData, trials: Sequence[Row]) -> Iterator[Change]:
    """Advise to widen a numeric range if most of the best quarter of the trials lie close to one end and the schema allows more.

    Trials are ranked by their value after the full training. If that of stopped trials is not estimated, only completed ones count:
    values of different epochs would favour the parameters that speed up learning.

    Args:
        run: The run.
        trials: Rows of the table `trials` that did not fail.
    """
    estimated = any(row["estimated_end"] is not None for row in trials)
    ended = [row for row in trials if row["status"] == TrialStatus.COMPLETED or row["estimated_end"] is not None]
    ranked = sorted(ended, key=value_at_end, reverse=run.maximize)
    best = ranked[: max(MIN_TRIALS, len(ranked) // 4)]
    kind = "trials" if estimated else "completed trials"
    about = " Trials that did not complete count by their estimated value after the full training." if estimated else ""
    columns = _columns(run.space)
    for parameter in run.space.parameters():
        low, high = getattr(parameter.domain, "low", None), getattr(parameter.domain, "high", None)
        values = [row[parameter.path] for row in best if _had(row, parameter, columns)]
        if low is None or high is None or low >= high or len(values) < MIN_TRIALS:
            continue
        for end, name in ((low, "lower"), (high, "upper")):
            near = sum(_distance(value, end, low, high, parameter.domain.is_log) <= NEAR for value in values)
            if near <= len(values) / 2:
                continue
            wider = _beyond(run.space, parameter, end, other=high if end == low else low)
            if wider is not None:
                override = _override(parameter, *((wider, high) if end == low else (low, wider)))
                text = (
                    f"{parameter.study_name}: {near} of the best {len(values)} {kind} are close to the {name} end of the range ({end:g}). "
                    f"Widen it to {wider:g}.{about}"
                )
                yield Change(text, override)


def converging_range(run: RunData, ran: Sequence[Row]) -> Change | None:
    """Advise to lower the upper end of a range above which most trainings diverge.

    Args:
        run: The run, with its space.
        ran: Rows of the trials that were started.

    Returns:
        The change of the first logarithmic range that fits; None if no value separates diverged
        from other trials. If all trials diverged, the change is to lower learning rates, the most frequent cause.
    """
    columns = _columns(run.space)
    num_diverged = sum(row["status"] == TrialStatus.DIVERGED for row in ran)
    if not num_diverged:
        return None
    if num_diverged == len(ran):
        return _lower_rates(run, ran, columns)
    for parameter in run.space.parameters():
        if not parameter.domain.is_log:
            continue
        diverged, sound = (
            sorted(
                row[parameter.path]
                for row in ran
                if (row["status"] == TrialStatus.DIVERGED) is it and _had(row, parameter, columns)
            )
            for it in (True, False)
        )
        if len(diverged) < MIN_TRIALS - 1 or not sound:
            continue
        limit = _rounded(diverged[len(diverged) // 10] * 0.999, down=True)
        below = sum(value <= limit for value in sound)
        low = getattr(parameter.domain, "low", 0.0)
        if below >= PURE * len(sound) and below and limit > low:
            above = sum(value > limit for value in diverged)
            text = (
                f"{above} of the {len(diverged)} diverged trials with {parameter.study_name} have it above {limit:g}, and {below} of the "
                f"{len(sound)} others below. End the range there."
            )
            return Change(text, _override(parameter, low, limit))
    return None


def _lower_rates(run: RunData, diverged: Sequence[Row], columns: dict[str, str]) -> Change | None:
    """Advise to search learning rates below the lowest of trials that all diverged; None if there are few, or no rate is open."""
    rates = [each for each in run.space.parameters() if each.domain.is_log and each.study_name.endswith(".lr")]
    values = {rate: [row[rate.path] for row in diverged if _had(row, rate, columns)] for rate in rates}
    rate = max(rates, key=lambda rate: len(values[rate]), default=None)
    if rate is None or len(values[rate]) < MIN_TRIALS - 1:
        return None
    least = min(values[rate])
    high, low = (
        _rounded(least * 0.999, down=True),
        _rounded(min(least, getattr(rate.domain, "low", least)) / LOWER, down=True),
    )
    if not _allowed(run.space, rate, low):
        return None
    text = (
        f"All {len(diverged)} trials that ran diverged, with {rate.study_name} down to {least:.2g}. Lower learning rates diverge less "
        f"often. Search them from {low:g} to {high:g}."
    )
    return Change(text, _override(rate, low, high))


def _columns(space: Space) -> dict[str, str]:
    return {parameter.study_name: parameter.path for parameter in space.parameters()}


def _override(parameter: Parameter, low: float, high: float) -> str:
    """Return `PATH=DOMAIN` with new ends, such as `optimizer.sgd.lr={"log": [0.001, 1.0]}`."""
    tree = {
        kind: [low, high] for kind in parameter.domain.to_tree() if kind != "step"
    }  # the new ends may not be on the old grid
    return f"{re.sub(r'[.][0-9]+(?=[.]|$)', '', parameter.study_name)}={json.dumps(tree)}"


def _beyond(space: Space, parameter: Parameter, end: float, other: float) -> float | None:
    """Return a value beyond one end of a range, as far as the schema allows; None if it allows none."""
    for share in (WIDER, WIDER / 2, WIDER / 4, WIDER / 8):
        if parameter.domain.arrow_kind == "int":
            value: float = end + math.copysign(max(1, round(share * abs(end - other))), end - other)
            value = int(value)
        elif parameter.domain.is_log:
            value = _rounded(end * (end / other) ** share, down=end < other)
        else:
            value = _rounded(end + share * (end - other), down=end < other)
        if value != end and _allowed(space, parameter, value):
            return value
    return None


def _allowed(space: Space, parameter: Parameter, value: float) -> bool:
    """Return whether the schema allows the value."""
    fixed = {**dict(parameter.conditions), parameter.study_name: value}
    problems = validate(draw(space.root, next(completions(fixed, 0))))[1]
    return all(problem.of_combination for problem in problems)


def _rounded(value: float, down: bool) -> float:
    """Return the value rounded to two significant digits, away from the middle of the range."""
    if not value:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return float(f"{(math.floor if down else math.ceil)(value / unit + (1e-9 if down else -1e-9)) * unit:.12g}")


def _had(row: Row, parameter: Parameter, columns: dict[str, str]) -> bool:
    """Return whether the trial had this parameter. Branches share a column: `optimizer.lr` belongs to Adam or to SGD."""
    if row.get(parameter.path) is None:
        return False
    conditions = [(row[columns[name]], value) for name, value in parameter.conditions]
    return all(actual >= value.count if isinstance(value, AtLeast) else actual == value for actual, value in conditions)


def _distance(value: float, end: float, low: float, high: float, is_log: bool) -> float:
    """Return the distance of a value from an end, as a share of the range."""
    if is_log:
        value, end, low, high = (math.log(x) for x in (value, end, low, high))
    return abs(value - end) / (high - low)
