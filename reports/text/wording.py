"""Formats numbers and facts of a run, for the terminal and the HTML report."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.reports.facts import are_comparable, gives_one_class, has_cross_entropy, largest_class, views_of
from winnow.reports.statuses import FAILED_STATUSES, STATUS_WORDS, STATUSES
from winnow.spaces.epoch_figures import (
    OWN_METRIC,
    in_words,
    is_cost,
    is_maximized,
    is_share,
    name_on_test_images,
    name_on_validation_images,
)
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData, RunFacts


FAILURE_MEANINGS = {
    "diverged": "the loss became infinite or not a number",
    "out_of_memory": "the training needed more memory than the device has",
    "lost": "its worker died repeatedly",
}
"""The meaning of a failure without a message, by status."""


PREDICTIONS_MISSING = "predictions are missing or do not give the measured value"
"""Why an interval covers the seeds alone if nothing more is recorded."""
BEST_OF_SEVERAL = "The best of several measured values is better than its true value on average."
"""The winner's curse."""
NO_BASELINE = (
    "There is no baseline to compare the winners with: name a recipe or a file, in `start_from` if it lies in the space, otherwise in "
    "`baseline`, such as `baseline: recipes/cifar10-baseline`, and retraining trains it too."
)


OTHER_LOSSES = (
    "The configs were trained with losses of different kinds, so the table of metrics leaves their test losses out."
)
"""Why a table has no column of the loss."""


def without_baseline(run: RunFacts, winners: Sequence[Mapping[str, Any]]) -> str:
    """Return what explains why the gain over the baseline is unknown; empty if it is known.

    Args:
        run: The run.
        winners: The rows of `winners`.
    """
    baseline = next((row for row in winners if row["baseline"]), None)
    if baseline is None:
        return no_baseline(run) or "The baseline is not retrained yet, so the gain over it is unknown."
    if not baseline["num_seeds"]:
        return "No retraining of the baseline completed, so the gain over it is unknown."
    if not baseline["num_objective_seeds"]:
        return f"No retraining of the baseline has a {tested_name(run)}, so the gain over it is unknown."
    text, winner = other_loss(run, winners), next((row for row in winners if row["gain"] is not None), None)
    if not text or winner is None:
        return text
    low, high = winner["gain_low"], winner["gain_high"]
    ends = "" if low is None else f" (95 % interval {100 * low:+.2f} to {100 * high:+.2f})"
    return f"{text} Its test accuracy differs from that of the baseline by {points(winner['gain'])}{ends}."


def no_baseline(run: RunFacts) -> str:
    """Return a sentence that explains how to name a baseline; empty if the space of the run names one."""
    space = run.study["space"]
    return "" if space.get("baseline") or space.get("start_from") else NO_BASELINE


def other_loss(run: RunFacts, winners: Sequence[Mapping[str, Any]]) -> str:
    """Return a sentence that explains why the loss is not compared with that of the baseline; empty if it is, or is not the objective.

    Args:
        run: The run.
        winners: The rows of `winners`. The sentence is about the best winner that was tested.
    """
    baseline = next((row for row in winners if row["baseline"] and row["num_seeds"]), None)
    winner = next((row for row in winners if not row["baseline"] and row["num_seeds"]), None)
    if baseline is None or winner is None or are_comparable(run, winner, baseline):
        return ""
    return f"Winner {winner['rank']} was trained with a loss of another kind than the baseline, so their test losses are not compared."


def views_text(winner: Mapping[str, Any]) -> str:
    """Return a sentence about the views of test images that validation does not have; empty if the config has none.

    Args:
        winner: A row of `winners`.
    """
    keys = listed([f"`{key}`" for key in views_of(winner)])
    return (
        f"The test averages over views of each image ({keys}) and validation does not, so the gap includes their effect."
        if keys
        else ""
    )


def choosing_text(run: RunFacts, winners: Iterable[Mapping[str, Any]]) -> str:
    """Return sentences about choosing among winners by their test; empty if fewer than two were tested.

    Args:
        run: The run.
        winners: Rows of `winners`.
    """
    num = sum(row["test_objective"] is not None and not row["baseline"] for row in winners)
    if num < 2:
        return ""
    return (
        f"The ranks are those of the search. Choosing among the {num} winners by their {tested_name(run)} would flatter the choice. "
        f"{BEST_OF_SEVERAL}"
    )


def after_epochs(row: Mapping[str, Any]) -> str:
    """Return the epochs behind the objective of a row of `trials`, such as ` after 3 epochs`; empty if the trial completed."""
    return "" if row["status"] == TrialStatus.COMPLETED else f" after {plural(row['num_epochs'], 'epoch')}"


def about_values(rows: Sequence[Mapping[str, Any]], best_first: bool = False) -> str:
    """Return sentences about the values in a table of trials; empty if all trials completed.

    Args:
        rows: Rows of `trials`.
        best_first: Whether the table is ordered from best to worst. Default: by something else.
    """
    if all(row["status"] == TrialStatus.COMPLETED or row["objective"] is None for row in rows):
        return ""
    text = "The value of a trial that did not complete is from fewer epochs."
    return f"Completed trials come first. {text}" if best_first else text


def own_values_text(what: str) -> str:
    """Return a sentence about the values of single epochs of trials that keep the weights of an earlier epoch than the last one (`weights`).

    Args:
        what: What shows these values, such as `A curve`.
    """
    return f"{what} shows each epoch's own value; rungs and tables use that of the weights kept until then (`weights`)."


def status_counts(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Count trials per status, in the order of `STATUSES`. The first five statuses are included even if their count is 0."""
    counts = Counter(row["status"] for row in rows)
    always = STATUSES[:5]
    return {status: counts[status] for status in STATUSES if counts[status] or status in always}


def counts_text(counts: Mapping[str, int]) -> str:
    """Return counts in words, such as `24 trials: 5 completed, 18 stopped early, 1 diverged`."""
    parts = [f"{count} {STATUS_WORDS[status]}" for status, count in counts.items() if count]
    total = plural(sum(counts.values()), "trial")
    return f"{total}: {', '.join(parts)}" if parts else total


def searched_text(run: RunData) -> str:
    """Return one line about the data and the settings of the search."""
    data, settings = run.study.get("data") or {}, run.settings
    shape = " x ".join(str(n) for n in data.get("image_shape") or [])
    images = f"{count(data['num_train'])} training images" if data.get("num_train") is not None else ""
    classes = f"{data['num_classes']} classes" if data.get("num_classes") is not None else ""
    facts = ", ".join(fact for fact in (images, shape, classes) if fact)
    rungs = listed([str(rung) for rung in run.rungs])
    about = f"{data.get('name', 'unknown data')} ({facts})" if facts else str(data.get("name", "unknown data"))
    early = f", early stopping after {rungs}" if rungs else ""
    sampler = settings.get("sampler", "unknown")
    also = "".join(f", {text}" for text in _further_texts(run))
    limits = f", limits {text}" if (text := limits_text(run)) else ""
    return f"{about}; {sampler} sampler, up to {plural(settings.get('max_epochs', '?'), 'epoch')}{early}{also}{limits}"


def _further_texts(run: RunFacts) -> list[str]:
    """Return the objectives besides the first one in words, such as `minimizes parameters`; empty if there are none."""
    maximized = [figure_words(name) for name in run.further if is_maximized(name)]
    minimized = [figure_words(name) for name in run.further if not is_maximized(name)]
    verbs = (("also maximizes", maximized), ("minimizes", minimized))
    return [f"{verb} {listed(words)}" for verb, words in verbs if words]


def limits_text(run: RunFacts) -> str:
    """Return the limits of the search in words, such as `parameters <= 1,000,000`; empty if there are none."""
    limits = run.settings.get("limits") or {}
    return ", ".join(f"{key} <= {value:,.6g}" for key, value in limits.items() if value is not None)


def listed(items: Sequence[str]) -> str:
    """Join items, such as `1, 3 and 9`."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def range_text(values: Sequence[int]) -> str:
    """Return the range of whole numbers, such as `9 to 14`, or `9` if all are equal.

    Args:
        values: The numbers, at least one.
    """
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def objective_text(run: RunFacts, value: float | None) -> str:
    """Format a value of the objective: a fraction in percent, and a loss or a custom metric as a number.

    Args:
        run: The run whose objective it is.
        value: The value, or None.
    """
    return figure_text(run.objective, value)


COST_WORDS = {
    "num_parameters": "parameters",
    "multiply_adds": "multiply-adds",
    "latency_ms": "latency in ms",
    "epoch_seconds": "seconds of an epoch",
}
"""The words for the costs that a search can minimize."""
UNITS = {"latency_ms": "ms of latency", "epoch_seconds": "s per epoch"}
"""The words that follow the value of a cost, where they are not those of `COST_WORDS`."""


def figure_words(name: str) -> str:
    """Return an objective in words, such as `parameters` or `validation macro F1`.

    Args:
        name: Its column in `trials`, or that of a metric on the test images.
    """
    return COST_WORDS.get(name) or in_words(name)


def figure_text(name: str, value: float | None) -> str:
    """Format the value of an objective, such as `12,345`, `0.42` or `93.20 %`.

    Args:
        name: Its column in `trials`, or that of a metric on the test images.
        value: The value, or None.
    """
    if name in ("num_parameters", "multiply_adds"):
        return count(None if value is None else round(value))
    return percent(value) if is_share(name_on_validation_images(name)) else number(value)


def figure_fact(name: str, value: float | None) -> str:
    """Return an objective with its value, such as `12,345 parameters` or `validation macro F1 93.20 %`.

    Args:
        name: Its column in `trials`.
        value: The value, or None.
    """
    text = figure_text(name, value)
    return f"{text} {UNITS.get(name, figure_words(name))}" if is_cost(name) else f"{figure_words(name)} {text}"


def objective_name(run: RunFacts) -> str:
    """Return the objective in words, such as `validation accuracy`."""
    return in_words(run.objective)


def tested_name(run: RunFacts) -> str:
    """Return the objective on the test images in words, such as `test accuracy`."""
    return in_words(name_on_test_images(run.objective))


def objective_interval(run: RunFacts, row: Mapping[str, Any]) -> str:
    """Format the objective of a row of `winners` on the test images with its interval, such as `97.41 % (96.90 to 97.92)`.

    Args:
        run: The run.
        row: A row of `winners`.
    """
    mean, low, high = (row[f"test_objective{end}"] for end in ("", "_low", "_high"))
    return objective_text(run, mean) if low is None else f"{objective_text(run, mean)} ({ends_text(run, low, high)})"


def ends_text(run: RunFacts, low: float, high: float) -> str:
    """Format the ends of an interval of the objective, such as `96.90 to 97.92`.

    Args:
        run: The run whose objective it is.
        low: Lower end.
        high: Upper end.
    """
    return f"{100 * low:.2f} to {100 * high:.2f}" if is_share(run.objective) else f"{number(low)} to {number(high)}"


def difference_text(run: RunFacts, value: float | None) -> str:
    """Format a difference of the objective with its sign, such as `+0.52 points`; `-` for None.

    Args:
        run: The run whose objective it is.
        value: The difference, or None.
    """
    if value is None:
        return "-"
    return points(value) if is_share(run.objective) else f"{value:+.4g}"


def difference_ends(run: RunFacts, low: float, high: float) -> str:
    """Format the ends of an interval of a difference of the objective, such as `-0.20 to +1.24`.

    Args:
        run: The run whose objective it is.
        low: Lower end.
        high: Upper end.
    """
    return f"{100 * low:+.2f} to {100 * high:+.2f}" if is_share(run.objective) else f"{low:+.4g} to {high:+.4g}"


def interval_text(mean: float | None, low: float | None, high: float | None) -> str:
    """Format an accuracy with its interval, such as `97.41 % (96.90 to 97.92)`; all in [0, 1], or None.

    Args:
        mean: The accuracy.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """
    if low is None or high is None:
        return percent(mean)
    return f"{percent(mean)} ({100 * low:.2f} to {100 * high:.2f})"


def no_interval(run: RunFacts) -> str:
    """Explain why a difference of the objective has no interval."""
    if run.objective == OWN_METRIC:
        return "there is no interval, as the metric is a custom function"
    missing = "are missing or do not give the measured value"
    if _needs_probabilities(run):
        missing = f"with the probabilities of all classes {missing}"
    if _is_over_classes(run):
        return f"there is no interval, as one side has a single seed, its predictions {missing}, or {rare_class_text()}"
    if run.objective == "validation_loss":
        return f"there is no interval, as one side has a single seed, its predictions {missing}, or its loss is not cross-entropy"
    return f"there is no interval, as one side has a single seed, or its predictions {missing}"


def why_no_interval(run: RunFacts, row: Mapping[str, Any]) -> str:
    """Return why the objective of a row of `winners` has no interval on the test images, such as `one seed`.

    Args:
        run: The run.
        row: A row of `winners` without an interval.
    """
    if lacks_images_of_a_class(run, row):
        return rare_class_text()
    return "one seed" if row["num_objective_seeds"] < 2 else "the seeds do not differ"


def intervals_over(run: RunFacts, rows: Iterable[Mapping[str, Any]]) -> str:
    """Return what the intervals of the objective in rows of `winners` cover, such as `over seeds and test images`.

    Args:
        run: The run.
        rows: Rows of `winners`. Those without an interval do not count.

    Returns:
        What they cover; empty if no row has an interval.
    """
    rows = list(rows)
    known = [row for row in rows if row["test_objective_low"] is not None]
    alone = [row for row in known if row["test_objective_images"] is None]
    if any(lacks_images_of_a_class(run, row) for row in rows):
        return f"over seeds and test images, none where {rare_class_text()}"
    if not known:
        return ""
    if len(alone) == len(known):
        return "over seeds alone"
    reasons = dict.fromkeys(_why_seeds_alone(run, row) for row in alone)
    return "over seeds and test images" + (f", over seeds alone where {listed(list(reasons))}" if reasons else "")


def lacks_images_of_a_class(run: RunFacts, row: Mapping[str, Any]) -> bool:
    """Return whether the objective of a row of `winners` has no interval because a class has too few test images.

    Args:
        run: The run.
        row: A row of `winners`.
    """
    return row["test_objective_low"] is None and row["test_objective_images"] is not None and _is_over_classes(run)


def rare_class_text() -> str:
    """Return why a mean over classes has no interval, such as `a class has fewer than 4 test images`."""
    from winnow.reports.tables.contributions import LEAST_OF_CLASS

    return f"a class has fewer than {LEAST_OF_CLASS} test images"


def basis(run: RunFacts, row: Mapping[str, Any]) -> str:
    """Return the basis of the interval of the objective of a row of `winners`, such as `over 3 seeds and 360 test images`.

    Args:
        run: The run.
        row: A row of `winners`.
    """
    seeds, images = plural(row["num_objective_seeds"], "seed"), row["test_objective_images"]
    return f"over {seeds} alone, as {_why_seeds_alone(run, row)}" if images is None else _over_both(seeds, images)


def _why_seeds_alone(run: RunFacts, row: Mapping[str, Any]) -> str:
    """Return why the interval of the objective of a row of `winners` does not cover the test images."""
    if run.objective == OWN_METRIC:
        return "the metric is a custom function"
    if run.objective == "validation_loss" and not has_cross_entropy(row):
        return "the loss is not cross-entropy"
    if row["num_test_images"] is None:
        return PREDICTIONS_MISSING
    if _needs_probabilities(run):
        return "the probabilities of all classes are missing or do not give the measured value"
    return "the predictions do not give the measured value"


def _is_over_classes(run: RunFacts) -> bool:
    from winnow.reports.tables.contributions import OVER_CLASSES

    return name_on_test_images(run.objective) in OVER_CLASSES


def _needs_probabilities(run: RunFacts) -> bool:
    from winnow.reports.tables.contributions import NEED_PROBABILITIES

    return name_on_test_images(run.objective) in NEED_PROBABILITIES


def _over_both(seeds: str, images: int) -> str:
    return f"over {seeds} and {count(images)} test images"


def trained_images(keeps_validation: bool) -> str:
    """Return the images on which a winner was retrained, in words."""
    return "training images alone" if keeps_validation else "training and validation images"


def accuracy_basis(row: Mapping[str, Any]) -> str:
    """Return the basis of the interval of the test accuracy of a row of `winners`, such as `over 3 seeds and 360 test images`."""
    seeds, images = plural(row["num_seeds"], "seed"), row["num_test_images"]
    return f"over {seeds} alone, as {PREDICTIONS_MISSING}" if images is None else _over_both(seeds, images)


def tf32_text(whose: str) -> str:
    """Return the sentence about a training in float32 on a GPU that has TensorFloat-32. `whose` names the training."""
    return f"The GPU computed the float32 products of {whose} in TensorFloat-32; its one test is in full float32."


def one_class_warning(winner: Mapping[str, Any]) -> str:
    """Return a warning if networks of a row of `winners` predict the same class for every test image; empty if none do."""
    whose = "the baseline" if winner["baseline"] else f"winner {winner['rank']}"
    return one_class_text(winner["num_one_class"], winner["num_seeds"], whose)


def one_class_text(num: int | None, num_networks: int, whose: str) -> str:
    """Return a warning about networks that predict the same class for every test image; empty if none do.

    Args:
        num: Number of these networks; None if it is not known.
        num_networks: Number of all networks of the config.
        whose: The config in words, such as `winner 1`.
    """
    if not num:
        return ""
    verb = "gives" if num == 1 else "give"
    networks = "the network" if num_networks == 1 else f"{num} of the {num_networks} networks"
    return f"Warning: {networks} of {whose} {verb} every test image the same class."


def one_class_trial(run: RunFacts, trial: Mapping[str, Any]) -> str:
    """Return a warning if the network of a trial gives every validation image the same class, or none its class; otherwise empty.

    A network that answers one class alone gives no image its class if the validation images lack that class.

    Args:
        run: The run.
        trial: A row of `trials`.
    """
    if trial["validation_accuracy"] == 0:
        return f"Warning: trial {trial['trial']} gives no validation image its class."
    if not gives_one_class(run, trial):
        return ""
    return f"Warning: trial {trial['trial']} gives every validation image the same class."


def one_class_trials(
    run: RunFacts, trials: Iterable[Mapping[str, Any]], front: Iterable[Mapping[str, Any]]
) -> list[str]:
    """Return the warnings of `one_class_trial` for the trials of a front.

    Args:
        run: The run.
        trials: Rows of `trials`.
        front: Rows of `front`.
    """
    of_front = {row["trial"] for row in front}
    return list(filter(None, (one_class_trial(run, row) for row in trials if row["trial"] in of_front)))


def largest_class_text(run: RunFacts, split: str) -> str:
    """Return the sentence about the accuracy of a constant prediction, with which other accuracies can be compared; empty if it is unknown.

    Args:
        run: The run.
        split: `validation` or `test`.
    """
    share = largest_class(run, split)
    return (
        ""
        if share is None
        else f"Always predicting the largest class would reach a {split} accuracy of {percent(share)}."
    )


def largest_class_beside_accuracy(run: RunFacts, split: str) -> str:
    """Return `largest_class_text` for values of the objective; empty if the objective is not the accuracy, so that they cannot be compared.

    Args:
        run: The run.
        split: `validation` or `test`.
    """
    return largest_class_text(run, split) if run.objective == "validation_accuracy" else ""


def points(value: float | None) -> str:
    """Format a difference of accuracies in percentage points with its sign; `-` for None."""
    return "-" if value is None else f"{100 * value:+.2f}\u00a0points"


def percent(value: float | None) -> str:
    """Format a fraction in percent with two decimals; `-` for None."""
    return "-" if value is None else f"{100 * value:.2f}\u00a0%"


def number(value: float | None) -> str:
    """Format a number with four significant digits; `-` for None."""
    return "-" if value is None else f"{value:.4g}"


def count(value: int | None) -> str:
    """Format a count, such as 12,345, or 1.23 million for a million and more; `-` for None."""
    if value is None:
        return "-"
    return f"{value / 1e6:.2f} million" if value >= 1_000_000 else f"{value:,}"


def plural(n: int | str, noun: str) -> str:
    """Return a number with its noun, such as `1 trial` or `3 trials`.

    Args:
        n: The number, or the number as text.
        noun: The noun in the singular.
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def duration(seconds: float | None) -> str:
    """Format seconds, such as `8.3 s`, `4 min 05 s`, `2 h 13 min`; `-` for None."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}\u00a0min {rest:02d}\u00a0s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}\u00a0h {minutes:02d}\u00a0min"


def parameters_text(params: Mapping[str, Any]) -> str:
    """Format study parameters on one line: by the last part of their name if it is unique, with repeats joined by commas.

    `model.stages.0.filters=16 model.stages.1.filters=32 optimizer=sgd optimizer.sgd.lr=0.1` becomes
    `filters=16,32 optimizer=sgd lr=0.1`.
    """
    folded: dict[str, list[str]] = {}
    for name, value in params.items():
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        folded.setdefault(re.sub(r"\.\d+(?=\.|$)", "", name), []).append(text)
    last = Counter(name.rpartition(".")[2] for name in folded)
    parts = []
    for name, values in folded.items():
        short = name.rpartition(".")[2]
        parts.append(f"{short if last[short] == 1 else name}={','.join(values)}")
    return " ".join(parts)


def failure_text(row: Mapping[str, Any]) -> str:
    """Return the error of a training that failed, or the meaning of its status if there is no message."""
    return (row["error"] or "").strip() or FAILURE_MEANINGS.get(row["status"], "ended without an error message")


def failures_by_reason(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], list[int]]:
    """Group the failed trials.

    Args:
        rows: Rows of the table `trials`.

    Returns:
        Numbers of the trials by (status, last line of the error), starting with the most frequent.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        if row["status"] in FAILED_STATUSES:
            groups.setdefault((row["status"], failure_text(row).splitlines()[-1]), []).append(row["trial"])
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def command(verb: str, run: Path, *more: str) -> str:
    """Return the command line of a command on a run, quoted so that it can be pasted into a shell.

    Args:
        verb: The command, such as `resume`.
        run: Folder of the run.
        *more: Further arguments.
    """
    return shlex.join(["winnow", verb, str(run), *more])
