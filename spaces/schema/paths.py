"""The paths of all keys of a config, such as `optimizer.lr`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from winnow.spaces.schema.config import Config


@cache
def config_paths() -> tuple[str, ...]:
    """The paths of all keys outside of lists, in the order of the schema; each once, though several branches may have it."""
    return tuple(dict.fromkeys(_paths(Config, "")))


def _paths(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        for section in _models_in(field.annotation):
            yield from _paths(section, f"{prefix}{name}.")


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models of a union; those of a list are left out, since `--set` does not reach into lists by name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif getattr(annotation, "__origin__", None) is not list:
        for argument in get_args(annotation):
            yield from _models_in(argument)
