"""The tables of the winners: their trainings and tests."""

from __future__ import annotations

from winnow.reports.schemas.column import GPU, IMAGE_NAME, NUM_PARAMETERS, RUN, SEED, Column, TableSchema
from winnow.spaces.epoch_figures import METRICS, name_on_test_images

_WINNER_TRIAL = Column(
    "trial", "int", "number of the trial that the config comes from", null="a baseline that no trial completed"
)
_RANK = Column("rank", "int", "rank in the search; the best config has rank 1", null="the baseline")
_BASELINE = Column("baseline", "bool", "whether this is the baseline recipe, retrained beside the winners")
_UNFINISHED = "the training did not complete"
_UNTESTED = "no seed completed"
_ONE_SEED = "fewer than two seeds completed"
_NO_INTERVAL = f"{_ONE_SEED}, all seeds have equal values and no predictions, or the objective is a mean over classes and one has fewer than 4 test images"

TABLES = {
    "winners": TableSchema(
        "one retrained config: the winners by rank, the baseline last",
        (
            RUN,
            _RANK,
            _WINNER_TRIAL,
            _BASELINE,
            Column("num_seeds", "int", "number of completed trainings", "trainings"),
            Column("num_failed", "int", "number of trainings that did not complete", "trainings"),
            Column(
                "num_objective_seeds",
                "int",
                "number of completed trainings in which the objective has a value; test_objective is the mean over these",
                "trainings",
            ),
            Column(
                "num_repeats",
                "int",
                "number of completed trials with this config; above 1 only with `search.repeats`",
                "trials",
            ),
            Column(
                "num_incomplete_repeats",
                "int",
                "number of trials with this config that were stopped early, failed or have not ended; the means over the repeats leave them out",
                "trials",
            ),
            Column("test_accuracy", "float", "mean test accuracy over the seeds", "fraction", _UNTESTED),
            Column("test_accuracy_std", "float", "sample standard deviation over the seeds", "fraction", _ONE_SEED),
            Column("test_accuracy_low", "float", "lower end of its 95 % interval", "fraction", _NO_INTERVAL),
            Column("test_accuracy_high", "float", "upper end of its 95 % interval", "fraction", _NO_INTERVAL),
            Column(
                "num_test_images",
                "int",
                "number of test images that the interval of test_accuracy takes into account besides the seeds",
                "images",
                "a prediction file is missing or does not give the accuracy, or there is only one seed; the interval then accounts only for the seeds, and the gain has none",
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
                "share of the largest class in the test images; a network that always predicts this class has this test accuracy",
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
                "mean training accuracy of the last epoch over the seeds, on the images that the networks were trained on",
                "fraction",
                _UNTESTED,
            ),
            Column(
                "test_objective",
                "float",
                "objective of the search on the test images, mean over the seeds; equal to test_accuracy if the search optimizes validation_accuracy",
                null=_UNTESTED,
            ),
            Column("test_objective_low", "float", "lower end of its 95 % interval", null=_NO_INTERVAL),
            Column("test_objective_high", "float", "upper end of its 95 % interval", null=_NO_INTERVAL),
            Column(
                "test_objective_images",
                "int",
                "number of test images that the interval of test_objective takes into account besides the seeds",
                "images",
                "the predictions do not give the objective, as for a custom metric or a loss that is not cross-entropy, or see num_test_images",
            ),
            Column(
                "search_objective",
                "float",
                "objective in the search; mean over the completed repeats of the config",
                null="a baseline that no trial completed",
            ),
            Column("objective_gap", "float", "search_objective - test_objective", null="either is null"),
            Column(
                "search_accuracy",
                "float",
                "validation accuracy in the search; mean over the completed repeats of the config",
                "fraction",
                "no such trial",
            ),
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
                "improvement of test_objective over the baseline; negative if it is worse",
                null="no baseline, this is the baseline, or the objective is the loss and the baseline has one of another kind",
            ),
            *(
                Column(
                    f"objective_gain_{end}",
                    "float",
                    f"{words} end of the 95 % interval of objective_gain, paired by image",
                    null="no gain, one seed on one side, a prediction file is missing, or the metric is a custom function",
                )
                for end, words in (("low", "lower"), ("high", "upper"))
            ),
            Column("wall_seconds", "float", "mean wall time of one training", "seconds", _UNTESTED),
            NUM_PARAMETERS,
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
            RUN,
            _RANK,
            _WINNER_TRIAL,
            _BASELINE,
            SEED,
            Column("status", "string", "completed, diverged, out_of_memory, failed, lost or timed_out"),
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
                "training accuracy of the last epoch, on the images that the network was trained on; see `keep_validation`",
                "fraction",
                _UNFINISHED,
            ),
            Column("train_loss", "float", "training loss of the last epoch", null=_UNFINISHED),
            Column("num_epochs", "int", "number of finished epochs", "epochs", "not recorded"),
            Column("weights_epoch", "int", "epoch whose weights were tested", null="not recorded"),
            Column("wall_seconds", "float", "wall time of the training", "seconds", "not recorded"),
            Column("time", "time", "time of the test", null="not recorded"),
            Column(
                "keep_validation",
                "bool",
                "whether the epoch was chosen by the validation images; if false, they were used for training too",
            ),
            Column("threads", "int", "CPU threads of the training", "threads", "not recorded"),
            Column("micro_batches", "int", "micro-batches per batch; above 1 after the trial ran out of memory"),
            Column("device", "string", "device of the training", null="not recorded, or the training did not complete"),
            Column("node", "string", "host name", null="not recorded, or the training did not complete"),
            *GPU,
            Column("weights", "string", "file of the weights, relative to the run folder", null="not kept"),
            Column("error", "string", "error message", null="no error"),
        ),
    ),
    "ensemble": TableSchema(
        "all retrained networks of all winners as one ensemble (mean of their probabilities); there is no row without two networks and their predictions",
        (
            RUN,
            Column("num_networks", "int", "networks in the ensemble", "networks"),
            Column("num_winners", "int", "winners to which these networks belong", "configs"),
            Column("test_accuracy", "float", "share of test images that it classifies correctly", "fraction"),
            Column("test_accuracy_low", "float", "lower end of the 95 % interval over the test images", "fraction"),
            Column("test_accuracy_high", "float", "upper end of that interval", "fraction"),
            Column(
                "cost",
                "float",
                "its multiply-adds for one image, with all its views in the final test, divided by those of the first winner",
                null="not recorded",
            ),
        ),
    ),
    "classes": TableSchema(
        "the test images of one class, for one retrained config; there are no rows without predictions",
        (
            RUN,
            _RANK,
            _WINNER_TRIAL,
            _BASELINE,
            Column("class", "int", "number of the class; the first class is 0"),
            Column("class_name", "string", "name of the class"),
            Column("support", "int", "test images of the class", "images"),
            Column(
                "precision",
                "float",
                "share of the images predicted as this class that belong to it; mean over the seeds that predict the class",
                "fraction",
                "no seed predicts the class",
            ),
            Column(
                "recall",
                "float",
                "mean over the seeds: share of the images of the class that are predicted as this class",
                "fraction",
                "the class has no test images",
            ),
            Column(
                "f1",
                "float",
                "mean over the seeds: harmonic mean of precision and recall",
                "fraction",
                "the class is neither in the test images nor predicted",
            ),
        ),
    ),
    "predictions": TableSchema(
        "the prediction of one retrained network for one test image",
        (
            RUN,
            _RANK,
            _WINNER_TRIAL,
            _BASELINE,
            SEED,
            Column("index", "int", "index of the image in the test set; the first image is 0"),
            IMAGE_NAME,
            Column("true", "int", "index of the true class"),
            Column("predicted", "int", "index of the predicted class"),
            Column("true_class", "string", "name of the true class"),
            Column("predicted_class", "string", "name of the predicted class"),
            Column("correct", "bool", "whether the prediction is correct"),
            Column("confidence", "float", "probability of the predicted class", "fraction"),
            Column("probability_true", "float", "probability of the true class", "fraction"),
            Column(
                "image",
                "bytes",
                "the image as PNG",
                null="the image is not among the most confident mistakes of its training",
            ),
        ),
    ),
}
