"""A call from Python as the command that does the same: what study.yaml keeps of a search that a notebook began."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from os import PathLike, fspath
from typing import Any

from winnow.spaces.errors import InputError
from winnow.spaces.space import Space

Overrides = Sequence[str] | Mapping[str, Any]
"""`["epochs=6", "optimizer.lr=0.01"]` as after `--set`, or `{"epochs": 6, "optimizer.lr": 0.01}`."""

DEFAULTS: dict[str, Any] = {"runs_dir": "runs", "data_dir": "data", "device": "auto"}
NO_MATTER = ("quiet",)


def as_command(name: str, arguments: Mapping[str, Any]) -> str | None:
    """`winnow NAME ...` for the function of that name and its arguments by name; None where its space is an object.

    An object may hold anything; study.yaml has the whole of it.
    """
    given = dict(arguments)
    target = given.pop("run") if "run" in given else given.pop("space")
    if isinstance(target, Space) or not isinstance(target, str | PathLike):
        return None
    given |= given.pop("options", {}) | asdict(given.pop("devices"))
    given["set"] = as_texts(given.pop("overrides"))
    words = ["winnow", name, fspath(target)]
    for key, value in given.items():
        if key in NO_MATTER or value is None or value is False or value == DEFAULTS.get(key):
            continue
        option = f"--{key.replace('_', '-')}"
        if value is True:
            words.append(option)
            continue
        values = value if isinstance(value, list | tuple) else [value]
        words += [word for one in values for word in (option, fspath(one) if isinstance(one, PathLike) else str(one))]
    return shlex.join(words)


def as_texts(overrides: Overrides) -> list[str]:
    """As after `--set`."""
    if isinstance(overrides, str):
        raise InputError(f"overrides are a list such as ['epochs=6'], but got the text {overrides!r}")
    if isinstance(overrides, Mapping):  # JSON is YAML
        return [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    return list(overrides)
