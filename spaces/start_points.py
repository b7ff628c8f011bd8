"""Adapts known good recipes to the protocol of a space, which tries them first or compares its winners with them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from winnow.spaces.grammar.domains import Choice
from winnow.spaces.grammar.nodes import Branches, Fixed, Group, Node, Open, draw
from winnow.spaces.grammar.parse import is_open
from winnow.spaces.stub_trials import KnownTrial
from winnow.spaces.views import VIEWS

# Keys that define how a training is measured rather than what is trained. The space sets them, so that results can be compared.
PROTOCOL_KEYS = (
    *("epochs", "stop_after", "early_stopping", "weights", *VIEWS, "own_metric", "precision", "cuda_graphs"),
)


def under_protocol(recipe: dict[str, Any], space: Group) -> dict[str, Any]:
    """Return a recipe with the data, the epochs and the other protocol keys of a space.

    Keys that the space leaves open keep the recipe's value. So does `data.augment`, which is part of what is trained. What retraining
    adds to a winner's config in place of its validation images, the epoch after which it ends and the reductions of a plateau
    schedule, is left out unless the space mentions it.

    Args:
        recipe: A complete config.
        space: The root of the space.
    """
    adapted = {**copy.deepcopy(recipe), "data": _data_under_protocol(recipe.get("data"), space.children.get("data"))}
    _take_over(adapted, space, PROTOCOL_KEYS)
    if isinstance(adapted.get("schedule"), dict):
        adapted["schedule"] = _without_reductions(adapted["schedule"], space)
    return adapted


def without_decisions(config: dict[str, Any], space: Group) -> dict[str, Any]:
    """Return a config without what retraining sets in place of validation images: the last epoch, and the reductions of a plateau schedule.

    Args:
        config: A complete config.
        space: The root of the space. What it mentions is kept; a last epoch that it fixes has the value of the space.
    """
    config = {**config, "schedule": _without_reductions(config["schedule"], space)}
    _take_over(config, space, ["stop_after"])
    return config


def _without_reductions(schedule: dict[str, Any], space: Group) -> dict[str, Any]:
    if "schedule" in space.children and _mentions(space.children["schedule"], "reductions"):
        return schedule
    return {key: value for key, value in schedule.items() if key != "reductions"}


def _mentions(node: Node, key: str) -> bool:
    """Return whether a node, or any of its options, has a key."""
    match node:
        case Group():
            return key in node.children
        case Branches():
            return any(key in option.children for option in node.options.values())
        case Open(domain=Choice() as domain):
            return any(isinstance(option, dict) and key in option for option in domain.options)
        case _:
            return False


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
    """Set each key to the value that the space fixes, and drop keys that the space does not mention, so that they have their defaults."""
    for key in keys:
        child = space.children.get(key)
        if child is None:
            recipe.pop(key, None)
        elif not is_open(child):
            recipe[key] = draw(child, KnownTrial({}))
