"""Reads YAML that a program wrote, such as study.yaml, and rejects a malicious file before it exhausts time or memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the parser in C takes a tenth of the time
MAX_BYTES = 20_000_000
"""Largest size of a file."""
MAX_NODES = 200_000
"""Largest number of values of a file after its aliases are expanded: a few lines of aliases can expand to billions."""
MAX_HEIGHT = 100
"""Largest depth of nested mappings and lists."""


def read_plain(path: Path) -> Any:
    """Read a YAML file as `load_plain` does.

    Args:
        path: The file.

    Returns:
        Its plain values.

    Raises:
        OSError: The file cannot be read.
        UnicodeDecodeError: It is not text.
        YAMLError: As for `load_plain`, or it is too large, or not a file: a pipe would block forever.
    """
    if not path.is_file() and path.exists():
        raise yaml.YAMLError("not a file")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise yaml.YAMLError(f"larger than {MAX_BYTES / 1e6:.0f} MB")
    return load_plain(content.decode("utf-8"))


def load_plain(text: str) -> Any:
    """Read one YAML document, like `yaml.safe_load`.

    Args:
        text: The document.

    Returns:
        Its plain values.

    Raises:
        YAMLError: The text is not YAML, contains a value that cannot be read, is nested too deeply, or expands too far.
    """
    loader = _Loader(text)
    try:
        has_aliases = _check(
            text
        )  # before nodes are made: the parser in C calls itself for each level, and could overflow the stack
        node = loader.get_single_node()
        if node is None:
            return None
        if has_aliases:
            _expanded(node, {})
        return loader.construct_document(node)
    except RecursionError as error:
        raise yaml.YAMLError(f"nested more than {MAX_HEIGHT} deep") from error
    except ValueError as error:  # for example a date in month 99, or an integer with 5,000 digits
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


def _check(text: str) -> bool:
    """Check number and depth of the values as they are written, and return whether there are aliases."""
    height = size = 0
    has_aliases = False
    for event in yaml.parse(text, _Loader):
        kind = type(event)
        if kind is yaml.ScalarEvent:
            size += 1
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            size, height = size + 1, height + 1
            if height > MAX_HEIGHT:
                raise yaml.YAMLError(f"nested more than {MAX_HEIGHT} deep")
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            height -= 1
        if size > MAX_NODES:  # here, since parsing the rest of a large file takes minutes
            raise yaml.YAMLError(f"has more than {MAX_NODES:,} values")
        has_aliases = has_aliases or kind is yaml.AliasEvent
    return has_aliases


def _expanded(node: yaml.Node, measured: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Return (number of values, height) of a node with its aliases expanded. `measured` holds None for a node that is open."""
    key = id(node)
    if key in measured:
        known = measured[key]
        if known is None:
            raise yaml.YAMLError("a value contains itself")
        return known
    measured[key] = None
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    sizes = [_expanded(child, measured) for child in children]
    size, height = 1 + sum(size for size, _ in sizes), 1 + max((height for _, height in sizes), default=0)
    if size > MAX_NODES:
        raise yaml.YAMLError(f"its aliases expand to more than {MAX_NODES:,} values")
    if height > MAX_HEIGHT:
        raise yaml.YAMLError(f"nested more than {MAX_HEIGHT} deep")
    measured[key] = size, height
    return size, height
