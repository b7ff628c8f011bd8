"""Every public function with two or more parameters documents each of them, and no docstring names one that is not there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.conftest import REPOSITORY

PARTS = ("models", "reports", "search", "spaces")
SECTIONS = ("Returns:", "Raises:", "Yields:", "Attributes:", "Example:", "Examples:", "Note:")
ENTRY = re.compile(r"    (\*{0,2}\w+(?:, \*{0,2}\w+)*): \S")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Yield the public functions of a module and the public methods of its public classes, by qualified name.

    Args:
        body: The statements of a module or class.
        prefix: Names of the classes around them, each followed by a dot.
    """
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, Function) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node


def is_exempt(function: Function) -> bool:
    """Return whether another text documents the parameters: that of the base method, or the help of a click command."""
    for decorator in function.decorator_list:
        name = ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)
        if name.split(".")[-1] in ("override", "command") or name.startswith("click."):
            return True
    return False


def parameters(function: Function) -> list[str]:
    """Return the names of all parameters but `self` and `cls`, with their stars."""
    arguments = function.args
    plain = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    starred = [
        stars + each.arg for stars, each in (("*", arguments.vararg), ("**", arguments.kwarg)) if each is not None
    ]
    return [name for name in plain if name not in ("self", "cls")] + starred


def documented(docstring: str) -> list[str] | None:
    """Return the names listed under `Args:`, with their stars; None if there is no such section."""
    lines = iter(docstring.splitlines())
    if "Args:" not in (line.strip() for line in lines):
        return None
    names: list[str] = []
    for line in lines:
        if line.strip() in SECTIONS or (line and not line.startswith(" ")):
            break
        if entry := ENTRY.match(line):
            names += entry[1].split(", ")
    return names


def complaints(source: str) -> list[str]:
    """Return what is wrong with the docstrings of a module."""
    found = []
    for name, function in public_functions(ast.parse(source).body):
        expected, listed = parameters(function), documented(ast.get_docstring(function) or "")
        if is_exempt(function):
            continue
        if listed is None:
            # As a list of further values has no name of its own, it alone asks for no section.
            if len([each for each in expected if not each.startswith("*")]) >= 2:
                found.append(f"{name} has no Args:")
        elif sorted(listed) != sorted(expected):
            found.append(f"{name} documents ({', '.join(listed)}), but takes ({', '.join(expected)})")
    return found


@pytest.mark.parametrize("part", PARTS)
def test_public_functions_document_their_parameters(part):
    files = sorted((REPOSITORY / part).rglob("*.py"))
    assert files
    wrong = [
        f"{file.relative_to(REPOSITORY)}: {complaint}"
        for file in files
        for complaint in complaints(file.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


ARGS = '"""Do it.\n\n    Args:\n        a: One.\n        b: Two, over\n            two lines: long ones.\n\n    Returns:\n        c: No.\n    """'


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (f"def f(a, b):\n    {ARGS}", []),
        ("def f(a, b):\n    pass", ["f has no Args:"]),
        ('async def f(a, *, b):\n    """Do it."""', ["f has no Args:"]),
        ('def f(a):\n    """Do it."""', []),
        ('def f(a, *b, **c):\n    """Do it."""', []),
        (f"def f(a, b, c):\n    {ARGS}", ["f documents (a, b), but takes (a, b, c)"]),
        (f"def f(a):\n    {ARGS}", ["f documents (a, b), but takes (a)"]),
        (f"def f(a, **b):\n    {ARGS}", ["f documents (a, b), but takes (a, **b)"]),
        ("class A:\n    def f(self, a, b): ...", ["A.f has no Args:"]),
        ("class A:\n    def f(self, a): ...\n    def _g(self, a, b): ...\nclass _B:\n    def f(self, a, b): ...", []),
        ("class A:\n    @override\n    def f(self, a, b): ...", []),
        ("@main.command(name='g')\ndef f(a, b): ...", []),
        ("@click.pass_context\ndef f(a, b): ...", []),
        ("@staticmethod\ndef f(a, b): ...", ["f has no Args:"]),
    ],
)
def test_what_is_refused(source, expected):
    assert complaints(source) == expected
