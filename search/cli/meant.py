"""Suggests what the user probably meant by an unknown option: a key of a config, another name of an option, or a misspelled one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path

import click

OTHER_NAMES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("time", "time_limit", "timeout", "budget", "max_time"), ("--time-budget",)),
    **dict.fromkeys(("n_trials", "num_trials", "num_samples", "samples", "max_trials"), ("--trials",)),
    **dict.fromkeys(("workers", "num_workers", "jobs", "n_jobs", "parallel", "max_concurrent"), ("--concurrent",)),
    **dict.fromkeys(("gpu", "gpus"), ("--num-gpus",)),
    **dict.fromkeys(("cpu", "cpus"), ("--num-cpus", "--threads")),
    "metric": ("--objective",),
    "algorithm": ("--sampler",),
    **dict.fromkeys(("out", "output", "output_dir", "save"), ("--output", "--runs-dir")),
    **dict.fromkeys(("head", "limit"), ("--top",)),
    "rank": ("--winner",),
    **dict.fromkeys(("filter", "query"), ("--where",)),
    **dict.fromkeys(("order", "order_by", "sort_by"), ("--sort",)),
    **dict.fromkeys(("watch", "live"), ("--follow",)),
    **dict.fromkeys(("errors", "wrong"), ("--mistakes",)),
}
"""Options that may be meant by a name that other tools use, starting with the likeliest."""
OTHER_KEYS = {
    "learning_rate": "lr",
    "batch": "batch_size",
    "dataset": "data",
    "wd": "weight_decay",
    "augmentation": "augment",
}
"""Keys of the config by the names that other tools use for them."""
NOT_KEYS = ("name", "config", "path")
"""Last words of paths that are too general to identify a key."""
NEIGHBOURS = {"resume": ("extend",), "search": ("run",), "plan": ("run",), "extend": ("retrain",)}
"""Commands that do something similar to a command, and may have the option that it lacks."""
MIN_SIMILARITY = 0.7
"""Lowest similarity of a misspelled option and the right one, as the ratio of `SequenceMatcher`."""
FILLERS = frozenset(("n", "num", "no", "max", "min"))
"""Words that are ignored when options are compared."""


def meant(error: click.UsageError, arguments: Sequence[str]) -> click.UsageError:
    """Return the error to show, with what the user probably meant, if that can be said.

    Args:
        error: The error that click raised.
        arguments: The arguments of the command line.
    """
    if isinstance(error, click.BadParameter):
        return _meant_by_value(error, arguments)
    context = error.ctx
    if context is None:
        return error
    known = [each for each in context.command.get_params(context) if isinstance(each, click.Option)]
    options = {name: option for option in known for name in option.opts}
    if not isinstance(error, click.NoSuchOption):
        return _meant_by_words(error, arguments, options)
    name, value = error.option_name.lstrip("-").replace("-", "_"), _value_of(error.option_name, arguments)
    answer = (
        _other_name(name, value, options)
        or _key(name, value, options, context.info_name, arguments)
        or _neighbour(error.option_name, context)
    )
    if answer:
        return click.UsageError(f"{error.option_name}: {answer}", context)
    return click.NoSuchOption(error.option_name, possibilities=near(error.option_name, options), ctx=context)


def near(option: str, options: Collection[str]) -> list[str]:
    """Return the options that a misspelled one may stand for, starting with the most similar. Click's own list is too long.

    Two options are similar if they begin with the same letter and share most letters, or if one has all words of the other.

    Args:
        option: The option that was typed, such as `--trails`.
        options: The options of the command.
    """
    typed = option.lstrip("-")
    found = {}
    for other in options:
        known = other.lstrip("-")
        ratio = SequenceMatcher(None, typed, known).ratio()
        words, known_words = ({text.removesuffix("s") for text in name.split("-")} - FILLERS for name in (typed, known))
        within = words and known_words and (words <= known_words or known_words <= words) and "per" not in known_words
        if len(known) > 1 and ((ratio >= MIN_SIMILARITY and typed[:1] == known[:1]) or within):
            found[other] = ratio
    return sorted(found, key=lambda other: (-found[other], other))


def _other_name(name: str, value: str, options: Mapping[str, click.Option]) -> str:
    option = next((each for each in OTHER_NAMES.get(name, ()) if each in options), None)
    retrains = option == "--top" and "--seeds" in options  # the number of winners, not of lines
    if option is None or retrains:
        return ""
    if options[option].is_flag:
        return f"this option is {option}"
    return f"this option is {option} {shlex.quote(_duration(value) if option == '--time-budget' else value)}"


def _key(name: str, value: str, options: Collection[str], command: str | None, arguments: Sequence[str]) -> str:
    """Tell how to set the key of the config that the option names; empty if it names none."""
    if name in ("epochs", "max_epochs") and "--max-epochs" in options:
        return f"this is a key of the config; set it with --max-epochs {shlex.quote(value)}"
    name = OTHER_KEYS.get(name, name)
    name = "epochs" if name == "max_epochs" and command != "resume" else name  # `extend` has the option
    paths = [path for path in _paths_named(name) if command != "retrain" or not path.startswith("data.")]
    sets = [f"--set {shlex.quote(f'{path}={value}')}" for path in paths[:3]]
    if not sets:
        return ""
    if "--set" in options:
        return f"this is a key of the config; set it with {' or '.join(sets)}"
    if command != "retrain":
        return ""
    words = " or ".join(shlex.join(["winnow", "train", _winner_of(arguments)]) + f" {each}" for each in sets)
    return f"retraining keeps the configs of the winners; this trains the first winner with another value: {words}"


def _neighbour(option: str, context: click.Context) -> str:
    """Name the command that has the option which this one lacks; empty if there is none."""
    parent = context.parent
    if parent is None or not isinstance(parent.command, click.Group):
        return ""
    for name in NEIGHBOURS.get(context.info_name or "", ()):
        command = parent.command.commands[name]
        if any(option in parameter.opts for parameter in command.get_params(click.Context(command))):
            return f"`winnow {context.info_name}` has no such option, but `winnow {name}` has"
    return ""


def _winner_of(arguments: Sequence[str]) -> str:
    """Return the file with the config of the first winner of the run that the command line names."""
    for folder in (Path(root, text) for text in arguments[1:] for root in ("runs", "")):
        if (folder / "study.yaml").is_file():
            return str(folder / "report" / "winner.yaml")
    return "RUN/report/winner.yaml"


def _meant_by_words(error: click.UsageError, arguments: Sequence[str], options: Collection[str]) -> click.UsageError:
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
    """The paths of the keys that a name may stand for; of a section with branches, such as `optimizer`, the path of its name."""
    from winnow.spaces.schema.paths import config_paths

    paths = config_paths()
    if f"{name}.name" in paths:
        return [f"{name}.name"]
    if name in paths and not any(path.startswith(f"{name}.") for path in paths):
        return [name]
    if name in paths:
        return [path for path in paths if path.rpartition(".")[0] == name]
    named = [path for path in paths if path.rpartition(".")[2] == name and name not in NOT_KEYS]
    return [path for path in named if path.count(".") == 1] or named


def _value_of(option: str, arguments: Sequence[str]) -> str:
    """Return the value that followed the option; VALUE if there was none."""
    for place, text in enumerate(arguments):
        if text.startswith(f"{option}="):
            return text.partition("=")[2]
        if text == option and place + 1 < len(arguments) and not arguments[place + 1].startswith("-"):
            return arguments[place + 1]
    return "VALUE"
