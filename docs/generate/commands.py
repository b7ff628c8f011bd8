"""Makes docs/reference/commands.md and python.md, and the typed options of the Python API, from code and schema.

`python -m docs.generate.commands` writes them; a test holds them equal.
"""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import is_dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import click

from winnow import search
from winnow.search.cli.main import cli
from winnow.search.settings import OptionSpec, RetrainSettings, SearchOptions, option_specs

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "docs" / "reference"
OPTION_TYPES = REPOSITORY / "search" / "api" / "option_types.py"

_COMMANDS = """# Commands

This page is made from the command line by `python -m docs.generate.commands`. SPACE is a name from `winnow spaces` or a YAML file; RUN is a run folder, or its
name under `runs/`. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted (state kept).
"""
_STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
_PYTHON = """# Python

This page is made from signatures and docstrings by `python -m docs.generate.commands`. Each command is a function of the same name. Bad input raises
`winnow.spaces.errors.InputError` with the message that the command would print. `import winnow.search` loads neither torch nor Ray.
"""
_OPTION_TYPES = '''"""The search options as keyword arguments. Made from `winnow.search.settings` by `python -m docs.generate.commands`: do not edit."""

from __future__ import annotations

from typing import Literal, TypedDict


class SearchOptions(TypedDict, total=False):
    """The options of `search` and `plan`. An option that is not given is as the space says."""
{search}

class RunOptions(SearchOptions, total=False):
    """The options of `run`: those of the search, and those of retraining."""
{retrain}'''
_TYPES = {"integer": "int", "number": "float", "string": "str", "boolean": "bool"}
_SECTION = re.compile(r"^(Args|Returns|Raises):$", re.MULTILINE)
_ITEM = re.compile(r"^    (\*{0,2}\w+): (.*)$")


def commands_markdown() -> str:
    """One section per command: usage, what it does, a table of its options."""
    return _COMMANDS + "".join(_command(name, command) for name, command in sorted(cli.commands.items()))


def python_markdown() -> str:
    """One section per public name with signature and docstring (for a class its fields and public methods), then the options."""
    names = "".join(_name(name, getattr(search, name)) for name in search.__all__)
    rows = "\n".join(map(_option_row, option_specs()))
    head = "`top`, `seeds` and `keep_validation` are options of `run` alone, the others also of `search` and `plan`. A space can state its own default."
    return f"{_PYTHON}{names}\n## Options\n\n{head}\n\n| option | type | range | default | meaning |\n|---|---|---|---|---|\n{rows}\n"


def option_types() -> str:
    """The module `winnow.search.api.option_types`."""
    return _OPTION_TYPES.format(
        search="".join(map(_typed, option_specs(SearchOptions))),
        retrain="".join(map(_typed, option_specs(RetrainSettings))),
    )


def _command(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"winnow {name}")
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"\n## {name}\n", f"`winnow {name} {usage}`\n", inspect.cleandoc(command.help or "")]
    options = [
        each for each in command.get_params(context) if isinstance(each, click.Option) and "--help" not in each.opts
    ]
    if options:
        lines += ["", "| option | value | meaning |", "|---|---|---|", *(_option(each, context) for each in options)]
    return "\n".join(lines) + "\n"


def _option(option: click.Option, context: click.Context) -> str:
    names, meaning = option.get_help_record(context) or ("", "")
    name, _, value = names.partition(" ")
    repeated = " (may be repeated)" if option.multiple and "repeated" not in meaning else ""
    return _row(f"`{name}`", f"`{value}`" if value else "", " ".join(meaning.split()) + repeated)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


# --- Python -----------------------------------------------------------------------------------------------------------


def _name(name: str, value: Any) -> str:
    text = f"\n## {name}\n\n"
    if not inspect.isclass(value):
        return text + f"```text\n{_signature(name, value)}\n```\n\n{_docstring(value)}\n"
    if is_dataclass(value):
        fields = ", ".join(f"{field}: {kind}" for field, kind in inspect.get_annotations(value).items())
        text += f"```text\n{name}({fields})\n```\n\n"
    text += f"{_docstring(value)}\n" + _fields(value)
    members = [(key, each) for key, each in vars(value).items() if not key.startswith("_")]
    return text + "".join(map(_member, *zip(*members, strict=True))) if members else text


def _docstring(value: Any) -> str:
    """The docstring, with its sections (Args, Returns, Raises) as lists."""
    first, *sections = _SECTION.split(inspect.getdoc(value) or "")
    text = first.strip()
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        text += f"\n\n{title}:\n\n{_items(body) if title != 'Returns' else '- ' + ' '.join(body.split())}"
    return text


def _items(body: str) -> str:
    """`    name: meaning`, continued on deeper lines, as a list; text after the section follows it."""
    items: list[str] = []
    for line in body.strip("\n").splitlines():
        if match := _ITEM.match(line):
            items.append(f"- `{match[1]}`: {match[2]}")
        elif line.strip():
            items[-1] += f" {line.strip()}"
    return "\n".join(items)


def _fields(value: type) -> str:
    """The documented fields of a class: the string under each."""
    definition = ast.parse(dedent(inspect.getsource(value))).body[0]
    assert isinstance(definition, ast.ClassDef)
    lines = []
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            lines.append(f"\n- `.{ast.unparse(field.target)}`: {' '.join(str(below.value.value).split())}\n")
    return "".join(lines)


def _member(name: str, member: Any) -> str:
    function = member.fget if isinstance(member, property) else member
    if not inspect.isfunction(function):
        return ""
    returns = inspect.get_annotations(function)["return"]
    shown = f".{name}: {returns}" if isinstance(member, property) else "." + _signature(name, function)
    return f"\n- `{shown}`: {_docstring(function).replace(chr(10), chr(10) + '  ').replace('  ' + chr(10), chr(10))}\n"


def _signature(name: str, function: Any) -> str:
    """On one line if it is short, else one argument per line. Annotations are as in the source."""
    parameters = [each for each in inspect.signature(function).parameters.values() if each.name != "self"]
    shown = [_parameter(each) for each in parameters]
    if names_only := [k for k, each in enumerate(parameters) if each.kind is inspect.Parameter.KEYWORD_ONLY]:
        shown.insert(names_only[0], "*")
    returns = inspect.get_annotations(function)["return"]
    line = f"{name}({', '.join(shown)}) -> {returns}"
    return line if len(line) < 100 else f"{name}(\n    " + ",\n    ".join(shown) + f",\n) -> {returns}"


def _parameter(parameter: inspect.Parameter) -> str:
    shown = f"{_STARS.get(parameter.kind, '')}{parameter.name}: {parameter.annotation}"
    if parameter.default is inspect.Parameter.empty:
        return shown
    default = parameter.default
    if default == search.DeviceOptions():
        return f"{shown} = DeviceOptions()"
    return f"{shown} = {str(default)!r}" if isinstance(default, Path) else f"{shown} = {default!r}"


# --- options ----------------------------------------------------------------------------------------------------------


def _option_row(spec: OptionSpec) -> str:
    default = "" if spec.default is None else f"`{spec.default}`"
    return _row(f"`{spec.name}`", f"`{_type(spec)}`", _range(spec), default, spec.text)


def _typed(spec: OptionSpec) -> str:
    limits = "".join(f" {part[0].upper()}{part[1:]}." for part in [_range(spec)] if part)
    default = "" if spec.default is None else f" Default: {spec.default}."
    return f'\n    {spec.name}: {_type(spec)}\n    """{spec.text}{limits}{default}"""\n'


def _type(spec: OptionSpec) -> str:
    if spec.choices:
        choices = [f'"{choice}"' for choice in spec.choices]
        if len(choices) <= 6:
            return f"Literal[{', '.join(choices)}]"
        return "Literal[\n" + "".join(f"        {choice},\n" for choice in choices) + "    ]"
    types = " | ".join(_TYPES[name] for name in spec.types)
    return f"list[{types}]" if spec.repeated else types


def _range(spec: OptionSpec) -> str:
    parts = [f"above {spec.above:g}" if spec.above is not None else ""]
    parts += [f"at least {spec.minimum:g}" if spec.minimum is not None else ""]
    parts += [f"at most {spec.maximum:g}" if spec.maximum is not None else ""]
    return ", ".join(filter(None, parts))


def main() -> None:
    """Write the pages and the module."""
    OPTION_TYPES.write_text(option_types(), encoding="utf-8")
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "commands.md").write_text(commands_markdown(), encoding="utf-8")
    (FOLDER / "python.md").write_text(python_markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
