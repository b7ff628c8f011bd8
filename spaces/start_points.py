"""Known-good recipes in a space: brought under its protocol, and tried first or held against its winners."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from winnow.spaces.grammar.nodes import Fixed, Group, Node, draw
from winnow.spaces.grammar.parse import is_open
from winnow.spaces.stub_trials import KnownTrial

# How a training is measured rather than what is trained: here the space's word counts, so that results compare.
PROTOCOL_KEYS = ("epochs", "early_stopping", "weights", "precision")


def under_protocol(recipe: dict[str, Any], space: Group) -> dict[str, Any]:
    """The recipe on the data of the space, for its epochs; what the space leaves open stays the recipe's.

    `data.augment` is part of what is trained and stays the recipe's too.
    """
    adapted = {**copy.deepcopy(recipe), "data": _data_under_protocol(recipe.get("data"), space.children.get("data"))}
    _take_over(adapted, space, PROTOCOL_KEYS)
    return adapted


def _data_under_protocol(of_recipe: Any, of_space: Node | None) -> Any:
    of_recipe = {"name": of_recipe} if isinstance(of_recipe, str) else of_recipe or {}
    if isinstance(of_space, Fixed) and isinstance(of_space.value, str):
        of_space = Group(of_space.where, {"name": of_space})
    if not isinstance(of_space, Group) or not isinstance(of_recipe, dict):
        return of_recipe
    of_recipe = dict(of_recipe)
    keys = [key for key in dict.fromkeys([*of_space.children, *of_recipe]) if key != "augment"]
    _take_over(of_recipe, of_space, keys)
    return of_recipe


def _take_over(recipe: dict[str, Any], space: Group, keys: Iterable[str]) -> None:
    """What the space fixes, it fixes; what it does not mention has its default."""
    for key in keys:
        child = space.children.get(key)
        if child is None:
            recipe.pop(key, None)
        elif not is_open(child):
            recipe[key] = draw(child, KnownTrial({}))
