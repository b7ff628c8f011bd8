"""Suggests what an unknown option probably meant: usually a key of a config, which `--set` changes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import click


def meant(error: click.UsageError, arguments: Sequence[str]) -> click.UsageError:
    """Return the error to show, with the `--set` that probably does what the user meant, if there is one.

    Args:
        error: The error that click raised.
        arguments: The command line.
    """
    if isinstance(error, click.BadParameter):
        return _meant_by_value(error, arguments)
    if not isinstance(error, click.NoSuchOption):
        return error
    command = error.ctx.command if error.ctx is not None else None
    if command is None or not any(parameter.name == "overrides" for parameter in command.params):
        return error
    name = error.option_name.lstrip("-").replace("-", "_")
    if name == "epochs" and any(parameter.name == "max_epochs" for parameter in command.params):
        suggestions = [f"--max-epochs {_value_of(error.option_name, arguments)}"]
    else:
        value = _value_of(error.option_name, arguments)
        key = "epochs" if name == "max_epochs" else name  # the option of `extend`
        suggestions = [f"--set {shlex.quote(f'{path}={value}')}" for path in _paths_named(key)]
    if not suggestions:
        return error
    return click.UsageError(
        f"{error.option_name}: this is a key of the config; set it with {' or '.join(suggestions[:3])}", error.ctx
    )


def _meant_by_value(error: click.BadParameter, arguments: Sequence[str]) -> click.UsageError:
    """Explain that a custom objective must be named in the space, since trainings must compute it."""
    name = error.param.name if error.param is not None else None
    value = _value_of("--objective", arguments)
    if name != "objective" or ":" not in value:
        return error
    option = f"--set {shlex.quote(f'search.objective={value}')}"
    return click.UsageError(f"--objective: name a custom function with {option}", error.ctx)


def _paths_named(name: str) -> list[str]:
    from winnow.spaces.schema.paths import config_paths

    if name in config_paths():
        return [name]
    return [path for path in config_paths() if path.rpartition(".")[2] == name and name != "name"]


def _value_of(option: str, arguments: Sequence[str]) -> str:
    """Return the value that followed the option; VALUE if there was none."""
    for place, text in enumerate(arguments):
        if text.startswith(f"{option}="):
            return text.partition("=")[2]
        if text == option and place + 1 < len(arguments) and not arguments[place + 1].startswith("-"):
            return arguments[place + 1]
    return "VALUE"
