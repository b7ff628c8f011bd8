"""Compares runs: differences with intervals if their protocols are the same, otherwise the differences of the protocols."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from winnow.reports.facts import largest_class, measure
from winnow.reports.tables.answers import winner_answers
from winnow.reports.tables.candidates import incumbent
from winnow.reports.tables.contributions import NEED_PROBABILITIES
from winnow.reports.tables.retraining import Tested, metric_gain
from winnow.reports.text import wording
from winnow.reports.text.compare_fronts import dominated_shares, fronts_text, why_not_by_fronts
from winnow.reports.text.config_words import describe
from winnow.reports.text.earlier_tests import earlier_tests_text
from winnow.reports.text.seeds import left_out_text, of_all, with_repeats, without_value_text
from winnow.reports.text.summary import keeps_validation
from winnow.reports.visible import rich_text
from winnow.spaces.epoch_figures import OWN_METRIC, name_on_test_images

if TYPE_CHECKING:
    from rich.console import Console

    from winnow.reports.run_data import RunData, RunFacts

Row = dict[str, Any]


def _data(key: str) -> Callable[[RunFacts], Any]:
    return lambda run: (run.study.get("data") or {}).get(key)


def _space_data(key: str, default: Any) -> Callable[[RunFacts], Any]:
    def read(run: RunFacts) -> Any:
        data = run.study["space"].get("data")
        return data.get(key, default) if isinstance(data, dict) else default

    return read


def _measure_of(metric: str) -> Callable[[RunFacts], Any]:
    return lambda run: measure(run, metric) if run.objective == metric else None


# Facts that must be equal for the test accuracies of two winners to be comparable. Space, sampler and budget may differ: they are
# the subject of the comparison.
PROTOCOL: dict[str, Callable[[RunFacts], Any]] = {
    "data set": _data("name"),
    "data fingerprint": _data("fingerprint"),
    "image shape": _data("image_shape"),
    "classes": _data("num_classes"),
    "training images": _data("num_train"),
    "validation images": _data("num_validation"),
    "test images": _data("num_test"),
    "validation split": _space_data("validation", 0.2),
    "stratified": _space_data("stratified", True),
    "epochs": lambda run: run.settings.get("max_epochs"),
    "objective": lambda run: run.objective,
    "own metric": _measure_of(OWN_METRIC),
    "measured loss": _measure_of("validation_loss"),
}

# The same for the retraining and the test of the winners alone.
WINNER_PROTOCOL: dict[str, Callable[[RunData], Any]] = {
    "validation images kept in retraining": lambda run: keeps_validation(run, rank=1),
    "flip in the final test": lambda run: run.study["space"].get("test_flip", False),
    "shift in the final test": lambda run: run.study["space"].get("test_shift", 0),
}


def protocol_differences(runs: Sequence[RunFacts]) -> list[Row]:
    """Return the differences between the protocols of runs.

    Args:
        runs: The runs, at least one.

    Returns:
        One dict for each key of PROTOCOL whose values differ: `key`, and `values` in the order of the runs.
    """
    return [row for key, read in PROTOCOL.items() if (row := _difference(key, [read(run) for run in runs]))]


def winner_differences(runs: Sequence[RunData]) -> list[Row]:
    """Return the differences between the protocols of runs, of the retraining of their winners and of the final test, like `protocol_differences`.

    Args:
        runs: The runs, at least one.
    """
    of_winners = (_difference(key, [read(run) for run in runs]) for key, read in WINNER_PROTOCOL.items())
    return [*protocol_differences(runs), *filter(None, of_winners)]


def _difference(key: str, values: list[Any]) -> Row | None:
    return {"key": key, "values": values} if any(value != values[0] for value in values) else None


def comparison(runs: Sequence[RunData]) -> list[Row]:
    """Compare the first winners of runs.

    Args:
        runs: The runs. The first one is the reference.

    Returns:
        One dict per run. `best_objective` is that of the best config so far, the mean over its `num_repeats` completed repeats.
        `difference` is the advantage of its winner over the reference, in the objective on the test images. `difference_low` and
        `difference_high` are the ends of its 95 % interval over seeds and test images, paired by image. All three are None for the
        reference. `dominated_share` is the hypervolume of its front, see `dominated_shares`; None if
        the protocols of the runs differ.
    """
    shares = [None] * len(runs) if protocol_differences(runs) else dominated_shares(runs)
    reference: Tested = (None, None)
    metric = name_on_test_images(runs[0].objective)
    rows = []
    for place, run in enumerate(runs):
        trials = run.trial_rows()
        best = incumbent(run, trials) or {}
        winner = _first_winner(run) or {}
        tested = (winner.get("test_objective"), winner_answers(run, metric in NEED_PROBABILITIES))
        if place == 0:
            reference = tested
        difference, low, high = (None,) * 3 if place == 0 else metric_gain(metric, tested, reference)
        rows.append(
            {
                "run": run.name,
                "trials": len(trials),
                "epochs": sum(row["num_epochs"] for row in trials),
                "train_seconds": sum(row["train_seconds"] for row in trials),
                "seed": run.settings.get("seed"),
                "best_objective": best.get("objective"),
                "best_epochs": best.get("num_epochs"),
                "best_status": best.get("status"),
                "num_repeats": best.get("num_repeats", 1),
                "num_incomplete_repeats": best.get("num_incomplete_repeats", 0),
                "largest_class_validation": largest_class(run, "validation"),
                **{
                    key: winner.get(key)
                    for key in (
                        "test_accuracy",
                        "test_accuracy_low",
                        "test_accuracy_high",
                        "test_objective",
                        "test_objective_low",
                        "test_objective_high",
                        "test_objective_images",
                        "num_seeds",
                        "num_failed",
                        "num_objective_seeds",
                        "largest_class",
                        "num_one_class",
                    )
                },
                "dominated_share": shares[place],
                "difference": difference,
                "difference_low": low,
                "difference_high": high,
                "winner": describe(json.loads(winner["config"])) if winner else None,
            }
        )
    return rows


def _first_winner(run: RunData) -> Row | None:
    return next((row for row in run.winner_rows() if row["rank"] == 1), None)


def show_comparison(runs: Sequence[RunData], console: Console) -> bool:
    """Print the comparison of runs, and return whether they can be compared.

    Args:
        runs: The runs, at least two.
        console: Console to print to.
    """
    different = winner_differences(runs)
    if different:
        console.print(
            "These runs cannot be compared: their winners were not trained and tested under the same protocol."
        )
        console.print(_protocol_table(runs, different))
        return False
    rows = comparison(runs)
    console.print(_search_table(runs[0], rows))
    console.print(_winner_table(runs[0], rows))
    for run in runs:
        winner = _first_winner(run)
        if winner and (text := left_out_text(run, winner, f"the winner of {run.name}")):
            console.print(rich_text(text), highlight=False)
        if text := earlier_tests_text(run):
            console.print(rich_text(f"{run.name}: {text}"), highlight=False)
    for row in rows:
        if warning := wording.one_class_text(row["num_one_class"], row["num_seeds"], f"the winner of {row['run']}"):
            console.print(f"[yellow]{rich_text(warning)}[/yellow]", highlight=False)
    if len({row["seed"] for row in rows}) > 1:
        console.print(
            "The seeds differ, so the searches used different validation splits: compare the values on the test images, not the best values of the search."
        )
    for run in runs:
        if run.further:
            about = wording.listed([wording.figure_words(name) for name in run.further])
            best = f"the network of its front with the best {wording.objective_name(run)}"
            text = f"{run.name} had further objectives ({about}): its winner here is {best}."
            console.print(rich_text(text), highlight=False)
    if any(run.further for run in runs):
        shares = [row["dominated_share"] for row in rows]
        console.print(rich_text(why_not_by_fronts(runs) or fronts_text(runs, shares)), highlight=False)
    if len({wording.limits_text(run) for run in runs}) > 1:
        limits = "; ".join(f"{run.name}: {wording.limits_text(run) or 'none'}" for run in runs)
        console.print(rich_text(f"The limits differ, so the winners were chosen among different networks: {limits}."))
    for run, row in zip(runs[1:], rows[1:], strict=True):
        console.print(rich_text(_verdict((runs[0], run), (rows[0], row))), highlight=False)
    if several := _several_text(rows):
        console.print(rich_text(several), highlight=False)
    return True


def _protocol_table(runs: Sequence[RunData], different: list[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", *(run.name for run in runs)):
        table.add_column(rich_text(name), overflow="fold")
    for row in different:
        table.add_row(row["key"], *(rich_text(str(value)) for value in row["values"]))
    return table


def _search_table(run: RunData, rows: list[Row]) -> Table:
    table = Table(
        title=f"Search, by {wording.objective_name(run)}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    largest = ("largest class",) if run.objective == "validation_accuracy" else ()
    for name in ("run", "trials", "epochs", "training", "seed", "best", *largest):
        table.add_column(name, justify="left" if name == "run" else "right")
    for row in rows:
        costs = (str(row["trials"]), str(row["epochs"]), wording.duration(row["train_seconds"]), str(row["seed"]))
        best = with_repeats(wording.objective_text(run, row["best_objective"]), row)
        if row["best_objective"] is not None:
            best += wording.after_epochs({"status": row["best_status"], "num_epochs": row["best_epochs"]})
        shares = [wording.percent(row["largest_class_validation"]) for _ in largest]
        table.add_row(rich_text(row["run"]), *costs, best, *shares)
    return table


def _winner_table(run: RunData, rows: list[Row]) -> Table:
    majority = wording.largest_class_beside_accuracy(run, "test")
    table = Table(
        title="Winners, retrained and tested once",
        caption=majority or None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        expand=True,
    )
    table.add_column("run", min_width=max(len(row["run"]) for row in rows))
    table.add_column(f"{wording.tested_name(run)} (95 %)", justify="right", min_width=26)
    seeds = [of_all(row) if row["winner"] else "0" for row in rows]
    table.add_column("seeds", justify="right", min_width=max(map(len, ["seeds", *seeds])))
    table.add_column("config", no_wrap=True, overflow="ellipsis", ratio=1)
    for row, num_seeds in zip(rows, seeds, strict=True):
        interval = wording.objective_interval(run, row)
        table.add_row(rich_text(row["run"]), interval, num_seeds, rich_text(row["winner"] or "not retrained yet"))
    return table


def _verdict(runs: tuple[RunData, RunData], rows: tuple[Row, Row]) -> str:
    """Return the difference of a run to the first one in words. Both arguments begin with the first run."""
    run, (first, row) = runs[0], rows
    if row["difference"] is None:
        reasons = [_untested(each) for each, of_run in zip(runs, rows, strict=True) if of_run["test_objective"] is None]
        return (
            f"{row['run']} - {first['run']}: the difference is unknown, because {' and '.join(dict.fromkeys(reasons))}"
        )
    text = f"{row['run']} - {first['run']}: {wording.difference_text(run, row['difference'])} of {wording.tested_name(run)}"
    if not run.maximize:
        text += ", positive if the first named is better"
    if row["difference_low"] is None:
        return f"{text}; {_no_interval(runs, rows)}"
    low, high = row["difference_low"], row["difference_high"]
    verdict = ": the two cannot be told apart" if low <= 0 <= high else ""
    over = f"over the seeds and {wording.count(row['test_objective_images'])} test images, paired by image"
    return f"{text} (95 % interval {wording.difference_ends(run, low, high)} {over}){verdict}"


def _untested(run: RunData) -> str:
    """Return why the first winner of a run has no value of the objective on the test images."""
    whose, winner = f"winner 1 of {run.name}", _first_winner(run)
    return f"{whose} was not retrained yet" if winner is None else without_value_text(run, winner, whose)


def _no_interval(runs: Sequence[RunData], rows: Sequence[Row]) -> str:
    """Return why the difference of two winners has no interval. Tables do not have what some metrics are computed from."""
    alone = [run.name for run in runs if not (run.path / "retrain.jsonl").is_file()]
    several_seeds = all((row["num_objective_seeds"] or 0) > 1 for row in rows)
    if name_on_test_images(runs[0].objective) in NEED_PROBABILITIES and several_seeds and alone:
        return (
            "there is no interval, as the probabilities of all classes are not in a report folder, and the run folder of "
            f"{wording.listed(list(dict.fromkeys(alone)))} was not found"
        )
    return wording.no_interval(runs[0])


def _several_text(rows: Sequence[Row]) -> str:
    """Return how far several differences can be trusted together; empty if fewer than two have an interval."""
    num = sum(row["difference_low"] is not None for row in rows)
    if num < 2:
        return ""
    return (
        f"Each of these {num} intervals misses the true difference in 5 % of cases. So if all winners are equal, at least one is called "
        f"different in up to {min(5 * num, 100)} % of cases. {wording.BEST_OF_SEVERAL}"
    )
