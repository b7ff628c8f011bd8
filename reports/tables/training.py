"""Creates the tables of one training (`winnow train --output`), which its page cites and `winnow query` reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from winnow.reports.reading.predictions import largest_share
from winnow.reports.schemas import KINDS
from winnow.reports.tables.classes import scores_by_class
from winnow.spaces.epoch_figures import EPOCH_FIGURES, TEST_METRICS

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from winnow.reports.reading.training import TrainingData

RESULT = {
    "name": "string",
    "status": "string",
    "seed": "int",
    "planned_epochs": "int",
    "epochs": "int",
    "stopped_early": "bool",
    "weights": "string",
    "weights_epoch": "int",
    "fit_validation": "bool",
    "wall_seconds": "float",
    "images_per_second": "float",
    "num_parameters": "int",
    "multiply_adds": "int",
    "device": "string",
    "threads": "int",
    "micro_batches": "int",
    "train_loss": "float",
    "train_accuracy": "float",
    "validation_loss": "float",
    "validation_accuracy": "float",
    **dict.fromkeys(("test_loss", "test_accuracy", *TEST_METRICS), "float"),
    "largest_class": "float",
    "num_classes_answered": "int",
}
"""Columns of the table `training` with their kinds. Most are null while the training runs."""
PREDICTIONS = {
    "index": "int",
    "image_name": "string",
    "true": "int",
    "true_class": "string",
    "predicted": "int",
    "predicted_class": "string",
    "correct": "bool",
    "confidence": "float",
    "probability_true": "float",
}
"""Columns of the table `predictions` with their kinds."""
CLASSES = {
    "class": "int",
    "class_name": "string",
    "support": "int",
    "precision": "float",
    "recall": "float",
    "f1": "float",
}
"""Columns of the table `classes` with their kinds."""


def class_rows(training: TrainingData) -> list[dict[str, Any]]:
    """Return one row per class of the test images, with its precision, recall and F1; none before the test."""
    arrays = training.predictions
    return [] if arrays is None else scores_by_class([(arrays["true"], arrays["predicted"])], training.class_names)


def environment_rows(training: TrainingData) -> list[dict[str, str]]:
    """Return data, versions and hardware of a training that has ended, one row per value, without the names of the classes."""
    return [
        {"section": section, "key": key, "value": str(value)}
        for section in ("data", "versions", "hardware")
        for key, value in training.result.get(section, {}).items()
        if key != "class_names"
    ]


def largest_class(training: TrainingData) -> float | None:
    """Return the accuracy of always predicting the largest class of the test images, in [0, 1]; None before the test."""
    arrays = training.predictions
    return None if arrays is None else largest_share(arrays)


def _result(training: TrainingData) -> pa.Table:
    running = {"name": training.path.name, "status": "running", "epochs": training.epochs[-1]["epoch"]}
    weights = "last" if training.result.get("fit_validation") else training.config["weights"]
    about = {"planned_epochs": training.config["epochs"], "weights": weights, "largest_class": largest_class(training)}
    return _table([{**running, **training.result, **about}], RESULT)


def _epochs(training: TrainingData) -> pa.Table:
    kinds = {figure.name: figure.kind for figure in EPOCH_FIGURES if figure.column}
    return _table(training.epochs, {**kinds, "batch_losses": "floats"})


def _environment(training: TrainingData) -> pa.Table:
    return _table(environment_rows(training), dict.fromkeys(("section", "key", "value"), "string"))


def _predictions(training: TrainingData) -> pa.Table:
    return _table(_prediction_rows(training), PREDICTIONS)


def _classes(training: TrainingData) -> pa.Table:
    return _table(class_rows(training), CLASSES)


def _prediction_rows(training: TrainingData) -> list[dict[str, Any]]:
    arrays = training.predictions
    if arrays is None:
        return []
    names = arrays.get("name", np.array([f"image {index}" for index in arrays["index"]]))
    keys = ("index", "true", "predicted", "confidence", "probability_true")
    rows = [dict(zip(keys, row, strict=True)) for row in zip(*(arrays[key].tolist() for key in keys), strict=True)]
    return [
        {
            **row,
            "image_name": str(name),
            "true_class": training.class_name(row["true"]),
            "predicted_class": training.class_name(row["predicted"]),
            "correct": row["true"] == row["predicted"],
        }
        for row, name in zip(rows, names.tolist(), strict=True)
    ]


def _table(rows: Any, kinds: dict[str, str]) -> pa.Table:
    import pyarrow as pa

    types = {
        name: pa.list_(pa.float64()) if kind == "floats" else pa.type_for_alias(KINDS[kind])
        for name, kind in kinds.items()
    }
    return pa.Table.from_pylist([{key: row.get(key) for key in types} for row in rows], schema=pa.schema(types.items()))


TABLES: dict[str, Callable[[TrainingData], pa.Table]] = {
    "training": _result,
    "epochs": _epochs,
    "predictions": _predictions,
    "classes": _classes,
    "environment": _environment,
}
"""The tables by name: the result (one row), each epoch, each test image, each class, and each value of data, versions and hardware."""
