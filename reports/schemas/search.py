"""The tables of the search."""

from __future__ import annotations

from winnow.reports.schemas.column import GPU, IMAGE_NAME, NODE, NUM_PARAMETERS, RUN, SEED, Column, TableSchema
from winnow.spaces.epoch_figures import EPOCH_FIGURES, OBJECTIVES, QUALITY, name_on_test_images

ESTIMATED_END = "estimated_end"
EXPECTED_END = ("expected_end", "expected_end_low", "expected_end_high")
FITTED = (ESTIMATED_END, *EXPECTED_END)
"""The columns of `trials` with estimates of fitted models. Like the parameter columns, only the whole table has them."""
_TRIAL = Column("trial", "int", "number of the trial in the study")
_NEVER_RAN = "no epoch finished"
_NO_EXPECTATION = "neither running nor stopped, or fewer than two epochs"
_MULTIPLY_ADDS = Column(
    "multiply_adds", "int", "multiply-adds of the network for one image", "multiply-adds", "not built yet"
)
_LATENCY_MS = Column(
    "latency_ms",
    "float",
    "median latency of a batch of one image on the device of the trial, measured before its training and beside the other trials that ran then; "
    "the least of up to 4 such medians if the first one was above the limit and at most twice as long",
    "milliseconds",
    "not measured: the search neither limits nor minimizes it",
)
_EPOCH_SECONDS = Column("epoch_seconds", "float", "the shorter of the trial's first two epochs", "seconds", _NEVER_RAN)
_ALL_RUNGS = "all rungs together"
_NO_COMPLETED = "no trial completed"
_NO_AUDITED = "no trial completed, or none was audited"
_METRICS = tuple(figure for figure in QUALITY if figure.name in OBJECTIVES)
FRONT_METRICS = tuple(figure.name for figure in _METRICS)
"""The columns of `front` with values on the validation images."""
FRONT_TESTS = tuple(name_on_test_images(name) for name in FRONT_METRICS)
"""The columns of `front` with values on the test images."""
_FEW = "fewer than three trials, all values equal, or all rungs together"

TABLES = {
    "trials": TableSchema(
        "one trial of the search",
        (
            RUN,
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
                "objective of the weights that are kept (so far, while the trial runs), as recorded in the study",
                null=_NEVER_RAN,
            ),
            Column(
                "best_objective",
                "float",
                "best finite objective over all epochs, each with the weights kept until then",
                null=_NEVER_RAN,
            ),
            Column("best_epoch", "int", "first epoch with best_objective", "epochs", _NEVER_RAN),
            Column("num_epochs", "int", "number of finished epochs", "epochs"),
            Column("rung", "int", "highest rung that the trial reached; the first rung is 0", null="no rung reached"),
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
                null="the trial completed or failed, or the last values predict later rungs better",
            ),
            Column(
                "expected_end",
                "float",
                "predicted objective after the full training (median), from the trial's own learning curve and those of the others",
                null=_NO_EXPECTATION,
            ),
            Column("expected_end_low", "float", "lower end of its 90 % prediction interval", null=_NO_EXPECTATION),
            Column("expected_end_high", "float", "upper end of its 90 % prediction interval", null=_NO_EXPECTATION),
            *(
                Column(f.name, f.kind, "value of the epoch whose weights are kept", f.unit, _NEVER_RAN)
                for f in reversed(QUALITY)
            ),
            Column("started", "time", "start of the first epoch", null="not started"),
            Column("ended", "time", "end of the trial", null="not ended"),
            Column("wall_seconds", "float", "wall time from start to end, including pauses", "seconds", "not ended"),
            Column("train_seconds", "float", "training time, the sum over the finished epochs", "seconds"),
            Column("images_per_second", "float", "training throughput, mean over the epochs", "images/s", _NEVER_RAN),
            NUM_PARAMETERS,
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
                "number of times that the trial lost its worker or node and resumed from its checkpoint",
            ),
            Column("micro_batches", "int", "micro-batches per batch; above 1 after the trial ran out of memory"),
            Column("node", "string", "host name of the machine that trained the last epoch", null=_NEVER_RAN),
            Column("device", "string", "device that trained the last epoch", null=_NEVER_RAN),
            *GPU,
            Column("error", "string", "error message", null="no error"),
            Column("config", "string", "complete config as JSON", null="status is skipped"),
        ),
        parameters=True,
    ),
    "epochs": TableSchema(
        "one finished epoch of one training",
        (
            RUN,
            Column("phase", "string", "search, audit (a stopped trial after its stop) or retrain"),
            Column(
                "trial",
                "int",
                "number of the trial that the config comes from; -1 for a baseline that no trial completed",
            ),
            SEED,
            *(Column(f.name, f.kind, f.meaning, f.unit, f.null) for f in EPOCH_FIGURES if f.column),
            Column("rung", "int", "rung at this epoch; the first rung is 0", null="no rung at this epoch"),
            Column("decision", "string", "decision at the rung: continue, pause or stop", null="no rung at this epoch"),
            Column("time", "time", "end of the epoch", null="not recorded"),
            NODE,
            Column("device", "string", "device of the training", null="not recorded"),
            Column("cpus", "float", "CPUs reserved for the training", "CPUs", "not recorded"),
            Column(
                "gpus",
                "float",
                "GPUs reserved for the training; a fraction if several trainings share one",
                "GPUs",
                "not recorded",
            ),
            *GPU,
        ),
    ),
    "rungs": TableSchema(
        "one rung of early stopping; the last row is the full training",
        (
            RUN,
            Column("rung", "int", "number of the rung; the first rung is 0"),
            Column("epoch", "int", "epoch at which trials continue or stop", "epochs"),
            Column("num_reached", "int", "number of trials that finished this epoch", "trials"),
            Column("num_stopped", "int", "number of trials stopped at this rung", "trials"),
            Column(
                "best_objective",
                "float",
                "best objective at this epoch, of the weights kept until then",
                null="no trial reached it",
            ),
            Column("median_objective", "float", "median of the same objectives", null="no trial reached it"),
            Column("epochs_spent", "int", "epochs trained by all trials since the previous rung", "epochs"),
            Column("train_seconds", "float", "training time of these epochs", "seconds"),
        ),
    ),
    "audit": TableSchema(
        "one rung of a search with an audit; one more row is for all rungs together; there are no rows without an audit",
        (
            RUN,
            Column("rung", "int", "number of the rung; the first rung is 0", null=_ALL_RUNGS),
            Column("epoch", "int", "epoch at which trials continue or stop", "epochs", _ALL_RUNGS),
            Column("num_stopped", "int", "number of trials stopped at this rung", "trials"),
            Column("num_audited", "int", "number of these trials that the audit trained to completion", "trials"),
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
                "number of audited trials, stopped or not, with a value at this rung and a final value; they are a random sample of all trials",
                "trials",
                _ALL_RUNGS,
            ),
            Column(
                "spearman_sampled",
                "float",
                "Spearman's rank correlation between the values at this rung and the final values of the num_sampled trials",
                "",
                _FEW,
            ),
            Column("kendall_sampled", "float", "Kendall's tau-b for the num_sampled trials", "", _FEW),
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
                "Spearman's rank correlation for the num_finished trials; biased towards trials that were not stopped",
                "",
                _FEW,
            ),
            Column(
                "kendall_finished",
                "float",
                "Kendall's tau-b for the num_finished trials; biased towards trials that were not stopped",
                "",
                _FEW,
            ),
        ),
    ),
    "front": TableSchema(
        "one completed trial for which no other is as good in all objectives and better in one; there are no rows with one objective",
        (
            RUN,
            Column(
                "rank",
                "int",
                "the trial with the best objective has rank 1; each further trial is the one farthest from those before it",
            ),
            _TRIAL,
            Column("objective", "float", "value of the first objective"),
            *(
                Column(
                    f.name, f.kind, "value of the epoch whose weights are kept", f.unit, "not defined, or not recorded"
                )
                for f in _METRICS
            ),
            NUM_PARAMETERS,
            _MULTIPLY_ADDS,
            _LATENCY_MS,
            _EPOCH_SECONDS,
            *(
                Column(
                    name_on_test_images(f.name),
                    f.kind,
                    "value on the test images, mean over the seeds",
                    f.unit,
                    "not retrained, not defined, or not recorded",
                )
                for f in _METRICS
            ),
        ),
    ),
    "memory": TableSchema(
        "one earlier run at the time of one suggestion; there are no rows without `learn_from`",
        (
            RUN,
            Column("earlier_run", "string", "name of the earlier run"),
            Column("data", "string", "name of the data set of the earlier run", null="not recorded"),
            Column("data_fingerprint", "string", "fingerprint of its images", null="not recorded"),
            Column("family", "string", "model families of the earlier run, separated by commas"),
            Column("machine", "string", "processor of its machine, and devices of its trials", null="not recorded"),
            Column("winnow_version", "string", "version of Winnow that started it", null="not recorded"),
            Column("num_trials", "int", "number of its trials from which this search learns", "trials"),
            Column("trial", "int", "number of the trial of this search that was suggested"),
            Column(
                "weight",
                "float",
                "weight of the earlier run at that time; the weights of all runs add up to at most 1",
                "fraction",
            ),
            Column(
                "share",
                "float",
                "share of the earlier run in the expected gain of the suggestion",
                "fraction",
                "the sampler of this search suggested the trial",
            ),
        ),
    ),
    "validation": TableSchema(
        "the prediction of one completed trial for one validation image; there are no rows unless `search.keep_predictions` is set",
        (
            RUN,
            _TRIAL,
            Column(
                "index",
                "int",
                "index of the image among the training images, or in the validation split of the data set",
            ),
            IMAGE_NAME,
            Column("true", "int", "index of the true class"),
            Column("predicted", "int", "index of the predicted class"),
            Column("true_class", "string", "name of the true class"),
            Column("predicted_class", "string", "name of the predicted class"),
            Column("correct", "bool", "whether the prediction is correct"),
            Column("confidence", "float", "probability of the predicted class", "fraction"),
            Column("probability_true", "float", "probability of the true class", "fraction"),
            Column("probabilities", "floats", "probability of each class, rounded to 16 bits", "fraction"),
        ),
    ),
    "importance": TableSchema(
        "one parameter of the space",
        (
            RUN,
            Column("parameter", "string", "name in the study, including the branch, such as `optimizer.sgd.lr`"),
            Column("path", "string", "config path, which is the name of the column in `trials`"),
            Column("condition", "string", "condition under which the parameter exists", null="always"),
            Column(
                "num_trials", "int", "number of trials with an objective in which the parameter was active", "trials"
            ),
            Column(
                "values",
                "string",
                "values whose variance is explained: the `last` values of the objective, or the `estimated end` of every trial "
                "if a regression over the rungs predicts later rungs better than the earlier values do",
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
            Column("note", "string", "why there is no importance", null="there is an importance"),
        ),
    ),
}
