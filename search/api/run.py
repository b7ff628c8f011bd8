"""A run folder as an object, to look at from Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from winnow import reports
from winnow.search.storage.run_folder import open_run

if TYPE_CHECKING:
    import pandas as pd

    from winnow.search.winners.winner import Winner


@dataclass(frozen=True)
class Run:
    """A run folder to look at; a notebook shows its summary and its winners."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def table(self, name: str = "trials") -> pd.DataFrame:
        """A table of docs/reports.md, read from the run as it is now."""
        frame: pd.DataFrame = reports.read_tables(self.path).table(name).to_pandas()
        return frame

    @property
    def trials(self) -> pd.DataFrame:
        """The table `trials`."""
        return self.table("trials")

    @property
    def winners(self) -> pd.DataFrame:
        """The table `winners`."""
        return self.table("winners")

    @property
    def report(self) -> Path:
        """The HTML report, written anew."""
        return reports.write(self.path)

    def winner(self, rank: int = 1) -> Winner:
        """A retrained network, ready to predict."""
        from winnow.search.winners.winner import load_winner

        return load_winner(self.path, rank)

    def _repr_html_(self) -> str:
        from winnow.search.views.notebook import run_html

        return run_html(self.path)


def load_run(path: Run | str | Path) -> Run:
    """An existing run, by its path or by its name under runs/."""
    return Run(open_run(Path(path)).path)
