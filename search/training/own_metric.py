"""Calls a user's own metric: a function of labels and probabilities, named by import path."""

from __future__ import annotations

import inspect
import numbers

import numpy as np
import torch

from winnow.spaces.errors import InputError
from winnow.spaces.own_code import load


def own_metric(name: str, logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Call a metric.

    Args:
        name: `package.module:function`. It gets the labels int64 [N] and the probabilities float32 [N, K] as NumPy arrays.
        logits: float32 [N, K].
        labels: int64 [N].

    Raises:
        InputError: The function cannot be imported, does not take two arguments, raises, or does not return a number.
    """
    function = load("own_metric", name)
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise InputError(f"own_metric {name}: must take (labels, probabilities), but {error}") from error
    except ValueError:  # some callables written in C have no signature
        pass
    probabilities = logits.softmax(1).cpu().numpy()
    try:
        value = function(labels.cpu().numpy(), probabilities)
    except (Exception, SystemExit) as error:  # user code may raise anything, and the message must say where
        raise InputError(f"own_metric {name} raised {type(error).__name__}: {error}") from error
    is_number = isinstance(value, numbers.Real) or (isinstance(value, np.ndarray) and value.ndim == 0)
    if not is_number or isinstance(value, bool):
        raise InputError(f"own_metric {name} must return a number, but returned {type(value).__name__}")
    return float(value)


def check_own_metric(name: str, num_classes: int) -> None:
    """Call a metric once with made-up outputs for two images of each class.

    Args:
        name: `package.module:function`.
        num_classes: Number of classes, K.

    Raises:
        InputError: As in `own_metric`.
    """
    labels = torch.arange(num_classes).repeat(2)
    own_metric(name, torch.eye(num_classes).repeat(2, 1), labels)
