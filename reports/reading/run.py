"""Reads a run folder as the search left it: finished, still running, or cut short anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import yaml

from winnow.reports import rows as plain
from winnow.reports.reading.json_lines import parsed
from winnow.reports.schemas import RUN_VERSION
from winnow.spaces.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from winnow.reports.reading.journal import Trial
    from winnow.spaces.space import Space

T = TypeVar("T")
EPOCH_KEYS = ("phase", "trial", "seed", "epoch")
RETRAIN_KEYS = ("trial", "seed", "baseline", "status")


@dataclass(frozen=True)
class RunData:
    """What a run folder holds. `study` is study.yaml; the tables are made when first asked for.

    `stored`: read from the Parquet files of its report alone. Then all tables are there, and the trials and lines that they
    were made from are not.
    """

    path: Path
    study: dict[str, Any]
    study_trials: Sequence[Trial] = field(repr=False)
    epoch_lines: Sequence[dict[str, Any]] = field(repr=False)
    retrain_lines: Sequence[dict[str, Any]] = field(repr=False)
    notes: tuple[str, ...]
    """What could not be read, in words."""
    stored: bool = False
    made: dict[str, pa.Table] = field(default_factory=dict, repr=False)
    """Tables by name."""

    @property
    def name(self) -> str:
        return str(self.study.get("name", self.path.name))

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.study.get("settings") or {})

    @property
    def objective(self) -> str:
        """`validation_accuracy` or `validation_loss`."""
        return str(self.settings.get("objective", "validation_accuracy"))

    @property
    def maximize(self) -> bool:
        return self.settings.get("direction", "maximize") == "maximize"

    @property
    def rungs(self) -> list[int]:
        """Epochs at which trials are judged."""
        return [int(epoch) for epoch in self.settings.get("rungs") or []]

    @property
    def class_names(self) -> list[str]:
        return [str(name) for name in (self.study.get("data") or {}).get("class_names") or []]

    @cached_property
    def space(self) -> Space:
        from winnow.spaces.space import Space

        return Space.from_tree(self.study["space"], str(self.path / "study.yaml"))

    @property
    def amendments(self) -> list[dict[str, Any]]:
        """What was changed since the run began, in order; see `winnow.search.study.amendments`."""
        return list(self.study.get("amendments") or [])

    @cached_property
    def spaces(self) -> list[Space]:
        """All that the run has had, in order; the last one is that of now. A trial's attribute `space` is a place here."""
        from winnow.spaces.space import Space

        trees = [amendment["before"]["space"] for amendment in self.amendments if "space" in amendment["before"]]
        return [*(Space.from_tree(tree, str(self.path / "study.yaml")) for tree in trees), self.space]

    @cached_property
    def outside(self) -> frozenset[int]:
        """Trials that do not lie in the space as it is now."""
        if not any("space" in amendment["before"] for amendment in self.amendments):
            return frozenset()
        if self.stored:
            columns = self.trials.select(["trial", "in_space"]).to_pydict()
            return frozenset(trial for trial, inside in zip(*columns.values(), strict=True) if not inside)
        now = len(self.spaces) - 1
        earlier = [trial for trial in self.study_trials if trial.user_attrs.get("space", 0) != now]
        return frozenset(trial.number for trial in earlier if not _holds(self.space, trial.user_attrs.get("config")))

    def table(self, name: str) -> pa.Table:
        """The table of that name (a key of `winnow.reports.schemas.TABLES`) as Arrow."""
        if name not in self.made:
            from winnow.reports.tables.build import table

            self.made[name] = table(self, name)
        return self.made[name]

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The same as one dict per row, made once: only read from it."""
        return self.once(name, lambda: plain.rows(self.table(name)))

    def columns(self, name: str, columns: Sequence[str]) -> dict[str, list[Any]]:
        """Some columns of the table as lists."""
        return plain.lists(self.table(name).select(columns))

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What several parts of a report read: made at the first call, and only read from."""
        if name not in self._once:
            self._once[name] = make()
        return cast(T, self._once[name])

    @cached_property
    def _once(self) -> dict[str, Any]:
        return {}

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


def read(path: Path | str) -> RunData:
    """Read the run in folder `path`, or a report folder alone. Torn last lines are left out and noted; InputError for neither."""
    path = Path(path)
    if (path / "trials.parquet").is_file() and not (path / "study.yaml").is_file():
        from winnow.reports.reading.stored import read_report

        return read_report(path)
    study = read_study(path)
    from winnow.reports.reading.journal import read_trials

    trials, journal_notes = read_trials(path / "study.journal")
    epochs, epoch_notes = read_lines(path / "epochs.jsonl", EPOCH_KEYS)
    retrains, retrain_notes = read_lines(path / "retrain.jsonl", RETRAIN_KEYS)
    return RunData(
        path=path,
        study=study,
        study_trials=trials,
        epoch_lines=_first_of_each(epochs, EPOCH_KEYS),
        retrain_lines=_first_of_each([{"rank": None, **line} for line in retrains], ("rank", *RETRAIN_KEYS[:3])),
        notes=(*journal_notes, *epoch_notes, *retrain_notes),
    )


def _holds(space: Space, config: dict[str, Any] | None) -> bool:
    """Wherever the data lies: its place may have changed with the machine."""
    from winnow.spaces.encoding import localized
    from winnow.spaces.errors import SpaceError

    try:
        space.encode(localized(config or {}, space.tree))
    except (SpaceError, KeyError):
        return False
    return True


def read_study(path: Path) -> dict[str, Any]:
    """The run's study.yaml. InputError where there is none, it is damaged or cut short, or of a newer version."""
    if not path.is_dir():
        raise InputError(f"{path}: there is no such run folder")
    file = path / "study.yaml"
    if not file.is_file():
        raise InputError(f"{path}: this folder is no run, it holds no study.yaml")
    try:
        study = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(study, dict):
        raise InputError(f"{file}: must hold a mapping, but holds {type(study).__name__}")
    version = study.get("schema_version")
    if not isinstance(version, int):
        raise InputError(f"{file}: schema_version must be a whole number, but got {version!r}")
    if version > RUN_VERSION:
        raise InputError(
            f"{file}: the run has schema_version {version}, but this Winnow reads up to {RUN_VERSION}; upgrade winnow-search"
        )
    for key in ("space", "settings", "data"):
        if not isinstance(study.get(key), dict):
            raise InputError(
                f"{file}: damaged or cut short: `{key}` must be a mapping, but got {study.get(key)!r}; take it from a copy of the run"
            )
    return study


def read_lines(path: Path, keys: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The whole lines that hold `keys`, and notes on the others. A process that was killed leaves a torn last line."""
    if not path.is_file():
        return [], []
    lines = path.read_bytes().splitlines()
    rows, damaged = [], []
    wanted = set(keys)
    for number, row in enumerate(parsed(lines), start=1):
        if isinstance(row, dict) and wanted <= row.keys():
            rows.append(row)
        elif lines[number - 1].strip():
            damaged.append(number)
    if damaged == [len(lines)]:
        return rows, [f"the last line of {path.name} is torn and was left out"]
    if damaged:
        listed = ", ".join(str(number) for number in damaged[:5]) + (", ..." if len(damaged) > 5 else "")
        return rows, [f"{path.name}: {len(damaged)} damaged lines were left out (line {listed})"]
    return rows, []


def _first_of_each(rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> list[dict[str, Any]]:
    """A resumed training may repeat an epoch that had no checkpoint; what was decided on, the first line, counts."""
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    which = itemgetter(*keys)
    for row in rows:
        first.setdefault(which(row), row)
    return list(first.values())
