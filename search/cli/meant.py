"""Suggests what the user probably meant by an unknown option. It is usually a key of a config, which `--set` changes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

import click

OTHER_NAMES = {
    **dict.fromkeys(("time", "time_limit", "timeout", "budget", "max_time"), "--time-budget"),
    **dict.fromkeys(("n_trials", "num_trials", "num_samples", "max_trials"), "--trials"),
    **dict.fromkeys(("workers", "num_workers", "jobs", "n_jobs", "parallel", "max_concurrent"), "--concurrent"),
    "gpus": "--num-gpus",
    "cpus": "--num-cpus",
    "metric": "--objective",
    "algorithm": "--sampler",
    **dict.fromkeys(("out", "output", "output_dir"), "--runs-dir"),
}
"""Options by the names that other tools use for them."""
OTHER_KEYS = {"learning_rate": "lr", "batch": "batch_size"}
"""Keys of the config by the names that other tools use for them."""


def meant(error: click.UsageError, arguments: Sequence[str]) -> click.UsageError:
    """Return the error to show, with the option that the user probably meant, if there is one.

    Args:
        error: The error that click raised.
        arguments: The arguments of the command line.
    """
    if isinstance(error, click.BadParameter):
        return _meant_by_value(error, arguments)
    context = error.ctx
    if context is None:
        return error
    options = {option for parameter in context.command.get_params(context) for option in parameter.opts}
    if not isinstance(error, click.NoSuchOption):
        return _meant_by_words(error, arguments, options)
    name = error.option_name.lstrip("-").replace("-", "_")
    if (option := OTHER_NAMES.get(name)) in options:
        value = _value_of(error.option_name, arguments)
        if option == "--time-budget":
            value = _duration(value)
        return click.UsageError(f"{error.option_name}: this option is {option} {shlex.quote(value)}", context)
    if "--set" not in options:
        return error
    name = OTHER_KEYS.get(name, name)
    if name == "epochs" and "--max-epochs" in options:
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


def _meant_by_words(error: click.UsageError, arguments: Sequence[str], options: set[str]) -> click.UsageError:
    """Explain that `--set KEY VALUE` must be written as `--set KEY=VALUE`."""
    places = [place for place, text in enumerate(arguments) if text == "--set" and place + 2 < len(arguments)]
    for key, value in (arguments[place + 1 : place + 3] for place in places if "--set" in options):
        if "=" not in key and not value.startswith("-"):
            return click.UsageError(
                f"--set {key}: key and value are one word: --set {shlex.quote(f'{key}={value}')}", error.ctx
            )
    return error


def _meant_by_value(error: click.BadParameter, arguments: Sequence[str]) -> click.UsageError:
    """Complete a metric that lacks its first word, or explain that a custom objective must be named in the space."""
    name = error.param.name if error.param is not None else None
    value = _value_of("--objective", arguments)
    if name != "objective":
        return error
    full = f"validation_{value.replace('-', '_')}"
    if full in getattr(error.param.type if error.param is not None else None, "choices", ()):
        return click.UsageError(f"--objective {value}: this objective is --objective {full}", error.ctx)
    if ":" not in value:
        return error
    option = f"--set {shlex.quote(f'search.objective={value}')}"
    return click.UsageError(f"--objective: name a custom function with {option}", error.ctx)


def _duration(text: str) -> str:
    """Return `5m` for `5min`, and any other text unchanged."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh])[a-z]*\s*", text, re.IGNORECASE)
    return f"{found[1]}{found[2].lower()}" if found else text


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
