"""Creates the sections of the report about the search: its trials, parameters and stops, and the earlier runs that it learned from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from winnow.reports.figures import cost as figures_cost
from winnow.reports.figures import learning_curves as figures_search
from winnow.reports.figures import memory as figures_memory
from winnow.reports.figures import parameters as figures_parameters
from winnow.reports.figures import progress as figures_progress
from winnow.reports.html.templating import Section, Table, render
from winnow.reports.statuses import STATUS_WORDS
from winnow.reports.tables.candidates import best_first
from winnow.reports.text import wording
from winnow.reports.text.audit import audit_sentence
from winnow.reports.text.choices import Results, at_equal_depth
from winnow.reports.text.memory import earlier_runs, memory_sentence
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

MAX_TRIALS = 15
"""Largest number of rows of the table of trials; trials.parquet contains all trials."""
MAX_TRIALS_LISTED = 8
"""Largest number of suggestions that are listed for each earlier run; memory.parquet contains all."""

Row = dict[str, Any]


def search(run: RunData) -> Section:
    """Create the section on the course of the search: best value so far, learning curves, budget, and the best trials."""
    progress = figures_progress.best_so_far(run)
    curves = [*figures_search.learning_curves(run), *figures_search.budget(run)]
    ranked = best_first(run, run.rows("trials"))
    html = render(
        "search.html",
        progress=progress,
        curves=curves,
        title="The best trials" if len(ranked) <= MAX_TRIALS else f"The best {MAX_TRIALS} trials",
        about=wording.about_values(ranked[:MAX_TRIALS], best_first=True),
        table=_trial_table(run, ranked[:MAX_TRIALS]),
        majority=wording.largest_class_beside_accuracy(run, "validation"),
        expected=_expected_ends(run),
    )
    return Section("search", "Search", html, [*progress, *curves])


def _trial_table(run: RunData, trials: list[Row]) -> Table:
    lines = [
        [
            str(row["trial"]),
            STATUS_WORDS[row["status"]],
            wording.objective_text(run, row["objective"]),
            f"{wording.objective_text(run, row['best_objective'])} at {row['best_epoch']}",
            str(row["num_epochs"]),
            wording.duration(row["train_seconds"]),
            wording.count(row["num_parameters"]),
        ]
        for row in trials
    ]
    columns = ("trial", "status", wording.objective_name(run), "best, at epoch", "epochs", "training", "weights")
    paths = run.space.columns()
    params = [wording.parameters_text(_active(row, paths)) for row in trials]
    return Table(columns, lines, numeric=(0, 2, 3, 4, 5, 6), below=params)


def _expected_ends(run: RunData) -> Table | None:
    """Return the table of unfinished trials, sorted by the objective that they will probably reach; None if there are none."""
    rows = [
        row for row in run.rows("trials") if row["status"] == TrialStatus.RUNNING and row["expected_end"] is not None
    ]
    rows.sort(key=lambda row: (-row["expected_end"] if run.maximize else row["expected_end"], row["trial"]))
    rows = rows[:MAX_TRIALS]
    lines = [
        [
            str(row["trial"]),
            str(row["num_epochs"]),
            wording.objective_text(run, row["objective"]),
            wording.objective_text(run, row["expected_end"]),
            f"{wording.objective_text(run, row['expected_end_low'])} to {wording.objective_text(run, row['expected_end_high'])}",
        ]
        for row in rows
    ]
    columns = ("trial", "epochs", wording.objective_name(run), "expected end", "90 % interval")
    paths = run.space.columns()
    params = [wording.parameters_text(_active(row, paths)) for row in rows]
    return Table(columns, lines, numeric=(0, 1, 2, 3, 4), below=params) if rows else None


def _active(row: Mapping[str, Any], paths: Iterable[str]) -> Row:
    """Return the parameters that a trial had. A branch has its own name, such as `optimizer` instead of `optimizer.name`."""
    return {path.removesuffix(".name"): row[path] for path in paths if row[path] is not None}


def parameters(run: RunData) -> Section:
    """Create the section on the effect of the parameters: importance, choices at equal depth, parallel coordinates, slices, and cost."""
    top = [*figures_parameters.importance(run), *figures_parameters.parallel_coordinates(run)]
    slices, left_out = figures_parameters.slices(run)
    costs = figures_cost.cost(run)
    about = f"{wording.objective_name(run).capitalize()} by parameter. Dots: completed; crosses: stopped early. "
    about += f"{figures_parameters.about_stopped(figures_parameters.scored_trials(run))} "
    about += "If outliers would compress the other values, the axis leaves out the worst; a button shows them."
    if left_out:
        about += f" Shown are the {len(slices)} most important of {len(slices) + left_out} parameters."
    html = render("parameters.html", top=top, choices=_choices(run), slices=slices, costs=costs, about_slices=about)
    return Section("parameters", "Parameters", html, [*top, *slices, *costs])


def _choices(run: RunData) -> tuple[Table, str] | None:
    """Return the table of the choices at equal depth with its caption; None if there is nothing to compare."""
    found = at_equal_depth(run)
    if found is None:
        return None
    lines, latest = [], ""
    for (path, option), by_depth in found.options.items():
        cells = [_results_text(run, by_depth.get(depth)) for depth in found.depths]
        lines.append(["" if path == latest else path, option, *cells])
        latest = path
    columns = ("choice", "option", *(f"depth {depth}" for depth in found.depths))
    about = (
        f"Completed trials by depth: their median {wording.objective_name(run)}, the best, and in parentheses the number of trials. Compare within "
        "a column; if a number is small, the order may be chance."
    )
    if found.num_depths_left_out:
        about += f" {wording.plural(found.num_depths_left_out, 'depth')} with fewer trials left out."
    if found.num_choices_left_out:
        about += f" {wording.plural(found.num_choices_left_out, 'further choice')} left out."
    return Table(columns, lines, numeric=range(2, len(columns))), about


def _results_text(run: RunData, results: Results | None) -> str:
    if results is None:
        return "-"
    best = f", best {wording.objective_text(run, results.best)}" if results.num > 1 else ""
    return f"{wording.objective_text(run, results.median)}{best} ({results.num})"


def audit(run: RunData) -> Section | None:
    """Create the section on how well the rungs predict the final values; None if the run has no audit."""
    rows = run.rows("audit")
    if not rows:
        return None
    columns = (
        *("rung", "stopped", "audited", "wrong stops", "missed the best"),
        *("rho (n)", "tau (n)", "rho, all finished (n)"),
    )
    lines = [
        [
            "all" if row["rung"] is None else f"epoch {row['epoch']}",
            str(row["num_stopped"]),
            str(row["num_audited"]),
            _wrong_rate(row),
            wording.number(row["num_missed_best"]),
            _correlation(row, "spearman", "sampled"),
            _correlation(row, "kendall", "sampled"),
            _correlation(row, "spearman", "finished"),
        ]
        for row in rows
    ]
    table = Table(columns, lines, numeric=range(1, len(columns)))
    return Section("audit", "Audit of the stops", render("audit.html", sentence=audit_sentence(run), table=table))


def _wrong_rate(row: Row) -> str:
    if row["wrong_rate"] is None:
        return "-"
    low, high = (round(100 * row[key]) for key in ("wrong_low", "wrong_high"))
    return f"{row['num_wrong']} of {row['num_audited']} ({low} to {high} %)"


def _correlation(row: Row, kind: str, which: str) -> str:
    value, num = row[f"{kind}_{which}"], row[f"num_{which}"]
    return "-" if num is None else f"{'-' if value is None else format(value, '.2f')} ({num})"


def memory(run: RunData) -> Section | None:
    """Create the section on the earlier runs that the search learned from; None if there are none."""
    summaries, figures = earlier_runs(run), figures_memory.weights(run)
    if not summaries:
        return None
    columns = (
        "earlier run",
        "data",
        "networks",
        "machine",
        "version",
        "trials",
        "mean weight",
        "trials suggested by it",
        "of these failed or infeasible",
    )
    lines = [
        [
            each.name,
            *(each.facts[key] or "-" for key in ("data", "family", "machine", "winnow_version")),
            str(each.facts["num_trials"]),
            f"{each.weight:.2f}",
            ", ".join(f"{trial} ({100 * share:.0f}\u00a0%)" for trial, share in each.main_for[:MAX_TRIALS_LISTED])
            or "-",
            ", ".join(map(str, each.without_result[:MAX_TRIALS_LISTED])) or "-",
        ]
        for each in summaries
    ]
    table = Table(columns, lines, numeric=(5, 6))
    html = render("memory.html", sentence=memory_sentence(run), figures=figures, table=table)
    return Section("memory", "Earlier runs", html, figures)
