"""Converts a call from Python into the equivalent command line, which `study.yaml` records."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from os import PathLike, fspath
from typing import Any

from winnow.search.api.common import as_texts
from winnow.spaces.space import Space

DEFAULTS: dict[str, Any] = {"runs_dir": "runs", "device": "auto"}
NOT_RECORDED = ("quiet",)


def as_command(name: str, arguments: Mapping[str, Any]) -> str | None:
    """Return the command line `winnow NAME ...` that is equivalent to a call.

    Args:
        name: Name of the function, which is also the name of the command.
        arguments: The arguments of the call, by name.

    Returns:
        The command line; None if the space is an object, which no command line can name. `study.yaml` holds such a space in full.
    """
    remaining = dict(arguments)
    target = remaining.pop("run") if "run" in remaining else remaining.pop("space")
    if isinstance(target, Space) or not isinstance(target, str | PathLike):
        return None
    remaining |= remaining.pop("options", {}) | asdict(remaining.pop("devices"))
    remaining["set"] = as_texts(remaining.pop("overrides"))
    words = ["winnow", name, fspath(target)]
    for key, value in remaining.items():
        if key in NOT_RECORDED or value is None or value is False or value == DEFAULTS.get(key):
            continue
        option = f"--{key.replace('_', '-')}"
        if value is True:
            words.append(option)
            continue
        values = value if isinstance(value, list | tuple) else [value]
        words += [word for one in values for word in (option, fspath(one) if isinstance(one, PathLike) else str(one))]
    return shlex.join(words)
