"""Translates pydantic's errors into messages with the key path, the given value, the allowed values and the nearest spelling."""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from winnow.spaces.grammar.parse import DOMAIN_KEYS, SECTIONS
from winnow.spaces.grammar.problems import KeyPath, Problem, nearest, show_list, show_value
from winnow.spaces.schema.own import OwnPart


def translate(error: ValidationError, config: Any, model: type[BaseModel]) -> list[Problem]:
    """Translate the errors of a config.

    Args:
        error: The error that pydantic raised.
        config: The config.
        model: The schema that rejected the config.

    Returns:
        The problems, one for each key.
    """
    by_place: dict[tuple[KeyPath, bool], list[str]] = {}
    for detail in error.errors(include_url=False):
        path = _real_path(detail, config)
        words = by_place.setdefault((path, detail["type"] == "value_error"), [])
        message = _message(detail, path, config, model)
        if message not in words:
            words.append(message)
    return [Problem(path, _merge(words, _value_at(config, path)), joint) for (path, joint), words in by_place.items()]


def _real_path(detail: Any, config: Any) -> KeyPath:
    """Return the location of an error without the parts that pydantic adds for the members of a union."""
    path: KeyPath = ()
    value = config
    location = detail["loc"]
    for position, part in enumerate(location):
        is_last = position == len(location) - 1
        is_item = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if is_item or (isinstance(value, dict) and part in value):
            value = value[part]
        elif not (is_last and detail["type"] == "missing"):
            continue
        path = (*path, part)
    if detail["type"] == "union_tag_invalid" and isinstance(value, dict):
        path = (*path, "name")
    return path


def _merge(messages: list[str], value: Any) -> str:
    """Join the errors of a union, one for each member: `must be a number above 0 or given, but got ...`."""
    needs = [message.removeprefix("must be ") for message in messages if message.startswith("must be ")]
    others = [message for message in messages if not message.startswith("must be ")]
    if others or not needs:
        return "; ".join(others)
    words = [word for need in needs for word in re.findall(r"[\w.]+", need)]
    wants_list = any(need.startswith("a list") for need in needs)
    hint = nearest(value, words) if isinstance(value, str) else "" if wants_list else _domain_hint(value)
    return f"must be {' or '.join(needs)}, but got {show_value(value)}{hint}"


def _domain_hint(value: Any) -> str:
    """Explain how a domain is written, after a list that looks like a range or a misspelt domain."""
    if isinstance(value, list):
        return f"; to search over it write {{choice: {show_value(value)}}}, or a range as {{float: [low, high]}}"
    if isinstance(value, dict):
        close = next((hint for key in value if (hint := nearest(key, DOMAIN_KEYS))), "")
        return f"; a domain is one of {show_list(DOMAIN_KEYS)}{close}"
    return ""


def _message(detail: Any, path: KeyPath, config: Any, model: type[BaseModel]) -> str:
    """Return a message; it starts with `must be` if it can be joined with the messages of other members of a union."""
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind in _NEEDS:
        return "must be " + _NEEDS[kind](context)
    if kind in _WHOLE:
        return _WHOLE[kind](detail, path, config, model)
    message = detail["msg"].removeprefix("Value error, ")
    return (
        message
        if kind == "value_error"
        else f"{message[:1].lower()}{message[1:]}, but got {show_value(detail['input'])}"
    )


_NEEDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "int_type": lambda context: "a whole number",
    "int_from_float": lambda context: "a whole number",
    "float_type": lambda context: "a number",
    "finite_number": lambda context: "a finite number",
    "bool_type": lambda context: "true or false",
    "string_type": lambda context: "text",
    "list_type": lambda context: "a list",
    "dict_type": lambda context: "a mapping",
    "model_type": lambda context: "a mapping",
    "model_attributes_type": lambda context: "a mapping",
    "none_required": lambda context: "null",
    "greater_than": lambda context: f"above {context['gt']:g}",
    "greater_than_equal": lambda context: f"at least {context['ge']:g}",
    "less_than": lambda context: f"below {context['lt']:g}",
    "less_than_equal": lambda context: f"at most {context['le']:g}",
    "too_short": lambda context: f"a list of at least {context['min_length']}",
    "too_long": lambda context: f"a list of at most {context['max_length']}",
    "literal_error": lambda context: _one_of(_quoted(context["expected"])),
    "string_pattern_mismatch": lambda context: "package.module:function",
}


def _one_of(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"one of {show_list(words)}"


def _quoted(text: str) -> list[str]:
    """Return the words in a text of pydantic such as `'a', 'b' or 'c'`."""
    return [quoted or bare for quoted, bare in re.findall(r"'([^']*)'|(\d[\d.]*)", text)]


def _unknown_key(detail: Any, path: KeyPath, config: Any, model: type[BaseModel]) -> str:
    owner = model_at(model, config, path[:-1])
    known = [*owner.model_fields] if owner else []
    if len(path) == 1 and "epochs" in known:  # the top of a space
        known += SECTIONS
    return f"unknown key {path[-1]!r}; allowed: {show_list(known)}{nearest(path[-1], known)}"


def _missing_key(detail: Any, path: KeyPath, config: Any, model: type[BaseModel]) -> str:
    return "is missing but required"


def _unknown_name(detail: Any, path: KeyPath, config: Any, model: type[BaseModel]) -> str:
    tags = [tag for tag in _quoted(detail["ctx"]["expected_tags"]) if tag != "custom"]
    shown = [*tags, "package.module:function"] if _takes_own(path, config, model) else tags
    name = detail["ctx"]["tag"]
    return f"unknown name {name!r}; allowed: {show_list(shown)}{nearest(name, tags)}"


def _takes_own(path: KeyPath, config: Any, model: type[BaseModel]) -> bool:
    """Return whether an import path is allowed in place of a rejected name: at `key`, at `key.name`, or in an item of the list `key`."""
    path = path[:-1] if path[-1] == "name" else path
    path = path[:-1] if isinstance(path[-1], int) else path
    owner = model_at(model, config, path[:-1])
    field = owner.model_fields.get(str(path[-1])) if owner else None
    return field is not None and any(issubclass(each, OwnPart) for each in models_in(field.annotation))


def _no_name(detail: Any, path: KeyPath, config: Any, model: type[BaseModel]) -> str:
    value = _value_at(config, path)
    if not isinstance(value, dict):
        return f"must be a mapping with a `name`, but got {show_value(value)}"
    hint = "; a choice of sub-spaces is written {choice: {" + f"{next(iter(value), 'a')}: {{...}}" + "}}"
    return f"needs a `name`, but got {show_value(value)}{hint}"


_WHOLE: dict[str, Callable[[Any, KeyPath, Any, type[BaseModel]], str]] = {
    "extra_forbidden": _unknown_key,
    "missing": _missing_key,
    "union_tag_invalid": _unknown_name,
    "union_tag_not_found": _no_name,
}


# --- the schema at a place -------------------------------------------------------------------------------------------


def model_at(model: type[BaseModel], config: Any, path: KeyPath) -> type[BaseModel] | None:
    """Find the part of the schema for the mapping at a key path of a config.

    Args:
        model: The schema of the config.
        config: The config.
        path: Key path of the mapping.

    Returns:
        The part of the schema; None if there is none.
    """
    if not path:
        return model
    field = model.model_fields.get(str(path[0]))
    value = _value_at(config, path[:1])
    rest = path[1:]
    if field is None:
        return None
    while rest and isinstance(value, list):
        value, rest = _value_at(value, rest[:1]), rest[1:]
    inner = _responsible(models_in(field.annotation), value)
    return model_at(inner, value, rest) if inner else None


def _responsible(candidates: list[type[BaseModel]], value: Any) -> type[BaseModel] | None:
    name = value.get("name") if isinstance(value, dict) else None
    for candidate in candidates:
        names = names_of(candidate)
        if not names or name in names:
            return candidate
    return None


def names_of(model: type[BaseModel]) -> tuple[Any, ...]:
    """Return the allowed values of `name`; empty if a model has no fixed name."""
    field = model.model_fields.get("name")
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """List all models in the type of a field, inside unions, lists and annotations."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, list, Union, types.UnionType):
        return [model for inner in get_args(annotation) for model in models_in(inner)]
    return []


def _value_at(config: Any, path: KeyPath) -> Any:
    value = config
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value
