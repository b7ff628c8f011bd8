"""Makes the HTML report: one file, with plotly.js inlined once, that opens without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from winnow.reports.html.sections import sections_of
from winnow.reports.html.templating import Section, render
from winnow.reports.text.queries import queries

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData


def page(run: RunData) -> str:
    """The whole HTML document of a run."""
    return document(run.name, _made(run), sections_of(run), _footer(run), queries(run))


def document(
    title: str, made: str, sections: Sequence[Section], footer: str, sql: Mapping[str, str] | None = None
) -> str:
    """A whole HTML page.

    Args:
        title: Title and heading of the page.
        made: When the run and the page were made, shown below the heading.
        sections: The sections in order; the navigation bar links to each.
        footer: Text at the end of the page.
        sql: The query behind each figure and number, by its id; a button shows it.
    """
    figures = {figure.id: json.loads(figure.plot.to_json()) for section in sections for figure in section.figures}
    return render(
        "page.html",
        title=title,
        made=made,
        css=_resource("page.css"),
        sections=sections,
        footer=footer,
        figures=_inline_json(figures),
        queries=_inline_json(dict(sql or {})),
        plotly=Markup(get_plotlyjs()),
        script=_resource("page.js"),
    )


def _resource(name: str) -> Markup:
    return Markup((Path(__file__).parent / name).read_text(encoding="utf-8"))


def _made(run: RunData) -> str:
    created = str(run.study.get("created") or "an unknown time")
    return f"Run of {created[:16].replace('T', ' ')} UTC; this page was made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _footer(run: RunData) -> str:
    version = run.study.get("winnow_version")
    times = [time for time in run.table("retrains").column("time").to_pylist() if time is not None]
    opened = f" The test images were first used on {min(times):%Y-%m-%d %H:%M} UTC, by retraining." if times else ""
    return f"Made by Winnow {version or ''}".rstrip() + f" from {run.path.resolve()}.{opened}"


def _inline_json(value: Any) -> Markup:
    """JSON that cannot end the script element around it."""
    return Markup(json.dumps(value, separators=(",", ":")).replace("<", "\\u003c"))
