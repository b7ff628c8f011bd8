"""Reads YAML that a program wrote, such as study.yaml, and rejects a malicious file before it exhausts time or memory."""

from __future__ import annotations

from typing import Any

import yaml

MAX_NODES = 1_000_000
"""Largest number of values of a file after its aliases are expanded: a few lines of aliases can expand to billions."""
MAX_HEIGHT = 100
"""Largest depth of nested mappings and lists."""


def load_plain(text: str) -> Any:
    """Read one YAML document, like `yaml.safe_load`.

    Args:
        text: The document.

    Returns:
        Its plain values.

    Raises:
        YAMLError: The text is not YAML, contains a value that cannot be read, is nested too deeply, or expands too far.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _expanded(node, {})
        return loader.construct_document(node)
    except RecursionError as error:
        raise yaml.YAMLError(f"nested more than {MAX_HEIGHT} deep") from error
    except ValueError as error:  # for example a date in month 99, or an integer with 5,000 digits
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


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
