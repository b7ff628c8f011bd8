"""The console of all commands: it shows control characters that a text holds, instead of passing them to the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from winnow.reports.visible import visible


class VisibleConsole(Console):
    """A console whose texts cannot control the terminal. Any of them may come from a model, from data or from a run of somebody else."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render something as `Console` does, with control characters as visible symbols.

        Args:
            renderable: Anything that rich can print.
            options: Options of the rendering. Default: those of the console.

        Yields:
            The segments. Rich's own control codes are unchanged.
        """
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
