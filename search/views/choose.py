"""The view that suits the output: JSON, notebook, live terminal, or plain lines."""

from __future__ import annotations

import os

from rich.console import Console

from winnow.search.views.view import View


def make_view(console: Console, quiet: bool, as_json: bool = False) -> View:
    """Choose and make a view.

    Args:
        console: Where it is shown.
        quiet: Whether to show nothing but important messages.
        as_json: Whether to write JSON lines, whatever `quiet` says.
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
    """Whether this is continuous integration, where nobody watches: it sets `CI`, sometimes with a terminal."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")
