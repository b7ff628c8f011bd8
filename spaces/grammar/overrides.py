"""Applies `--set path=value`, which changes any part of a space; a value may be a domain."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from winnow.spaces.errors import SpaceError
from winnow.spaces.grammar import yaml12
from winnow.spaces.grammar.parse import DOMAIN_KEYS
from winnow.spaces.grammar.problems import KeyPath, nearest, show_list, show_path, show_value

Place = tuple[KeyPath, str]
"""A key path of the file, and the override that changed it."""


def apply(tree: dict[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], tuple[Place, ...]]:
    """Apply overrides to a copy of a tree.

    A path is one of the config (`optimizer.lr`, which is set in every sub-space that has it) or of the space
    (`optimizer.sgd.lr`, which is set only there). `optimizer.name=sgd` narrows a choice of sub-spaces.

    Args:
        tree: The content of a space file.
        overrides: Overrides, as `path=value`.

    Returns:
        The changed tree, and what each override changed.

    Raises:
        SpaceError: A path names no key of the space.
    """
    changed: Any = copy.deepcopy(tree)
    places: list[Place] = []
    for text in overrides:
        path, equals, value_text = text.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise SpaceError(f"--set {text}: must be path=value, such as optimizer.lr=0.01")
        value = yaml12.load(value_text.strip() or "null", f"--set {text}", is_file=False).tree
        changed = _Setter(text, value, places).put(changed, keys, ())
    return changed, tuple(places)


class _Setter:
    def __init__(self, text: str, new: Any, places: list[Place]) -> None:
        self.text = text
        self.new = new
        self.places = places

    def put(self, value: Any, keys: list[str], where: KeyPath) -> Any:
        """Return `value`, which is at the path `where`, with the new value at `keys` below it."""
        if not keys:
            self.places.append((where, self.text))
            return copy.deepcopy(self.new)
        if isinstance(value, dict):
            kind = next((key for key in value if key in DOMAIN_KEYS), None)
            if kind is not None:
                return self.put_in_domain(kind, value, keys, where)
            return {**value, keys[0]: self.put(value.get(keys[0]), keys[1:], (*where, keys[0]))}
        if isinstance(value, list):
            return self.put_in_list(value, keys, where)
        if value is None:
            return self.put({}, keys, where)
        if isinstance(value, str) and len(where) == 1:  # `schedule: cosine` is short for {name: cosine}
            return self.put({"name": value}, keys, where)
        raise self.error(where, f"is {show_value(value)} and has no key {keys[0]!r}")

    def put_in_list(self, value: list[Any], keys: list[str], where: KeyPath) -> list[Any]:
        if not keys[0].isdigit() or int(keys[0]) >= len(value):
            raise self.error(where, f"is a list; its items are 0 to {len(value) - 1}, but got {keys[0]!r}")
        index = int(keys[0])
        return [*value[:index], self.put(value[index], keys[1:], (*where, index)), *value[index + 1 :]]

    def put_in_domain(self, kind: str, value: dict[str, Any], keys: list[str], where: KeyPath) -> Any:
        if kind == "repeat":
            if keys[0].isdigit():
                raise self.error(
                    where, f"is a repeat; leave the number {keys[0]} out to set all of them, or set the whole list"
                )
            return {**value, "of": self.put(value.get("of"), keys, (*where, "of"))}
        if kind == "choice" and isinstance(value["choice"], dict):
            return {**value, "choice": self.put_in_branches(value["choice"], keys, (*where, "choice"))}
        raise self.error(where, f"is {show_value(value)}; set all of it")

    def put_in_branches(self, branches: dict[str, Any], keys: list[str], where: KeyPath) -> dict[str, Any]:
        if keys == ["name"]:
            return self.narrow(branches, where)
        if keys[0] in branches:
            return {**branches, keys[0]: self.put(branches[keys[0]], keys[1:], (*where, keys[0]))}
        stating = [name for name, branch in branches.items() if isinstance(branch, dict) and keys[0] in branch]
        return {
            name: self.put(branch, keys, (*where, name)) if name in (stating or branches) else branch
            for name, branch in branches.items()
        }

    def narrow(self, branches: dict[str, Any], where: KeyPath) -> dict[str, Any]:
        """Return only the named sub-spaces."""
        of_choice = self.new.get("choice") if isinstance(self.new, dict) and len(self.new) == 1 else None
        names = of_choice if isinstance(of_choice, list) else [self.new]
        for name in names:
            if not isinstance(name, str) or name not in branches:
                hint = nearest(name, branches)
                raise self.error(where, f"has no sub-space {show_value(name)}; there are: {show_list(branches)}{hint}")
        return {name: branches[name] for name in names}

    def error(self, where: KeyPath, message: str) -> SpaceError:
        return SpaceError(f"--set {self.text}: {show_path(where)}: {message}")
