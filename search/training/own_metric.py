"""Calls a custom metric: a function of labels and probabilities, named by import path."""

from __future__ import annotations

import inspect
import numbers

import numpy as np
import torch

from winnow.spaces.errors import InputError, printable
from winnow.spaces.own_code import load
from winnow.spaces.schema import OwnMetric


def own_metric(metric: OwnMetric, logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Compute a metric.

    Args:
        metric: Its function gets the labels int64 [N] and the probabilities float32 [N, K] as NumPy arrays, and its other keys as
            keyword arguments.
        logits: float32 [N, K].
        labels: int64 [N].

    Raises:
        InputError: The function cannot be imported, does not take these arguments, raises, or does not return a number.
    """
    label = f"own_metric {metric.name}"
    function = load("own_metric", metric.name)
    try:
        signature = inspect.signature(function)
    except ValueError:  # some callables written in C have no signature
        pass
    else:
        try:
            signature.bind(None, None, **metric.keys)
        except TypeError as error:
            given = ", ".join(["labels", "probabilities", *metric.keys])
            takes = ", ".join(signature.parameters) or "nothing"
            raise InputError(f"{label}: {error}; it was called with {given}, and takes {takes}") from error
    probabilities = logits.softmax(1).cpu().numpy()
    try:
        value = function(labels.cpu().numpy(), probabilities, **metric.keys)
    except (Exception, SystemExit) as error:  # user code may raise anything, and the message must say where
        raise InputError(f"{label} raised {type(error).__name__}: {printable(str(error))}") from error
    is_number = isinstance(value, numbers.Real) or (isinstance(value, np.ndarray) and value.ndim == 0)
    if not is_number or isinstance(value, bool):
        raise InputError(f"{label} must return a number, but returned {type(value).__name__}")
    return float(value)
