"""Advises what to do next, starting with the most useful. Each piece of advice has its reason and a command that can be pasted."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from winnow.reports.statuses import FAILED_STATUSES
from winnow.reports.tables.candidates import best_first
from winnow.reports.text import wording
from winnow.reports.text.advice_ranges import Change, changed_command, converging_range, wider_ranges
from winnow.reports.text.audit import num_unfinished
from winnow.reports.text.next_step import (
    ENDED_BY_TIME,
    ENDED_EXHAUSTED,
    Advice,
    all_failed_text,
    is_searched,
    next_step,
    retrain_command,
)
from winnow.spaces.epoch_figures import is_share, kept_values
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

Row = dict[str, Any]

MIN_CURVES = 2
"""Number of completed trials needed for advice on the number of epochs."""
TRIALS_PER_PARAMETER = 10
"""Number of trials per parameter from which the order of importance is usually stable."""
BASELINES = {"recipes/digits-baseline": 8, "recipes/cifar10-baseline": 32}
"""Recipes that may serve as a baseline, with the pixels per side of their images; of those that fit, the one with the nearest size is named."""


def advice(run: RunData) -> list[Advice]:
    """Advise what to do next, starting with the most useful. While the search has not finished, the only advice is to resume it."""
    return run.once("advice", lambda: _found(run))


def _found(run: RunData) -> list[Advice]:
    trials = run.rows("trials")
    step = next_step(run)
    first = [] if step is None else [step]
    if not is_searched(run, trials):
        return first if trials else []
    return [*first, *_advice(run, trials, best_first(run, trials))]


def _advice(run: RunData, trials: list[Row], ranked: list[Row]) -> Iterator[Advice]:
    """Advise by benefit: what mends the run, what finds better configs, how to use the winners, what makes the report more certain."""
    winners = run.rows("winners")
    yield from _on_failed_retraining(run, winners)
    yield from _on_unfinished_search(run)
    yield from _on_failures(run, trials)
    if not ranked:
        return
    yield from _on_the_baseline(run, winners)
    yield from _on_a_better_baseline(run, trials, winners)
    yield from _on_epochs(run, ranked)
    yield from (_from_change(run, change) for change in wider_ranges(run, ranked))
    yield from _on_trials(run, trials, ranked)
    yield from _on_winners(run, winners)
    yield _on_reuse(run, winners)
    yield from _on_stops(run, trials)
    yield from _on_importance(run)


def _from_change(run: RunData, change: Change) -> Advice:
    return Advice(change.text, changed_command(run, change), "ranks")


def _on_failed_retraining(run: RunData, winners: list[Row]) -> Iterator[Advice]:
    """Advise to run the retrainings again if those of the winners all failed."""
    failed = all_failed_text(run)
    if not failed or any(row["num_seeds"] for row in winners if not row["baseline"]):
        return
    last = [row for row in run.rows("retrains") if not row["baseline"]][-1]
    text = (
        f"{failed}, so nothing was tested. The last one: {wording.failure_text(last).splitlines()[-1].rstrip('.')}. "
        "Once the cause is fixed, this command runs them again."
    )
    yield Advice(text, retrain_command(run), "retrains")


def _on_unfinished_search(run: RunData) -> Iterator[Advice]:
    """Advise to resume a search that its time budget ended, or whose audit has not finished."""
    resume = wording.command("resume", run.path)
    if run.study.get("search_ended") == ENDED_BY_TIME:
        yield Advice("The search used up its time budget. This command continues it.", resume)
    elif waiting := num_unfinished(run):
        were = "was" if waiting == 1 else "were"
        text = f"{wording.plural(waiting, 'trial')} of the audit {were} not trained to the end yet."
        yield Advice(text, resume, "audit")


def _on_a_better_baseline(run: RunData, trials: list[Row], winners: list[Row]) -> Iterator[Advice]:
    """Advise to search more if the winner is worse than the baseline beyond chance."""
    first = next((row for row in winners if row["rank"] == 1), None)
    if _is_exhausted(run):
        return
    if first is not None and first["objective_gain_high"] is not None and first["objective_gain_high"] < 0:
        text = (
            "The winner is worse than the baseline: the interval of the gain lies below 0. Search more of the space; if that does "
            "not help, widen the space towards the baseline, or train longer."
        )
        yield Advice(text, wording.command("extend", run.path, "--trials", str(len(trials))), "winners")


def _on_failures(run: RunData, trials: list[Row]) -> Iterator[Advice]:
    ran = [row for row in trials if row["status"] != TrialStatus.SKIPPED]
    failed = [row for row in ran if row["status"] in FAILED_STATUSES]
    if len(failed) * 10 <= len(ran):
        return
    change = converging_range(run, ran)
    if change is not None:
        yield _from_change(run, change)
        return
    statuses = [status for status in FAILED_STATUSES if any(row["status"] == status for row in failed)]
    text = f"{len(failed)} of {len(ran)} trials failed. See what the failed ones have in common."
    yield Advice(text, wording.command("show", run.path, "--where", f"status in {json.dumps(statuses)}"), "tiles")


def _on_the_baseline(run: RunData, winners: list[Row]) -> Iterator[Advice]:
    """Advise to add a baseline to a run that has none."""
    from winnow.spaces import catalog

    if run.space.baseline:
        return
    _, *sides = (run.study.get("data") or {}).get("image_shape") or (3, 32, 32)
    for name in sorted(BASELINES, key=lambda name: abs(math.log(max(sides) / BASELINES[name]))):
        if catalog.changed(run.space, [f"baseline={name}"]).baseline:
            text = (
                "There is no baseline, so how much the search gained is unknown. Add one, and retraining trains it too."
            )
            add = wording.command(
                "extend", run.path, "--trials", "1", "--set", f"baseline={name}", "--accept-space-change"
            )
            yield Advice(text, f"{add} && {retrain_command(run)}")
            return


def _on_epochs(run: RunData, ranked: list[Row]) -> Iterator[Advice]:
    """Advise to train longer if the best completed trials were still improving at their last epoch.

    Where the space leaves `epochs` open, that is advice on a range; see `wider_ranges`.
    """
    if any(parameter.study_name == "epochs" for parameter in run.space.parameters()):
        return
    epochs = int(run.settings.get("max_epochs") or 0)
    completed = [row for row in ranked if row["status"] == TrialStatus.COMPLETED and row["num_epochs"] == epochs][:4]
    rises = [rise for row in completed if (rise := _late_rise(run, row)) is not None]
    if len(rises) < MIN_CURVES or min(rises) <= _noise(run, completed[0]["objective"]):
        return
    text = (
        f"The {len(rises)} best completed trials were still improving at their last epoch, {epochs}: the {wording.objective_name(run)} "
        "of the last quarter is better than that of the quarter before. Train longer."
    )
    yield Advice(text, wording.command("extend", run.path, "--max-epochs", str(2 * epochs)), "learning-curves")


def _late_rise(run: RunData, row: Row) -> float | None:
    """Return the improvement of the mean objective from the third to the last quarter of a trial's epochs; None if it is too short.

    Values are those of the weights that the trial had kept (`weights`), as everywhere where trials are compared.
    """
    sign = 1 if run.maximize else -1
    rule = json.loads(row["config"]).get("weights", "last")
    kept = kept_values(rule, run.objective, run.epochs_of_trial(row["trial"]))
    values = [sign * value for value in kept.values()]
    quarter = len(values) // 4
    if quarter < 1:
        return None
    return (sum(values[-quarter:]) - sum(values[-2 * quarter : -quarter])) / quarter


def _noise(run: RunData, value: float) -> float:
    """Return the standard error of a share of the validation images; for a loss or a custom metric, whose scale is unknown, one percent of it."""
    if not is_share(run.objective):
        return abs(value) / 100
    num_images = (run.study.get("data") or {}).get("num_validation") or 100
    return math.sqrt(max(value * (1 - value), 1 / num_images) / num_images)


def _on_trials(run: RunData, trials: list[Row], ranked: list[Row]) -> Iterator[Advice]:
    best = ranked[0]["trial"]
    # Without a completed trial, the best one is unknown: values of different epochs are not compared.
    is_late = len(trials) >= 10 and best >= 0.8 * len(trials) and ranked[0]["status"] == TrialStatus.COMPLETED
    if is_late and not _is_exhausted(run):
        text = f"The best completed trial, {best}, was among the last of {len(trials)}, so more trials may find a better one."
        yield Advice(text, wording.command("extend", run.path, "--trials", str(len(trials))), "ranks")


def _on_winners(run: RunData, winners: list[Row]) -> Iterator[Advice]:
    tested = [row for row in winners if row["test_objective_low"] is not None and not row["baseline"]]
    if not tested:
        return
    first = tested[0]
    searched = first["search_objective"]
    if searched is not None and (
        searched > first["test_objective_high"] if run.maximize else searched < first["test_objective_low"]
    ):
        share = run.space.example().data.validation
        if isinstance(share, float) and share < 0.5:  # otherwise the data set has its own split
            text = (
                f"The {wording.objective_name(run)} in the search lies {'above' if run.maximize else 'below'} the interval of the "
                f"{wording.tested_name(run)} (gap {wording.difference_text(run, first['objective_gap'])}). "
                "A larger validation split makes the selection more reliable."
            )
            yield Advice(text, _new_run(run, "--set", f"data.validation={min(0.5, share + 0.1):g}"), "winners")
    low, high = first["objective_gain_low"], first["objective_gain_high"]
    if low is not None and low <= 0 <= high:
        sizes = [wording.count(row["num_parameters"]) for row in winners if row is first or row["baseline"]]
        text = (
            "The interval of the gain contains 0: the test shows no difference to the baseline, so prefer the one that is smaller or "
            f"faster. The winner has {sizes[0]} weights, the baseline {sizes[-1]}; this command lists the completed trials by size. "
            "Do not add seeds until the interval excludes 0: that would find a difference where none is."
        )
        completed = f'status == "{TrialStatus.COMPLETED}"'
        by_size = wording.command("show", run.path, "--where", completed, "--sort", "num_parameters")
        yield Advice(text, by_size, "winners")
    smallest = min(tested, key=lambda row: (row["num_parameters"] or math.inf, row["rank"]))
    overlap = smallest["test_objective_high"] >= first["test_objective_low"] and (
        smallest["test_objective_low"] <= first["test_objective_high"]
    )
    if smallest is not first and overlap:
        text = (
            f"The intervals of the winners overlap: winner {smallest['rank']} has {wording.count(smallest['num_parameters'])} "
            f"weights instead of {wording.count(first['num_parameters'])} and may be as good."
        )
        yield Advice(text, wording.command("export", run.path, "--winner", str(smallest["rank"])), "winners")


def _on_importance(run: RunData) -> Iterator[Advice]:
    """Advise to add trials if importance is based on few."""
    parameters = len(run.space.parameters())
    supported = max((row["num_trials"] for row in run.rows("importance")), default=0)
    needed = TRIALS_PER_PARAMETER * parameters
    if 0 < supported < needed and not _is_exhausted(run):
        text = (
            f"Importance rests on {wording.plural(supported, 'trial')} for {wording.plural(parameters, 'parameter')}, so its order may "
            f"be chance. About {needed} trials, {TRIALS_PER_PARAMETER} for each parameter, make it reliable."
        )
        yield Advice(text, wording.command("extend", run.path, "--trials", str(needed - supported)), "importance")


def _on_reuse(run: RunData, winners: list[Row]) -> Advice:
    start = f"start_from={json.dumps([str(run.path / 'report' / 'winner.yaml')])}"
    best = "this winner" if winners else "the best config so far"
    return Advice(f"Start the next search from {best}.", _new_run(run, "--set", start))


def _is_exhausted(run: RunData) -> bool:
    """Return whether every config of the space was tried, so that no trial can be added to it."""
    return run.study.get("search_ended") == ENDED_EXHAUSTED


def _on_stops(run: RunData, trials: list[Row]) -> Iterator[Advice]:
    """Advise an audit if the run stopped trials without one. An audit needs a single objective."""
    stopped = sum(row["status"] == TrialStatus.STOPPED for row in trials)
    if stopped and not run.further and not run.settings.get("audit"):
        text = (
            f"Whether the {wording.plural(stopped, 'stop')} cost a better trial is unknown. A search with --audit 0.1 trains "
            "a tenth of the stopped trials to completion and reports how many stops were wrong."
        )
        yield Advice(text, _new_run(run, "--audit", "0.1"), "tiles")


def _new_run(run: RunData, *options: str) -> str:
    """Return the command that searches the space of this run again in a new run, with other options.

    It reads files that `winnow report` writes, so it begins with that command until they are there.
    """
    folder = run.path / "report"
    words = shlex.join(["winnow", "run", str(folder / "space.yaml"), *options])
    has_files = all((folder / name).exists() for name in ("space.yaml", "winner.yaml"))
    return words if has_files else f"{wording.command('report', run.path)} && {words}"
