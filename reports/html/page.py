"""The HTML report: one file, with plotly.js inlined once, that opens without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any

from plotly.offline import get_plotlyjs

from winnow.reports.html.sections import Section, sections_of

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData


def page(run: RunData) -> str:
    """The whole HTML document of a run."""
    return document(run.name, _made(run), sections_of(run), _footer(run))


def document(title: str, made: str, sections: Sequence[Section], footer: str) -> str:
    """A whole HTML page of sections."""
    figures = {figure.id: json.loads(figure.plot.to_json()) for section in sections for figure in section.figures}
    return Template(_resource("page.html")).substitute(
        title=escape(title),
        made=escape(made),
        css=_resource("page.css"),
        nav="".join(f'<a href="#{section.id}">{escape(section.title)}</a>' for section in sections),
        body="\n".join(map(_section_html, sections)),
        footer=escape(footer),
        figures=_inline_json(figures),
        plotly=get_plotlyjs(),
        script=_resource("page.js"),
    )


def _resource(name: str) -> str:
    return resources.files("winnow.reports.html").joinpath(name).read_text(encoding="utf-8")


def _made(run: RunData) -> str:
    created = str(run.study.get("created") or "an unknown time")
    return f"Run of {created[:16].replace('T', ' ')} UTC; this page was made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _section_html(section: Section) -> str:
    return f'<section id="{section.id}"><h2>{escape(section.title)}</h2>{section.html}</section>'


def _footer(run: RunData) -> str:
    version = run.study.get("winnow_version")
    tested = [moment for moment in run.table("retrains").column("time").to_pylist() if moment is not None]
    opened = f" The test images were first opened on {min(tested):%Y-%m-%d %H:%M} UTC, by retraining." if tested else ""
    return f"Made by Winnow {version or ''}".rstrip() + f" from {run.path.resolve()}.{opened}"


def _inline_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
