"""Describes the differences between two spaces: paths that were added, removed, widened, narrowed or changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from winnow.spaces.grammar.domains import Choice, Domain, same
from winnow.spaces.grammar.nodes import Branches, Fixed, Group, Node, Open, Repeat, Series
from winnow.spaces.grammar.problems import show_list, show_value
from winnow.spaces.space import Space

Kind = Literal["added", "removed", "widened", "narrowed", "changed"]


@dataclass(frozen=True)
class Difference:
    """One difference between two spaces."""

    path: str
    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.kind} {self.text}"


def differences(old: Space, new: Space) -> list[Difference]:
    """List the differences between two spaces, first in the order of the old space, then for new keys.

    Sections that configure the search, such as `search`, are not compared.

    Args:
        old: The space before.
        new: The space after.
    """
    return list(_of_groups(old.root, new.root, ""))


def _of_nodes(old: Node, new: Node, path: str) -> Iterator[Difference]:
    match old, new:
        case Group(), Group():
            yield from _of_groups(old, new, path)
        case Branches(), Branches():
            yield from _of_branches(old, new, path)
        case Repeat(), Repeat():
            if old.count != new.count:
                yield Difference(path, "changed", f"from {old.count} items to {new.count}")
            yield from _of_nodes(old.of, new.of, f"{path}.*")
        case Series(), Series() if len(old.items) == len(new.items):
            for index, (left, right) in enumerate(zip(old.items, new.items, strict=True)):
                yield from _of_nodes(left, right, f"{path}.{index}")
        case Branches(), Group(children={"name": Fixed(value=name), **children}) if name in old.options:
            yield Difference(path, "narrowed", f"to {name} (was a choice of {show_list(old.options)})")
            yield from _of_groups(old.options[name], Group((), children), path)
        case Group(children={"name": Fixed(value=name), **children}), Branches() if name in new.options:
            yield Difference(path, "widened", f"to a choice of {show_list(new.options)} (was {name})")
            yield from _of_groups(Group((), children), new.options[name], path)
        case _:
            yield from _of_values(old, new, path)


def _of_groups(old: Group, new: Group, path: str) -> Iterator[Difference]:
    for key in dict.fromkeys([*old.children, *new.children]):
        inner = f"{path}.{key}" if path else key
        if key not in new.children:
            yield Difference(inner, "removed", f"(was {_text(old.children[key])}); its default applies")
        elif key not in old.children:
            yield Difference(inner, "added", f"{_text(new.children[key])} (had its default)")
        else:
            yield from _of_nodes(old.children[key], new.children[key], inner)


def _of_branches(old: Branches, new: Branches, path: str) -> Iterator[Difference]:
    removed = [name for name in old.options if name not in new.options]
    added = [name for name in new.options if name not in old.options]
    if removed:
        yield Difference(path, "narrowed", f"by {show_list(removed)}")
    if added:
        yield Difference(path, "widened", f"by {show_list(added)}")
    for name in old.options:
        if name in new.options:
            yield from _of_groups(old.options[name], new.options[name], f"{path}.{name}")


def _of_values(old: Node, new: Node, path: str) -> Iterator[Difference]:
    left, right = _options(old), _options(new)
    if type(old) is type(new) and (old == new or _text(old) == _text(new)):
        return
    if left is None or right is None:
        kind: Kind = "changed"
    elif _holds(left, right) and _holds(right, left):
        return
    else:
        kind = "narrowed" if _holds(left, right) else "widened" if _holds(right, left) else "changed"
    yield Difference(path, kind, f"from {_text(old)} to {_text(new)}")


def _options(node: Node) -> Domain | None:
    """Return the domain of a node; a fixed value is a choice with one option."""
    if isinstance(node, Open):
        return node.domain
    return Choice((node.value,)) if isinstance(node, Fixed) else None


def _holds(outer: Domain, inner: Domain) -> bool:
    """Return whether all values of `inner` are values of `outer`."""
    if type(outer) is type(inner) and getattr(outer, "step", None) == getattr(inner, "step", None):
        if isinstance(outer, Choice):
            return all(any(same(option, other) for other in outer.ends()) for option in inner.ends())
        return all(outer.contains(end) for end in inner.ends())
    if isinstance(inner, Choice):
        return all(outer.contains(option) for option in inner.options)
    if inner.size() == float("inf") and outer.size() != float("inf"):
        return False
    return not isinstance(outer, Choice) and all(outer.contains(end) for end in inner.ends())


def _text(node: Node) -> str:
    return show_value(_tree(node))


def _tree(node: Node) -> Any:
    """Return a node as it is written in YAML."""
    match node:
        case Fixed(value=value):
            return value
        case Open(domain=domain):
            return domain.to_tree()
        case Group(children=children):
            return {key: _tree(child) for key, child in children.items()}
        case Series(items=items):
            return [_tree(item) for item in items]
        case Branches(options=options):
            return {"choice": {name: _tree(option) for name, option in options.items()}}
        case Repeat():
            return {"repeat": node.count, "of": _tree(node.of)}
