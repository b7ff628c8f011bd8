"""Lists the paths of all keys of a config, such as `optimizer.lr`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from winnow.spaces.schema.config import Config


@cache
def config_paths() -> tuple[str, ...]:
    """Return the paths of all keys outside of lists, in the order of the schema. Each path appears once, even if it is in several branches."""
    return tuple(dict.fromkeys(_paths(Config, "")))


def _paths(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        for section in _models_in(field.annotation):
            yield from _paths(section, f"{prefix}{name}.")


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models of a union. Those of a list are left out, since `--set` cannot address list items by name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif getattr(annotation, "__origin__", None) is not list:
        for argument in get_args(annotation):
            yield from _models_in(argument)
