"""The content of a run's `study.yaml`, as far as Winnow reads it. A run may come from somebody else, or be damaged.

The checks are written by hand, since `winnow show` is to start without pydantic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from winnow.spaces.epoch_figures import OBJECTIVES
from winnow.spaces.errors import InputError

Check = Callable[[Any, str], None]
"""Checks a value at a place such as `settings.rungs.0`; raises `_WrongValue`."""


class _WrongValue(Exception):
    """What is wrong, which begins with the place."""


def check_study(study: Mapping[str, Any], source: str) -> None:
    """Check that the content of a `study.yaml` is one that Winnow writes.

    Args:
        study: The content.
        source: Where it was read and what a wrong value means there; the message begins with it.

    Raises:
        InputError: A value is missing, has another type or is out of range; the message names its key.
    """
    try:
        _STUDY(study, "")
    except _WrongValue as problem:
        raise InputError(f"{source}: {problem}; take it from a copy of the run") from None


def _one(is_right: Callable[[Any], bool], words: str) -> Check:
    def check(value: Any, place: str) -> None:
        if not is_right(value):
            raise _WrongValue(f"{place} must be {words}, but got {value!r:.100}")

    return check


def _or_none(check: Check) -> Check:
    return lambda value, place: None if value is None else check(value, place)


def _each(entry: Check, length: int | None = None) -> Check:
    """Check a list and each of its entries."""
    known = "a list" if length is None else f"a list of {length} values"
    is_list = _one(lambda value: isinstance(value, list) and length in (None, len(value)), known)

    def check(value: Any, place: str) -> None:
        is_list(value, place)
        for index, each in enumerate(value):
            entry(each, f"{place}.{index}")

    return check


def _by_name(entry: Check) -> Check:
    """Check a mapping of any names to entries."""

    def check(value: Any, place: str) -> None:
        _MAPPING(value, place)
        for name, each in value.items():
            entry(each, f"{place}.{name}")

    return check


def _section(required: Mapping[str, Check], others: Mapping[str, Check]) -> Check:
    """Check a mapping with some required and other possible keys. It may have more, which a newer version wrote."""

    def check(value: Any, place: str) -> None:
        _MAPPING(value, place)
        inside = f"{place}." if place else ""
        for key, of_key in {**required, **others}.items():
            if key in value:
                of_key(value[key], inside + key)
            elif key in required:
                raise _WrongValue(f"{inside}{key} is missing")

    return check


def _is_time(value: Any) -> bool:
    with suppress(TypeError, ValueError):
        return bool(datetime.fromisoformat(value))
    return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_TEXT = _one(lambda value: isinstance(value, str), "a text")
_FLAG = _one(lambda value: isinstance(value, bool), "true or false")
_MAPPING = _one(lambda value: isinstance(value, dict), "a mapping")
_TIME = _one(_is_time, "a time")
_NUMBER = _one(_is_number, "a finite number")
_SHARE = _one(lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1")
_WHOLE = _one(lambda value: type(value) is int and 0 <= value < 2**63, "a whole number from 0 to 2^63 - 1")


def _objectives(value: Any, place: str) -> None:
    from winnow.spaces.schema.objectives import check_objectives  # the schema takes long to import

    is_stated = _one(
        lambda each: isinstance(each, str) or (isinstance(each, dict) and [*map(type, each.values())] == [str]),
        "the name of a figure, or its direction with its name",
    )
    _each(is_stated)(value, place)
    try:
        check_objectives(value)
    except ValueError as error:
        raise _WrongValue(f"{place}: {error}") from None


def _data(value: Any, place: str) -> None:
    _DATA(value, place)
    num_names = len(value["class_names"])
    for name, split in value["summary"]["splits"].items() if "summary" in value else ():
        if len(split["by_class"]) != num_names:
            raise _WrongValue(
                f"{place}.summary.splits.{name}.by_class has {len(split['by_class'])} numbers, but there are {num_names} class_names"
            )


_RETRAIN = _section({}, {"top": _or_none(_WHOLE), "seeds": _WHOLE})
_SETTINGS = _section(
    {},
    {  # those on which reports depend; `resume` checks all of them
        "objective": _one(lambda value: value in OBJECTIVES, f"one of {', '.join(OBJECTIVES)}"),
        "objectives": _or_none(_objectives),
        "direction": _one(lambda value: value in ("maximize", "minimize"), "maximize or minimize"),
        "sampler": _TEXT,
        "trials": _or_none(_WHOLE),
        **dict.fromkeys(("max_epochs", "grace_epochs", "repeats", "seed"), _WHOLE),
        "reduction_factor": _NUMBER,
        "rungs": _each(_WHOLE),
        "audit": _NUMBER,
        "time_budget_seconds": _or_none(_NUMBER),
        "retrain": _RETRAIN,
    },
)
_SPLIT = _section({"images": _WHOLE, "by_class": _each(_WHOLE)}, {"sizes": _or_none(_by_name(_WHOLE))})
_SUMMARY = _section(
    {
        "text": _each(_TEXT),
        "image_size": _each(_WHOLE, 2),
        "channels": _WHOLE,
        "splits": _by_name(_SPLIT),
    },
    {
        "traits": _by_name(_by_name(_WHOLE)),
        "repeated": _by_name(_WHOLE),
        "majority_share": _or_none(_SHARE),
    },
)
_DATA = _section(
    {
        "name": _TEXT,
        "fingerprint": _TEXT,
        "image_shape": _each(_WHOLE, 3),
        "class_names": _each(_TEXT),
        **dict.fromkeys(("num_classes", "num_train", "num_validation", "num_test"), _WHOLE),
    },
    {"notes": _each(_TEXT), "summary": _SUMMARY},
)
_AMENDMENT = _section(
    {"before": _section({}, {"settings": _MAPPING, "space": _MAPPING})},
    {"time": _TIME, "command": _or_none(_TEXT), "changes": _each(_TEXT)},
)
_EARLIER_RUN = _section(
    {
        "run": _TEXT,
        **dict.fromkeys(("data", "data_fingerprint", "machine", "winnow_version"), _or_none(_TEXT)),
        "family": _each(_TEXT),
        "trials_taken_over": _WHOLE,
    },
    {},
)
_DEVICES = _section(
    {"device": _TEXT, "threads": _WHOLE},
    {
        "ranks": _WHOLE,
        "gpus_per_trial": _or_none(_NUMBER),
        "kinds": _by_name(_section({"trials_per_gpu": _WHOLE}, {})),
    },
)
_SHORTAGE = _section(
    {**dict.fromkeys(("repeated", "not_built", "expected"), _WHOLE), "beyond": _by_name(_WHOLE), "every_config": _FLAG},
    {},
)
_STUDY = _section(
    # The space is checked where it is read (`winnow.spaces.space.Space.from_tree`).
    {"space": _MAPPING, "settings": _SETTINGS, "data": _data},
    {
        **dict.fromkeys(("name", "winnow_version", "data_dir", "search_ended"), _TEXT),
        **dict.fromkeys(("command", "git_revision", "storage"), _or_none(_TEXT)),
        "created": _TIME,
        "search_shortage": _SHORTAGE,
        "log": _each(_TEXT),
        "then_retrain": _FLAG,
        "devices": _DEVICES,
        "versions": _MAPPING,
        "hardware": _MAPPING,
        "own_code": _by_name(_TEXT),
        "retraining": _RETRAIN,
        "warm_start": _MAPPING,
        "earlier_runs": _each(_EARLIER_RUN),
        "earlier_tests": _section(
            {"trainings": _WHOLE, "first": _or_none(_TIME)}, {}
        ),  # only in the metadata of tables
        "amendments": _each(_AMENDMENT),
    },
)
"""Older versions wrote fewer keys, and newer ones may write more."""
