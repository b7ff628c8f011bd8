"""Chooses the view that suits the output: JSON, notebook, live terminal, or plain lines."""

from __future__ import annotations

import os

from rich.console import Console

from winnow.search.views.view import View


def make_view(console: Console, quiet: bool, as_json: bool = False) -> View:
    """Choose and make a view.

    Args:
        console: The console that the view writes to.
        quiet: Whether to show only important messages.
        as_json: Whether to write JSON lines; `quiet` is then ignored. Default: False.
    """
    if as_json:
        from winnow.search.views.json_view import JsonView

        return JsonView(console)
    if quiet:
        return View(console)
    if console.is_jupyter:
        from winnow.search.views.notebook import NotebookView

        return NotebookView(console)
    if not console.is_terminal or console.is_dumb_terminal or in_ci():
        from winnow.search.views.plain import PlainView

        return PlainView(console)
    from winnow.search.views.live import LiveView

    return LiveView(console)


def in_ci() -> bool:
    """Return whether this is continuous integration, which sets `CI`. It may have a terminal although nobody watches."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")
