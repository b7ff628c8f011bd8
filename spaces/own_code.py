"""Loads, checks and calls custom functions named `package.module:function`, for networks, optimizers and all other parts."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from winnow.spaces.errors import InputError, ModelRefused, printable
from winnow.spaces.own_sources import search_working_directory
from winnow.spaces.schema.fields import IMPORT_PATH

if TYPE_CHECKING:
    from winnow.spaces.schema import Config, OwnPart


NEVER = re.compile(r"torch\.hub\b.*")
"""Modules and import paths that are always rejected."""
NEVER_REASON = "which downloads and runs code of others; such code is never run from a file"


def own_parts(config: Config) -> Iterator[tuple[str, OwnPart]]:
    """Yield the kind of each custom part of a config, such as `optimizer`, and its settings."""
    from winnow.spaces.schema import OwnPart

    extra = config.data.extra.augment if config.data.extra else []
    parts = [
        ("model", config.model),
        ("initialization", config.initialization),
        ("train", config.train),
        ("optimizer", config.optimizer),
        ("schedule", config.schedule),
        ("loss", config.loss),
        ("own_metric", config.own_metric),
        *(("augmentation", step) for step in [*config.data.augment, *extra]),
    ]
    yield from ((what, part) for what, part in parts if isinstance(part, OwnPart))


def load(what: str, name: str) -> Callable[..., Any]:
    """Import a function.

    Args:
        what: Kind of object that the function makes, for messages, such as `model`.
        name: `package.module:function`; the module must be installed or in the working directory.

    Returns:
        The function.

    Raises:
        InputError: The name is no import path, the module cannot be imported, or has no such function, or the function is one of
            `torch.hub` or of the standard library under another name.
    """
    if not re.fullmatch(IMPORT_PATH, name):
        raise InputError(
            f"{what} {printable(name)}: must be an import path, package.module:function, in ASCII characters"
        )
    module_name, _, function_name = name.partition(":")
    search_working_directory()
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # user code runs here
        raise InputError(
            f"{what} {name}: importing {module_name} failed with {type(error).__name__}: {printable(str(error))}; "
            "the package must be installed or be in the working directory"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = get_close_matches(function_name, public, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"{what} {name}: module {module_name} has no function {function_name}{hint}")
    if NEVER.fullmatch(str(getattr(function, "__module__", None))):
        raise InputError(f"{what} {name}: is {function.__module__}:{function.__name__}, {NEVER_REASON}")
    if other := _of_the_standard_library(function, module_name):
        raise InputError(
            f"{what} {name}: is {other}, which {module_name} only imports; name it as {other}, so that you are asked whether it may run"
        )
    return function


def _of_the_standard_library(function: Callable[..., Any], module_name: str) -> str | None:
    """Return the own import path of a function such as `subprocess.run` that another module imports; None for any other function.

    Your own module is trusted, and its `from subprocess import run` would let a received file run any command.
    """
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        return None  # the class of an object, such as `functools.partial`, says nothing about what it calls
    top = str(getattr(function, "__module__", None)).partition(".")[0]
    if top not in sys.stdlib_module_names or module_name.partition(".")[0] in sys.stdlib_module_names:
        return None
    return f"{function.__module__}:{function.__name__}"


def call(what: str, name: str, arguments: Mapping[str, Any]) -> Any:
    """Call a function with keyword arguments.

    Args:
        what: As in `load`.
        name: As in `load`.
        arguments: The keyword arguments: those that Winnow passes, and the keys of the config.

    Returns:
        The result of the function.

    Raises:
        InputError: The function cannot be imported, does not take these arguments, or raises an error.
        ModelRefused: The function of a model raises an error; other configs of the space may be valid.
    """
    function = load(what, name)
    _check_arguments(what, name, function, arguments)
    try:
        return function(**arguments)
    except SystemExit as error:
        raise InputError(f"{what} {name} called sys.exit({error.code!r})") from error
    except InputError:
        raise
    except Exception as error:  # user code may raise anything, and the message must say where
        refused = ModelRefused if what == "model" else InputError
        raise refused(f"{what} {name} raised {type(error).__name__}: {printable(str(error))}") from error


def _check_arguments(what: str, name: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some callables written in C have no signature
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise InputError(
            f"{what} {name}: {error}; it was called with {', '.join(arguments) or 'nothing'}, and takes "
            f"{', '.join(signature.parameters) or 'nothing'}"
        ) from error
