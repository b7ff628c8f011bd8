"""Converts a config back to the parameters of a study, which is the inverse of drawing it."""

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
    """Find the study parameters that draw the same training as a config.

    Args:
        root: The nodes of the space.
        config: A raw or complete config.

    Returns:
        The parameters by study name.

    Raises:
        SpaceError: The config is outside the space; the message names the first key path.
    """
    complete = complete_config(config)
    parameters: dict[str, Stored] = {}
    _read(root, complete, (), "", parameters, complete)
    try:
        drawn = complete_config(draw(root, KnownTrial(parameters)))
    except KeyError as error:
        raise SpaceError(f"{error.args[0]}: the space has a parameter here, but the config has no value") from None
    difference = first_difference(drawn, complete)
    if difference is not None:
        path, of_space, of_config = difference
        raise SpaceError(
            f"{show_path(path)}: the space has {show_value(of_space)} here, but the config has {show_value(of_config)}"
        )
    return parameters


def localized(config: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    """Return a config with the location of the data in a space. Runs move between machines, and fingerprints identify the data.

    Args:
        config: A complete config.
        tree: The tree of the space.
    """
    data = tree["data"]
    data = {"name": data} if isinstance(data, str) else data
    return {**config, "data": {**config["data"], "name": data["name"], "path": data.get("path")}}


def complete_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config with all defaults filled in, so that two spellings of one training are equal."""
    from winnow.spaces.schema import Config

    return Config.model_validate(config).model_dump(mode="json")


def first_difference(left: Any, right: Any, path: KeyPath = ()) -> tuple[KeyPath, Any, Any] | None:
    """Find the first key path at which two plain values differ.

    Args:
        left: A plain value.
        right: Another plain value.
        path: Key path of both values. Default: the root.

    Returns:
        The key path and both values there; None if the values are equal.
    """
    keys: Iterable[Any]
    if isinstance(left, dict) and isinstance(right, dict) and left.get("name") == right.get("name"):
        keys = dict.fromkeys([*left, *right])
        left, right = defaultdict(lambda: None, left), defaultdict(lambda: None, right)
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        keys = range(len(left))
    else:
        return None if same(left, right) else (path, left, right)
    differences = (first_difference(left[key], right[key], (*path, key)) for key in keys)
    return next(filter(None, differences), None)


def _read(
    node: Node, value: Any, path: KeyPath, study_name: str, parameters: dict[str, Stored], complete: dict[str, Any]
) -> None:
    match node:
        case Open():
            parameters[study_name] = encode_value(node.domain, value, path, complete)
        case Group() if isinstance(value, dict):
            for key, child in node.children.items():
                stated = value[key] if key in value else _default_of(complete, (*path, key))
                _read(child, stated, (*path, key), join(study_name, key), parameters, complete)
        case Series(items=items) if isinstance(value, list) and len(value) == len(items):
            for index, (item, of_item) in enumerate(zip(items, value, strict=True)):
                _read(item, of_item, (*path, index), join(study_name, index), parameters, complete)
        case Branches():
            name = value.get("name") if isinstance(value, dict) else None
            if name not in node.options:
                hint = nearest(name, node.options)
                raise SpaceError(
                    f"{show_path((*path, 'name'))}: {show_value(name)} is outside the space; allowed: {show_list(node.options)}{hint}"
                )
            parameters[study_name] = name
            _read(node.options[name], value, path, join(study_name, name), parameters, complete)
        case Repeat() if isinstance(value, list):
            for index, item in enumerate(value):
                _read(node.of, item, (*path, index), join(study_name, index), parameters, complete)


def _default_of(config: dict[str, Any], path: KeyPath) -> Any:
    """Return the default of a key that a config leaves out; None if it has none."""
    from winnow.spaces.schema import Config
    from winnow.spaces.schema.messages import model_at

    owner = model_at(Config, config, path[:-1])
    field = owner.model_fields.get(str(path[-1])) if owner else None
    return None if field is None or field.is_required() else field.default


def encode_value(domain: Domain, value: Any, path: KeyPath, complete: dict[str, Any]) -> Stored:
    """Return a value of a config as the study stores it.

    Args:
        domain: The values that the parameter may have.
        value: The value in the config.
        path: Key path of the value, for messages and to fill in the defaults of an option.
        complete: The complete config, which has the value at this path.

    Raises:
        SpaceError: The domain does not contain the value.
    """
    if domain.contains(value):
        return domain.encode(value)
    if isinstance(domain, Choice):
        for option in domain.options:
            if same(_completed_option(option, path, complete), value):
                return domain.encode(option)
    raise SpaceError(f"{show_path(path)}: {show_value(value)} is outside {show_value(domain.to_tree())}")


def _completed_option(option: Any, path: KeyPath, complete: dict[str, Any]) -> Any:
    """Return an option as it is in the complete config, such as the list of steps with their defaults for `flip`."""
    try:
        return value_at(complete_config(with_value(complete, path, option)), path)
    except ValidationError:  # does not fit the rest of this config, so it is not the option of this config
        return None


def with_value(config: dict[str, Any], path: KeyPath, value: Any) -> dict[str, Any]:
    """Return a copy of a config with another value at a key path.

    Args:
        config: The config, which is not changed itself.
        path: The key path, which must exist.
        value: The new value.
    """
    changed = copy.deepcopy(config)
    value_at(changed, path[:-1])[path[-1]] = value
    return changed


def value_at(config: Any, path: KeyPath) -> Any:
    """Return the value at a key path, which must exist.

    Args:
        config: A config, or a part of it.
        path: The key path.
    """
    for part in path:
        config = config[part]
    return config
