"""The sections of the HTML report, in order. A section is a function from a run to its HTML and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import yaml

from winnow.reports.figures import cost as figures_cost
from winnow.reports.figures import learning_curves as figures_search
from winnow.reports.figures import parameters as figures_parameters
from winnow.reports.figures import progress as figures_progress
from winnow.reports.figures import winners as figures_winners
from winnow.reports.figures.style import STATUS_COLORS, Figure
from winnow.reports.html.audit import audit_html
from winnow.reports.html.gallery import gallery
from winnow.reports.html.markup import bullets, code, details, figure_html, paragraph, table_html
from winnow.reports.schemas import TABLES
from winnow.reports.statuses import STATUS_WORDS
from winnow.reports.text import summary, wording
from winnow.reports.text.failure_classes import class_rows
from winnow.reports.text.terminal import best_first
from winnow.reports.text.winner_recipe import training_command, winner_config

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

MAX_TRIALS = 15
"""Rows of the table of trials; the rest is in trials.parquet."""

MAX_FAILURES = 30
MAX_PAIRED_CLASSES = 30
"""More need the whole width for their confusion matrix."""


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    html: str
    """Without the heading."""
    figures: Sequence[Figure] = ()


def overview(run: RunData) -> Section:
    """The run in words, and how the trials ended."""
    counts = wording.status_counts(run.rows("trials"))
    tiles = "".join(
        f'<li style="--tile:{STATUS_COLORS[status]}"><b>{number}</b><span>{STATUS_WORDS[status]}</span></li>'
        for status, number in counts.items()
    )
    notes = "".join(paragraph(note) for note in run.notes)
    parts = [
        f'<div class="notes" role="note">{notes}</div>' if notes else "",
        _headline(run),
        *(paragraph(sentence, "lead" if i == 0 else "") for i, sentence in enumerate(summary.sentences(run))),
        f'<ul class="tiles" aria-label="Trials by status">{tiles}</ul>',
    ]
    found = summary.advice(run)
    if found:
        parts.append("<h3>What to try next</h3>" + bullets(found))
    return Section("summary", "Summary", "".join(parts))


def _headline(run: RunData) -> str:
    """The one figure that a reader came for: the winner's test accuracy, or else the best objective."""
    first = next((row for row in run.rows("winners") if row["rank"] == 1 and row["test_accuracy"] is not None), None)
    if first is not None:
        low, high = first["test_accuracy_low"], first["test_accuracy_high"]
        about = f"test accuracy of the winner, mean of {wording.plural(first['num_seeds'], 'seed')}"
        about += f", 95 % interval {100 * low:.2f} to {100 * high:.2f}" if low is not None else ""
        return f'<p class="headline"><b>{wording.percent(first["test_accuracy"])}</b><span>{escape(about)}</span></p>'
    ranked = best_first(run, run.rows("trials"))
    if not ranked:
        return ""
    value = wording.objective_text(run, ranked[0]["objective"])
    about = f"best {wording.objective_name(run)}, not yet retrained or tested"
    return f'<p class="headline"><b>{value}</b><span>{escape(about)}</span></p>'


def winners(run: RunData) -> Section:
    """Winners beside the baseline."""
    rows = run.rows("winners")
    if not rows:
        text = paragraph("No winner was retrained yet. This trains the best of them afresh and tests them once:")
        return Section("winners", "Winners", text + code(f"winnow retrain {run.path}", "command"))
    columns = ["", "test accuracy", "seeds", "above baseline", "in the search", "gap", "weights", "time"]
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
    about = (
        "In brackets: 95 % intervals. Gap: validation accuracy in the search less test accuracy. Time: of one training."
    )
    figures = figures_winners.winners(run)
    html = "".join(map(figure_html, figures)) + table_html(columns, lines, numeric=range(1, len(columns)))
    html += paragraph(about, "caption")
    return Section("winners", "Winners", html, figures)


def _range(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({100 * low:+.2f} to {100 * high:+.2f})"


def search(run: RunData) -> Section:
    """How the search went: best so far, curves, budget, the best trials."""
    progress = figures_progress.best_so_far(run)
    rest = [*figures_search.learning_curves(run), *figures_search.budget(run)]
    if not progress and not rest:
        return Section("search", "Search", paragraph("No epoch has finished yet."))
    about = (
        f"Each dot is one finished epoch of some trial; the line is the best {wording.objective_name(run)} found up to then. "
        "The axis leaves out the first steps; the button shows all."
    )
    html = (
        _group("triple", progress, "Best so far", about) + "".join(map(figure_html, rest)) + _stops(run) + _trials(run)
    )
    return Section("search", "Search", html, [*progress, *rest])


def _stops(run: RunData) -> str:
    """What would tell whether the stops were right, where nothing does."""
    stopped = sum(row["status"] == "stopped" for row in run.rows("trials"))
    if not stopped or len(run.table("audit")):
        return ""
    about = f"Whether the {wording.plural(stopped, 'stop')} cost a better trial is not known: a search with --audit 0.1 lets one in ten of the stopped trials finish, and says so."
    return paragraph(about, "caption")


def _group(css_class: str, figures: Sequence[Figure], title: str = "", caption: str = "") -> str:
    """Figures side by side, under a title of their own where they have one; empty where there are none."""
    if not figures:
        return ""
    heading = f"<figure><h3>{escape(title)}</h3>{paragraph(caption, 'caption')}</figure>" if title else ""
    level = 4 if title else 3
    return f'{heading}<div class="{css_class}">{"".join(figure_html(figure, level) for figure in figures)}</div>'


def _trials(run: RunData) -> str:
    ranked = best_first(run, run.rows("trials"))
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
        for row in ranked[:MAX_TRIALS]
    ]
    columns = ["trial", "status", wording.objective_name(run), "best, at epoch", "epochs", "training", "weights"]
    paths = run.space.columns()
    params = [wording.parameters_text(_active(row, paths)) for row in ranked[:MAX_TRIALS]]
    title = "<h3>The best trials</h3>" if len(ranked) <= MAX_TRIALS else f"<h3>The best {MAX_TRIALS} trials</h3>"
    return f"<figure>{title}{table_html(columns, lines, numeric=(0, 2, 3, 4, 5, 6), below=params)}</figure>"


def _active(row: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """The parameters that the trial had, a branch by its own name: `optimizer`, not `optimizer.name`."""
    return {path.removesuffix(".name"): row[path] for path in paths if row[path] is not None}


def parameters(run: RunData) -> Section:
    """What the space taught: importance, parallel coordinates, slices, cost."""
    top = [*figures_parameters.importance(run), *figures_parameters.parallel_coordinates(run)]
    slices, left_out = figures_parameters.slices(run)
    costs = figures_cost.cost(run)
    if not (top or slices or costs):
        return Section("parameters", "Parameters", paragraph("Too few trials to say anything about parameters."))
    html = "".join(map(figure_html, top))
    if slices:
        about = f"{wording.objective_name(run).capitalize()} by parameter. Dots: completed; crosses: stopped early. "
        about += "Where the worst values would press the others together, they are below the axis: a button shows them."
        if left_out:
            about += f" Shown are {len(slices)} of {len(slices) + left_out} parameters, the most important first."
        html += _group("slices", slices, "Slices", about)
    return Section("parameters", "Parameters", html + _group("pair", costs), [*top, *slices, *costs])


def audit(run: RunData) -> Section | None:
    """How well the rungs foretell the end; None where no stopped trial was let finish."""
    html = audit_html(run)
    return Section("audit", "Audit of the stops", html) if html else None


def test_images(run: RunData) -> Section:
    """What the winner gets wrong."""
    figures = figures_winners.confusion(run)
    if not figures:
        return Section("test-images", "Test images", paragraph("No predictions of a winner are there yet."))
    mistakes = gallery(run)
    html = _group("pair" if len(run.class_names) <= MAX_PAIRED_CLASSES else "", figures)
    if mistakes:
        about = "Test images that the winner, trained with its first seed, got wrong while most sure of itself: look here for wrong labels."
        html += f"<figure><h3>Most confident mistakes</h3>{paragraph(about, 'caption')}</figure>"
        html += f'<ul class="gallery">{mistakes}</ul>'
    return Section("test-images", "Test images", html, figures)


def failures(run: RunData) -> Section:
    """Every training that did not end well, with its error."""
    rows = run.table("failures").to_pylist()
    classes = [
        [STATUS_WORDS.get(name, name), str(num), meaning, action]
        for name, num, meaning, action in class_rows(run.rows("trials"))
    ]
    table = table_html(["class", "trials", "what it is", "what was done"], classes, numeric=(1,), wide=(2, 3))
    if not rows:
        well = paragraph("Every training ended well.")
        if not any(num for _, num, _, _ in class_rows(run.rows("trials"))):
            table = details("What would count as a failure, and what is done about it", table)
        return Section("failures", "Failures", well + table)
    lines = [
        [
            row["phase"],
            "baseline" if row["trial"] is None else str(row["trial"]),
            STATUS_WORDS[row["status"]],
            str(row["epoch"]),
            row["node"] or "-",
            (row["error"] or "no message was recorded").strip()[:400],
        ]
        for row in rows[:MAX_FAILURES]
    ]
    columns = ["phase", "trial", "status", "last epoch", "node", "error"]
    more = paragraph(f"{len(rows) - MAX_FAILURES} more are in failures.parquet.") if len(rows) > MAX_FAILURES else ""
    return Section("failures", "Failures", table + more + table_html(columns, lines, numeric=(1, 3), wide=(5,)))


def reproduce(run: RunData) -> Section:
    """The exact config, the command that trains it again, where it ran, and how to read the tables."""
    parts = []
    config = winner_config(run)
    if config is not None:
        recipe = run.path / "report" / "winner.yaml"
        again = training_command(run, recipe)
        about = "The winner's whole config is in report/winner.yaml. "
        if again is None:
            about += "This trains it, on the training images:"
        else:
            about += "This trains it again as its first retraining was, on the training and validation images; with the same hardware and versions every figure comes out the same:"
        parts.append(paragraph(about))
        parts.append(code(again or f"winnow train {recipe}", "command"))
        parts.append(details("winner.yaml", code(yaml.safe_dump(config, sort_keys=False))))
    if run.study.get("command"):
        parts.append(paragraph("The run was made by:") + code(str(run.study["command"]), "command"))
    facts = [[r["section"], r["key"], r["value"] or "unknown"] for r in run.table("environment").to_pylist()]
    parts.append(details("Settings, data, versions and hardware", table_html(["", "", ""], facts, wide=(2,))))
    parts.append(details("The space", code(yaml.safe_dump(run.study["space"], sort_keys=False))))
    tables = ", ".join(TABLES)
    parts.append(paragraph(f"Every figure here can be made from the Parquet tables beside this file: {tables}."))
    parts.append(code(f'import pandas as pd\ntrials = pd.read_parquet("{run.path / "report" / "trials.parquet"}")'))
    return Section("reproduce", "Reproduce", "".join(parts))


def sections_of(run: RunData) -> list[Section]:
    """Those that have something to say."""
    return [section for make in SECTIONS if (section := make(run)) is not None]


SECTIONS: tuple[Callable[[RunData], Section | None], ...] = (
    overview,
    winners,
    search,
    parameters,
    audit,
    test_images,
    failures,
    reproduce,
)
