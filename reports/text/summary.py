"""The run in sentences: what was searched, what won, by how much, what it cost, what to try next."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from winnow.reports.statuses import FAILED_STATUSES
from winnow.reports.text import wording
from winnow.reports.text.audit import audit_sentence
from winnow.reports.text.terminal import best_first
from winnow.spaces.space import AtLeast

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData
    from winnow.spaces.space import Parameter

Row = dict[str, Any]


def sentences(run: RunData) -> list[str]:
    """The summary, plain text, one fact after another."""
    trials = run.rows("trials")
    winners = run.rows("winners")
    found = [_search_sentence(run, trials), _best_sentence(run, trials), *_winner_sentences(run, winners)]
    audited = audit_sentence(run)
    facts = (*found, _cost_sentence(run, trials), _retrain_cost(run), audited)
    return [sentence for sentence in facts if sentence]


def _search_sentence(run: RunData, trials: list[Row]) -> str:
    text = f"Searched {wording.searched_text(run)}. {wording.counts_text(wording.status_counts(trials))}."
    if run.outside:
        text += f" {wording.plural(len(run.outside), 'trial')} of an earlier space of the run lie outside that of now and compete with none."
    asked = run.settings.get("trials")
    unfinished = sum(row["status"] == "running" for row in trials)
    if unfinished or (asked and len(trials) < asked):
        text += f" {asked} trials were asked for: the search is still running, or was cut short and can be resumed."
    return text


def _best_sentence(run: RunData, trials: list[Row]) -> str:
    ranked = best_first(run, trials)
    if not ranked:
        return "No trial has finished an epoch yet, so there is nothing to compare."
    best = ranked[0]
    of = "completed trial" if best["status"] == "completed" else "unfinished trial, as none completed yet,"
    value = wording.objective_text(run, best["objective"])
    return f"The best {of} is trial {best['trial']} with a {wording.objective_name(run)} of {value}."


def _winner_sentences(run: RunData, winners: list[Row]) -> list[str]:
    tested = [row for row in winners if row["test_accuracy"] is not None and not row["baseline"]]
    if not tested:
        return ["No winner was retrained yet, so nothing is known of the test images."]
    first = tested[0]
    text = _interval(first)
    text = (
        f"Retrained on training and validation images with {wording.plural(first['num_seeds'], 'fresh seed')}, the winner "
        f"(trial {first['trial']}) recognises {text} of the test images."
    )
    found = [text]
    if len(tested) > 1:
        found.append(
            f"The ranks are those of the search. Choosing among the {len(tested)} winners by their test accuracy would "
            "flatter the choice: the highest of several measurements lies above its true value on average."
        )
    if first["gain"] is not None:
        found.append(_gain_sentence(first))
    if first["gap"] is not None:
        found.append(
            f"The search had promised {wording.percent(first['search_accuracy'])}, so the search-to-retrain gap is "
            f"{wording.points(first['gap'])}."
        )
    return found


def _interval(row: Row) -> str:
    if row["test_accuracy_low"] is None:
        return f"{wording.percent(row['test_accuracy'])} (one seed, so no interval)"
    low, high = 100 * row["test_accuracy_low"], 100 * row["test_accuracy_high"]
    return f"{wording.percent(row['test_accuracy'])} (95 % interval {low:.2f} to {high:.2f} {wording.basis(row)})"


def _gain_sentence(row: Row) -> str:
    points = f"{100 * abs(row['gain']):.2f}"
    side = "above" if row["gain"] >= 0 else "below"
    where = "level with" if points == "0.00" else f"{points} points {side}"
    text = f"That is {where} the baseline trained under the same protocol"
    if row["gain_low"] is None:
        return f"{text}; {wording.NO_INTERVAL}."
    low, high = 100 * row["gain_low"], 100 * row["gain_high"]
    verdict = ", so the two cannot be told apart" if low <= 0 <= high else ""
    return f"{text} (95 % interval {low:+.2f} to {high:+.2f}){verdict}."


def _cost_sentence(run: RunData, trials: list[Row]) -> str:
    epochs = sum(row["num_epochs"] for row in trials)
    if not epochs:
        return ""
    times = [row[key] for row in trials for key in ("started", "ended") if row[key] is not None]
    wall = (max(times) - min(times)).total_seconds() if len(times) > 1 else None
    text = f"The search trained {wording.plural(epochs, 'epoch')}"
    ran = sum(row["status"] != "skipped" for row in trials)
    full = ran * int(run.settings.get("max_epochs") or 0)
    if full > epochs:
        text += f" ({100 * epochs / full:.0f} % of what {ran} full trainings take)"
    seconds = wording.duration(sum(row["train_seconds"] for row in trials))
    return f"{text}: {seconds} of training{_device_hours(run)}" + (
        f" within {wording.duration(wall)}." if wall else "."
    )


def _device_hours(run: RunData) -> str:
    """` (1.30 GPU-hours)`; empty where no GPU was held, or that was not recorded."""
    columns = run.columns("epochs", ("phase", "gpus", "wall_seconds")).values()
    held = (
        (gpus or 0.0) * (seconds or 0.0) for phase, gpus, seconds in zip(*columns, strict=True) if phase == "search"
    )
    hours = math.fsum(held) / 3600
    return f" ({hours:.2f} GPU-hours)" if hours else ""


def _retrain_cost(run: RunData) -> str:
    seconds = [row["wall_seconds"] or 0.0 for row in run.rows("retrains")]
    if not seconds:
        return ""
    return (
        f"Retraining took {wording.plural(len(seconds), 'training')} and {wording.duration(math.fsum(seconds))} more."
    )


def advice(run: RunData) -> list[str]:
    """What to try next, each with its reason; empty before the first epoch."""
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
    """A search that was cut short, was not retrained, or was still getting better when it ended."""
    completed = [row for row in trials if row["status"] == "completed"]
    asked = run.settings.get("trials") or 0
    if len(trials) < asked or any(row["status"] == "running" for row in trials):
        return [f"The search is not at its end. If nobody works on it: `winnow resume {run.path}`"]
    if completed and not winners:
        return [f"Retrain the best, so that the test images can say how good they are: `winnow retrain {run.path}`"]
    best = best_first(run, trials)[0]["trial"]
    if len(trials) >= 10 and best >= 0.8 * len(trials):
        return [
            f"The best trial, {best}, came among the last of {len(trials)}: more trials may find a better one, `winnow extend {run.path} --trials {len(trials)}`."
        ]
    return []


def _advice_on_reuse(run: RunData) -> list[str]:
    config = run.path / "report" / "winner.yaml"
    return [f"Let the next search begin with what was found here: `start_from: [{config}]` in its space."]


def _advice_on_winners(winners: list[Row]) -> list[str]:
    tested = [row for row in winners if row["test_accuracy_low"] is not None and not row["baseline"]]
    found = []
    if (
        tested
        and tested[0]["search_accuracy"] is not None
        and tested[0]["search_accuracy"] > tested[0]["test_accuracy_high"]
    ):
        found.append(
            f"The search promised more than the test images gave (gap {wording.points(tested[0]['gap'])}, beyond the interval): "
            "a larger validation share (data.validation) chooses more reliably."
        )
    if tested and tested[0]["gain_low"] is not None and tested[0]["gain_low"] <= 0 <= tested[0]["gain_high"]:
        found.append(
            "The interval of the gain holds 0: retrain with more seeds before preferring the winner to the baseline."
        )
    if len(tested) > 1 and tested[1]["test_accuracy_high"] >= tested[0]["test_accuracy_low"]:
        smallest = min(tested, key=lambda row: (row["num_parameters"] or math.inf, row["rank"]))
        if smallest is not tested[0] and smallest["test_accuracy_high"] >= tested[0]["test_accuracy_low"]:
            found.append(
                f"The intervals of the winners overlap: number {smallest['rank']} has {wording.count(smallest['num_parameters'])} "
                f"weights against {wording.count(tested[0]['num_parameters'])} and may serve as well."
            )
    return found


def _advice_on_edges(run: RunData, trials: list[Row], least: int = 4) -> list[str]:
    """A numeric domain at whose end most of the best quarter of the trials lie."""
    ranked = best_first(run, trials)
    best = ranked[: max(least, len(ranked) // 4)]
    found = []
    columns = {parameter.study_name: parameter.path for parameter in run.space.parameters()}
    for parameter in run.space.parameters():
        low, high = getattr(parameter.domain, "low", None), getattr(parameter.domain, "high", None)
        values = [row[parameter.path] for row in best if _had(row, parameter, columns)]
        if low is None or high is None or low >= high or len(values) < least:
            continue
        for end, name in ((low, "lowest"), (high, "highest")):
            near = sum(_distance(value, end, low, high, parameter.domain.is_log) <= 0.1 for value in values)
            if near > len(values) / 2:
                found.append(
                    f"{parameter.study_name}: {near} of the best {len(values)} trials lie at the {name} end ({end:g}): "
                    "widen the range there."
                )
    return found


def _had(row: Row, parameter: Parameter, columns: dict[str, str]) -> bool:
    """Whether the trial drew this parameter: branches share a column, as `optimizer.lr` is that of Adam or of SGD."""
    if row.get(parameter.path) is None:
        return False
    chosen = [(row[columns[name]], value) for name, value in parameter.conditions]
    return all(has >= value.count if isinstance(value, AtLeast) else has == value for has, value in chosen)


def _distance(value: float, end: float, low: float, high: float, is_log: bool) -> float:
    """Distance from an end as a share of the domain."""
    if is_log:
        value, end, low, high = (math.log(x) for x in (value, end, low, high))
    return abs(value - end) / (high - low)


def _advice_on_failures(trials: list[Row]) -> list[str]:
    ran = [row for row in trials if row["status"] != "skipped"]
    failed = [row for row in ran if row["status"] in FAILED_STATUSES]
    if len(failed) * 10 <= len(ran):
        return []
    return [f"{len(failed)} of {len(ran)} trials did not end well: see Failures, and narrow the space there."]
