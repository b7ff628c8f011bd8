"""Defines the columns of every Parquet table: name, type, unit, meaning, and when a value is null.

`docs/reports.md` is generated from this. To add a column, add a line here, a key to the table's rows (`tables/`) and a line to
`ADDED` in `reading/parquet_reader.py`. Readers can rely on all columns of a version, in this order, also in empty tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from winnow.spaces.epoch_figures import EPOCH_FIGURES, METRICS, QUALITY, name_on_test_images
from winnow.spaces.gpu_facts import GPU_FACTS

if TYPE_CHECKING:
    import pyarrow as pa

RUN_VERSION = 1
"""Version of a run folder (study.yaml, study.journal and the .jsonl files)."""
SCHEMA_VERSION = 5
"""Version of the tables. `reading/parquet_reader.py` reads older versions too."""
ESTIMATED_END = "estimated_end"
"""The column of `trials` that, like the parameter columns, is made for the table only: a regression is fitted for it."""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    kind: str
    """Its type, a key of `KINDS`."""
    meaning: str
    unit: str = ""
    null: str | None = None
    """When the value is null; None: never."""


@dataclass(frozen=True)
class TableSchema:
    """One table."""

    row: str
    """What a row is."""
    columns: tuple[Column, ...]
    parameters: bool = False
    """Whether the parameters of the space follow as columns, named by config path."""


KINDS: dict[str, str] = {
    "int": "int64",
    "float": "float64",
    "bool": "bool",
    "string": "string",
    "time": "timestamp[us, UTC]",
    "bytes": "binary",
    "floats": "list of float32",
}

_RUN = Column("run", "string", "name of the run")
_TRIAL = Column("trial", "int", "number of the trial in the study")
_WINNER_TRIAL = Column(
    "trial", "int", "number of the trial that the config comes from", null="a baseline that was no trial"
)
_RANK = Column("rank", "int", "rank in the search, 1 is the best", null="the baseline")
_BASELINE = Column("baseline", "bool", "whether this is the baseline recipe, trained under the same protocol")
_SEED = Column("seed", "int", "seed of this training")
_NUM_PARAMETERS = Column(
    "num_parameters", "int", "trainable parameters (weights and biases) of the network", "parameters", "not built yet"
)
_NEVER_RAN = "no epoch finished"
_MULTIPLY_ADDS = Column(
    "multiply_adds", "int", "multiply-adds of the network for one image", "multiply-adds", "not built yet"
)
_LATENCY_MS = Column(
    "latency_ms",
    "float",
    "latency of a batch of one image on the device of the trial, median before its training",
    "milliseconds",
    "not measured: the search neither limits nor minimizes it",
)
_EPOCH_SECONDS = Column("epoch_seconds", "float", "the shorter of the trial's first two epochs", "seconds", _NEVER_RAN)
_UNFINISHED = "the training did not complete"
_UNTESTED = "no seed completed"
_ALL_RUNGS = "all rungs together"
_NO_COMPLETED = "no trial completed"
_NO_AUDITED = "no trial completed, or none was audited"
_FEW = "fewer than three trials, all values equal, or all rungs together"
_NO_SIZES = "not recorded"
_ONE_SEED = "fewer than two seeds completed"
_NODE = Column("node", "string", "host name", null="not recorded")
_GPU = tuple(Column(f.name, f.kind, f.meaning, f.unit, "no GPU, or not recorded") for f in GPU_FACTS)

TABLES: dict[str, TableSchema] = {
    "trials": TableSchema(
        "one trial of the search",
        (
            _RUN,
            _TRIAL,
            Column(
                "status",
                "string",
                "completed, stopped, diverged, out_of_memory, failed, lost, timed_out, infeasible, running or skipped",
            ),
            Column(
                "source",
                "string",
                "origin of the config: `sampler`, or `start_from:NAME` for a starting point",
                null="not recorded",
            ),
            Column(
                "reason",
                "string",
                "why the trial was skipped, or ended without a decision at a rung",
                null="it ran normally",
            ),
            Column(
                "in_space",
                "bool",
                "whether the config lies in the current space; false only after a change of the space",
            ),
            Column(
                "objective",
                "float",
                "objective recorded in the study: that of the weights kept at the end, or so far",
                null=_NEVER_RAN,
            ),
            Column("best_objective", "float", "best finite objective over all epochs", null=_NEVER_RAN),
            Column("best_epoch", "int", "first epoch with best_objective", "epochs", _NEVER_RAN),
            Column("num_epochs", "int", "number of finished epochs", "epochs"),
            Column("rung", "int", "highest rung that the trial reached, 0 is the first", null="no rung reached"),
            Column(
                "audit_objective",
                "float",
                "final objective of a stopped trial that the audit trained to completion",
                null="not audited, not finished, or diverged",
            ),
            Column(
                ESTIMATED_END,
                "float",
                "objective after the full training, estimated by a regression on the parameters and the rungs; "
                "see `values` of `importance`",
                null="completed or failed, or the last values are the better measure",
            ),
            *(
                Column(f.name, f.kind, "value of the epoch whose weights are kept", f.unit, _NEVER_RAN)
                for f in reversed(QUALITY)
            ),
            Column("started", "time", "start of the first epoch", null="not started"),
            Column("ended", "time", "end of the trial", null="not ended"),
            Column("wall_seconds", "float", "wall time from start to end, including pauses", "seconds", "not ended"),
            Column("train_seconds", "float", "training time, the sum over the finished epochs", "seconds"),
            Column("images_per_second", "float", "training throughput, mean over the epochs", "images/s", _NEVER_RAN),
            _NUM_PARAMETERS,
            _MULTIPLY_ADDS,
            _LATENCY_MS,
            _EPOCH_SECONDS,
            Column(
                "audited",
                "bool",
                "whether the audit selected the trial; audited trials are a random sample of all trials",
            ),
            Column(
                "worker_losses",
                "int",
                "number of times that its worker or node was lost and it resumed from its checkpoint",
            ),
            Column("micro_batches", "int", "micro-batches per batch; above 1 after it ran out of memory"),
            Column("node", "string", "host name of its last epoch", null=_NEVER_RAN),
            Column("device", "string", "device of its last epoch", null=_NEVER_RAN),
            *_GPU,
            Column("error", "string", "error message", null="no error"),
            Column("config", "string", "complete config as JSON", null="status is skipped"),
        ),
        parameters=True,
    ),
    "epochs": TableSchema(
        "one finished epoch of one training",
        (
            _RUN,
            Column("phase", "string", "search, audit (a stopped trial after its stop) or retrain"),
            Column("trial", "int", "number of the trial that the config comes from; -1: a baseline that was no trial"),
            _SEED,
            *(Column(f.name, f.kind, f.meaning, f.unit, f.null) for f in EPOCH_FIGURES if f.column),
            Column("rung", "int", "rung at this epoch, 0 is the first", null="no rung at this epoch"),
            Column("decision", "string", "decision at the rung: continue, pause or stop", null="no rung at this epoch"),
            Column("time", "time", "end of the epoch", null="not recorded"),
            _NODE,
            Column("device", "string", "device of the training", null="not recorded"),
            Column("cpus", "float", "CPUs reserved for the training", "CPUs", "not recorded"),
            Column(
                "gpus",
                "float",
                "GPUs reserved for the training; a fraction if several trainings share one",
                "GPUs",
                "not recorded",
            ),
            *_GPU,
        ),
    ),
    "rungs": TableSchema(
        "one rung of early stopping; the last row is the full training",
        (
            _RUN,
            Column("rung", "int", "0 is the first"),
            Column("epoch", "int", "epoch at which trials continue or stop", "epochs"),
            Column("num_reached", "int", "number of trials that finished this epoch", "trials"),
            Column("num_stopped", "int", "number of trials stopped at this rung", "trials"),
            Column("best_objective", "float", "best objective at this epoch", null="no trial reached it"),
            Column("median_objective", "float", "median objective at this epoch", null="no trial reached it"),
            Column("epochs_spent", "int", "epochs trained by all trials since the previous rung", "epochs"),
            Column("train_seconds", "float", "training time of these epochs", "seconds"),
        ),
    ),
    "audit": TableSchema(
        "one rung of a search with an audit, and one row for all rungs together; no rows without an audit",
        (
            _RUN,
            Column("rung", "int", "0 is the first", null=_ALL_RUNGS),
            Column("epoch", "int", "epoch at which trials continue or stop", "epochs", _ALL_RUNGS),
            Column("num_stopped", "int", "number of trials stopped at this rung", "trials"),
            Column("num_audited", "int", "number of these that the audit trained to completion", "trials"),
            Column(
                "num_wrong",
                "int",
                "number of audited trials that ended strictly better than the median of the completed trials",
                "trials",
                _NO_COMPLETED,
            ),
            Column(
                "num_missed_best",
                "int",
                "number of audited trials that ended strictly better than the best completed trial",
                "trials",
                _NO_COMPLETED,
            ),
            Column("wrong_rate", "float", "num_wrong / num_audited", "fraction", _NO_AUDITED),
            Column("wrong_low", "float", "lower end of the exact 95 % interval of wrong_rate", "fraction", _NO_AUDITED),
            Column(
                "wrong_high", "float", "upper end of the exact 95 % interval of wrong_rate", "fraction", _NO_AUDITED
            ),
            Column(
                "num_sampled",
                "int",
                "number of audited trials, stopped or not, with a value at this rung and a final value: a random sample of all trials",
                "trials",
                _ALL_RUNGS,
            ),
            Column(
                "spearman_sampled",
                "float",
                "Spearman's rank correlation between the values at this rung and the final values of these trials",
                "",
                _FEW,
            ),
            Column("kendall_sampled", "float", "Kendall's tau-b for the same trials", "", _FEW),
            Column(
                "num_finished",
                "int",
                "number of all trials with a value at this rung and a final value",
                "trials",
                _ALL_RUNGS,
            ),
            Column(
                "spearman_finished",
                "float",
                "Spearman's rank correlation for these trials; biased towards survivors",
                "",
                _FEW,
            ),
            Column("kendall_finished", "float", "Kendall's tau-b for these trials; biased towards survivors", "", _FEW),
        ),
    ),
    "front": TableSchema(
        "one trial of the front of a search with several objectives: completed, and no other trial is as good in all of them "
        "and better in one; no rows with one objective",
        (
            _RUN,
            Column("rank", "int", "1 has the best objective; each next one is the farthest from those before it"),
            _TRIAL,
            Column("objective", "float", "objective of the trial, the first of the objectives"),
            _NUM_PARAMETERS,
            _MULTIPLY_ADDS,
            _LATENCY_MS,
            _EPOCH_SECONDS,
            Column("test_accuracy", "float", "mean test accuracy over the seeds", "fraction", "not retrained"),
        ),
    ),
    "memory": TableSchema(
        "one earlier run at the time of one suggestion; no rows without `learn_from`",
        (
            _RUN,
            Column("earlier_run", "string", "name of the earlier run"),
            Column("data", "string", "name of its data set", null="not recorded"),
            Column("data_fingerprint", "string", "fingerprint of its images", null="not recorded"),
            Column("family", "string", "its network families, separated by commas"),
            Column("machine", "string", "devices of its trials and processor", null="not recorded"),
            Column("winnow_version", "string", "version of Winnow that began it", null="not recorded"),
            Column("num_trials", "int", "number of its trials that this search learns from", "trials"),
            Column("trial", "int", "number of the trial of this search that was suggested"),
            Column(
                "weight",
                "float",
                "weight of the earlier run at that time; all runs together have at most 1",
                "fraction",
            ),
            Column(
                "share",
                "float",
                "share of the earlier run in the gain that the suggestion promised",
                "fraction",
                "the sampler of this search suggested the trial",
            ),
        ),
    ),
    "winners": TableSchema(
        "one retrained config: the winners by rank, the baseline last",
        (
            _RUN,
            _RANK,
            _WINNER_TRIAL,
            _BASELINE,
            Column("num_seeds", "int", "number of completed trainings", "trainings"),
            Column("num_failed", "int", "number of trainings that did not complete", "trainings"),
            Column("test_accuracy", "float", "mean test accuracy over the seeds", "fraction", _UNTESTED),
            Column("test_accuracy_std", "float", "sample standard deviation over the seeds", "fraction", _ONE_SEED),
            Column("test_accuracy_low", "float", "lower end of its 95 % interval", "fraction", _ONE_SEED),
            Column("test_accuracy_high", "float", "upper end of its 95 % interval", "fraction", _ONE_SEED),
            Column(
                "num_test_images",
                "int",
                "number of test images that the intervals take into account beside the seeds",
                "images",
                "a prediction file is missing, or one seed: the interval is over the seeds alone, the gain has none",
            ),
            Column("test_loss", "float", "mean test loss over the seeds", null=_UNTESTED),
            *(
                Column(name_on_test_images(f.name), f.kind, f"mean over the seeds: {f.meaning}", f.unit, "not recorded")
                for f in METRICS
                if f.name != "validation_accuracy"
            ),
            Column(
                "largest_class",
                "float",
                "test accuracy of always answering the largest class: its share of the test images",
                "fraction",
                "not recorded",
            ),
            Column(
                "num_one_class",
                "int",
                "number of its networks that give every test image the same class",
                "trainings",
                "not recorded",
            ),
            Column(
                "train_accuracy",
                "float",
                "mean training accuracy of the last epoch over the seeds",
                "fraction",
                _UNTESTED,
            ),
            Column(
                "test_objective",
                "float",
                "the metric that the search was for on the test images, mean over the seeds; `test_accuracy` if that was it",
                null=_UNTESTED,
            ),
            Column("test_objective_low", "float", "lower end of its 95 % interval", null=_ONE_SEED),
            Column("test_objective_high", "float", "upper end of its 95 % interval", null=_ONE_SEED),
            Column("search_objective", "float", "objective in the search", null="a baseline that was no trial"),
            Column("objective_gap", "float", "search_objective - test_objective", null="either is null"),
            Column("search_accuracy", "float", "validation accuracy in the search", "fraction", "no such trial"),
            Column("gap", "float", "search_accuracy - test_accuracy", "fraction", "either is null"),
            Column(
                "gain",
                "float",
                "test_accuracy minus that of the baseline",
                "fraction",
                "no baseline, or this is the baseline",
            ),
            Column(
                "gain_low",
                "float",
                "lower end of the 95 % interval of gain, paired by image",
                "fraction",
                "no gain, one seed on one side, or a prediction file is missing",
            ),
            Column(
                "gain_high",
                "float",
                "upper end of the 95 % interval of gain, paired by image",
                "fraction",
                "no gain, one seed on one side, or a prediction file is missing",
            ),
            Column(
                "objective_gain",
                "float",
                "how much better test_objective is than that of the baseline; negative if it is worse",
                null="no baseline, or this is the baseline",
            ),
            *(
                Column(
                    f"objective_gain_{end}",
                    "float",
                    f"{words} end of the 95 % interval of objective_gain, paired by image",
                    null="no gain, one seed on one side, a prediction file is missing, or the metric is a function of the user's",
                )
                for end, words in (("low", "lower"), ("high", "upper"))
            ),
            Column("wall_seconds", "float", "mean wall time of one training", "seconds", _UNTESTED),
            _NUM_PARAMETERS,
            Column(
                "multiply_adds", "int", "multiply-adds of the network for one image", "multiply-adds", "not recorded"
            ),
            Column("config", "string", "complete config as JSON"),
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
            Column("status", "string", "completed, diverged, out_of_memory, failed or lost"),
            Column("test_accuracy", "float", "accuracy on the test images, measured once", "fraction", _UNFINISHED),
            Column("test_loss", "float", "loss on the test images", null=_UNFINISHED),
            *(
                Column(name_on_test_images(f.name), f.kind, f.meaning, f.unit, "not recorded")
                for f in METRICS
                if f.name != "validation_accuracy"
            ),
            Column(
                "train_accuracy",
                "float",
                "training accuracy of the last epoch, on training and validation images",
                "fraction",
                _UNFINISHED,
            ),
            Column("train_loss", "float", "training loss of the last epoch", null=_UNFINISHED),
            Column("num_epochs", "int", "number of finished epochs", "epochs", "not recorded"),
            Column("wall_seconds", "float", "wall time of the training", "seconds", "not recorded"),
            Column("time", "time", "time of the test", null="not recorded"),
            Column(
                "keep_validation",
                "bool",
                "whether the validation images chose the epoch; false: they were trained on too",
            ),
            Column("threads", "int", "CPU threads of the training", "threads", "not recorded"),
            Column("micro_batches", "int", "micro-batches per batch; above 1 after the trial ran out of memory"),
            Column("device", "string", "device of the training", null="not recorded, or the training did not complete"),
            Column("node", "string", "host name", null="not recorded, or the training did not complete"),
            *_GPU,
            Column("weights", "string", "file of the weights, relative to the run folder", null="not kept"),
            Column("error", "string", "error message", null="no error"),
        ),
    ),
    "ensemble": TableSchema(
        "the mean of the probabilities of all retrained networks of all winners; no row without two networks and their predictions",
        (
            _RUN,
            Column("num_networks", "int", "networks in the ensemble", "networks"),
            Column("num_winners", "int", "winners that they belong to", "configs"),
            Column("test_accuracy", "float", "share of test images that it classifies correctly", "fraction"),
            Column("test_accuracy_low", "float", "lower end of the 95 % interval over the test images", "fraction"),
            Column("test_accuracy_high", "float", "upper end of that interval", "fraction"),
            Column("cost", "float", "its multiply-adds divided by those of the first winner", null="not recorded"),
        ),
    ),
    "classes": TableSchema(
        "the test images of one class, for one retrained config; no rows without predictions",
        (
            _RUN,
            _RANK,
            _WINNER_TRIAL,
            _BASELINE,
            Column("class", "int", "number of the class, 0 is the first"),
            Column("class_name", "string", "name of the class"),
            Column("support", "int", "test images of the class", "images"),
            Column(
                "precision",
                "float",
                "mean over the seeds: share of the images predicted as this class that belong to it",
                "fraction",
                "never predicted",
            ),
            Column(
                "recall",
                "float",
                "mean over the seeds: share of the images of the class that are predicted as it",
                "fraction",
                "no test images",
            ),
            Column(
                "f1",
                "float",
                "mean over the seeds: harmonic mean of precision and recall",
                "fraction",
                "neither in the test images nor predicted",
            ),
        ),
    ),
    "predictions": TableSchema(
        "the prediction of one retrained network for one test image",
        (
            _RUN,
            _RANK,
            _WINNER_TRIAL,
            _BASELINE,
            _SEED,
            Column("index", "int", "index of the image in the test set, 0 is the first"),
            Column("image_name", "string", "file of the image, or its row in the data set", null="not recorded"),
            Column("true", "int", "index of the true class"),
            Column("predicted", "int", "index of the predicted class"),
            Column("true_class", "string", "name of the true class"),
            Column("predicted_class", "string", "name of the predicted class"),
            Column("correct", "bool", "whether the prediction is right"),
            Column("confidence", "float", "probability of the predicted class", "fraction"),
            Column("probability_true", "float", "probability of the true class", "fraction"),
            Column("image", "bytes", "the image as PNG", null="not among the most confident mistakes of its training"),
        ),
    ),
    "validation": TableSchema(
        "the answer of one completed trial for one validation image; no rows unless `search.keep_predictions` is set",
        (
            _RUN,
            _TRIAL,
            Column(
                "index",
                "int",
                "index of the image among the training images, or in the validation split of the data set",
            ),
            Column("true", "int", "index of the true class"),
            Column("predicted", "int", "index of the predicted class"),
            Column("true_class", "string", "name of the true class"),
            Column("predicted_class", "string", "name of the predicted class"),
            Column("correct", "bool", "whether the prediction is right"),
            Column("confidence", "float", "probability of the predicted class", "fraction"),
            Column("probability_true", "float", "probability of the true class", "fraction"),
            Column("probabilities", "floats", "probability of each class, rounded to 16 bits", "fraction"),
        ),
    ),
    "importance": TableSchema(
        "one parameter of the space",
        (
            _RUN,
            Column("parameter", "string", "name in the study, including the branch, such as `optimizer.sgd.lr`"),
            Column("path", "string", "config path, the name of the column in `trials`"),
            Column("condition", "string", "condition under which the parameter exists", null="always"),
            Column(
                "num_trials", "int", "number of trials with an objective in which the parameter was active", "trials"
            ),
            Column(
                "values",
                "string",
                "what the share is of: `last` values of the objective, or the `estimated end` of every trial, where a "
                "regression over the rungs predicts later rungs better than the values before them",
            ),
            Column(
                "importance",
                "float",
                "fANOVA importance: share of the variance of the objective among these trials",
                "fraction",
                "too few trials",
            ),
            Column(
                "importance_std",
                "float",
                "its standard deviation over the trees of the forest",
                "fraction",
                "too few trials",
            ),
            Column("note", "string", "why there is no importance", null="there is one"),
        ),
    ),
    "failures": TableSchema(
        "one training that did not end well",
        (
            _RUN,
            Column("phase", "string", "search or retrain"),
            Column(
                "trial", "int", "number of the trial that the config comes from", null="a baseline that was no trial"
            ),
            Column("seed", "int", "seed of the training", null="phase is search and no epoch finished"),
            Column("status", "string", "diverged, out_of_memory, failed, lost or timed_out"),
            Column("epoch", "int", "last finished epoch; 0: none", "epochs"),
            Column("error", "string", "error message", null="not recorded"),
            Column("time", "time", "end of the training", null="not recorded"),
            _NODE,
            Column("device", "string", "device of the training", null="not recorded"),
        ),
    ),
    "data": TableSchema(
        "the images of one class in one split",
        (
            _RUN,
            Column("split", "string", "train, validation or test"),
            Column("class", "int", "number of the class, 0 is the first"),
            Column("class_name", "string", "name of the class"),
            Column("num_images", "int", "images of the class in the split", "images"),
            Column("share", "float", "num_images divided by the images of the split", "fraction"),
            Column("height", "int", "height of every image that the networks see", "pixels"),
            Column("width", "int", "width of every image that the networks see", "pixels"),
            Column("channels", "int", "1: grey, 3: colour"),
            Column("files_num_sizes", "int", "different sizes of the files of the split", null=_NO_SIZES),
            Column("files_min_height", "int", "smallest height of a file of the split", "pixels", _NO_SIZES),
            Column("files_max_height", "int", "largest height of a file of the split", "pixels", _NO_SIZES),
            Column("files_min_width", "int", "smallest width of a file of the split", "pixels", _NO_SIZES),
            Column("files_max_width", "int", "largest width of a file of the split", "pixels", _NO_SIZES),
        ),
    ),
    "environment": TableSchema(
        "one fact about how and where the run was made",
        (
            _RUN,
            Column("section", "string", "run, settings, data, versions, hardware, `amendment N`, nodes or warm_start"),
            Column("key", "string", "name of the fact"),
            Column("value", "string", "value as text; lists and mappings as JSON", null="unknown"),
        ),
    ),
}


def arrow_schema(table: str, parameters: Mapping[str, str], metadata: Mapping[str, Any]) -> pa.Schema:
    """Make the Arrow schema of a table.

    Args:
        table: A key of `TABLES`.
        parameters: The parameter columns, config path -> key of `KINDS`. Ignored for tables without parameters.
        metadata: Metadata of the file; keys and values are converted to text.
    """
    import pyarrow as pa

    types = {kind: pa.type_for_alias(name) for kind, name in KINDS.items() if kind not in ("time", "floats")}
    types |= {"time": pa.timestamp("us", tz="UTC"), "floats": pa.list_(pa.float32())}
    schema = TABLES[table]
    fields = [pa.field(c.name, types[c.kind], nullable=c.null is not None) for c in schema.columns]
    if schema.parameters:
        fields += [pa.field(path, types[kind], nullable=True) for path, kind in parameters.items()]
    return pa.schema(fields, metadata={str(key): str(value) for key, value in metadata.items()})
