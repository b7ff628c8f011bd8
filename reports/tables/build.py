"""Creates the Arrow tables of a run. Types come from the schema, never from the first row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow.reports.reading.predictions import encoded_gallery, load_predictions, validation_files
from winnow.reports.reading.run import EARLIER_TESTS
from winnow.reports.schemas import SCHEMA_VERSION, TABLES, arrow_schema
from winnow.reports.schemas.search import EXPECTED_END
from winnow.reports.statuses import FAILED_STATUSES
from winnow.reports.tables.audit import audit_rows
from winnow.reports.tables.classes import class_rows
from winnow.reports.tables.data import data_rows
from winnow.reports.tables.ensemble import ensemble_rows
from winnow.reports.tables.expected_end import ExpectedEnd, ExpectedEnds
from winnow.reports.tables.front import front_rows
from winnow.reports.tables.importance import ends_of_trials, importance_rows
from winnow.reports.tables.memory import memory_rows
from winnow.reports.tables.retraining import identity, retrain_groups, retrain_rows, winner_rows
from winnow.reports.tables.trials import rung_rows, trial_rows
from winnow.reports.tables.validation_names import ValidationNames
from winnow.reports.values import LAST_SECOND, time_of
from winnow.spaces.epoch_figures import curve_of
from winnow.spaces.errors import SpaceError
from winnow.spaces.grammar.domains import ArrowKind
from winnow.spaces.grammar.nodes import columns
from winnow.spaces.start_points import without_decisions
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunRecords
    from winnow.spaces.space import Space

Row = dict[str, Any]

_WITH_FORECAST = {TrialStatus.RUNNING, TrialStatus.STOPPED}


def table(run: RunRecords, name: str) -> pa.Table:
    """Create a table of a run with exactly the columns of its schema, even if it has no rows.

    Args:
        run: The records of the run.
        name: Name of the table.
    """
    parameters = _columns(run) if TABLES[name].parameters else {}
    schema = arrow_schema(name, parameters, _metadata(run, name))
    made = ROWS[name](run)
    if isinstance(made, pa.Table):
        return made.select(schema.names).cast(schema).replace_schema_metadata(schema.metadata)
    rows = pa.array(made, pa.struct(schema))  # takes a third of the time of Table.from_pylist
    return pa.Table.from_struct_array(rows).replace_schema_metadata(schema.metadata)


def _columns(run: RunRecords) -> dict[str, ArrowKind]:
    """Return the parameter columns of the current space and of all earlier ones."""
    return columns([parameter for space in reversed(run.spaces) for parameter in space.parameters()])


def _metadata(run: RunRecords, name: str) -> dict[str, Any]:
    provenance = {key: value for key, value in run.study.items() if key != "space"}
    return {
        "winnow.schema_version": SCHEMA_VERSION,
        "winnow.table": name,
        "winnow.run": run.name,
        "winnow.provenance": json.dumps(provenance, default=str),
        "winnow.space": json.dumps(run.study["space"], default=str),
        "winnow.notes": json.dumps(run.notes),
    }


def _trials(run: RunRecords) -> list[Row]:
    rows = [dict(row) for row in trial_rows(run)]
    kinds = _columns(run)
    trials = {trial.number: trial for trial in run.study_trials}
    ends = ends_of_trials(run) or {}
    expected = _expected_ends(run)
    for row in rows:
        trial = trials[row["trial"]]
        row["estimated_end"] = None if row["status"] == TrialStatus.COMPLETED else ends.get(row["trial"])
        end = expected.get(row["trial"])
        row.update(dict.fromkeys(EXPECTED_END) if end is None else dict(zip(EXPECTED_END, end, strict=True)))
        space = run.spaces[min(trial.user_attrs.get("space", 0), len(run.spaces) - 1)]
        row.update(parameter_values(space, trial.user_attrs.get("config"), trial.params, kinds))
    return rows


def _expected_ends(run: RunRecords) -> dict[int, ExpectedEnd]:
    """Forecast the objective of each running or stopped trial after the full training, by number.

    Trials with fewer than two epochs, and those outside the current space, are left out.
    """
    rows = [
        row for row in trial_rows(run) if row["in_space"] and row["status"] in _WITH_FORECAST | {TrialStatus.COMPLETED}
    ]
    trials = {trial.number: trial for trial in run.study_trials}
    curves = {row["trial"]: curve_of(trials[row["trial"]].intermediate_values) for row in rows}
    ends = ExpectedEnds(list(curves.values()), int(run.settings.get("max_epochs") or 0), run.objective, run.maximize)
    forecasts = {row["trial"]: ends.of(curves[row["trial"]]) for row in rows if row["status"] in _WITH_FORECAST}
    return {number: end for number, end in forecasts.items() if end is not None}


def _epochs(run: RunRecords) -> pa.Table:
    """Return one row per finished epoch, ordered by phase (search, audit, retrain), trial, seed and epoch.

    Arrow converts the lines directly. Creating rows as `trials.epochs_of_trial` does takes seven times as long.
    """
    schema = arrow_schema("epochs", {}, {})
    read = [field.with_type(pa.float64()) if field.name == "time" else field for field in schema]
    lines = pa.array(run.epoch_lines, pa.struct(read))
    order = {"phase": pc.index_in(lines.field("phase"), pa.array(["search", "audit", "retrain"]))}
    order |= {key: lines.field(key) for key in ("trial", "seed", "epoch")}
    lines = lines.take(pc.sort_indices(pa.table(order), [(key, "ascending") for key in order]))
    columns = {field.name: _as_kind(lines.field(field.name), field.type) for field in schema}
    return pa.table(columns | {"run": pa.repeat(run.name, len(lines))})


def _as_kind(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Convert a column: non-finite floats become null, and Unix seconds become times that are rounded as in `values.time_of`."""
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_finite(values), values, None)
    if not pa.types.is_timestamp(kind):
        return values
    values = pc.if_else(pc.and_(pc.greater_equal(values, 0), pc.less_equal(values, LAST_SECOND)), values, None)
    whole = pc.floor(values)
    micros = pc.round(pc.multiply(pc.subtract(values, whole), 1e6), round_mode="half_to_even")
    return pc.add(pc.multiply(whole, 1e6), micros).cast(pa.int64()).cast(kind)


def _winners(run: RunRecords) -> list[Row]:
    rows = [dict(row) for row in winner_rows(run)]
    for row in rows:
        config = json.loads(row["config"])
        row.update(config_values(run.space, config, _columns(run)))
    return rows


def config_values(space: Space, config: dict[str, Any], kinds: Mapping[str, ArrowKind]) -> Row:
    """Return the values of the parameter columns for a config.

    Args:
        space: The space.
        config: The config as JSON values; it may lie outside the space, as a baseline may.
        kinds: Type of each column, by its name.

    Returns:
        Values by column. Parameters that only the space defines are null for a config outside it.
    """
    try:
        study_params = space.encode(without_decisions(config, space.root))
    except SpaceError:
        study_params = {}
    return parameter_values(space, config, study_params, kinds)


def parameter_values(space: Space, config: Any, study_params: Mapping[str, Any], kinds: Mapping[str, ArrowKind]) -> Row:
    """Return the values of the parameter columns for a config.

    Args:
        space: The space in which the config was drawn.
        config: The complete config.
        study_params: Its parameters in the study. Parameters that are not among them were not active.
        kinds: Types of the parameter columns of the run, by path.

    Returns:
        Values by path, None for inactive parameters. A parameter that this space fixes but another space of the run
        searches has its fixed value.
    """
    own = {parameter.path for parameter in space.parameters()}
    fixed = {path: _at(config, path) for path in kinds if path not in own}
    values: Row = {
        path: None if isinstance(fixed.get(path), list | dict) else _typed(fixed.get(path), kind)
        for path, kind in kinds.items()
    }
    for parameter in space.parameters():
        if parameter.study_name in study_params:
            value = _at(config, parameter.path)
            # A count that follows from a list has no value in the config. An option that names a list is a list there.
            if value is None or isinstance(value, list | dict):
                value = study_params[parameter.study_name]
            values[parameter.path] = _typed(value, kinds[parameter.path])
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


def _failures(run: RunRecords) -> list[Row]:
    rows = []
    last: dict[tuple[Any, ...], Row] = {}
    for line in run.epoch_lines:
        key = (line["phase"], line["trial"], line["seed"])
        if key not in last or line["epoch"] > last[key]["epoch"]:
            last[key] = line
    of_trial = {trial: epoch for (phase, trial, _), epoch in last.items() if phase == "search"}
    for row in trial_rows(run):
        if row["status"] in FAILED_STATUSES:
            rows.append(_failure(run, "search", row, of_trial.get(row["trial"], {}), row["ended"]))
    for line in run.retrain_lines:
        if line["status"] != TrialStatus.COMPLETED:
            key = ("retrain", line["trial"], line["seed"])
            named = line | {"trial": identity(line)["trial"]}
            rows.append(_failure(run, "retrain", named, last.get(key, {}), time_of(line.get("time"))))
    return rows


def _failure(run: RunRecords, phase: str, row: Row, last: Row, time: Any) -> Row:
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


def _environment(run: RunRecords) -> list[Row]:
    study = run.study
    facts: list[tuple[str, str, Any]] = [
        ("run", key, study.get(key)) for key in ("name", "created", "command", "winnow_version", "git_revision")
    ]
    for section in ("settings", "data", "versions", "hardware"):
        facts += [(section, key, value) for key, value in (study.get(section) or {}).items() if key != "summary"]
    summary = (study.get("data") or {}).get("summary") or {}
    facts += [("data", f"summary.{key}", summary[key]) for key in ("text", "traits", "repeated") if key in summary]
    for place, amendment in enumerate(run.amendments, start=1):
        facts += [(f"amendment {place}", key, value) for key, value in _amendment_facts(amendment).items()]
    facts += [("nodes", node, text) for node, text in _nodes(trial_rows(run)).items()]
    for section in ("search_shortage", "warm_start", EARLIER_TESTS):
        facts += [(section, key, value) for key, value in (study.get(section) or {}).items()]
    return [{"run": run.name, "section": s, "key": str(key), "value": _as_text(value)} for s, key, value in facts]


def _nodes(trials: list[Row]) -> dict[str, str]:
    """Describe each node: its devices with their software, and the most memory that a trial used there."""
    groups: dict[str, dict[tuple[Any, ...], list[Row]]] = {}
    for row in trials:
        if row["node"] is not None:
            kind = tuple(row[key] for key in ("device", "gpu_memory_mb", "driver", "cuda", "cudnn"))
            groups.setdefault(row["node"], {}).setdefault(kind, []).append(row)
    return {node: "; ".join(_device(kind, rows) for kind, rows in kinds.items()) for node, kinds in groups.items()}


def _device(kind: tuple[Any, ...], rows: list[Row]) -> str:
    device, memory, driver, cuda, cudnn = kind
    parts = [device, *([f"{memory:,.0f} MB"] if memory else [])]
    parts += [
        f"{name} {version}" for name, version in (("driver", driver), ("CUDA", cuda), ("cuDNN", cudnn)) if version
    ]
    parts.append(f"{len(rows)} trial{'s' * (len(rows) > 1)}")
    for use in ("allocated", "reserved"):
        peaks = [row[f"peak_{use}_mb"] for row in rows if row[f"peak_{use}_mb"] is not None]
        parts += [f"at most {max(peaks):,.0f} MB {use}"] if peaks else []
    return ", ".join(parts)


def _amendment_facts(amendment: Row) -> Row:
    before = {f"{key} before": value for key, value in (amendment["before"].get("settings") or {}).items()}
    return {key: amendment.get(key) for key in ("time", "command", "git_revision", "changes")} | before


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, default=str)


def _predictions(run: RunRecords) -> pa.Table:
    """Return the rows of all prediction files. A file that is missing or incomplete after an interruption has none."""
    schema = arrow_schema("predictions", {}, {})
    blocks = [schema.empty_table()]
    for lines in retrain_groups(run):
        for line in lines:
            arrays = load_predictions(run.path, line["predictions"]) if line.get("predictions") else None
            if arrays is not None:
                blocks.append(_prediction_block(run, line, arrays, schema))
    return pa.concat_tables(blocks)


def _prediction_block(run: RunRecords, line: Row, arrays: dict[str, np.ndarray], schema: pa.Schema) -> pa.Table:
    n = len(arrays["index"])
    constants = {"run": run.name, **identity(line), "seed": line["seed"]}
    columns = {key: pa.array([value] * n, schema.field(key).type) for key, value in constants.items()}
    true, predicted = arrays["true"], arrays["predicted"]
    columns |= {key: pa.array(arrays[key]) for key in ("index", "true", "predicted", "confidence", "probability_true")}
    columns |= {"true_class": _names(run, true), "predicted_class": _names(run, predicted)}
    columns["correct"] = pa.array(true == predicted)
    columns["image_name"] = pa.array(arrays["name"].tolist() if "name" in arrays else [None] * n, pa.string())
    images = encoded_gallery(arrays)
    columns["image"] = pa.array([images.get(index) for index in arrays["index"].tolist()], pa.binary())
    return pa.table([columns[name] for name in schema.names], names=schema.names).cast(schema)


def _validation(run: RunRecords) -> pa.Table:
    """Return the rows of predictions of completed trials on the validation images. A missing or incomplete file has none."""
    schema = arrow_schema("validation", {}, {})
    blocks = [schema.empty_table()]
    files, image_names = validation_files(run.path), ValidationNames(run.path)
    for row in trial_rows(run):
        path = files.get(row["trial"]) if row["status"] == TrialStatus.COMPLETED else None
        arrays = None if path is None else load_predictions(path.parent, path.name)
        if arrays is None or "probabilities" not in arrays:
            continue
        true, predicted, probabilities = (arrays[key] for key in ("true", "predicted", "probabilities"))
        n, num_classes = probabilities.shape
        columns = {"run": pa.repeat(run.name, n), "trial": pa.repeat(pa.scalar(row["trial"], pa.int64()), n)}
        columns |= {
            key: pa.array(arrays[key]) for key in ("index", "true", "predicted", "confidence", "probability_true")
        }
        columns |= {"true_class": _names(run, true), "predicted_class": _names(run, predicted)}
        columns |= {"correct": pa.array(true == predicted), "image_name": image_names.of(arrays["index"])}
        ends = pa.array(np.arange(n + 1, dtype=np.int32) * num_classes)
        columns["probabilities"] = pa.ListArray.from_arrays(ends, pa.array(probabilities.astype(np.float32).ravel()))
        blocks.append(pa.table([columns[name] for name in schema.names], names=schema.names).cast(schema))
    return pa.concat_tables(blocks)


def _names(run: RunRecords, classes: np.ndarray) -> pa.Array:
    names = run.class_names
    return pa.array([names[i] if i < len(names) else str(i) for i in classes.tolist()], pa.string())


ROWS: dict[str, Callable[..., Any]] = {
    "trials": _trials,
    "epochs": _epochs,
    "rungs": rung_rows,
    "audit": audit_rows,
    "front": lambda run: front_rows(run, trial_rows(run), winner_rows(run)),
    "memory": memory_rows,
    "winners": _winners,
    "ensemble": ensemble_rows,
    "retrains": retrain_rows,
    "classes": class_rows,
    "predictions": _predictions,
    "validation": _validation,
    "importance": importance_rows,
    "failures": _failures,
    "data": data_rows,
    "environment": _environment,
}
