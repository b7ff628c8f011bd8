"""Computes the points of a finite space by their index, without listing them."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

from winnow.spaces.errors import SpaceError
from winnow.spaces.grammar.domains import Choice, Domain, Float, Int, Log, Stored
from winnow.spaces.grammar.nodes import Branches, Fixed, Group, Node, Open, Repeat, Series, counts_of, join, size
from winnow.spaces.grammar.problems import show_value
from winnow.spaces.space import Space

MAX_POINTS = 1_000_000  # the seeded order of all points is kept in memory


def check_grid(space: Space) -> None:
    """Raise SpaceError if a space cannot be searched as a grid: a range without a step, or too many points."""
    for parameter in space.parameters():
        domain = parameter.domain
        if domain.size() == float("inf"):
            raise SpaceError(
                f"{parameter.study_name}: --sampler grid needs a finite number of values, but {show_value(domain.to_tree())} "
                f"is continuous; give it a step, such as {show_value(_stepped(domain))}, or a choice"
            )
    if space.size() > MAX_POINTS:
        raise SpaceError(
            f"{space.source}: --sampler grid takes at most {MAX_POINTS:,} points, but the space has {int(space.size()):,}; "
            "fix some parameters (--set), give larger steps, or use --sampler qmc"
        )


def point(root: Group, index: int) -> dict[str, Stored]:
    """Return the study parameters of a point. The last parameter varies fastest.

    Args:
        root: The root of the space.
        index: Index of the point, in [0, size).
    """
    parameters: dict[str, Stored] = {}
    _find(root, index, "", parameters)
    return parameters


def _stepped(domain: Domain) -> dict[str, Any]:
    """Return the same range with a step that gives a few values, for an error message."""
    low, high = domain.ends()
    if isinstance(domain, Log):
        decades = float(f"{math.log10(high / low):.6g}")
        return {"log": [low, high], "step": 10 if decades.is_integer() else float(f"{high / low:.12g}")}
    return {"float": [low, high], "step": float(f"{(high - low) / 4:.4g}")}


def _find(node: Node, index: int, name: str, parameters: dict[str, Stored]) -> None:
    match node:
        case Fixed():
            pass
        case Open(domain=domain):
            parameters[name] = _values(domain)[index]
        case Series(items=items):
            _find_all([(item, join(name, i)) for i, item in enumerate(items)], index, parameters)
        case Branches(options=options):
            for option, child in options.items():
                of_option = int(size(child))
                if index < of_option:
                    parameters[name] = option
                    _find(child, index, join(name, option), parameters)
                    return
                index -= of_option
        case Repeat(count=int(count), of=of):
            _find_all([(of, join(name, i)) for i in range(count)], index, parameters)
        case Group():
            _find_in_group(node, index, name, parameters)


def _find_in_group(group: Group, index: int, name: str, parameters: dict[str, Stored]) -> None:
    """Search the combinations of counts one by one, because the lengths of the repeats depend on them."""
    counters = sorted(
        {child.count for child in group.children.values() if isinstance(child, Repeat) and isinstance(child.count, str)}
    )
    for values in product(*(counts_of(group.children[key]) for key in counters)):
        counts = dict(zip(counters, values, strict=True))
        parts = _parts(group, counts, name)
        num_points = _product(parts)
        if index < num_points:
            for key, count in counts.items():
                if isinstance(group.children[key], Open):
                    parameters[join(name, key)] = count
            _find_all(parts, index, parameters)
            return
        index -= num_points


def _parts(group: Group, counts: dict[str, int], name: str) -> list[tuple[Node, str]]:
    """Return the children with their study names. Repeats are unrolled to their counts, and counters are left out."""
    parts: list[tuple[Node, str]] = []
    for key, child in group.children.items():
        if isinstance(child, Repeat) and isinstance(child.count, str):
            parts += [(child.of, join(join(name, key), i)) for i in range(counts[child.count])]
        elif key not in counts:
            parts.append((child, join(name, key)))
    return parts


def _find_all(parts: list[tuple[Node, str]], index: int, parameters: dict[str, Stored]) -> None:
    remaining = _product(parts)
    for node, name in parts:
        remaining //= int(size(node))
        _find(node, index // remaining, name, parameters)
        index %= remaining


def _product(parts: list[tuple[Node, str]]) -> int:
    total = 1
    for node, _ in parts:
        total *= int(size(node))
    return total


def _values(domain: Domain) -> list[Stored]:
    """Return the values of a domain as the study stores them."""
    if isinstance(domain, Choice):
        return domain.stored
    if isinstance(domain, Int):
        return list(range(domain.low, domain.high + 1, domain.step))
    if isinstance(domain, Log):
        return domain.grid or list(range(int(domain.low), int(domain.high) + 1))
    assert isinstance(domain, Float)
    assert domain.step is not None
    return [min(domain.low + k * domain.step, domain.high) for k in range(int(domain.size()))]
