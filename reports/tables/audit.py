"""Creates the rows of the audit: how well the values at the rungs predict the final values, and how often a stop was wrong.

The value of a trial at a rung is the one that the rung judged. Its final value is its objective with the weights that it keeps: the
value in the study for a completed trial, the value reached after the stop for an audited one. A stop is *wrong* if the trial, trained
to completion, ends strictly better than the median of the trials that the search completed: it beats most of those that were preferred
to it. A stop *missed the best* if the trial ends strictly better than the best of them. Stopping a trial that diverges later was right.

Only the seed and the trial number decide whether a trial is audited. The audited trials that finished, whether stopped before or
not, are therefore a random sample of all trials, and their rank correlation has no selection bias. The correlation over all finished
trials uses more trials but is biased towards survivors. Both are reported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from winnow.reports.tables.trials import audit_ends, finite_values, search_epochs, status_of
from winnow.reports.values import finite

if TYPE_CHECKING:
    from winnow.reports.run_data import RunRecords

Row = dict[str, Any]


def audit_rows(run: RunRecords) -> list[Row]:
    """Return one row per rung and one for all rungs together, whose `rung` is None; no rows if the run has no audit.

    Only trials in the current space count: trials of an earlier space were compared with others and may have been trained for fewer epochs.
    """
    if not run.settings.get("audit"):
        return []
    inside = [trial for trial in run.study_trials if trial.number not in run.outside]
    numbers = {trial.number for trial in inside}
    searched = {trial: lines for trial, lines in search_epochs(run).items() if trial in numbers}
    judged = {trial.number: finite_values(trial) for trial in inside}
    completed = {
        trial.number: finite(trial.values[0]) for trial in inside if status_of(trial) == "completed" and trial.values
    }
    audited = {trial: end for trial, end in audit_ends(run).items() if trial in numbers}
    sampled = {trial.number for trial in inside if trial.user_attrs.get("audited")}
    stops = {
        trial.number: searched[trial.number][-1]["epoch"]
        for trial in inside
        if status_of(trial) == "stopped" and searched.get(trial.number)
    }
    rows = []
    for rung, epoch in enumerate(run.rungs):
        stopped_here = [trial for trial, stop in stops.items() if stop == epoch]
        values = {trial: by_epoch[epoch] for trial, by_epoch in judged.items() if epoch in by_epoch}
        ends = {trial: end for trial, end in {**completed, **audited}.items() if end is not None and trial in values}
        of_sample = {trial: end for trial, end in ends.items() if trial in sampled}
        rows.append(
            {
                **_stops(run, stopped_here, audited, completed),
                "rung": rung,
                "epoch": epoch,
                **_correlations(values, of_sample, "sampled"),
                **_correlations(values, ends, "finished"),
            }
        )
    correlations = {f"{kind}_{which}": None for kind in ("spearman", "kendall") for which in ("sampled", "finished")}
    total = {"num_sampled": None, "num_finished": None, **correlations, "rung": None, "epoch": None}
    return [*rows, _stops(run, list(stops), audited, completed) | total]


def _stops(
    run: RunRecords, stopped: Sequence[int], audited: Mapping[int, float | None], completed: Mapping[int, float | None]
) -> Row:
    """Count the stopped trials, those audited to completion, and the wrong stops among the latter."""
    ends = [audited[trial] for trial in stopped if trial in audited]
    bars = [end for end in completed.values() if end is not None]
    counts: Row = {"run": run.name, "num_stopped": len(stopped), "num_audited": len(ends)}
    empty = dict.fromkeys(("num_wrong", "num_missed_best", "wrong_rate", "wrong_low", "wrong_high"))
    if not bars:
        return counts | empty
    sign = 1 if run.maximize else -1
    bar, best = sign * median(bars), max(sign * value for value in bars)
    num_wrong = sum(end is not None and sign * end > bar for end in ends)
    missed = sum(end is not None and sign * end > best for end in ends)
    low, high = _interval(num_wrong, len(ends))
    rate = num_wrong / len(ends) if ends else None
    wrong = {"num_wrong": num_wrong, "num_missed_best": missed, "wrong_rate": rate}
    return counts | wrong | {"wrong_low": low, "wrong_high": high}


def _interval(num_wrong: int, num: int) -> tuple[float | None, float | None]:
    """Return the exact 95 % interval of a proportion (Clopper and Pearson, 1934)."""
    if not num:
        return None, None
    from scipy.special import betaincinv

    low = 0.0 if not num_wrong else float(betaincinv(num_wrong, num - num_wrong + 1, 0.025))
    high = 1.0 if num_wrong == num else float(betaincinv(num_wrong + 1, num - num_wrong, 0.975))
    return low, high


def _correlations(values: Mapping[int, float], ends: Mapping[int, float], which: str) -> Row:
    """Return Spearman's rho and Kendall's tau-b between the values at a rung and the final values; None for fewer than three trials."""
    pairs = [(values[trial], end) for trial, end in ends.items()]
    result: Row = {f"num_{which}": len(pairs), f"spearman_{which}": None, f"kendall_{which}": None}
    if len(pairs) < 3 or any(len(set(side)) == 1 for side in zip(*pairs, strict=True)):
        return result
    from scipy.stats import kendalltau, spearmanr

    at_rung, at_end = zip(*pairs, strict=True)
    for name, correlation in (("spearman", spearmanr), ("kendall", kendalltau)):
        value = float(correlation(at_rung, at_end).statistic)
        result[f"{name}_{which}"] = value if math.isfinite(value) else None
    return result
