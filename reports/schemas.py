"""The columns of every Parquet table: name, type, unit, meaning and when a value is null. `docs/reports.md` is made from this.

Adding a column is one line here and one key in the table's rows (`tables.py`). A reader may rely on every column of a
version being there, in this order, also where a table has no rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from winnow.spaces.epoch_figures import EPOCH_FIGURES, QUALITY

if TYPE_CHECKING:
    import pyarrow as pa

RUN_VERSION = 1
"""Version of a run folder (study.yaml, study.journal and the .jsonl files)."""
SCHEMA_VERSION = 3
"""Version of the tables. `reports/reading/parquet_reader.py` reads older ones; a column that is added gets its line in its `ADDED`."""


@dataclass(frozen=True)
class Column:
    """One column. `kind` is a key of `KINDS`; `null` says when the value is null, None that it never is."""

    name: str
    kind: str
    meaning: str
    unit: str = ""
    null: str | None = None


@dataclass(frozen=True)
class TableSchema:
    """One table. `parameters`: the space's parameters follow as columns named by config path."""

    row: str
    columns: tuple[Column, ...]
    parameters: bool = False


KINDS: dict[str, str] = {
    "int": "int64",
    "float": "float64",
    "bool": "bool",
    "string": "string",
    "time": "timestamp[us, UTC]",
    "bytes": "binary",
}

_RUN = Column("run", "string", "name of the run")
_TRIAL = Column("trial", "int", "number of the trial in the study")
_WINNER_TRIAL = Column("trial", "int", "number of the trial the config comes from", null="a baseline that was no trial")
_RANK = Column("rank", "int", "place in the search, 1 is the best", null="the baseline")
_BASELINE = Column("baseline", "bool", "whether this is the recipe to beat, trained under the same protocol")
_SEED = Column("seed", "int", "seed of this training")
_NUM_PARAMETERS = Column("num_parameters", "int", "weights and biases of the network", "numbers", "not built yet")
_NEVER_RAN = "no epoch finished"
_UNFINISHED = "the training did not complete"
_UNTESTED = "no seed completed"
_ALL_RUNGS = "all rungs together"
_NO_COMPLETED = "no trial was completed"
_NO_AUDITED = "no trial was completed, or none audited"
_FEW = "fewer than three trials, all values alike, or all rungs together"
_ONE_SEED = "fewer than two seeds completed"
_NO_PAIRS = "one side has one seed, or a prediction file is missing"

TABLES: dict[str, TableSchema] = {
    "trials": TableSchema(
        "one trial of the search",
        (
            _RUN,
            _TRIAL,
            Column("status", "string", "completed, stopped, diverged, out_of_memory, failed, lost, running or skipped"),
            Column("source", "string", "`sampler`, or `start_from:NAME` for a given config", null="not recorded"),
            Column(
                "reason",
                "string",
                "why the trial never ran, or ended without being judged",
                null="it ran and was judged",
            ),
            Column(
                "in_space", "bool", "whether it lies in the space as it is now; false only after a change of the space"
            ),
            Column("objective", "float", "the objective that the study was told, else its last value", null=_NEVER_RAN),
            Column("best_objective", "float", "best finite value of the objective over the epochs", null=_NEVER_RAN),
            Column("best_epoch", "int", "first epoch that reached best_objective", "epochs", _NEVER_RAN),
            Column("num_epochs", "int", "finished epochs", "epochs"),
            Column("rung", "int", "highest rung at which the trial was judged, 0 is the first", null="no rung reached"),
            Column(
                "audit_objective",
                "float",
                "the objective that a stopped trial reached when it was let finish",
                null="not audited, not finished, or diverged",
            ),
            *(Column(f.name, f.kind, "of the last epoch", f.unit, _NEVER_RAN) for f in reversed(QUALITY)),
            Column("started", "time", "when the first epoch began", null="not started"),
            Column("ended", "time", "when the trial ended", null="not ended"),
            Column("wall_seconds", "float", "from start to end, pauses included", "seconds", "not ended"),
            Column("train_seconds", "float", "sum over the finished epochs", "seconds"),
            Column("images_per_second", "float", "training speed, mean over the epochs", "images/s", _NEVER_RAN),
            _NUM_PARAMETERS,
            Column("audited", "bool", "whether the audit's lot fell on it; such trials are a random sample of all"),
            Column("worker_losses", "int", "times its worker or node was lost; it went on from its checkpoint"),
            Column("micro_batches", "int", "pieces of a batch; above 1 after it ran out of memory"),
            Column("error", "string", "text of the error", null="no error"),
            Column("config", "string", "the whole config as JSON", null="status is skipped"),
        ),
        parameters=True,
    ),
    "epochs": TableSchema(
        "one finished epoch of one training",
        (
            _RUN,
            Column("phase", "string", "search, audit (of a stopped trial, after its stop) or retrain"),
            Column("trial", "int", "number of the trial the config comes from; -1: a baseline that was no trial"),
            _SEED,
            *(Column(f.name, f.kind, f.meaning, f.unit, f.null) for f in EPOCH_FIGURES if f.column),
            Column("rung", "int", "rung at which the epoch was judged, 0 is the first", null="no rung at this epoch"),
            Column("decision", "string", "continue, pause or stop", null="no rung at this epoch"),
            Column("time", "time", "when the epoch ended", null="not recorded"),
            Column("node", "string", "host name", null="not recorded"),
            Column("device", "string", "device of the training", null="not recorded"),
            Column("cpus", "float", "CPUs that the training held", "CPUs", "not recorded"),
            Column("gpus", "float", "GPUs that it held; a fraction where several share one", "GPUs", "not recorded"),
        ),
    ),
    "rungs": TableSchema(
        "one rung of the early stopping; the last row is the full training",
        (
            _RUN,
            Column("rung", "int", "0 is the first"),
            Column("epoch", "int", "epochs at which trials are judged", "epochs"),
            Column("num_reached", "int", "trials that finished this epoch", "trials"),
            Column("num_stopped", "int", "trials stopped here", "trials"),
            Column("best_objective", "float", "best value at this epoch", null="no trial reached it"),
            Column("median_objective", "float", "median value at this epoch", null="no trial reached it"),
            Column("epochs_spent", "int", "epochs trained by all trials since the rung before", "epochs"),
            Column("train_seconds", "float", "time of these epochs", "seconds"),
        ),
    ),
    "audit": TableSchema(
        "one rung, and all rungs together, of a search with an audit; no row without one",
        (
            _RUN,
            Column("rung", "int", "0 is the first", null=_ALL_RUNGS),
            Column("epoch", "int", "epochs at which trials are judged", "epochs", _ALL_RUNGS),
            Column("num_stopped", "int", "trials stopped here", "trials"),
            Column("num_audited", "int", "of these, let finish and finished", "trials"),
            Column(
                "num_wrong",
                "int",
                "of these, ended strictly better than the median of the completed trials",
                "trials",
                _NO_COMPLETED,
            ),
            Column(
                "num_missed_best",
                "int",
                "of these, ended strictly better than the best completed trial",
                "trials",
                _NO_COMPLETED,
            ),
            Column("wrong_rate", "float", "num_wrong / num_audited", "fraction", _NO_AUDITED),
            Column("wrong_low", "float", "lower end of its exact 95 % interval", "fraction", _NO_AUDITED),
            Column("wrong_high", "float", "upper end of its exact 95 % interval", "fraction", _NO_AUDITED),
            Column(
                "num_sampled",
                "int",
                "audited trials with a value here and an end, stopped or not: a random sample of all",
                "trials",
                _ALL_RUNGS,
            ),
            Column("spearman_sampled", "float", "rank correlation between here and the end, over these", "", _FEW),
            Column("kendall_sampled", "float", "Kendall's tau-b, over the same", "", _FEW),
            Column("num_finished", "int", "all trials with a value here and an end", "trials", _ALL_RUNGS),
            Column("spearman_finished", "float", "over these: more trials, but the survivors prevail", "", _FEW),
            Column("kendall_finished", "float", "Kendall's tau-b, over the same", "", _FEW),
        ),
    ),
    "winners": TableSchema(
        "one retrained config: the winners by rank, then the baseline",
        (
            _RUN,
            _RANK,
            _WINNER_TRIAL,
            _BASELINE,
            Column("num_seeds", "int", "trainings that completed", "trainings"),
            Column("num_failed", "int", "trainings that did not complete", "trainings"),
            Column("test_accuracy", "float", "mean over the seeds", "fraction", _UNTESTED),
            Column("test_accuracy_std", "float", "sample standard deviation over the seeds", "fraction", _ONE_SEED),
            Column("test_accuracy_low", "float", "lower end of its 95 % interval", "fraction", _ONE_SEED),
            Column("test_accuracy_high", "float", "upper end of its 95 % interval", "fraction", _ONE_SEED),
            Column(
                "num_test_images",
                "int",
                "test images that the intervals are over, beside the seeds",
                "images",
                "a prediction file is missing, or one seed: the interval is over the seeds alone, the gain has none",
            ),
            Column("test_loss", "float", "mean over the seeds", null=_UNTESTED),
            Column("train_accuracy", "float", "mean over the seeds", "fraction", _UNTESTED),
            Column("search_objective", "float", "the objective in the search", null="a baseline that was no trial"),
            Column("search_accuracy", "float", "validation accuracy in the search", "fraction", "no such trial"),
            Column("gap", "float", "search_accuracy - test_accuracy", "fraction", "either is null"),
            Column("gain", "float", "test_accuracy above the baseline's", "fraction", "no baseline, or this is it"),
            Column("gain_low", "float", "lower end of its 95 % interval, paired by image", "fraction", _NO_PAIRS),
            Column("gain_high", "float", "upper end of its 95 % interval, paired by image", "fraction", _NO_PAIRS),
            Column("wall_seconds", "float", "mean time of one training", "seconds", _UNTESTED),
            _NUM_PARAMETERS,
            Column("multiply_adds", "int", "of one image through the network", "multiply-adds", "not recorded"),
            Column("config", "string", "the whole config as JSON"),
        ),
        parameters=True,
    ),
    "retrains": TableSchema(
        "one training of one retrained config with one seed",
        (
            _RUN,
            _RANK,
            _WINNER_TRIAL,
            _BASELINE,
            _SEED,
            Column("status", "string", "completed, diverged, out_of_memory or failed"),
            Column("test_accuracy", "float", "on the test images, opened once", "fraction", _UNFINISHED),
            Column("test_loss", "float", "on the test images", null=_UNFINISHED),
            Column("train_accuracy", "float", "of the last epoch, on train + validation", "fraction", _UNFINISHED),
            Column("train_loss", "float", "of the last epoch", null=_UNFINISHED),
            Column("num_epochs", "int", "finished epochs", "epochs", "not recorded"),
            Column("wall_seconds", "float", "time of the training", "seconds", "not recorded"),
            Column("time", "time", "when the test was done", null="not recorded"),
            Column("threads", "int", "CPU threads of the training", "threads", "not recorded"),
            Column("micro_batches", "int", "pieces of a batch; above 1 after the trial ran out of memory"),
            Column("device", "string", "device of the training", null="not recorded, or the training did not complete"),
            Column("weights", "string", "file of the weights, relative to the run", null="not kept"),
            Column("error", "string", "text of the error", null="no error"),
        ),
    ),
    "predictions": TableSchema(
        "one test image as one retrained network saw it",
        (
            _RUN,
            _RANK,
            _WINNER_TRIAL,
            _BASELINE,
            _SEED,
            Column("index", "int", "number of the image in the test set, 0 is the first"),
            Column("true", "int", "number of the true class"),
            Column("predicted", "int", "number of the predicted class"),
            Column("true_class", "string", "name of the true class"),
            Column("predicted_class", "string", "name of the predicted class"),
            Column("correct", "bool", "true == predicted"),
            Column("confidence", "float", "probability of the predicted class", "fraction"),
            Column("probability_true", "float", "probability of the true class", "fraction"),
            Column("image", "bytes", "the image as PNG", null="not among the most confident mistakes of its training"),
        ),
    ),
    "importance": TableSchema(
        "one parameter of the space",
        (
            _RUN,
            Column("parameter", "string", "name in the study (with the branch: `optimizer.sgd.lr`)"),
            Column("path", "string", "config path, the column in `trials`"),
            Column("condition", "string", "when the parameter exists", null="always"),
            Column("num_trials", "int", "trials in which it was active and that have an objective", "trials"),
            Column(
                "importance", "float", "share of the objective's variance among these trials", "fraction", "too few"
            ),
            Column("note", "string", "why there is no figure", null="there is one"),
        ),
    ),
    "failures": TableSchema(
        "one training that did not end well",
        (
            _RUN,
            Column("phase", "string", "search or retrain"),
            Column("trial", "int", "number of the trial the config comes from", null="a baseline that was no trial"),
            Column("seed", "int", "seed of the training", null="phase is search and no epoch finished"),
            Column("status", "string", "diverged, out_of_memory, failed or lost"),
            Column("epoch", "int", "last finished epoch, 0: none", "epochs"),
            Column("error", "string", "text of the error", null="not recorded"),
            Column("time", "time", "when it ended", null="not recorded"),
            Column("node", "string", "host name", null="not recorded"),
            Column("device", "string", "device of the training", null="not recorded"),
        ),
    ),
    "environment": TableSchema(
        "one fact about where and how the run was made",
        (
            _RUN,
            Column("section", "string", "run, settings, data, versions, hardware, `amendment N` or warm_start"),
            Column("key", "string", "name of the fact"),
            Column("value", "string", "as text; lists and mappings as JSON", null="unknown"),
        ),
    ),
}


def arrow_schema(table: str, parameters: Mapping[str, str], metadata: Mapping[str, Any]) -> pa.Schema:
    """The Arrow schema of a table: its columns, then the parameter columns {path: kind} where it has them."""
    import pyarrow as pa

    types = {kind: pa.type_for_alias(name) for kind, name in KINDS.items() if kind != "time"}
    types["time"] = pa.timestamp("us", tz="UTC")
    schema = TABLES[table]
    fields = [pa.field(c.name, types[c.kind], nullable=c.null is not None) for c in schema.columns]
    if schema.parameters:
        fields += [pa.field(path, types[kind], nullable=True) for path, kind in parameters.items()]
    return pa.schema(fields, metadata={str(key): str(value) for key, value in metadata.items()})
