"""Reads YAML 1.2 (core schema), records the line of every key and item, and rejects duplicate keys.

PyYAML follows YAML 1.1, which reads `1e-4` as text, `no` as false and `010` as eight. YAML 1.2 reads a number, text and ten.

ruamel.yaml 0.19 was tried in place of this module and did not make it smaller. It also departs from the core schema: it
reads `1_000` as a number, `0b11` as three and `2001-12-14` as a date. It accepts keys that are not text and lists that
contain themselves, so the builder below would stay; only the table of implicit types would go. It takes 80 ms longer to
import than PyYAML, which Ray needs anyway, and 1.6 times as long to parse the 48 shipped files (0.26 s against 0.16 s, two
CPU cores, Python 3.11).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from winnow.spaces.errors import SpaceError
from winnow.spaces.grammar.problems import KeyPath

MAX_NODES = 100_000  # aliases can make a small file expand without limit


@dataclass(frozen=True)
class Document:
    """The plain values of a file, and the line of every key and item by key path, counted from 1."""

    tree: Any
    lines: dict[KeyPath, int]


def load(text: str, source: str, is_file: bool = True) -> Document:
    """Read one YAML document.

    Args:
        text: The document.
        source: Name of the document in messages.
        is_file: Whether messages also give the line. Default: True.

    Returns:
        The values, and the lines of the keys.

    Raises:
        SpaceError: The text is not YAML, is empty, or has a duplicate key or a key that is not text.
    """
    try:
        root = yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}" if mark and is_file else source
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise SpaceError(f"{place}: not readable as YAML: {problem}") from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise SpaceError(f"{source}: not readable as YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise SpaceError(f"{source}: not readable as YAML: nested too deeply") from error
    builder = _Builder(source, is_file)
    return Document(builder.build(root, ()), builder.lines)


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the implicit types of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}


_TAG = "tag:yaml.org,2002:"

# Pattern and possible first characters, which PyYAML requires. The order matters: text that is not an integer may be a float.
_IMPLICIT_TYPES = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}

for _name, (_pattern, _first) in _IMPLICIT_TYPES.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)


def _read_int(text: str) -> int:
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _read_float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": _read_int,
    "float": _read_float,
    "str": str,
}


class _Builder:
    def __init__(self, source: str, is_file: bool) -> None:
        self.source = source
        self.is_file = is_file
        self.lines: dict[KeyPath, int] = {}
        self._num_nodes = 0
        self._open: list[yaml.Node] = []

    def build(self, node: yaml.Node | None, path: KeyPath) -> Any:
        if node is None:
            raise SpaceError(f"{self.source}: the file is empty")
        self._num_nodes += 1
        if self._num_nodes > MAX_NODES or node in self._open:
            raise self._error(node, "aliases that expand without end")
        self.lines.setdefault(path, node.start_mark.line + 1)
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._build_mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._build_scalar(node)
        finally:
            self._open.pop()

    def _build_mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._build_scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else key_node.value
            if not isinstance(key, str):
                raise self._error(key_node, f"a key must be text, but got {key_node.value}; put it in quotes")
            if key in result:
                first = self.lines[(*path, key)]
                raise self._error(key_node, f"the key `{key}` occurs twice; the first is on line {first}")
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            result[key] = self.build(value_node, (*path, key))
        return result

    def _build_scalar(self, node: yaml.Node) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if kind not in _SCALARS:
            raise self._error(node, f"the tag {node.tag!r} is not supported")
        try:
            return _SCALARS[kind](node.value)
        except ValueError as error:
            raise self._error(node, f"{node.value!r} is not of type {kind}") from error

    def _error(self, node: yaml.Node, message: str) -> SpaceError:
        place = f"{self.source}:{node.start_mark.line + 1}" if self.is_file else self.source
        return SpaceError(f"{place}: not readable as YAML: {message}")
