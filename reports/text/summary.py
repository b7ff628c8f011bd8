"""Describes a run in sentences: the space, the winner, its gain, and the cost of the search."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from winnow.reports.facts import measure
from winnow.reports.tables.candidates import best_first, incumbent
from winnow.reports.text import wording
from winnow.reports.text.audit import audit_sentence
from winnow.reports.text.baseline import baseline_words, protocol_differences
from winnow.reports.text.earlier_tests import earlier_tests_text, no_winner_text
from winnow.reports.text.memory import memory_sentence
from winnow.reports.text.next_step import (
    ENDED_BY_REFUSALS,
    ENDED_BY_TIME,
    ENDED_EXHAUSTED,
    ENDED_WITHOUT_GAIN,
    all_failed_text,
    is_searched,
    retraining,
    retraining_text,
    shortage_of,
)
from winnow.reports.text.queries import FRONT
from winnow.reports.text.seeds import (
    ACCURACY,
    left_out,
    of_completed,
    repeats_text,
    search_value_text,
    seeds_text,
    with_repeats,
    without_value_text,
)
from winnow.spaces.epoch_figures import OWN_METRIC, is_maximized, is_share
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

Row = dict[str, Any]

ENDS = {
    ENDED_BY_TIME: "The search ended because its time budget was used up.",
    ENDED_WITHOUT_GAIN: "The search ended because further training was not worth its cost (`stop_when`).",
}
"""The reasons why a search ended before it had run all requested trials, in words."""
MAX_PAUSE = 60.0
"""Longest time between two epochs during which the search counts as running, in seconds."""


def sentences(run: RunData) -> list[str]:
    """Summarize the run in sentences, starting with the most important."""
    return [sentence for sentence, _ in (*cited_sentences(run), *cost_sentences(run))]


def cited_sentences(run: RunData) -> list[tuple[str, str]]:
    """Summarize the run in sentences, starting with the most important, each with the id of the query that returns its numbers.

    The cost is left out; see `cost_sentences`.
    """
    trials, winners = run.rows("trials"), run.rows("winners")
    facts = (
        (f"Searched {wording.searched_text(run)}.", "settings"),
        (_end_sentence(run, trials), "tiles"),
        (_shortage_sentence(run), "shortage"),
        (_best_sentence(run, trials), "best-config"),
        (_own_metric_sentence(run), ""),
        *((wording.one_class_trial(run, row), "best-trials") for row in best_first(run, trials)[:1]),
        *((text, FRONT) for text in wording.one_class_trials(run, best_first(run, trials)[1:], run.rows("front"))),
        (_front_sentence(run), FRONT if run.further else ""),
        *((sentence, "winners") for sentence in _winner_sentences(run)),
        *((sentence, "retrains") for sentence in left_out(run, winners)),
        (repeats_text(winners), "winners"),
        (earlier_tests_text(run), "earlier-tests"),
        (_retraining_sentence(run, trials), "retrains"),
        (_tf32_sentence(run, winners), ""),
        (ensemble_sentence(run), "ensemble"),
        *((wording.one_class_warning(row), "winners") for row in winners),
        (_majority_sentence(run, winners), "largest-class"),
        (audit_sentence(run), "audit"),
        (memory_sentence(run), "memory"),
    )
    return [(text, query if re.search(r"\d", text) else "") for text, query in facts if text]


def cost_sentences(run: RunData) -> list[tuple[str, str]]:
    """Return what the search and the retraining cost, as far as they ran, in sentences with the ids of their queries."""
    facts = (
        (_cost_sentence(run, run.rows("trials")), "cost"),
        (_audit_cost(run), "cost"),
        (_retrain_cost(run), "retraining-cost"),
    )
    return [(text, query) for text, query in facts if text]


def _end_sentence(run: RunData, trials: list[Row]) -> str:
    """Tell how the trials and the search ended."""
    text = f"{wording.counts_text(wording.status_counts(trials))}."
    if run.outside:
        verbs = ("lies", "is") if len(run.outside) == 1 else ("lie", "are")
        text += f" {wording.plural(len(run.outside), 'trial')} {verbs[0]} outside the current space and {verbs[1]} not ranked."
    ended = run.study.get("search_ended")
    if ended in ENDS:
        text += f" {ENDS[ended]}"
    elif not is_searched(run, trials):
        planned = run.settings.get("trials")
        asked = f"{planned} trials were requested: the" if planned and len(trials) < planned else "The"
        text += f" {asked} search is still running, or it was interrupted and can be resumed."
    return text


def _shortage_sentence(run: RunData) -> str:
    """Tell that the search ended because it found no further config; empty if it did not."""
    if run.study.get("search_ended") not in (ENDED_EXHAUSTED, ENDED_BY_REFUSALS):
        return ""
    return f"The search ended because {shortage_of(run)}."


def _best_sentence(run: RunData, trials: list[Row]) -> str:
    best = incumbent(run, trials)
    if best is None:
        if is_searched(run, trials):
            return "No trial finished an epoch with a value, so there is nothing to compare."
        return "No trial has finished an epoch yet, so there is nothing to compare."
    objective, text = wording.objective_name(run), wording.objective_text(run, best["objective"])
    if "repeats" in best:
        return f"The search ranks the config of trial {best['trial']} first, with a {objective} of {with_repeats(text, best)}."
    value = f"trial {best['trial']} with a {objective} of {text}"
    if best["status"] == TrialStatus.COMPLETED:
        return f"The best completed trial is {value}."
    return f"No trial has completed, so values after different numbers of epochs are compared: the best is {value}{wording.after_epochs(best)}."


def _own_metric_sentence(run: RunData) -> str:
    """Name the function of the custom metric; empty if it ranks no trials."""
    function = measure(run, OWN_METRIC) if OWN_METRIC in run.ranked_by else None
    if function is None:
        return ""
    name = function if isinstance(function, str) else function["name"]
    return f"The {wording.figure_words(OWN_METRIC)} is the value of `{name}`; higher is better."


def _front_sentence(run: RunData) -> str:
    """Describe the ends of the front of a search with several objectives."""
    rows = run.rows("front")
    if not rows:
        return ""
    ends = [rows[0]] + [_best_by(name, rows) for name in run.further]
    descriptions = []
    for row in {row["trial"]: row for row in ends}.values():
        others = ", ".join(wording.figure_fact(name, row[name]) for name in run.further)
        descriptions.append(f"trial {row['trial']} with {wording.objective_text(run, row['objective'])} ({others})")
    trials = wording.plural(len(rows), "trial")
    named = wording.listed([wording.figure_words(name) for name in run.ranked_by])
    if len(descriptions) == 1:
        what = "it is" if len(rows) == 1 else "the best in each of them is"
        return f"The front of {named} has {trials}; {what} {descriptions[0]}."
    return f"The front of {named} has {trials}; its ends are {wording.listed(descriptions)}."


def _best_by(name: str, rows: list[Row]) -> Row:
    """Return the first of the rows of `front` with the best value of an objective; the first row if none has a value."""
    known = [row for row in rows if row[name] is not None]
    return (max if is_maximized(name) else min)(known, key=lambda row: row[name], default=rows[0])


def _winner_sentences(run: RunData) -> list[str]:
    winners = run.rows("winners")
    tested = [row for row in winners if row["test_accuracy"] is not None and not row["baseline"]]
    if not tested and (failed := all_failed_text(run)):
        return [f"{failed}, so there is no {wording.tested_name(run)}."]
    if not tested:
        return [no_winner_text(run), *filter(None, [wording.no_baseline(run)])]
    first = tested[0]
    who = "the winner" if first["rank"] == 1 else f"winner {first['rank']}"
    untested = [row for row in winners if not (row["baseline"] or row["num_seeds"]) and row["num_failed"]]
    keeps = keeps_validation(run, first["rank"])
    facts = [
        *(
            f"No retraining of winner {row['rank']} (trial {row['trial']}) completed, so it was not tested."
            for row in untested
        ),
        _reached(run, first, who, keeps),
    ]
    if first["objective_gain"] is not None:
        facts.append(_gain_sentence(run, first, winners))
    elif reason := wording.without_baseline(run, winners):
        facts.append(reason)
    if run.objective == "validation_calibration_error":
        facts.append(
            "On few test images the calibration error is overestimated, even for a calibrated network, so its interval reaches "
            "further down than up. With fewer than 360 images it may still lie above the true value."
        )
    if run.objective != "validation_accuracy":
        interval = wording.interval_text(*(first[f"test_accuracy{end}"] for end in ("", "_low", "_high")))
        facts.append(f"The test accuracy of {who} is {interval}.")
    facts += decisions(run, first)
    facts += protocol_differences(run, winners)
    if several := wording.choosing_text(run, winners):
        facts.append(several)
    if first["objective_gap"] is not None:
        views = wording.views_text(first)
        facts.append(
            f"In the search the {wording.objective_name(run)} of {who} was {search_value_text(run, first)}, so the "
            f"search-to-retrain gap is {wording.difference_text(run, first['objective_gap'])}.{' ' * bool(views)}{views}"
        )
    return facts


def _reached(run: RunData, row: Row, who: str, keeps: bool) -> str:
    """Describe how a tested winner was retrained, and the objective that it reaches on the test images."""
    retrained, whose = f"Retrained on {wording.trained_images(keeps)} with", f"{who} (trial {row['trial']})"
    if row["test_objective"] is None:
        return f"{retrained} {seeds_text(row, 'fresh seed', ACCURACY)}, {without_value_text(run, row, whose)}."
    seeds, value = seeds_text(row, "fresh seed"), _interval(run, row)
    return f"{retrained} {seeds}, {whose} reaches a {wording.tested_name(run)} of {value}."


def _retraining_sentence(run: RunData, trials: list[Row]) -> str:
    """Describe the progress of an unfinished retraining; empty if there is none."""
    state = retraining(run, trials) if run.rows("retrains") else None
    return "" if state is None or state.is_finished else retraining_text(state)


def _tf32_sentence(run: RunData, winners: list[Row]) -> str:
    """Say that the winner's float32 was TensorFloat-32 in training; empty if it was not, or if it trained in another precision."""
    first = next((row for row in winners if row["rank"] == 1), None)
    if first is None or json.loads(first["config"]).get("precision") != "float32":
        return ""
    if not any(row["tf32"] for row in run.rows("retrains") if row["rank"] == 1):
        return ""
    return wording.tf32_text("the winner's training")


def ensemble_sentence(run: RunData) -> str:
    """Describe the ensemble of the winners, by its test accuracy and its cost; empty if there is none."""
    rows = run.rows("ensemble")
    if not rows:
        return ""
    (row,) = rows
    mean, low, high = (100 * row[key] for key in ("test_accuracy", "test_accuracy_low", "test_accuracy_high"))
    cost = "" if row["cost"] is None else f", at {row['cost']:.1f} times the multiply-adds of the winner"
    return (
        f"The mean of the probabilities of all {row['num_networks']} networks of {wording.plural(row['num_winners'], 'winner')} "
        f"reaches a test accuracy of {mean:.2f}\u00a0% (95 % interval {low:.2f} to {high:.2f} over the test images){cost}."
    )


def keeps_validation(run: RunData, rank: int) -> bool:
    """Return whether the winner of a rank was retrained on the training images alone, with an epoch chosen by the validation images.

    Before it is retrained, return whether it will be.

    Args:
        run: The run.
        rank: The rank, as in the table `winners`.
    """
    kept = [row["keep_validation"] for row in run.retrain_rows() if row["rank"] == rank]
    return bool(any(kept) if kept else (run.settings.get("retrain") or {}).get("keep_validation"))


def decisions(run: RunData, winner: Row) -> list[str]:
    """Describe what chose the epoch and the learning rates of a retrained winner.

    Args:
        run: The run.
        winner: Its row of `winners`.

    Returns:
        Sentences in which "it" is the winner.
    """
    config, repeats = json.loads(winner["config"]), winner["num_repeats"]
    if keeps_validation(run, winner["rank"]):
        epochs = of_completed(run, winner, "weights_epoch")
        tested = f" ({'epochs' if len(set(epochs)) > 1 else 'epoch'} {wording.range_text(epochs)})" if epochs else ""
        return [
            "The validation images chose the epoch, as in the search (`keep_validation`): each seed kept the weights that the "
            f"rules of its config name{tested}."
        ]
    searched = "the search" if repeats == 1 else f"trial {winner['trial']} (which stands for its {repeats} repeats)"
    facts = []
    if "stop_after" in config:
        facts.append(
            f"It was trained for {wording.plural(config['stop_after'], 'epoch')} of {config['epochs']}, as many as the "
            f"weights had that {searched} kept: retraining has no validation images to choose an epoch by."
        )
    facts.append("An epoch has more steps than in the search, as the validation images are trained on too.")
    reductions = config["schedule"].get("reductions")
    if reductions is not None:
        reductions = [
            epoch for epoch in reductions if epoch < config.get("stop_after", math.inf)
        ]  # later ones never came
        when = f"after {wording.listed([str(epoch) for epoch in reductions])} epochs" if reductions else "never"
        facts.append(f"Its learning rate was reduced as the plateau schedule did in {searched}: {when}.")
    return facts


def _majority_sentence(run: RunData, winners: list[Row]) -> str:
    is_tested = any(row["test_accuracy"] is not None for row in winners)
    return wording.largest_class_text(run, "test" if is_tested else "validation")


def _interval(run: RunData, row: Row) -> str:
    value, low, high = (row[f"test_objective{end}"] for end in ("", "_low", "_high"))
    if low is None:
        return f"{wording.objective_text(run, value)} ({wording.why_no_interval(run, row)}, so no interval)"
    return f"{wording.objective_text(run, value)} (95 % interval {wording.ends_text(run, low, high)} {wording.basis(run, row)})"


def _gain_sentence(run: RunData, row: Row, winners: list[Row]) -> str:
    gain, low, high = (row[f"objective_gain{end}"] for end in ("", "_low", "_high"))
    size = f"{100 * abs(gain):.2f} points" if is_share(run.objective) else wording.number(abs(gain))
    sides = ("above", "below") if run.maximize else ("below", "above")  # a better loss is below that of the baseline
    where = "level with" if size == "0.00 points" or gain == 0 else f"{size} {sides[gain < 0]}"
    text = f"That is {where} {baseline_words(run, winners)}"
    if low is None:
        return f"{text}; {wording.no_interval(run)}."
    verdict = ", so the two cannot be told apart" if low <= 0 <= high else ""
    better = "" if run.maximize else " better"
    return f"{text} (95 % interval {wording.difference_ends(run, low, high)}{better}){verdict}."


def _cost_sentence(run: RunData, trials: list[Row]) -> str:
    epochs = sum(row["num_epochs"] for row in trials)
    if not epochs:
        return ""
    wall = _seconds_at_work(run)
    text = f"The search trained {wording.plural(epochs, 'epoch')}"
    ran = sum(row["status"] != TrialStatus.SKIPPED for row in trials)
    full = ran * int(run.settings.get("max_epochs") or 0)
    if full > epochs:
        text += f" ({100 * epochs / full:.0f} % of {ran} full trainings)"
    seconds = wording.duration(sum(row["train_seconds"] for row in trials))
    wall_text = f" in {wording.duration(wall)} of wall time" if wall else ""
    return f"{text}: {seconds} of training{_device_hours(run)}{wall_text}."


def _audit_cost(run: RunData) -> str:
    """Return what the audit trained beyond the epochs of the search; empty if nothing."""
    columns = run.columns("epochs", ("phase", "wall_seconds")).values()
    seconds = [seconds or 0.0 for phase, seconds in zip(*columns, strict=True) if phase == "audit"]
    if not seconds:
        return ""
    epochs, total = wording.plural(len(seconds), "epoch"), wording.duration(math.fsum(seconds))
    return f"Its audit trained {epochs} more, {total} of training, within the same wall time."


def _seconds_at_work(run: RunData) -> float:
    """Return the wall time in which the search trained. Pauses above `MAX_PAUSE`, such as a night before a resume, do not count."""
    columns = run.columns("epochs", ("phase", "time", "wall_seconds")).values()
    spans = sorted(
        (time.timestamp() - (seconds or 0.0), time.timestamp())
        for phase, time, seconds in zip(*columns, strict=True)
        if phase != "retrain" and time is not None
    )
    total, until = 0.0, -math.inf
    for start, end in spans:
        since = start if start > until + MAX_PAUSE else until  # a short pause counts
        total += max(0.0, end - since)
        until = max(until, end)
    return total


def _device_hours(run: RunData) -> str:
    """Return the GPU-hours of the search in words, such as ` (1.30 GPU-hours)`; empty if none were used or recorded."""
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
    trainings, total = wording.plural(len(seconds), "training"), wording.duration(math.fsum(seconds))
    return f"Retraining added {trainings} and {total} of training."
