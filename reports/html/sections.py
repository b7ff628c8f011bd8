"""Makes the sections of the HTML report, in order: each a function from a run to a section. Templates hold the HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import yaml

from winnow.reports.figures import cost as figures_cost
from winnow.reports.figures import front as figures_front
from winnow.reports.figures import learning_curves as figures_search
from winnow.reports.figures import memory as figures_memory
from winnow.reports.figures import parameters as figures_parameters
from winnow.reports.figures import progress as figures_progress
from winnow.reports.figures import winners as figures_winners
from winnow.reports.figures.style import STATUS_COLORS
from winnow.reports.html.gallery import winner_mistakes
from winnow.reports.html.network_drawing import COLUMN, HEIGHT, network_blocks
from winnow.reports.html.templating import Section, Table, render
from winnow.reports.schemas import TABLES
from winnow.reports.statuses import STATUS_WORDS
from winnow.reports.tables.retraining import TEST_METRICS
from winnow.reports.text import summary, wording
from winnow.reports.text.advice import advice
from winnow.reports.text.audit import audit_sentence
from winnow.reports.text.failure_classes import class_rows
from winnow.reports.text.memory import earlier_runs, memory_sentence
from winnow.reports.text.terminal import best_first
from winnow.reports.text.winner_recipe import training_command, winner_config
from winnow.reports.text.winner_words import winner_sentence, yardsticks
from winnow.spaces.epoch_figures import OWN_METRIC, in_words, name_on_test_images

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

MAX_TRIALS = 15
"""Rows of the table of trials; trials.parquet has all."""
MAX_FAILURES = 30
MAX_OWED = 8
"""First suggestions that are listed for each earlier run; memory.parquet has all."""
MAX_PAIRED_CLASSES = 30
"""With more classes the confusion matrix needs the whole width."""

Row = dict[str, Any]


def overview(run: RunData) -> Section:
    """The run in words, and how the trials ended."""
    counts = wording.status_counts(run.rows("trials"))
    html = render(
        "summary.html",
        notes=run.notes,
        headline=_headline(run),
        winner=_winner_facts(run),
        yardsticks=[(name, wording.percent(value)) for name, value in yardsticks(run)],
        sentences=summary.sentences(run),
        tiles=[
            {"color": STATUS_COLORS[status], "count": count, "status": STATUS_WORDS[status]}
            for status, count in counts.items()
        ],
        advice=advice(run),
    )
    return Section("summary", "Summary", html)


def _winner_facts(run: RunData) -> dict[str, Any] | None:
    """The winner in a sentence and its network as a drawing; before retraining those of the best trial; None without either."""
    config, data = winner_config(run), run.study.get("data") or {}
    if config is None:
        return None
    rows = [row for row in run.rows("winners") if row["rank"] == 1] or best_first(run, run.rows("trials"))
    shape, classes = data.get("image_shape"), data.get("num_classes")
    blocks = network_blocks(config, shape, classes) if shape and classes else []
    drawing = render("network.html", blocks=blocks, column=COLUMN, height=HEIGHT) if blocks else ""
    return {"sentence": winner_sentence(config, rows[0]["num_parameters"]), "drawing": drawing}


def _headline(run: RunData) -> tuple[str, str] | None:
    """The most important number and what it is: the winner's test accuracy, or else the best objective."""
    first = next((row for row in run.rows("winners") if row["rank"] == 1 and row["test_accuracy"] is not None), None)
    if first is not None:
        low, high = first["test_accuracy_low"], first["test_accuracy_high"]
        images = first["num_test_images"]
        of = f" of {wording.count(images)} test images of {len(run.class_names)} classes" if images else ""
        about = f"correct{of}: the test accuracy of the winner, mean of {wording.plural(first['num_seeds'], 'seed')}"
        about += (
            f", 95 % interval {100 * low:.2f} to {100 * high:.2f} {wording.basis(first)}" if low is not None else ""
        )
        return wording.percent(first["test_accuracy"]), about
    ranked = best_first(run, run.rows("trials"))
    if not ranked:
        return None
    value = wording.objective_text(run, ranked[0]["objective"])
    return value, f"best {wording.objective_name(run)}, not yet retrained or tested"


def winners(run: RunData) -> Section:
    """The winners beside the baseline."""
    rows, figures = run.rows("winners"), figures_winners.winners(run)
    columns = ("", "test accuracy", "seeds", "above baseline", "in the search", "gap", "weights", "time")
    lines = [
        [
            figures_winners.winner_label(row),
            wording.interval_text(row["test_accuracy"], row["test_accuracy_low"], row["test_accuracy_high"]),
            f"{row['num_seeds']}" + (f", {row['num_failed']} failed" if row["num_failed"] else ""),
            wording.points(row["gain"]) + _range(row["gain_low"], row["gain_high"]),
            wording.percent(row["search_accuracy"]),
            wording.points(row["gap"]),
            wording.count(row["num_parameters"]),
            wording.duration(row["wall_seconds"]),
        ]
        for row in rows
    ]
    table = Table(columns, lines, numeric=range(1, len(columns))) if rows else None
    html = render(
        "winners.html",
        command=wording.command("retrain", run.path),
        figures=figures,
        table=table,
        metrics=_metrics_table(rows) if rows else None,
        warnings=[text for row in rows if (text := wording.one_class_warning(row))],
        share=wording.percent(rows[0]["largest_class"]) if rows and rows[0]["largest_class"] is not None else None,
    )
    return Section("winners", "Winners", html, figures)


def front(run: RunData) -> Section | None:
    """The front of a search with several objectives; None if it has one."""
    rows, figures = run.rows("front"), figures_front.fronts(run)
    if not rows:
        return None
    columns = (
        "rank",
        "trial",
        wording.objective_name(run),
        *(wording.COST_WORDS[cost] for cost in run.costs),
        "test accuracy",
    )
    lines = [
        [
            str(row["rank"]),
            str(row["trial"]),
            wording.objective_text(run, row["objective"]),
            *(wording.cost_text(cost, row[cost]) for cost in run.costs),
            wording.percent(row["test_accuracy"]),
        ]
        for row in rows[:MAX_TRIALS]
    ]
    html = render("front.html", figures=figures, table=Table(columns, lines, numeric=range(len(columns))))
    return Section("front", "Front", html, figures)


def memory(run: RunData) -> Section | None:
    """The earlier runs that the search learned from; None if there are none."""
    summaries, figures = earlier_runs(run), figures_memory.weights(run)
    if not summaries:
        return None
    columns = ("earlier run", "data", "networks", "machine", "version", "trials", "mean weight", "trials owed to it")
    lines = [
        [
            each.name,
            *(each.facts[key] or "-" for key in ("data", "family", "machine", "winnow_version")),
            str(each.facts["num_trials"]),
            f"{each.weight:.2f}",
            ", ".join(f"{trial} ({100 * share:.0f}\u00a0%)" for trial, share in each.owed[:MAX_OWED]) or "-",
        ]
        for each in summaries
    ]
    table = Table(columns, lines, numeric=(5, 6))
    html = render("memory.html", sentence=memory_sentence(run), figures=figures, table=table)
    return Section("memory", "Earlier runs", html, figures)


def _metrics_table(rows: list[Row]) -> Table:
    """Every metric of the winners on the test images; a metric that no winner has is left out."""
    known = [key for key in ("test_accuracy", *TEST_METRICS, "test_loss") if any(row[key] is not None for row in rows)]
    heads = [in_words(key.removeprefix("test_")) for key in known]
    own = ("test_loss", name_on_test_images(OWN_METRIC))  # the others are shares
    lines = [
        [
            figures_winners.winner_label(row),
            *(wording.number(row[key]) if key in own else wording.percent(row[key]) for key in known),
        ]
        for row in rows
    ]
    return Table(("", *heads), lines, numeric=range(1, len(known) + 1))


def _class_table(run: RunData) -> Table | None:
    """Precision, recall and F1 of the first winner by class; None without its predictions."""
    rows = [row for row in run.rows("classes") if row["rank"] == 1]
    lines = [
        [row["class_name"], str(row["support"]), *(wording.percent(row[key]) for key in ("precision", "recall", "f1"))]
        for row in rows
    ]
    heads = ("class", "test images", "precision", "recall", "F1")
    return Table(heads, lines, numeric=range(1, len(heads)), wide=(0,)) if lines else None


def _range(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({100 * low:+.2f} to {100 * high:+.2f})"


def search(run: RunData) -> Section:
    """The course of the search: best so far, learning curves, budget, the best trials."""
    progress = figures_progress.best_so_far(run)
    curves = [*figures_search.learning_curves(run), *figures_search.budget(run)]
    ranked = best_first(run, run.rows("trials"))
    html = render(
        "search.html",
        progress=progress,
        curves=curves,
        objective=wording.objective_name(run),
        unaudited_stops=_unaudited_stops(run),
        title="The best trials" if len(ranked) <= MAX_TRIALS else f"The best {MAX_TRIALS} trials",
        table=_trial_table(run, ranked[:MAX_TRIALS]),
    )
    return Section("search", "Search", html, [*progress, *curves])


def _unaudited_stops(run: RunData) -> str:
    """A hint at the audit if the run stopped trials without one; else empty."""
    stopped = sum(row["status"] == "stopped" for row in run.rows("trials"))
    if not stopped or len(run.table("audit")):
        return ""
    return (
        f"Whether the {wording.plural(stopped, 'stop')} cost a better trial is unknown. A search with --audit 0.1 trains "
        "a tenth of the stopped trials to completion and reports how many stops were wrong."
    )


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


def _active(row: Mapping[str, Any], paths: Iterable[str]) -> Row:
    """The parameters that the trial had, a branch by its own name: `optimizer`, not `optimizer.name`."""
    return {path.removesuffix(".name"): row[path] for path in paths if row[path] is not None}


def parameters(run: RunData) -> Section:
    """The effect of the parameters: importance, parallel coordinates, slices, cost."""
    top = [*figures_parameters.importance(run), *figures_parameters.parallel_coordinates(run)]
    slices, left_out = figures_parameters.slices(run)
    costs = figures_cost.cost(run)
    about = f"{wording.objective_name(run).capitalize()} by parameter. Dots: completed; crosses: stopped early. "
    about += f"{figures_parameters.LAST_VALUES} "
    about += "If outliers would compress the other values, the axis leaves out the worst; a button shows them."
    if left_out:
        about += f" Shown are the {len(slices)} most important of {len(slices) + left_out} parameters."
    html = render("parameters.html", top=top, slices=slices, costs=costs, about_slices=about)
    return Section("parameters", "Parameters", html, [*top, *slices, *costs])


def audit(run: RunData) -> Section | None:
    """The section on how well the rungs predict the final values; None if the run has no audit."""
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


def test_images(run: RunData) -> Section:
    """The mistakes of the winner."""
    figures = figures_winners.confusion(run)
    layout = "pair" if len(run.class_names) <= MAX_PAIRED_CLASSES else ""
    mistakes = winner_mistakes(run) if figures else []
    html = render(
        "test_images.html",
        figures=figures,
        layout=layout,
        mistakes_command=wording.command("show", run.path, "--mistakes", "--top", "1000"),
        mistakes=mistakes,
        classes=_class_table(run) if figures else None,
    )
    return Section("test-images", "Test images", html, figures)


def data(run: RunData) -> Section | None:
    """The section on the images that were read: rules, columns, sizes, repeated images, and the counts by class; None for a run of an older Winnow."""
    summary_of_data = (run.study.get("data") or {}).get("summary")
    if not summary_of_data:
        return None
    counts: dict[str, dict[str, int]] = {}
    for row in run.rows("data"):
        counts.setdefault(row["class_name"], {})[row["split"]] = row["num_images"]
    splits = tuple(summary_of_data["splits"])
    lines = [[name, *(str(by_split.get(split, 0)) for split in splits)] for name, by_split in counts.items()]
    table = Table(("class", *splits), lines, numeric=range(1, len(splits) + 1), wide=(0,))
    return Section("data", "Data", render("data.html", text=summary_of_data["text"], table=table))


def failures(run: RunData) -> Section:
    """Every training that did not end well, with its error."""
    rows, classes = run.rows("failures"), class_rows(run.rows("trials"))
    class_lines = [[STATUS_WORDS.get(name, name), str(num), meaning, action] for name, num, meaning, action in classes]
    lines = [
        [
            row["phase"],
            "baseline" if row["trial"] is None else str(row["trial"]),
            STATUS_WORDS[row["status"]],
            str(row["epoch"]),
            row["node"] or "-",
            wording.failure_text(row)[:400],
        ]
        for row in rows[:MAX_FAILURES]
    ]
    columns = ("phase", "trial", "status", "last epoch", "node", "error")
    html = render(
        "failures.html",
        any=bool(rows) or any(num for _, num, _, _ in classes),
        classes=Table(("class", "trials", "meaning", "action"), class_lines, numeric=(1,), wide=(2, 3)),
        failures=Table(columns, lines, numeric=(1, 3), wide=(5,)) if rows else None,
        num_more=max(0, len(rows) - MAX_FAILURES),
    )
    return Section("failures", "Failures", html)


def reproduce(run: RunData) -> Section:
    """The exact config, the command that repeats its training, where it ran, and how to read the tables."""
    config, recipe = winner_config(run), run.path / "report" / "winner.yaml"
    again = training_command(run, recipe)
    facts = [[row["section"], row["key"], row["value"] or "unknown"] for row in run.rows("environment")]
    trials = run.path / "report" / "trials.parquet"
    html = render(
        "reproduce.html",
        config=None if config is None else yaml.safe_dump(config, sort_keys=False),
        same=again is not None,
        train_command=again or f"winnow train {recipe}",
        run_command=str(run.study.get("command") or ""),
        facts=Table(("", "", ""), facts, wide=(2,)),
        space=yaml.safe_dump(run.study["space"], sort_keys=False),
        tables=", ".join(TABLES),
        query=f'import pandas as pd\ntrials = pd.read_parquet("{trials}")',
    )
    return Section("reproduce", "Reproduce", html)


def sections_of(run: RunData) -> list[Section]:
    """The sections that apply to the run, in order."""
    return [section for make in SECTIONS if (section := make(run)) is not None]


SECTIONS: tuple[Callable[[RunData], Section | None], ...] = (
    overview,
    front,
    winners,
    search,
    memory,
    parameters,
    audit,
    test_images,
    data,
    failures,
    reproduce,
)
