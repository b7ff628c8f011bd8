"""Renders the templates of the report. Every value is escaped, unless it is `Markup` already."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from winnow.reports.figures.style import Figure
from winnow.reports.text import glossary
from winnow.reports.visible import visible


@dataclass(frozen=True)
class Section:
    """One section of a report page."""

    id: str
    title: str
    html: Markup
    """The section without its heading."""
    figures: Sequence[Figure] = ()


@dataclass(frozen=True)
class Table:
    """A table whose cells are texts."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Collection[int] = ()
    """Indices of columns that are aligned to the right."""
    wide: Collection[int] = ()
    """Indices of columns that may wrap."""
    below: Sequence[str] = ()
    """A text for each row, shown below it over the whole width; empty if the table has no such texts."""

    def css_class(self, column: int) -> str:
        return "n" if column in self.numeric else "wide" if column in self.wide else ""


def render(template: str, **values: Any) -> Markup:
    """Render a template of the folder `templates`.

    Args:
        template: Name of the file.
        **values: The variables of the template. Plain text is escaped; `Markup` is inserted as it is.
    """
    return Markup(_environment().get_template(template).render(values))


@cache
def _environment() -> Environment:
    folder = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["percent"] = "{:.0%}".format
    environment.filters["explained"] = _explained
    environment.filters["anchor"] = glossary.anchor
    return environment


def _explained(text: str) -> Markup:
    """Link the terms in a text to the glossary. The meaning is shown on hover too, which a finger cannot do."""
    link = Markup('<a class="term" href="#{}" title="{}">{}</a>')
    pieces = (
        escape(piece) if term is None else link.format(glossary.anchor(term), glossary.GLOSSARY[term], piece)
        for piece, term in glossary.parts(visible(text))
    )
    return Markup("").join(pieces)


def _shown(value: Any) -> Any:
    """Make the hidden characters of a text visible. In `Markup`, which a template created, they already are."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
