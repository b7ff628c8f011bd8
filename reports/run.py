"""Reads a run folder as the search left it: finished, still running, or cut short anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from reports.schemas import SCHEMA_VERSION
from spaces.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa
    from optuna.trial import FrozenTrial

    from spaces.space import Space

EPOCH_KEYS = ("phase", "trial", "seed", "epoch")
RETRAIN_KEYS = ("trial", "seed", "baseline", "status")


@dataclass(frozen=True)
class RunData:
    """What a run folder holds. `study` is study.yaml; the tables are made when first asked for."""

    path: Path
    study: dict[str, Any]
    study_trials: Sequence[FrozenTrial] = field(repr=False)
    epoch_lines: Sequence[dict[str, Any]] = field(repr=False)
    retrain_lines: Sequence[dict[str, Any]] = field(repr=False)
    notes: tuple[str, ...]
    """What could not be read, in words."""

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
        from spaces.space import Space

        return Space.from_tree(self.study["space"], str(self.path / "study.yaml"))

    def table(self, name: str) -> pa.Table:
        """The table of that name (a key of `reports.schemas.TABLES`) as Arrow."""
        if name not in self._tables:
            from reports.tables import table

            self._tables[name] = table(self, name)
        return self._tables[name]

    @cached_property
    def _tables(self) -> dict[str, pa.Table]:
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
    """Read the run in folder `path`. Torn last lines are left out and noted; InputError where it is no readable run."""
    path = Path(path)
    study = _read_study(path)
    from reports.journal import read_trials

    trials, journal_notes = read_trials(path / "study.journal")
    epochs, epoch_notes = read_lines(path / "epochs.jsonl", EPOCH_KEYS)
    retrains, retrain_notes = read_lines(path / "retrain.jsonl", RETRAIN_KEYS)
    return RunData(
        path=path,
        study=study,
        study_trials=trials,
        epoch_lines=_first_of_each(epochs, EPOCH_KEYS),
        retrain_lines=_first_of_each(retrains, ("rank", *RETRAIN_KEYS[:3])),
        notes=(*journal_notes, *epoch_notes, *retrain_notes),
    )


def _read_study(path: Path) -> dict[str, Any]:
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
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{file}: the run has schema_version {version}, but this Winnow reads up to {SCHEMA_VERSION}; upgrade winnow-search"
        )
    for key in ("space", "settings"):
        if not isinstance(study.get(key), dict):
            raise InputError(f"{file}: `{key}` must be a mapping, but got {study.get(key)!r}")
    return study


def read_lines(path: Path, keys: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The whole lines that hold `keys`, and notes on the others. A process that was killed leaves a torn last line."""
    if not path.is_file():
        return [], []
    lines = path.read_bytes().splitlines()
    rows, damaged = [], []
    for number, line in enumerate(lines, start=1):
        row = _json_object(line)
        if row is not None and all(key in row for key in keys):
            rows.append(row)
        elif line.strip():
            damaged.append(number)
    if damaged == [len(lines)]:
        return rows, [f"the last line of {path.name} is torn and was left out"]
    if damaged:
        listed = ", ".join(str(number) for number in damaged[:5]) + (", ..." if len(damaged) > 5 else "")
        return rows, [f"{path.name}: {len(damaged)} damaged lines were left out (line {listed})"]
    return rows, []


def _json_object(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _first_of_each(rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> list[dict[str, Any]]:
    """A resumed training may repeat an epoch that had no checkpoint; what was decided on, the first line, counts."""
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        first.setdefault(tuple(row.get(key) for key in keys), row)
    return list(first.values())
