"""What the audit found: how well the rungs foretell the end, and how often a stop was wrong.

The end of a trial is its objective with the weights that it keeps: of a completed trial what the study was told, of an
audited one what it reached after its stop. A stop is *wrong* if the trial, let finish, ends strictly better than the median of
the trials that the search completed: it was better than most of those preferred to it. It *missed the best* if it ends
strictly better than the best of them. A trial that diverges after its stop was stopped rightly.

Whether a trial is audited follows from seed and number alone. The audited trials that finished, stopped before or not, are
therefore a random sample of all trials, and their rank correlation is not bent by the selection; that over all trials
that finished, where the survivors prevail, has more trials and is given beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from winnow.reports.html.markup import paragraph, table_html
from winnow.reports.tables.trials import finite, search_epochs, status_of, trial_rows
from winnow.reports.text import wording as words

if TYPE_CHECKING:
    from winnow.reports.reading.run import RunData

Row = dict[str, Any]


def audit_rows(run: RunData) -> list[Row]:
    """One row per rung, and one for all rungs together (`rung` None); none where the run has no audit.

    Of the trials in the space as it is now: those of an earlier one were compared with others, and maybe trained for fewer epochs.
    """
    if not run.settings.get("audit"):
        return []
    inside = [trial for trial in run.study_trials if trial.number not in run.outside]
    numbers = {trial.number for trial in inside}
    searched = {trial: lines for trial, lines in search_epochs(run).items() if trial in numbers}
    completed, audited = (
        {trial: end for trial, end in ends.items() if trial in numbers} for ends in _ends(run, search_epochs(run))
    )
    sampled = {trial.number for trial in inside if trial.user_attrs.get("audited")}
    stops = {
        trial.number: searched[trial.number][-1]["epoch"]
        for trial in inside
        if status_of(trial) == "stopped" and searched.get(trial.number)
    }
    rows = []
    for rung, epoch in enumerate(run.rungs):
        here = [trial for trial, stop in stops.items() if stop == epoch]
        values = {trial: v for trial, lines in searched.items() if (v := _value_at(run, lines, epoch)) is not None}
        ends = {trial: end for trial, end in {**completed, **audited}.items() if end is not None and trial in values}
        of_sample = {trial: end for trial, end in ends.items() if trial in sampled}
        rows.append(
            {
                **_stops(run, here, audited, completed),
                "rung": rung,
                "epoch": epoch,
                **_correlations(values, of_sample, "sampled"),
                **_correlations(values, ends, "finished"),
            }
        )
    nothing = {f"{kind}_{which}": None for kind in ("spearman", "kendall") for which in ("sampled", "finished")}
    total = {"num_sampled": None, "num_finished": None, **nothing, "rung": None, "epoch": None}
    return [*rows, _stops(run, list(stops), audited, completed) | total]


def _ends(run: RunData, searched: Mapping[int, list[Row]]) -> tuple[dict[int, float | None], dict[int, float | None]]:
    """End values of the completed and of the finished audited trials; None where an audited one diverged."""
    completed = {
        trial.number: finite(trial.values[0])
        for trial in run.study_trials
        if status_of(trial) == "completed" and trial.values
    }
    audited: dict[int, float | None] = {}
    for trial, lines in audit_epochs(run).items():
        last = lines[-1]
        if last.get("diverged"):
            audited[trial] = None
        elif last.get("last"):
            kept = {line["epoch"]: line for line in [*searched.get(trial, []), *lines]}[last["weights_epoch"]]
            audited[trial] = finite(kept.get(run.objective))
    return completed, audited


def audit_epochs(run: RunData) -> dict[int, list[Row]]:
    """The epochs of each audited trial after its stop, in order."""
    found: dict[int, list[Row]] = {}
    for line in run.epoch_lines:
        if line["phase"] == "audit":
            found.setdefault(line["trial"], []).append(line)
    return {trial: sorted(lines, key=lambda line: line["epoch"]) for trial, lines in found.items()}


def audit_ends(run: RunData) -> dict[int, float | None]:
    """Trial -> the objective that it reached in the end, of the audited trials that finished; None: it diverged."""
    if run.stored:
        ends = zip(*run.columns("trials", ("trial", "audit_objective")).values(), strict=True)
        return {trial: end for trial, end in ends if end is not None}
    return _ends(run, search_epochs(run))[1]


def _value_at(run: RunData, lines: Sequence[Row], epoch: int) -> float | None:
    return next((finite(line.get(run.objective)) for line in lines if line["epoch"] == epoch), None)


def _stops(
    run: RunData, stopped: Sequence[int], audited: Mapping[int, float | None], completed: Mapping[int, float | None]
) -> Row:
    """How many of the trials stopped here were audited to their end, and how many of these stops were wrong."""
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
    found = {"num_wrong": num_wrong, "num_missed_best": missed}
    return counts | found | {"wrong_rate": rate, "wrong_low": low, "wrong_high": high}


def _interval(num_wrong: int, num: int) -> tuple[float | None, float | None]:
    """The exact 95 % interval of a share (Clopper and Pearson, 1934)."""
    if not num:
        return None, None
    from scipy.special import betaincinv

    low = 0.0 if not num_wrong else float(betaincinv(num_wrong, num - num_wrong + 1, 0.025))
    high = 1.0 if num_wrong == num else float(betaincinv(num_wrong + 1, num - num_wrong, 0.975))
    return low, high


def _correlations(values: Mapping[int, float], ends: Mapping[int, float], which: str) -> Row:
    """Spearman's rho and Kendall's tau-b between the values at a rung and at the end; None below three trials."""
    pairs = [(values[trial], end) for trial, end in ends.items()]
    found: Row = {f"num_{which}": len(pairs), f"spearman_{which}": None, f"kendall_{which}": None}
    if len(pairs) < 3 or any(len(set(side)) == 1 for side in zip(*pairs, strict=True)):
        return found
    from scipy.stats import kendalltau, spearmanr

    at_rung, at_end = zip(*pairs, strict=True)
    for name, correlation in (("spearman", spearmanr), ("kendall", kendalltau)):
        value = float(correlation(at_rung, at_end).statistic)
        found[f"{name}_{which}"] = value if math.isfinite(value) else None
    return found


def audit_sentence(run: RunData, rows: Sequence[Row]) -> str:
    """What the audit says of the stops, in plain words; empty where the run has none."""
    if not rows:
        return ""
    total, share = rows[-1], run.settings["audit"]
    waiting = sum(row["audited"] and row["status"] == "stopped" for row in trial_rows(run))
    text = f"The audit ({100 * share:g} % of all trials, by seed and number) let "
    text += f"{total['num_audited']} of {words.plural(total['num_stopped'], 'stopped trial')} finish"
    unfinished = waiting - total["num_audited"]
    text += f"; {unfinished} more are not finished yet." if unfinished else "."
    if total["wrong_rate"] is None:
        return text
    low, high = (round(100 * total[key]) for key in ("wrong_low", "wrong_high"))
    return (
        f"{text} {total['num_wrong']} of these {words.plural(total['num_audited'], 'stop')} {_were(total['num_wrong'])} wrong "
        f"(95 % interval of the rate {low} to {high} %), and {total['num_missed_best']} missed the best."
    )


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def audit_html(run: RunData) -> str:
    """The section's text and table; empty where the run has no audit."""
    rows = run.table("audit").to_pylist()
    if not rows:
        return ""
    columns = [
        "rung",
        "stopped",
        "audited",
        "wrong stops",
        "missed the best",
        "rho (n)",
        "tau (n)",
        "rho, all finished (n)",
    ]
    lines = [
        [
            "all" if row["rung"] is None else f"epoch {row['epoch']}",
            str(row["num_stopped"]),
            str(row["num_audited"]),
            _rate(row),
            words.number(row["num_missed_best"]),
            _correlation(row, "spearman", "sampled"),
            _correlation(row, "kendall", "sampled"),
            _correlation(row, "spearman", "finished"),
        ]
        for row in rows
    ]
    about = (
        "A stop was wrong if the trial, let finish, ended strictly better than the median of the completed trials; it missed the "
        "best if it ended strictly better than the best of them. In brackets: exact 95 % intervals. rho is Spearman's rank "
        "correlation between the objective at the rung and at the end, tau is Kendall's, over the audited trials that finished: "
        "a random sample of all. Over all that finished there are more trials, but the survivors prevail."
    )
    table = table_html(columns, lines, numeric=range(1, len(columns)))
    return paragraph(audit_sentence(run, rows)) + table + paragraph(about, "caption")


def _rate(row: Row) -> str:
    if row["wrong_rate"] is None:
        return "-"
    low, high = (round(100 * row[key]) for key in ("wrong_low", "wrong_high"))
    return f"{row['num_wrong']} of {row['num_audited']} ({low} to {high} %)"


def _correlation(row: Row, kind: str, which: str) -> str:
    value, num = row[f"{kind}_{which}"], row[f"num_{which}"]
    return "-" if num is None else f"{'-' if value is None else format(value, '.2f')} ({num})"
