"""Defines a parsed space, a tree of six kinds of node, and computes values, parameters and sizes from it."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from itertools import product
from typing import Any

from winnow.spaces.grammar.domains import ArrowKind, Choice, Domain, Int, Log, SuggestsValues
from winnow.spaces.grammar.problems import KeyPath


@dataclass(frozen=True)
class Fixed:
    """A value that is not searched."""

    where: KeyPath
    value: Any


@dataclass(frozen=True)
class Open:
    """A parameter: its value comes from a domain."""

    where: KeyPath
    domain: Domain


@dataclass(frozen=True)
class Group:
    """A mapping. Keys that count a repeat come before the repeat."""

    where: KeyPath
    children: dict[str, Node]


@dataclass(frozen=True)
class Series:
    """A list in which at least one value is open."""

    where: KeyPath
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Branches:
    """A choice of named sub-spaces; the chosen name becomes `name`."""

    where: KeyPath
    options: dict[str, Group]

    @property
    def domain(self) -> Choice:
        """The choice of a name."""
        return Choice(tuple(self.options))


@dataclass(frozen=True)
class Repeat:
    """A list of `count` items `of`. `count` is a number, or the sibling key that contains it."""

    where: KeyPath
    count: int | str
    of: Node


Node = Fixed | Open | Group | Series | Branches | Repeat


@dataclass(frozen=True)
class AtLeast:
    """A condition: the parameter must be at least `count`."""

    count: int

    def __str__(self) -> str:
        return f">= {self.count}"


@dataclass(frozen=True)
class Parameter:
    """An open value, with its path in the config, its name in the study, its domain, and the conditions under which it exists."""

    path: str
    study_name: str
    domain: Domain
    conditions: tuple[tuple[str, Any], ...] = ()


# --- drawing a value ------------------------------------------------------------------------------------------


def draw(node: Node, trial: SuggestsValues, study_name: str = "", siblings: dict[str, Any] | None = None) -> Any:
    """Draw a plain value from a trial, parameter by parameter in the order of the tree.

    Args:
        node: The node to draw a value for.
        trial: The trial that suggests the values of the parameters.
        study_name: Prefix of the parameters' names in the study. Default: none.
        siblings: Values drawn so far for the mapping around a repeat, which may contain its count.

    Returns:
        The plain value.
    """
    match node:
        case Fixed():
            return copy.deepcopy(node.value)
        case Open():
            return node.domain.suggest(trial, study_name)
        case Group():
            values: dict[str, Any] = {}
            for key, child in node.children.items():
                values[key] = draw(child, trial, join(study_name, key), values)
            return values
        case Series():
            return [draw(item, trial, join(study_name, index)) for index, item in enumerate(node.items)]
        case Branches():
            name = trial.suggest_categorical(study_name, list(node.options))
            return {"name": name, **draw(node.options[name], trial, join(study_name, name))}
        case Repeat():
            count = node.count if isinstance(node.count, int) else (siblings or {})[node.count]
            return [draw(node.of, trial, join(study_name, index)) for index in range(count)]


def join(name: str, part: str | int) -> str:
    """Append a part to a dotted name.

    Args:
        name: The dotted name; may be empty.
        part: Key or index to append.
    """
    return f"{name}.{part}" if name else str(part)


# --- its parameters -------------------------------------------------------------------------------------------------


def parameters(root: Group) -> list[Parameter]:
    """List all parameters in the order in which they are drawn; repeats are unrolled to the largest count."""
    collected: list[Parameter] = []
    _collect(root, "", "", (), {}, collected)
    return collected


def _collect(
    node: Node,
    path: str,
    study_name: str,
    conditions: tuple[tuple[str, Any], ...],
    siblings: dict[str, tuple[str, Node]],
    collected: list[Parameter],
) -> None:
    match node:
        case Open():
            collected.append(Parameter(path, study_name, node.domain, conditions))
        case Group():
            inner = {key: (join(study_name, key), child) for key, child in node.children.items()}
            for key, child in node.children.items():
                _collect(child, join(path, key), join(study_name, key), conditions, inner, collected)
        case Series():
            for index, item in enumerate(node.items):
                _collect(item, join(path, index), join(study_name, index), conditions, {}, collected)
        case Branches():
            collected.append(Parameter(join(path, "name"), study_name, node.domain, conditions))
            for name, option in node.options.items():
                chosen = (*conditions, (study_name, name))
                _collect(option, path, join(study_name, name), chosen, {}, collected)
        case Repeat():
            counts, counter = _repeat_counts(node, siblings)
            for index in range(max(counts)):
                more = () if counter is None or index < min(counts) else ((counter, AtLeast(index + 1)),)
                _collect(node.of, join(path, index), join(study_name, index), (*conditions, *more), {}, collected)


def _repeat_counts(node: Repeat, siblings: dict[str, tuple[str, Node]]) -> tuple[list[int], str | None]:
    """Return the possible counts, and the study name of the parameter that decides; the name is None if the count is fixed."""
    if isinstance(node.count, int):
        return [node.count], None
    study_name, counter = siblings[node.count]
    return counts_of(counter), None if isinstance(counter, Fixed) else study_name


def counts_of(node: Node) -> list[int]:
    """Return the integers that a node can become; empty if it can become anything else."""
    match node:
        case Fixed(value=value):
            values = [value]
        case Open(domain=Int() as domain):
            values = list(range(domain.low, domain.high + 1, domain.step))
        case Open(domain=Choice() | Log() as domain):
            values = list(domain.options) if isinstance(domain, Choice) else domain.grid
        case _:
            values = []
    return values if all(isinstance(value, int) and not isinstance(value, bool) for value in values) else []


def columns(of_space: list[Parameter]) -> dict[str, ArrowKind]:
    """Return the column type of each config path, over all branches."""
    kinds: dict[str, set[ArrowKind]] = {}
    for parameter in of_space:
        kinds.setdefault(parameter.path, set()).add(parameter.domain.arrow_kind)
    return {path: _merge_kinds(of_path) for path, of_path in kinds.items()}


def _merge_kinds(kinds: set[ArrowKind]) -> ArrowKind:
    if len(kinds) == 1:
        return next(iter(kinds))
    return "float" if kinds == {"int", "float"} else "string"


# --- its size -------------------------------------------------------------------------------------------------------


def size(node: Node) -> int | float:
    """Return the number of different values of a node; infinity if a range is continuous."""
    match node:
        case Fixed():
            return 1
        case Open():
            return node.domain.size()
        case Group():
            return _group_size(node)
        case Series():
            return math.prod(size(item) for item in node.items)
        case Branches():
            return sum(size(option) for option in node.options.values())
        case Repeat():
            return _power(size(node.of), node.count) if isinstance(node.count, int) else 1


def _group_size(group: Group) -> int | float:
    repeats = [child for child in group.children.values() if isinstance(child, Repeat) and isinstance(child.count, str)]
    counters = sorted({str(repeat.count) for repeat in repeats})
    others = math.prod(size(child) for key, child in group.children.items() if key not in counters)
    of_repeats = sum(
        math.prod(_power(size(repeat.of), counts[counters.index(str(repeat.count))]) for repeat in repeats)
        for counts in product(*(counts_of(group.children[key]) for key in counters))
    )
    return others * of_repeats


def _power(base: int | float, exponent: int) -> int | float:
    return base**exponent if exponent else 1  # inf ** 0 is 1 as well


# --- its places -----------------------------------------------------------------------------------------------------


def locate(node: Node, value: Any, path: KeyPath) -> KeyPath:
    """Find the key path in the file from which a value of a config comes.

    Args:
        node: The node from which the config was drawn.
        value: The config.
        path: The key path of the value in the config.
    """
    if not path:
        return _option_place(node, value)
    head, rest = path[0], path[1:]
    inner = _item(value, head)
    match node:
        case Group() if isinstance(head, str) and head in node.children:
            return locate(node.children[head], inner, rest)
        case Series() if isinstance(head, int) and head < len(node.items):
            return locate(node.items[head], inner, rest)
        case Repeat() if isinstance(head, int):
            return locate(node.of, inner, rest)
        case Branches() if head != "name":
            option = node.options.get(_item(value, "name"))
            return locate(option, value, path) if option else node.where
        case Branches():
            return (*node.where, "choice", _item(value, "name"))
        case Open():
            return _option_place(node, value)
        case Fixed() | Group():
            return (*node.where, *path)
        case _:
            return node.where


def _option_place(node: Node, value: Any) -> KeyPath:
    if isinstance(node, Open) and isinstance(node.domain, Choice) and node.domain.contains(value):
        index = node.domain.stored.index(node.domain.encode(value))
        return (*node.where, "choice", index)
    return node.where


def _item(value: Any, key: str | int) -> Any:
    try:
        return value[key]
    except (KeyError, IndexError, TypeError):
        return None
