"""Parses the plain tree of a YAML file into nodes, and checks how domains are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from winnow.spaces.errors import SpaceError
from winnow.spaces.grammar.domains import Choice, Domain, Float, Int, Log
from winnow.spaces.grammar.nodes import Branches, Fixed, Group, Node, Open, Repeat, Series, counts_of
from winnow.spaces.grammar.problems import KeyPath, Problem, nearest, show_list, show_value

# The keys that are allowed beside each kind of domain.
DOMAIN_KEYS: dict[str, tuple[str, ...]] = {
    "choice": (),
    "int": ("step",),
    "float": ("step",),
    "log": ("step",),
    "repeat": ("of",),
}
RANGES: dict[str, Callable[..., Domain]] = {"int": Int, "float": Float, "log": Log}
SECTIONS = ("search", "retrain", "start_from", "baseline", "reference")
"""Top-level keys that define how a space is searched and what it is compared with; all others are keys of a config."""

DATA_KEYS_THAT_MAY_BE_OPEN = ("augment", "normalize", "sampling")
MAX_REPEATS = 1000


def parse(tree: Any) -> tuple[Group, list[Problem]]:
    """Parse a tree, and return the nodes of the space without its sections, and the problems of how it is written."""
    if not isinstance(tree, dict):
        return Group((), {}), [Problem((), f"a space is a mapping of keys, but got {show_value(tree)}")]
    parser = _Parser()
    root = parser.group({key: value for key, value in tree.items() if key not in SECTIONS}, ())
    parser.check_data(root.children.get("data"))
    return root, parser.problems


class _Parser:
    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def node(self, value: Any, where: KeyPath) -> Node:
        if isinstance(value, dict):
            kinds = [key for key in value if key in DOMAIN_KEYS]
            return self.domain(kinds, value, where) if kinds else self.group(value, where)
        if isinstance(value, list):
            items = tuple(self.alone(item, (*where, index)) for index, item in enumerate(value))
            return Series(where, items) if any(map(is_open, items)) else Fixed(where, value)
        return Fixed(where, value)

    def group(self, value: dict[str, Any], where: KeyPath) -> Group:
        children = {key: self.node(child, (*where, key)) for key, child in value.items()}
        for key, child in children.items():
            if isinstance(child, Repeat) and isinstance(child.count, str):
                children[key] = self.counted(child, child.count, children)
        counters = {child.count for child in children.values() if isinstance(child, Repeat)}
        return Group(where, dict(sorted(children.items(), key=lambda item: item[0] not in counters)))

    def alone(self, value: Any, where: KeyPath) -> Node:
        """Return the node of a value that has no keys beside it, so that no repeat can name its count."""
        node = self.node(value, where)
        if isinstance(node, Repeat) and isinstance(node.count, str):
            return self.refuse(
                (*where, "repeat"),
                f"no key beside it can set the count; give a number from 0 to {MAX_REPEATS} instead of {node.count!r}",
            )
        return node

    def counted(self, repeat: Repeat, key: str, siblings: dict[str, Node]) -> Node:
        """Return the repeat if the key that it names can be a count."""
        where = (*repeat.where, "repeat")
        if key not in siblings:
            known = [name for name, child in siblings.items() if child is not repeat]
            return self.refuse(
                where, f"no key {key!r} beside it to count; there are: {show_list(known)}{nearest(key, known)}"
            )
        counts = counts_of(siblings[key])
        if not counts:
            return self.refuse(
                where, f"`{key}` must be a whole number, an int or a choice of whole numbers to be a count"
            )
        if min(counts) < 0 or max(counts) > MAX_REPEATS:
            limits = f"`{key}` goes from {min(counts)} to {max(counts)}"
            return self.refuse(where, f"a count must be from 0 to {MAX_REPEATS}, but {limits}")
        return repeat

    def domain(self, kinds: list[str], value: dict[str, Any], where: KeyPath) -> Node:
        kind = kinds[0]
        if len(kinds) > 1:
            return self.refuse(where, f"a domain has one kind, but got {' and '.join(kinds)}")
        for key in value:
            if key != kind and key not in DOMAIN_KEYS[kind]:
                allowed = show_list(DOMAIN_KEYS[kind]) or "nothing"
                hint = nearest(key, DOMAIN_KEYS[kind])
                return self.refuse((*where, key), f"unknown key {key!r} beside `{kind}`; allowed: {allowed}{hint}")
        if kind == "choice":
            return self.choice(value["choice"], where)
        if kind == "repeat":
            return self.repeat(value, where)
        return self.range(kind, value, where)

    def range(self, kind: str, value: dict[str, Any], where: KeyPath) -> Node:
        bounds = value[kind]
        if not isinstance(bounds, list) or len(bounds) != 2:
            return self.refuse(where, f"{kind} needs [low, high], but got {show_value(bounds)}")
        step = {"step": value["step"]} if "step" in value else {}
        if "step" in step and step["step"] is None:
            return self.refuse(where, "step must be a number, but got null")
        return self.open(where, lambda: RANGES[kind](*bounds, **step))

    def open(self, where: KeyPath, make: Callable[[], Domain]) -> Node:
        try:
            return Open(where, make())
        except SpaceError as error:
            return self.refuse(where, str(error))

    def choice(self, options: Any, where: KeyPath) -> Node:
        if isinstance(options, dict):
            return self.branches(options, where)
        if not isinstance(options, list):
            hint = f"; for a single value write just {show_value(options)}"
            return self.refuse(
                where, f"choice needs a list of values or a mapping of sub-spaces, but got {show_value(options)}{hint}"
            )
        for index, option in enumerate(options):
            if is_open(_Parser().node(option, where)):
                place = (*where, "choice", index)
                return self.refuse(
                    place, "an option cannot hold a domain; give the options names: choice: {a: {...}, b: {...}}"
                )
        return self.open(where, lambda: Choice(tuple(options)))

    def branches(self, options: dict[str, Any], where: KeyPath) -> Node:
        if not options:
            return self.refuse(where, "a choice needs at least one option, but got none")
        groups: dict[str, Group] = {}
        for name, option in options.items():
            place = (*where, "choice", name)
            if not isinstance(option, dict) or any(key in DOMAIN_KEYS for key in option):
                self.refuse(
                    place, f"a sub-space is a mapping of its keys ({{}} if it has none), but got {show_value(option)}"
                )
            elif "name" in option:
                self.refuse((*place, "name"), f"a sub-space is named by its key, {name!r}; leave `name` out")
            else:
                groups[name] = self.group(option, place)
        return Branches(where, groups) if groups else Fixed(where, None)

    def repeat(self, value: dict[str, Any], where: KeyPath) -> Node:
        count = value["repeat"]
        if "of" not in value:
            return self.refuse(where, "`repeat` needs `of`, which is repeated")
        is_count = isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= MAX_REPEATS
        if not is_count and not isinstance(count, str):
            shown_count = show_value(count)
            return self.refuse(
                where,
                f"`repeat` needs a number from 0 to {MAX_REPEATS} or the name of a neighbouring key that sets it, but got {shown_count}",
            )
        return Repeat(where, count, self.alone(value["of"], (*where, "of")))

    def check_data(self, data: Node | None) -> None:
        """Reject open keys that decide which data are loaded. These must be known before the search and equal for all trials."""
        if isinstance(data, Group):
            for key, child in data.children.items():
                if is_open(child) and key not in DATA_KEYS_THAT_MAY_BE_OPEN:
                    allowed = " and ".join([", ".join(DATA_KEYS_THAT_MAY_BE_OPEN[:-1]), DATA_KEYS_THAT_MAY_BE_OPEN[-1]])
                    self.refuse(
                        child.where,
                        f"must be fixed, because it selects the images; in `data` only {allowed} may be open",
                    )
        elif data is not None and is_open(data):
            self.refuse(data.where, "must be a mapping of fixed keys; a space searches on one data set")

    def refuse(self, where: KeyPath, message: str) -> Fixed:
        self.problems.append(Problem(where, message))
        return Fixed(where, None)


def is_open(node: Node) -> bool:
    """Return whether a node leaves any value open. A repeat counts as open, because its list is not written out."""
    match node:
        case Fixed():
            return False
        case Group():
            return any(map(is_open, node.children.values()))
        case _:
            return True
