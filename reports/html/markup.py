"""Small pieces of HTML. Every text that comes from a run goes through `escape`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from winnow.reports.figures.style import Figure


def paragraph(text: str, css_class: str = "") -> str:
    return f'<p class="{css_class}">{escape(text)}</p>' if css_class else f"<p>{escape(text)}</p>"


def bullets(items: Iterable[str]) -> str:
    """A list; what stands in `backquotes` is code."""
    lines = (re.sub("`([^`]+)`", r"<code>\1</code>", escape(item)) for item in items)
    return "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"


def figure_html(figure: Figure, level: int = 3) -> str:
    """The place of a figure; the script draws it there. Its height is kept free, so that nothing jumps."""
    height = figure.plot.layout.height
    width = f"min-width:{figure.min_width}px" if figure.min_width else ""
    label = escape(f"{figure.title}. {figure.caption}", quote=True)
    caption = paragraph(figure.caption, "caption") if figure.caption else ""
    return (
        f"<figure><figcaption><h{level}>{escape(figure.title)}</h{level}>{caption}</figcaption>"
        f'<div class="scroll"><div data-figure="{escape(figure.id, quote=True)}" role="img" aria-label="{label}" '
        f'style="height:{height}px;{width}"></div></div></figure>'
    )


def table_html(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    numeric: Iterable[int] = (),
    wide: Iterable[int] = (),
    below: Sequence[str] = (),
) -> str:
    """A table of texts that scrolls sideways where it must; `numeric` and `wide` are positions of columns.

    `below`: a text for each row, over the whole width under it.
    """
    classes = {**dict.fromkeys(numeric, "n"), **dict.fromkeys(wide, "wide")}
    head = "".join(
        f'<th scope="col" class="{classes.get(i, "")}">{escape(name)}</th>' for i, name in enumerate(columns)
    )
    lines = []
    for place, row in enumerate(rows):
        cells = "".join(f'<td class="{classes.get(i, "")}">{escape(text)}</td>' for i, text in enumerate(row))
        lines.append(f"<tr>{cells}</tr>")
        if below:
            lines.append(f'<tr class="below"><td colspan="{len(columns)}"><div>{escape(below[place])}</div></td></tr>')
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def code(text: str, css_class: str = "") -> str:
    return f'<pre class="{css_class}">{escape(text)}</pre>'


def details(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{body}</details>"
