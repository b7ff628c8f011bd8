"""YAML 1.2: scalars of the core schema, lines of keys, and what is refused."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from winnow.spaces.errors import SpaceError
from winnow.spaces.grammar.yaml12 import load

# The core schema's table (YAML 1.2.2, section 10.3.2), and what version 1.1 read otherwise.
SCALARS = [
    ("1e-4", 1e-4),
    ("1E+3", 1000.0),
    ("-.5", -0.5),
    ("12.", 12.0),
    ("+3", 3),
    ("010", 10),
    ("0o17", 15),
    ("0x1F", 31),
    (".inf", math.inf),
    ("-.INF", -math.inf),
    ("true", True),
    ("FALSE", False),
    ("null", None),
    ("~", None),
    ("", None),
    ("no", "no"),
    ("yes", "yes"),
    ("on", "on"),
    ("Off", "Off"),
    ("tRUE", "tRUE"),
    ("1_000", "1_000"),
    ("12:30:45", "12:30:45"),
    ("2001-12-14", "2001-12-14"),
    ("0b11", "0b11"),
    ("1e", "1e"),
    (".", "."),
    ("'1'", "1"),
    ('"true"', "true"),
    ("!!str 1", "1"),
    ("!!float 1", 1.0),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars(text: str, value: object) -> None:
    found = load(f"key: {text}", "file.yaml").tree["key"]
    assert found == value
    assert type(found) is type(value)


def test_nan() -> None:
    assert math.isnan(load(".nan", "file.yaml").tree)


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="ascii")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz_", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@given(plain_values)
def test_what_pyyaml_writes_is_read_back(value: object) -> None:
    """`study.yaml` is written with PyYAML: only what it leaves unquoted and 1.2 reads otherwise could differ."""
    written = yaml.safe_dump(value, sort_keys=False)
    assert load(written, "file.yaml").tree == yaml.safe_load(written)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_as_python_prints_it_is_a_float(value: float) -> None:
    found = load(f"[{value!r}]", "file.yaml").tree[0]
    assert found == value
    assert isinstance(found, float)


def test_lines_of_keys_and_items() -> None:
    document = load("a: 1\nb:\n  c: [1,\n      2]\n  d: {e: 5}\n", "file.yaml")
    assert document.lines[("b",)] == 2
    assert document.lines[("b", "c")] == 3
    assert document.lines[("b", "c", 0)] == 3
    assert document.lines[("b", "c", 1)] == 4
    assert document.lines[("b", "d", "e")] == 5


REFUSED = [
    ("", "file.yaml: the file is empty"),
    ("a: 1\nb: 2\na: 3\n", "file.yaml:3: not readable as YAML: the key `a` occurs twice; the first is on line 1"),
    (
        "a: [1",
        "file.yaml:1: not readable as YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'",
    ),
    (
        "a:\n\t- 1",
        "file.yaml:2: not readable as YAML: while scanning for the next token, found character '\\t' that cannot start any token",
    ),
    ("1: a", "file.yaml:1: not readable as YAML: a key must be text, but got 1; put it in quotes"),
    ("no: a\ntrue: b", "file.yaml:2: not readable as YAML: a key must be text, but got true; put it in quotes"),
    ("a: !thing 1", "file.yaml:1: not readable as YAML: the tag '!thing' is not supported"),
    ("a: !!int x", "file.yaml:1: not readable as YAML: 'x' is not of type int"),
    ("&a [*a]", "file.yaml:1: not readable as YAML: aliases that expand without end"),
    (
        "a: 1\n---\nb: 2",
        "file.yaml:2: not readable as YAML: expected a single document in the stream, but found another document",
    ),
    ("[" * 5000, "file.yaml: not readable as YAML: nested too deeply"),
    ("a: \x07", "file.yaml: not readable as YAML: unacceptable character #x0007: special characters are not allowed"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused(text: str, message: str) -> None:
    with pytest.raises(SpaceError) as error:
        load(text, "file.yaml")
    assert str(error.value) == message


def test_aliases_that_blow_up_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(SpaceError, match="aliases that expand"):
        load("\n".join(lines), "file.yaml")
