"""Trains one config, searches many, resumes and retrains; the command line. Importing this costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.winner import Winner

__all__ = ["Winner", "load_winner"]


def load_winner(run: Path | str, rank: int = 1) -> Winner:
    """The retrained winner number `rank` of a run (a folder, or its name under runs/), ready to predict.

    >>> winner = load_winner("runs/digits")                         # doctest: +SKIP
    >>> winner.predict(images)      # uint8 [N, H, W, C] -> probabilities [N, K]    # doctest: +SKIP
    """
    from search.winner import load_winner as load

    return load(run, rank)


def __getattr__(name: str) -> Any:
    if name == "Winner":
        from search.winner import Winner

        return Winner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
