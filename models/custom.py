"""Custom networks: a user's own function, by import path."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from torch import nn

from winnow.spaces.errors import InputError
from winnow.spaces.schema import Custom


def custom(model: Custom, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build a custom network: call `package.module:function` with image_shape, num_classes and the other keys of the model.

    The network may define `parameter_groups(lr)`, see `models.parameter_groups`.

    Args:
        model: The `model` section of a config.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of logits.

    Raises:
        InputError: The function cannot be imported, does not take these keys, raises, or returns no module.
    """
    keys: dict[str, Any] = {"image_shape": image_shape, "num_classes": num_classes, **(model.model_extra or {})}
    function = load_function("model", model.name)
    _check_keys(model.name, function, keys)
    try:
        network = function(**keys)
    except SystemExit as error:
        raise InputError(f"model {model.name} called sys.exit({error.code!r})") from error
    except Exception as error:  # user code may raise anything, and the message must say where
        raise InputError(f"model {model.name} raised {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"model {model.name} must return a torch.nn.Module, but returned {type(network).__name__}")
    return network


def load_function(what: str, name: str) -> Callable[..., Any]:
    """Import a function of the user's.

    Args:
        what: What it is for, the first word of the messages.
        name: `package.module:function`; the package is installed or in the working directory.

    Raises:
        InputError: There is no such module or function, or importing it fails.
    """
    module_name, _, function_name = name.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # an installed command does not search there, unlike `python -m`
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # user code runs here
        raise InputError(
            f"{what} {name}: importing {module_name} failed with {type(error).__name__}: {error}; "
            "the package must be installed or be in the working directory"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = get_close_matches(function_name, public, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"{what} {name}: module {module_name} has no function {function_name}{hint}")
    return function


def _check_keys(name: str, function: Callable[..., Any], keys: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some callables written in C have no signature
        return
    try:
        signature.bind(**keys)
    except TypeError as error:
        raise InputError(
            f"model {name}: {error}; it was given {', '.join(keys)}, and takes {', '.join(signature.parameters)}"
        ) from error
