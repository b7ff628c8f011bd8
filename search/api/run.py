"""A run as a Python object."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from winnow import reports
from winnow.search.storage.run_folder import open_run

if TYPE_CHECKING:
    import pandas as pd

    from winnow.search.winners.winner import Winner


@dataclass(frozen=True)
class Run:
    """A run: its tables, its report and its winners. A notebook shows its summary.

    Args:
        path: The run folder.
    """

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def table(self, name: str = "trials") -> pd.DataFrame:
        """Read the current state of a table of the run.

        Args:
            name: `trials`, `epochs`, `winners`, `predictions` or another table of docs/reports.md.

        Returns:
            The table as a data frame.

        Raises:
            InputError: There is no such run or table.
        """
        frame: pd.DataFrame = reports.read_tables(self.path).table(name).to_pandas()
        return frame

    @property
    def trials(self) -> pd.DataFrame:
        """The table `trials`: one row per trial."""
        return self.table("trials")

    @property
    def winners(self) -> pd.DataFrame:
        """The table `winners`: one row per retrained config."""
        return self.table("winners")

    @property
    def report(self) -> Path:
        """Write the report and return the HTML file."""
        return reports.write(self.path)

    def winner(self, rank: int = 1) -> Winner:
        """Load a retrained network, ready to predict, on the CPU.

        Args:
            rank: Rank of the winner, from 1.

        Returns:
            The network of the lowest seed number.

        Raises:
            InputError: There is no such winner.
        """
        from winnow.search.winners.winner import load_winner

        return load_winner(self.path, rank)

    def _repr_html_(self) -> str:
        from winnow.search.views.notebook import run_html

        return run_html(self.path)


def load_run(path: str | PathLike[str]) -> Run:
    """Open an existing run.

    Args:
        path: Its path, its name under `runs/`, or a `Run`.

    Returns:
        The run.

    Raises:
        InputError: There is no such run.
    """
    return Run(open_run(Path(path)).path)
