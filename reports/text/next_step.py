"""Determines which stage of a run is not finished, and the command that continues it. Every command uses this module.

A run is searched, then its winners are retrained. Because one function decides, no command recommends another one that sends
the user back to the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from winnow.reports.tables.candidates import candidates, completed_inside, has_candidates
from winnow.reports.text import wording
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

Row = dict[str, Any]

ENDED_BY_TIME = "time"
"""The search used up its time budget."""
ENDED_WITHOUT_GAIN = "no gain"
"""`search.stop_when` ended the search."""
ENDED_EXHAUSTED = "exhausted"
"""Every config of the space that can be built and is within the limits was tried."""
ENDED_BY_REFUSALS = "refused"
"""Almost all suggestions were beyond the limits or could not be built, so that no further config was found."""
EVERY_CONFIG = "every possible config of the space was tried"
MORE_TRIALS = 10
"""Number of trials that are recommended to be added to a search that completed none."""


@dataclass(frozen=True)
class Advice:
    """One thing to do next."""

    text: str
    """The reason, in sentences."""
    command: str
    """A command line that can be pasted into a shell."""
    query: str = ""
    """Id of the query that gives the numbers of the text; empty if it has none."""


@dataclass(frozen=True)
class Retraining:
    """The trainings of a retraining, as planned by the settings or by the options of its last start.

    Attributes:
        done: Number of trainings of the winners that have ended.
        left: Number of trainings of the winners that remain.
        baseline_left: Number of trainings of the baseline that remain.
    """

    done: int
    left: int
    baseline_left: int

    @property
    def is_finished(self) -> bool:
        return not (self.left or self.baseline_left)


def next_step(run: RunData) -> Advice | None:
    """Return the advice for the first unfinished stage of a run; None if the winners and the baseline are retrained.

    Args:
        run: The run. Its tables `trials`, `retrains` and `winners` are read, and rarely its space.
    """
    trials = run.trial_rows()
    if not is_searched(run, trials):
        text = "The search has not finished. If it is not running, resume it."
        return Advice(text, wording.command("resume", run.path))
    if not run.retrain_rows() and has_candidates(run, trials):
        return Advice(f"Retrain the best trials to measure their {wording.tested_name(run)}.", retrain_command(run))
    state = retraining(run, trials)
    if state is None:
        return _without_candidates(run, trials)
    if state.is_finished:
        return None
    text = f"{retraining_text(state)} If it is not running, this command resumes it."
    return Advice(text, retrain_command(run), "retrains")


def way_to_winners(run: RunData) -> str:
    """Explain why a run has no tested winner, and name the command that continues it."""
    step = next_step(run)
    return f"Retrain it: {retrain_command(run)}" if step is None else f"{step.text.rstrip('.')}: {step.command}"


def shortage_text(shortage: Mapping[str, Any]) -> str:
    """Explain why no further config was found, as the part of a sentence.

    Args:
        shortage: The fields of `winnow.search.samplers.suggester.Shortage`, as study.yaml records them.
    """
    refusals = [f"{num:,} exceed search.limits.{key}" for key, num in shortage["beyond"].items()]
    if shortage["not_built"]:
        refusals.append(f"{shortage['not_built']:,} cannot be built")
    if not refusals:
        return EVERY_CONFIG
    if shortage["repeated"]:
        refusals.append(f"{shortage['repeated']:,} were tried before")
    drawn = sum(shortage["beyond"].values()) + shortage["not_built"] + shortage["repeated"]
    counts = f"of the last {drawn:,} suggestions {wording.listed(refusals)}"
    if shortage["expected"]:
        counts += f"; {shortage['expected']:,} of those beyond a limit are only expected to be, judged by other trials"
    return f"{EVERY_CONFIG if shortage['every_config'] else 'no further possible config was found'} ({counts})"


def is_searched(run: RunData, trials: list[Row]) -> bool:
    """Return whether the search has ended: all requested trials have ended, or a reason for an earlier end is recorded.

    Args:
        run: The run.
        trials: Rows of the table `trials`.
    """
    if run.study.get("search_ended"):
        return True
    has_all = bool(trials) and len(trials) >= (run.settings.get("trials") or 0)
    return has_all and all(row["status"] != TrialStatus.RUNNING for row in trials)


def retraining(run: RunData, trials: list[Row]) -> Retraining | None:
    """Count the trainings of the best trials and of the baseline; None if there is no trial to retrain.

    Args:
        run: The run.
        trials: Rows of the table `trials`.
    """
    best = candidates(run, trials, run.winner_rows())
    if not best:
        return None
    top, seeds = (_planned(run)[key] for key in ("top", "seeds"))
    of_trial: dict[Any, int] = {}
    for row in run.retrain_rows():
        key = "baseline" if row["baseline"] else row["trial"]
        of_trial[key] = min(seeds, of_trial.get(key, 0) + 1)
    chosen = best[:top]
    done = sum(of_trial.get(row["trial"], 0) for row in chosen)
    space = run.study["space"]
    has_baseline = bool(space.get("baseline") or space.get("start_from"))
    return Retraining(
        done=done,
        left=len(chosen) * seeds - done,
        baseline_left=seeds - of_trial.get("baseline", 0) if has_baseline else 0,
    )


def retraining_text(state: Retraining) -> str:
    """Describe the progress of an unfinished retraining.

    Args:
        state: The result of `retraining`.
    """
    text = "Retraining has not finished: "
    if state.left:
        of_all = wording.plural(state.done + state.left, "training")
        verb = "is" if state.left == 1 else "are"
        text += f"{state.done} of {of_all} of the winners {'is' if state.done == 1 else 'are'} done, {state.left} {verb} still to come"
    else:
        verb = "is" if state.baseline_left == 1 else "are"
        text += f"{wording.plural(state.baseline_left, 'training')} of the baseline {verb} still to come"
    return f"{text}."


def all_failed_text(run: RunData) -> str:
    """Return that no retraining of a winner succeeded, such as `All 9 retrainings of the winners failed`; empty if one did or none ended.

    Args:
        run: The run.
    """
    own = [row for row in run.retrain_rows() if not row["baseline"]]
    if not own or any(row["status"] == TrialStatus.COMPLETED for row in own):
        return ""
    state = retraining(run, run.trial_rows())
    ended = " that have ended" if state is not None and state.left else ""
    if len(own) == 1:
        return f"The {'only' if not ended else 'first'} retraining of a winner failed"
    return f"All {len(own)} retrainings of the winners{ended} failed"


def retrain_command(run: RunData) -> str:
    """Return the command that retrains the winners, with the options of the last start that differ from the settings."""
    options = {key: value for key, value in _planned(run).items() if value != _settings(run)[key]}
    return wording.command("retrain", run.path, *retrain_options(options))


def retrain_options(options: Mapping[str, Any]) -> list[str]:
    """Return options of `winnow retrain` as words of a command line.

    Args:
        options: Their values by name; None means not given.
    """
    words: list[str] = []
    for key, value in options.items():
        name = key.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif value is not None:
            words += [f"--{name}", str(value)]
    return words


def _planned(run: RunData) -> dict[str, Any]:
    """Return the options that apply: those of the last start of a retraining, or the settings if there was none."""
    return {**_settings(run), **(run.study.get("retraining") or {})}


def _settings(run: RunData) -> dict[str, Any]:
    return {"top": 3, "seeds": 3, "keep_validation": False, **(run.settings.get("retrain") or {})}


def shortage_of(run: RunData) -> str:
    """Explain why a search found no further config, as the part of a sentence; older versions did not record the numbers."""
    shortage = run.study.get("search_shortage")
    return EVERY_CONFIG if shortage is None else shortage_text(shortage)


def _without_candidates(run: RunData, trials: list[Row]) -> Advice:
    """Return the advice after a search that completed no trial, or only the baseline."""
    baseline = completed_inside(trials)
    text = "No trial completed."
    if baseline:
        text = f"Only the baseline (trial {baseline[0]['trial']}) completed, and winners are compared with it."
    ended = run.study.get("search_ended")
    if ended == ENDED_BY_TIME:
        text += " The search used up its time budget; this command continues it."
        return Advice(text, wording.command("resume", run.path), "best-trials")
    if ended in (ENDED_EXHAUSTED, ENDED_BY_REFUSALS):
        text += f" The search ended because {shortage_of(run)}. So change the space; this command shows how the trials ended."
        return Advice(text, wording.command("show", run.path, "--where", 'status != "completed"'), "shortage")
    failures = wording.failures_by_reason(trials)
    num_failed = sum(map(len, failures.values()))
    num_others = sum(
        row["status"] == TrialStatus.COMPLETED for row in trials
    )  # a stopped trial might have failed later
    if num_failed > num_others:
        if any(row["status"] == TrialStatus.DIVERGED for row in trials):  # rarely: this needs Arrow and the space
            from winnow.reports.text.advice_ranges import changed_command, converging_range

            ran = [row for row in run.rows("trials") if row["status"] != TrialStatus.SKIPPED]
            if (change := converging_range(run, ran)) is not None:
                return Advice(f"{text} {change.text}", changed_command(run, change), "ranks")
        (_, reason), numbers = next(iter(failures.items()))
        text += (
            f" {num_failed} of {wording.plural(num_failed + num_others, 'trial')} not stopped early failed, {len(numbers)} of them with: "
            f"{reason.rstrip('.')}. Mend the cause first; this command then adds trials."
        )
    else:
        text += " Add trials."
    return Advice(text, wording.command("extend", run.path, "--trials", str(MORE_TRIALS)), "ranks")
