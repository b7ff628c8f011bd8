"""Lists the test images that the winner classifies wrongly. Each image appears once, over all seeds."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from winnow.reports.text import wording
from winnow.reports.text.next_step import next_step
from winnow.reports.visible import rich_text

if TYPE_CHECKING:
    from rich.console import Console

    from winnow.reports.run_data import RunData

Row = dict[str, Any]
MAX_CLASS_WIDTH = 18
"""Largest number of characters of a class name that are printed; the tables have all."""
MIN_IMAGE_WIDTH = 16
"""Minimum width of the column with the files, which is never cut off."""


def mistake_rows(run: RunData) -> list[Row]:
    """Find the test images that at least one network of the first winner classified wrongly.

    Returns:
        For each image, the row of `predictions` with the most confident wrong prediction (of equal ones, that of the lowest seed),
        and `num_wrong` of `num_seeds`, the number of the winner's networks that were wrong. They are sorted by `num_wrong`,
        then by confidence.
    """
    return run.once("mistake_rows", lambda: _mistake_rows(run))


def _mistake_rows(run: RunData) -> list[Row]:
    import pyarrow.compute as pc

    of_winner = run.predictions.filter(pc.field("rank") == 1)
    wrong: dict[int, list[Row]] = defaultdict(list)
    for row in of_winner.filter(~pc.field("correct")).to_pylist():
        wrong[row["index"]].append(row)
    num_seeds = len(of_winner.column("seed").unique())
    images = {index: next((row["image"] for row in rows if row["image"]), None) for index, rows in wrong.items()}
    worst = [min(rows, key=lambda row: (-row["confidence"], row["seed"])) for rows in wrong.values()]
    counted = [
        row | {"image": images[row["index"]], "num_wrong": len(wrong[row["index"]]), "num_seeds": num_seeds}
        for row in worst
    ]
    return sorted(counted, key=lambda row: (-row["num_wrong"], -row["confidence"], row["index"]))


def show_mistakes(run: RunData, console: Console, top: int) -> None:
    """Print the mistakes of the first winner, at most `top` of them.

    Args:
        run: The run.
        console: Console to print to.
        top: Largest number of mistakes to print.
    """
    rows = mistake_rows(run)
    if not rows and (step := next_step(run)) is not None:
        console.print(f"No mistakes of a current winner are recorded yet. {rich_text(step.text)}", highlight=False)
        console.print(f"next     {rich_text(step.command)}", highlight=False, soft_wrap=True)
        return
    if not rows:
        console.print("There are no mistakes of a winner: no predictions are recorded, or all are right.")
        return
    shown = f"the first {top} of {len(rows)}" if len(rows) > top else str(len(rows))
    title = f"Test images that the winner of {run.name} gets wrong: {shown}"
    table = Table(title=rich_text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("seeds", justify="right", no_wrap=True)
    for name in ("true", "predicted"):  # long names are cut to leave room for that of the image
        table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=MAX_CLASS_WIDTH)
    table.add_column("confidence", justify="right", no_wrap=True)
    table.add_column("image", overflow="fold", min_width=MIN_IMAGE_WIDTH)
    for row in rows[:top]:
        table.add_row(
            f"{row['num_wrong']} of {row['num_seeds']}",
            rich_text(row["true_class"]),
            rich_text(row["predicted_class"]),
            wording.percent(row["confidence"]),
            rich_text(row["image_name"] or f"test image {row['index']}"),
        )
    console.print(table)
