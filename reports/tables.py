"""The Arrow tables of a run: rows as plain dicts, typed by the schema and never by the first row."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from reports.importance import importance_rows
from reports.schemas import SCHEMA_VERSION, TABLES, arrow_schema
from reports.trials import FAILED_STATUSES, epoch_rows, rung_rows, time_of, trial_rows
from reports.winners import identity, retrain_groups, retrain_rows, winners_table
from spaces.errors import SpaceError

if TYPE_CHECKING:
    from reports.run import RunData

Row = dict[str, Any]


def table(run: RunData, name: str) -> pa.Table:
    """The table `name` of `run`, with exactly the columns of its schema, also where it has no rows."""
    parameters = run.space.columns() if TABLES[name].parameters else {}
    schema = arrow_schema(name, parameters, _metadata(run, name))
    made = ROWS[name](run)
    if isinstance(made, pa.Table):
        return made.select(schema.names).cast(schema).replace_schema_metadata(schema.metadata)
    return pa.Table.from_pylist(made, schema=schema)


def _metadata(run: RunData, name: str) -> dict[str, Any]:
    provenance = {key: value for key, value in run.study.items() if key != "space"}
    return {
        "winnow.schema_version": SCHEMA_VERSION,
        "winnow.table": name,
        "winnow.run": run.name,
        "winnow.provenance": json.dumps(provenance, default=str),
    }


def _trials(run: RunData) -> list[Row]:
    rows = trial_rows(run)
    trials = {trial.number: trial for trial in run.study_trials}
    for row in rows:
        trial = trials[row["trial"]]
        row.update(parameter_values(run, trial.user_attrs.get("config"), trial.params))
    return rows


def _winners(run: RunData) -> list[Row]:
    rows = winners_table(run)
    for row in rows:
        config = json.loads(row["config"])
        row.update(parameter_values(run, config, _study_params(run, config)))
    return rows


def _study_params(run: RunData, config: dict[str, Any]) -> Mapping[str, Any]:
    """What the study would hold for a config; nothing for a baseline outside the space."""
    try:
        return run.space.encode(config)
    except SpaceError:
        return {}


def parameter_values(run: RunData, config: Any, study_params: Mapping[str, Any]) -> Row:
    """The values of the parameter columns: null where the parameter was not active in these study parameters."""
    columns = run.space.columns()
    values: Row = dict.fromkeys(columns)
    for parameter in run.space.parameters():
        if parameter.study_name in study_params:
            found = _at(config, parameter.path)
            # A count that the config leaves to a list, and an option that stands for a list, are known by the study.
            if found is None or isinstance(found, list | dict):
                found = study_params[parameter.study_name]
            values[parameter.path] = _typed(found, columns[parameter.path])
    return values


def _at(config: Any, path: str) -> Any:
    for key in path.split("."):
        if isinstance(config, list):
            config = config[int(key)] if key.isdigit() and int(key) < len(config) else None
        elif isinstance(config, dict):
            config = config.get(key)
        else:
            return None
    return config


def _typed(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "string" and not isinstance(value, str):
        return json.dumps(value, separators=(",", ":"))
    return float(value) if kind == "float" else value


def _failures(run: RunData) -> list[Row]:
    rows = []
    last = {(e["phase"], e["trial"], e["seed"]): e for e in epoch_rows(run)}
    of_trial = {trial: epoch for (phase, trial, _), epoch in last.items() if phase == "search"}
    for row in trial_rows(run):
        if row["status"] in FAILED_STATUSES:
            rows.append(_failure(run, "search", row, of_trial.get(row["trial"], {}), row["ended"]))
    for line in run.retrain_lines:
        if line["status"] != "completed":
            key = ("retrain", line["trial"], line["seed"])
            named = line | {"trial": identity(line)["trial"]}
            rows.append(_failure(run, "retrain", named, last.get(key, {}), time_of(line.get("time"))))
    return rows


def _failure(run: RunData, phase: str, row: Row, last: Row, time: Any) -> Row:
    return {
        "run": run.name,
        "phase": phase,
        "trial": row["trial"],
        "seed": row.get("seed", last.get("seed")),
        "status": row["status"],
        "epoch": last.get("epoch", 0),
        "error": row.get("error"),
        "time": time,
        "node": last.get("node"),
        "device": last.get("device"),
    }


def _environment(run: RunData) -> list[Row]:
    study = run.study
    facts = [("run", key, study.get(key)) for key in ("name", "created", "command", "winnow_version", "git_revision")]
    for section in ("settings", "data", "versions", "hardware"):
        facts += [(section, key, value) for key, value in (study.get(section) or {}).items()]
    return [{"run": run.name, "section": s, "key": str(key), "value": _as_text(value)} for s, key, value in facts]


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, default=str)


def _predictions(run: RunData) -> pa.Table:
    """One block of columns per prediction file; a file that is missing or torn (the run was cut) gives none."""
    schema = arrow_schema("predictions", {}, {})
    blocks = [schema.empty_table()]
    for lines in retrain_groups(run):
        for line in lines:
            arrays = read_predictions(run, line)
            if arrays is not None:
                blocks.append(_prediction_block(run, line, arrays, schema))
    return pa.concat_tables(blocks)


def read_predictions(run: RunData, line: Row) -> dict[str, np.ndarray] | None:
    """The arrays that a retrain line refers to: index, true, predicted [n], gallery_images [m, H, W, C] and the rest."""
    return load_predictions(run.path / line["predictions"]) if line.get("predictions") else None


def load_predictions(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a prediction file; None where it is missing or torn."""
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def _prediction_block(run: RunData, line: Row, arrays: dict[str, np.ndarray], schema: pa.Schema) -> pa.Table:
    n = len(arrays["index"])
    constants = {"run": run.name, **identity(line), "seed": line["seed"]}
    columns = {key: pa.array([value] * n, schema.field(key).type) for key, value in constants.items()}
    true, predicted = arrays["true"], arrays["predicted"]
    columns |= {key: pa.array(arrays[key]) for key in ("index", "true", "predicted", "confidence", "probability_true")}
    columns |= {"true_class": _names(run, true), "predicted_class": _names(run, predicted)}
    columns["correct"] = pa.array(true == predicted)
    return pa.table([columns[name] for name in schema.names], names=schema.names).cast(schema)


def _names(run: RunData, classes: np.ndarray) -> pa.Array:
    names = run.class_names
    return pa.array([names[i] if i < len(names) else str(i) for i in classes.tolist()], pa.string())


ROWS: dict[str, Callable[..., Any]] = {
    "trials": _trials,
    "epochs": epoch_rows,
    "rungs": rung_rows,
    "winners": _winners,
    "retrains": retrain_rows,
    "predictions": _predictions,
    "importance": importance_rows,
    "failures": _failures,
    "environment": _environment,
}
