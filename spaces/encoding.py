"""From a config back to the parameters of a study: the inverse of drawing it."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from winnow.spaces.errors import SpaceError
from winnow.spaces.grammar.domains import Choice, Domain, Stored, same
from winnow.spaces.grammar.nodes import Branches, Group, Node, Open, Repeat, Series, draw, join
from winnow.spaces.grammar.problems import KeyPath, nearest, show_list, show_path, show_value
from winnow.spaces.stub_trials import KnownTrial


def encode(root: Group, config: dict[str, Any]) -> dict[str, Stored]:
    """Study parameters that draw the same training as `config`, which may be raw or complete.

    Raises SpaceError with the first key path at which the config is outside the space.
    """
    complete = complete_config(config)
    found: dict[str, Stored] = {}
    _read(root, complete, (), "", found, complete)
    try:
        drawn = complete_config(draw(root, KnownTrial(found)))
    except KeyError as error:
        raise SpaceError(f"{error.args[0]}: the space has a parameter there, but the config has nothing") from None
    difference = first_difference(drawn, complete)
    if difference is not None:
        path, of_space, of_config = difference
        raise SpaceError(
            f"{show_path(path)}: the space has {show_value(of_space)} there, but the config {show_value(of_config)}"
        )
    return found


def localized(config: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    """A config with the place of the data as a space's tree has it: runs move between machines, fingerprints tell data apart."""
    here = tree["data"]
    here = {"name": here} if isinstance(here, str) else here
    return {**config, "data": {**config["data"], "name": here["name"], "path": here.get("path")}}


def complete_config(config: dict[str, Any]) -> dict[str, Any]:
    """With all defaults filled in, so that two spellings of one training are equal."""
    from winnow.spaces.schema import Config

    return Config.model_validate(config).model_dump(mode="json")


def first_difference(left: Any, right: Any, path: KeyPath = ()) -> tuple[KeyPath, Any, Any] | None:
    """The first key path at which two plain values differ, with both values there."""
    keys: Iterable[Any]
    if isinstance(left, dict) and isinstance(right, dict) and left.get("name") == right.get("name"):
        keys = dict.fromkeys([*left, *right])
        left, right = defaultdict(lambda: None, left), defaultdict(lambda: None, right)
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        keys = range(len(left))
    else:
        return None if same(left, right) else (path, left, right)
    return next((found for key in keys if (found := first_difference(left[key], right[key], (*path, key)))), None)


def _read(
    node: Node, value: Any, path: KeyPath, study_name: str, found: dict[str, Stored], complete: dict[str, Any]
) -> None:
    match node:
        case Open():
            found[study_name] = _encode_value(node.domain, value, path, complete)
        case Group() if isinstance(value, dict):
            for key, child in node.children.items():
                _read(child, value.get(key), (*path, key), join(study_name, key), found, complete)
        case Series(items=items) if isinstance(value, list) and len(value) == len(items):
            for index, (item, of_item) in enumerate(zip(items, value, strict=True)):
                _read(item, of_item, (*path, index), join(study_name, index), found, complete)
        case Branches():
            name = value.get("name") if isinstance(value, dict) else None
            if name not in node.options:
                hint = nearest(name, node.options)
                raise SpaceError(
                    f"{show_path((*path, 'name'))}: {show_value(name)} is outside the space; allowed: {show_list(node.options)}{hint}"
                )
            found[study_name] = name
            _read(node.options[name], value, path, join(study_name, name), found, complete)
        case Repeat() if isinstance(value, list):
            for index, item in enumerate(value):
                _read(node.of, item, (*path, index), join(study_name, index), found, complete)


def _encode_value(domain: Domain, value: Any, path: KeyPath, complete: dict[str, Any]) -> Stored:
    if domain.contains(value):
        return domain.encode(value)
    if isinstance(domain, Choice):
        for option in domain.options:
            if same(_completed_option(option, path, complete), value):
                return domain.encode(option)
    raise SpaceError(f"{show_path(path)}: {show_value(value)} is outside {show_value(domain.to_tree())}")


def _completed_option(option: Any, path: KeyPath, complete: dict[str, Any]) -> Any:
    """An option as the complete config would show it: `flip` as the list of its steps with their defaults."""
    try:
        return value_at(complete_config(with_value(complete, path, option)), path)
    except ValidationError:  # does not go with the rest of this config, so it is not what this config has
        return None


def with_value(config: dict[str, Any], path: KeyPath, value: Any) -> dict[str, Any]:
    """A copy in which `path`, which exists, holds `value`."""
    changed = copy.deepcopy(config)
    value_at(changed, path[:-1])[path[-1]] = value
    return changed


def value_at(config: Any, path: KeyPath) -> Any:
    for part in path:
        config = config[part]
    return config
