"""Finds the values of a space's parameters in a config of another space."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from winnow.spaces.encoding import complete_config, encode_value, value_at
from winnow.spaces.errors import SpaceError
from winnow.spaces.grammar.domains import Stored
from winnow.spaces.grammar.nodes import AtLeast, Parameter
from winnow.spaces.grammar.problems import KeyPath
from winnow.spaces.space import Space


def known_parts(space: Space, configs: Iterable[dict[str, Any]]) -> list[dict[str, Stored | None]]:
    """Find the values of a space's parameters in configs of another space.

    Args:
        space: The space.
        configs: Complete configs, which an older version may have written.

    Returns:
        For each config, the value of each parameter that has the same key under the same options there, by study name; None if the
        space does not contain this value.
    """
    example = space.example().model_dump(mode="json")
    return [_known_part(space, example, config) for config in configs]


def _known_part(space: Space, example: dict[str, Any], config: dict[str, Any]) -> dict[str, Stored | None]:
    try:
        complete = complete_config(config)
    except ValidationError:
        complete = config
    paths = {parameter.path for parameter in space.parameters()}
    known: dict[str, Stored | None] = {}
    for parameter in space.parameters():
        path: KeyPath = tuple(int(part) if part.isdigit() else part for part in parameter.path.split("."))
        if not _conditions_hold(parameter, known) or not _same_options(path, complete, example, paths):
            continue
        try:
            value = value_at(complete, path)
        except (KeyError, IndexError, TypeError):
            continue
        try:
            known[parameter.study_name] = encode_value(parameter.domain, value, path, complete)
        except (SpaceError, ValidationError):
            known[parameter.study_name] = None
    return known


def _conditions_hold(parameter: Parameter, known: dict[str, Stored | None]) -> bool:
    for name, condition in parameter.conditions:
        value = known.get(name)
        if value is None:
            return False
        is_met = int(value) >= condition.count if isinstance(condition, AtLeast) else value == condition
        if not is_met:
            return False
    return True


def _same_options(path: KeyPath, config: dict[str, Any], example: dict[str, Any], paths: set[str]) -> bool:
    """Return whether the mappings around a key have the same fixed `name`; otherwise the key has a different meaning.

    The name of the data is ignored.
    """
    for length in range(1, len(path)):
        prefix = path[:length]
        if prefix == ("data",) or ".".join(map(str, (*prefix, "name"))) in paths:
            continue
        names = [_name_at(tree, prefix) for tree in (config, example)]
        if names[0] != names[1]:
            return False
    return True


def _name_at(config: dict[str, Any], path: KeyPath) -> Any:
    try:
        return value_at(config, path).get("name")
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
