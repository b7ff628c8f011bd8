"""Provides the data of a run to all parts of a report: its facts, and its tables from any source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from winnow.reports import rows as plain

if TYPE_CHECKING:
    import pyarrow as pa

    from winnow.reports.reading.journal import Trial
    from winnow.spaces.space import Space

T = TypeVar("T")
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """The facts that `study.yaml` holds about a run."""

    path: Path
    study: Row
    """The content of study.yaml."""
    notes: tuple[str, ...] = ()
    """Sentences about parts of the run that could not be read."""

    @property
    def name(self) -> str:
        return str(self.study.get("name", self.path.name))

    @property
    def settings(self) -> Row:
        return dict(self.study.get("settings") or {})

    @property
    def objective(self) -> str:
        """The figure that ranks trials, one of `winnow.spaces.epoch_figures.OBJECTIVES`; the first one if the search has several."""
        return str(self.settings.get("objective", "validation_accuracy"))

    @property
    def further(self) -> list[str]:
        """The columns of `trials` with the objectives besides the first one: metrics and costs; empty if the search has one objective."""
        objectives = self.settings.get("objectives")
        if not objectives:  # as most often; the schema takes long to import
            return []
        from winnow.spaces.schema.objectives import further_of

        return further_of(objectives)

    @property
    def ranked_by(self) -> list[str]:
        """All objectives, the first one first, by their columns in `trials`."""
        return [self.objective, *self.further]

    @property
    def maximize(self) -> bool:
        return self.settings.get("direction", "maximize") == "maximize"

    @property
    def rungs(self) -> list[int]:
        """Epochs at which the scheduler decides about a trial, ascending."""
        return [int(epoch) for epoch in self.settings.get("rungs") or []]

    @property
    def class_names(self) -> list[str]:
        return [str(name) for name in (self.study.get("data") or {}).get("class_names") or []]

    @cached_property
    def space(self) -> Space:
        """The current space."""
        from winnow.spaces.space import Space

        return Space.from_tree(self.study["space"], str(self.path / "study.yaml"))

    @property
    def amendments(self) -> list[Row]:
        """The changes since the start of the run, in order; see `winnow.search.study.amendments`."""
        return list(self.study.get("amendments") or [])

    @cached_property
    def spaces(self) -> list[Space]:
        """All spaces of the run in order, the current one last. A trial's attribute `space` is an index into this list."""
        from winnow.spaces.space import Space

        trees = [amendment["before"]["space"] for amendment in self.amendments if "space" in amendment["before"]]
        return [*(Space.from_tree(tree, str(self.path / "study.yaml")) for tree in trees), self.space]

    @property
    def space_changed(self) -> bool:
        """Whether the space differs from the space with which the run started."""
        return any("space" in amendment["before"] for amendment in self.amendments)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Compute a result at the first call with a name, and return the same result at later calls.

        Args:
            name: Name of the result, unique within the run.
            make: Computes the result. Callers must not change it.
        """
        if name not in self._once:
            self._once[name] = make()
        return cast(T, self._once[name])

    @cached_property
    def _once(self) -> Row:
        return {}


@dataclass(frozen=True, kw_only=True)
class RunRecords(RunFacts):
    """The records in a run folder: the trials of the journal and the lines of the .jsonl files."""

    study_trials: Sequence[Trial] = field(repr=False)
    epoch_lines: Sequence[Row] = field(repr=False)
    retrain_lines: Sequence[Row] = field(repr=False)

    @cached_property
    def outside(self) -> frozenset[int]:
        """Numbers of the trials that do not lie in the current space."""
        if not self.space_changed:
            return frozenset()
        current = len(self.spaces) - 1
        earlier = [trial for trial in self.study_trials if trial.user_attrs.get("space", 0) != current]
        return frozenset(trial.number for trial in earlier if not _holds(self.space, trial.user_attrs.get("config")))


class TableSource(Protocol):
    """The source of a run's tables: the records of its folder, or the Parquet files of its report."""

    def table(self, name: str) -> pa.Table:
        """Return the table `name`, a key of `winnow.reports.schemas.TABLES`."""

    def trial_rows(self) -> list[Row]:
        """Return the rows of `trials` without the columns of parameters and fitted estimates."""

    def epochs_of_trial(self, number: int) -> list[Row]:
        """Return the rows of `epochs` of one trial's search phase, in order."""

    def winner_rows(self) -> list[Row]:
        """Return the rows of `winners` without the parameter columns."""

    def retrain_rows(self) -> list[Row]:
        """Return the rows of `retrains`."""


@dataclass(frozen=True, kw_only=True)
class RunData(RunFacts):
    """The facts and tables of a run. A table is created or read when it is first used."""

    source: TableSource = field(repr=False)

    @cached_property
    def outside(self) -> frozenset[int]:
        """Numbers of the trials that do not lie in the current space."""
        if not self.space_changed:
            return frozenset()
        return frozenset(row["trial"] for row in self.trial_rows() if not row["in_space"])

    def table(self, name: str) -> pa.Table:
        """Return a table of the run.

        Args:
            name: A key of `winnow.reports.schemas.TABLES`, such as `"trials"`.

        Returns:
            An Arrow table with exactly the columns of its schema, followed by the parameter columns if it has them.
        """
        return self.once(f"table {name}", lambda: self.source.table(name))

    def rows(self, name: str) -> list[Row]:
        """Return a table as dicts. They are created once, and callers must not change them.

        Args:
            name: Name of the table, such as `trials`; see `winnow.reports.schemas.TABLES`.

        Returns:
            One dict per row, with values by column.
        """
        return self.once(f"rows {name}", lambda: plain.rows(self.table(name)))

    def columns(self, name: str, columns: Sequence[str]) -> dict[str, list[Any]]:
        """Return some columns of a table.

        Args:
            name: Name of the table.
            columns: Names of its columns.

        Returns:
            Lists of values by column.
        """
        return plain.lists(self.table(name).select(columns))

    def trial_rows(self) -> list[Row]:
        """Return one row per trial, by number, without the columns of parameters and fitted estimates.

        This does not need Arrow if the run was read from its folder.
        """
        return self.once("trial rows", self.source.trial_rows)

    def epochs_of_trial(self, number: int) -> list[Row]:
        """Return the epochs of one trial in the search.

        Args:
            number: Number of the trial in the study.

        Returns:
            Its rows of the table `epochs`, in order; empty for a trial without epochs.
        """
        return self.source.epochs_of_trial(number)

    def winner_rows(self) -> list[Row]:
        """Return one row per retrained config without the parameter columns: winners by rank, the baseline last."""
        return self.source.winner_rows()

    def retrain_rows(self) -> list[Row]:
        """Return one row per retrained config and seed, in the order of `winner_rows`."""
        return self.source.retrain_rows()

    @property
    def trials(self) -> pa.Table:
        return self.table("trials")

    @property
    def epochs(self) -> pa.Table:
        return self.table("epochs")

    @property
    def winners(self) -> pa.Table:
        return self.table("winners")

    @property
    def predictions(self) -> pa.Table:
        return self.table("predictions")


def _holds(space: Space, config: Row | None) -> bool:
    """Return whether a space contains a config. The location of the data is ignored, since it may differ between machines."""
    from winnow.spaces.encoding import localized
    from winnow.spaces.errors import SpaceError

    try:
        space.encode(localized(config or {}, space.tree))
    except (SpaceError, KeyError):
        return False
    return True
