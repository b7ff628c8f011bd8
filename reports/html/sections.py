"""Creates the sections of the HTML report, each with a function that takes a run. Templates contain the HTML."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from winnow.reports.facts import have_one_kind_of_loss, metrics_on_test_images
from winnow.reports.figures import front as figures_front
from winnow.reports.figures import winners as figures_winners
from winnow.reports.figures.style import STATUS_COLORS
from winnow.reports.html.gallery import winner_mistakes
from winnow.reports.html.network_drawing import COLUMN, HEIGHT, network_blocks
from winnow.reports.html.search_sections import MAX_TRIALS, audit, memory, parameters, search
from winnow.reports.html.templating import Section, Table, render
from winnow.reports.schemas import TABLES
from winnow.reports.statuses import STATUS_WORDS
from winnow.reports.tables.candidates import incumbent
from winnow.reports.tables.front import columns_of_tests
from winnow.reports.text import summary, wording
from winnow.reports.text.advice import advice
from winnow.reports.text.baseline import protocol_differences
from winnow.reports.text.earlier_tests import earlier_tests_text, no_winner_text
from winnow.reports.text.failure_classes import class_rows
from winnow.reports.text.mistakes import mistake_rows
from winnow.reports.text.next_step import next_step
from winnow.reports.text.queries import FRONT
from winnow.reports.text.seeds import left_out, of_all, of_completed, search_value_text, seeds_text, with_repeats
from winnow.reports.text.winner_recipe import training_command, winner_config
from winnow.reports.text.winner_words import winner_sentence, yardsticks
from winnow.spaces.epoch_figures import OWN_METRIC, in_words, name_on_test_images

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

MAX_FAILURES = 30
MAX_PAIRED_CLASSES = 30
"""Number of classes above which the confusion matrix needs the whole width."""

Row = dict[str, Any]


def overview(run: RunData) -> Section:
    """Create the section that describes the run and how its trials ended."""
    counts = wording.status_counts(run.rows("trials"))
    html = render(
        "summary.html",
        notes=run.notes,
        headline=_headline(run),
        winner=_winner_facts(run),
        yardsticks=yardsticks(run),
        cost=summary.cost_sentences(run),
        sentences=summary.cited_sentences(run),
        tiles=[
            {"color": STATUS_COLORS[status], "count": count, "status": STATUS_WORDS[status]}
            for status, count in counts.items()
        ],
        advice=advice(run),
    )
    return Section("summary", "Summary", html)


def _winner_facts(run: RunData) -> dict[str, Any] | None:
    """Return a sentence about the winner and a drawing of its network.

    Before retraining they describe the best config so far. The result is None if there is neither.
    """
    config, data = winner_config(run), run.study.get("data") or {}
    if config is None:
        return None
    own = next((row for row in run.rows("winners") if row["rank"] == 1), None)
    row = own or incumbent(run, run.rows("trials")) or {}
    shape, classes = data.get("image_shape"), data.get("num_classes")
    blocks = network_blocks(config, shape, classes) if shape and classes else []
    drawing = render("network.html", blocks=blocks, column=COLUMN, height=HEIGHT) if blocks else ""
    num_epochs = of_completed(run, own, "num_epochs") if own else [row["num_epochs"]]
    sentence = winner_sentence(config, row["num_parameters"], num_epochs)
    return {"sentence": sentence, "drawing": drawing, "query": "winner" if own else "best-config"}


def _headline(run: RunData) -> tuple[str, str, str] | None:
    """Return the most important number with its name and its query: the winner's objective on the test images, or the best objective of a trial."""
    rows = run.rows("winners")
    first = next((row for row in rows if row["rank"] == 1 and row["test_objective"] is not None), None)
    if first is not None:
        low, high = first["test_objective_low"], first["test_objective_high"]
        images, name = (run.study.get("data") or {}).get("num_test"), wording.tested_name(run)
        num_classes = f"{len(run.class_names)} classes"
        if run.objective == "validation_accuracy":
            of = f" of {wording.count(images)} test images of {num_classes}" if images else ""
            about = f"correct{of}: the {name} of the winner"
        else:
            on = f" on {wording.count(images)} images of {num_classes}" if images else ""
            about = f"is the {name} of the winner{on}"
        about += f", mean of {seeds_text(first)}"
        if low is None:
            about += f" ({wording.why_no_interval(run, first)}, so no interval)"
        else:
            about += f", 95 % interval {wording.ends_text(run, low, high)} {wording.basis(run, first)}"
        return wording.objective_text(run, first["test_objective"]), about, "headline"
    best = incumbent(run, run.rows("trials"))
    if best is None:
        return None
    value, objective = wording.objective_text(run, best["objective"]), wording.objective_name(run)
    if "repeats" in best:
        about = with_repeats(f"{objective} of the config that the search ranks first", best)
    else:
        after = wording.after_epochs(best)
        about = f"best {objective}" + (f"{after}, as no trial has completed" if after else "")
    return value, f"{about}; {_untested(run, rows)}", "best-config"


def _untested(run: RunData, rows: list[Row]) -> str:
    """Return why the first winner has no value on the test images."""
    own = [row for row in rows if not row["baseline"]]
    if not any(row["num_seeds"] or row["num_failed"] for row in own if row["rank"] == 1):
        return "not yet retrained or tested" + (" under the current protocol" if earlier_tests_text(run) else "")
    if not any(row["num_seeds"] for row in own):
        return "all retrainings failed, so nothing was tested"
    return "the first winner has no value on the test images"


def winners(run: RunData) -> Section:
    """Create the section that compares the winners with the baseline."""
    rows, figures = run.rows("winners"), figures_winners.winners(run)
    above = "above baseline" if run.maximize else "better than baseline"
    columns = ("", wording.tested_name(run), "seeds", above, "in the search", "gap", "weights", "time")
    lines = [
        [
            figures_winners.winner_label(row),
            wording.objective_interval(run, row),
            of_all(row),
            wording.difference_text(run, row["objective_gain"]) + _range(run, row),
            search_value_text(run, row),
            wording.difference_text(run, row["objective_gap"]),
            wording.count(row["num_parameters"]),
            wording.duration(row["wall_seconds"]),
        ]
        for row in rows
    ]
    table = Table(columns, lines, numeric=range(1, len(columns))) if rows else None
    html = render(
        "winners.html",
        step=next_step(run),
        figures=figures,
        table=table,
        untested=no_winner_text(run),
        metrics=_metrics_table(run, rows),
        objective=wording.objective_name(run),
        tested=wording.tested_name(run),
        over=wording.intervals_over(run, rows),
        warnings=[
            *filter(None, [wording.other_loss(run, rows), *map(wording.one_class_warning, rows)]),
            *protocol_differences(run, rows),
            *([] if have_one_kind_of_loss(rows) else [wording.OTHER_LOSSES]),
        ],
        left_out=left_out(run, rows),
        earlier=earlier_tests_text(run),
        majority=wording.largest_class_text(run, "test"),
    )
    return Section("winners", "Winners", html, figures)


def front(run: RunData) -> Section | None:
    """Create the section on the front of a search with several objectives; None if it has only one."""
    rows, figures = run.rows("front"), figures_front.fronts(run)
    if not rows:
        return None
    shown = [*run.further, *columns_of_tests(run)]
    columns = ("rank", "trial", wording.objective_name(run), *map(wording.figure_words, shown))
    lines = [
        [
            str(row["rank"]),
            str(row["trial"]),
            wording.objective_text(run, row["objective"]),
            *(wording.figure_text(name, row[name]) for name in shown),
        ]
        for row in rows[:MAX_TRIALS]
    ]
    table = Table(columns, lines, numeric=range(len(columns)))
    html = render(
        "front.html",
        figures=figures,
        table=table,
        query=FRONT,
        majority=wording.largest_class_text(run, "test") if any(row["test_accuracy"] for row in rows) else "",
    )
    return Section("front", "Front", html, figures)


def _metrics_table(run: RunData, rows: list[Row]) -> Table | None:
    """Return a table of the winners' metrics on the test images; None if nothing was tested.

    Metrics that no winner has, or that are the same for every network, are left out, and so is the loss if it is not of one kind.
    """
    metrics = (*metrics_on_test_images(run), *(["test_loss"] if have_one_kind_of_loss(rows) else []))
    known = [key for key in metrics if any(row[key] is not None for row in rows)]
    if not known:
        return None
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
    """Return a table of precision, recall and F1 of the first winner by class; None if its predictions are missing."""
    return class_table([row for row in run.rows("classes") if row["rank"] == 1])


def class_table(rows: Sequence[Row]) -> Table | None:
    """Return a table of precision, recall and F1 by class; None without rows.

    Args:
        rows: The classes of one config or training, with the columns of the table `classes` from `class_name` on.
    """
    lines = [
        [row["class_name"], str(row["support"]), *(wording.percent(row[key]) for key in ("precision", "recall", "f1"))]
        for row in rows
    ]
    heads = ("class", "test images", "precision", "recall", "F1")
    return Table(heads, lines, numeric=range(1, len(heads)), wide=(0,)) if lines else None


def _range(run: RunData, row: Row) -> str:
    low, high = row["objective_gain_low"], row["objective_gain_high"]
    return "" if low is None else f" ({wording.difference_ends(run, low, high)})"


def test_images(run: RunData) -> Section:
    """Create the section on the mistakes of the winner."""
    figures = figures_winners.confusion(run)
    layout = "pair" if len(run.class_names) <= MAX_PAIRED_CLASSES else ""
    mistakes = winner_mistakes(run) if figures else []
    num_mistakes = len(mistake_rows(run)) if mistakes else 0
    html = render(
        "test_images.html",
        figures=figures,
        layout=layout,
        mistakes_command=wording.command("show", run.path, "--mistakes", "--top", str(num_mistakes)),
        mistakes=mistakes,
        classes=_class_table(run) if figures else None,
    )
    return Section("test-images", "Test images", html, figures)


def data(run: RunData) -> Section | None:
    """Create the section on the images: rules, columns, sizes, repeated images, and counts by class; None for a run of an older Winnow."""
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
    """Create the section on all trainings that failed or diverged, with their errors."""
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
    """Create the section with the winning config, the command that repeats its training, where it ran, and how to read the tables."""
    config, recipe = winner_config(run), run.path / "report" / "winner.yaml"
    again = training_command(run, recipe)
    facts = [[row["section"], row["key"], row["value"] or "unknown"] for row in run.rows("environment")]
    trials = run.path / "report" / "trials.parquet"
    html = render(
        "reproduce.html",
        config=None if config is None else yaml.safe_dump(config, sort_keys=False),
        same=again is not None,
        train_command=again or shlex.join(["winnow", "train", str(recipe)]),
        run_command=str(run.study.get("command") or ""),
        facts=Table(("", "", ""), facts, wide=(2,)),
        space=yaml.safe_dump(run.study["space"], sort_keys=False),
        tables=", ".join(TABLES),
        query=f'import pandas as pd\ntrials = pd.read_parquet("{trials}")',
    )
    return Section("reproduce", "Reproduce", html)


def sections_of(run: RunData) -> list[Section]:
    """Return the sections that apply to the run, in order."""
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
