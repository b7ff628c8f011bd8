"""What a model or a received run writes into a text does not control the terminal; the colours and the redrawing of Winnow do."""

from __future__ import annotations

import io

import pytest
from rich.control import Control
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from winnow.search.views.console import VisibleConsole
from winnow.search.views.live import LiveView

HOSTILE = "CUDA error \x1b[2J\x1b]0;title\x9b31m\u202e"


def console() -> VisibleConsole:
    return VisibleConsole(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")


def printed(console: VisibleConsole) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def in_table(text: str) -> Table:
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    return table


@pytest.mark.parametrize("made", [str, Text, in_table, Panel], ids=lambda made: made.__name__)
def test_control_characters_are_shown(made):
    paper = console()
    paper.print(made(HOSTILE), markup=False, highlight=False)
    assert "\u241b[2J" in printed(paper)
    for part in ("\x1b[2J", "\x1b]0", "\x9b", "\u202e"):
        assert part not in printed(paper)


def test_its_own_codes_reach_the_terminal():
    paper = console()
    paper.print("[red]error[/red]")
    paper.control(Control.home())
    assert printed(paper) == "\x1b[31merror\x1b[0m\n\x1b[H"


def test_the_live_view():
    paper = console()
    with LiveView(paper) as view:
        view.step(HOSTILE)
        view.message(f"trial 3: its worker was lost ({HOSTILE})")
    assert "\u241b[2J" in printed(paper)
    assert "\x1b[2J" not in printed(paper)
    assert "\x1b[?25l" in printed(paper)  # the cursor is hidden
