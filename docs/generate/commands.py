"""Makes docs/reference/commands.md and python.md: `python -m docs.generate.commands` writes them, a test holds them equal."""

from __future__ import annotations

import inspect
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import click

from winnow import search
from winnow.search.api.searching import RunOptions, SearchOptions
from winnow.search.cli.main import cli

FOLDER = Path(__file__).resolve().parents[1] / "reference"

_COMMANDS = """# Commands

This page is made from the command line by `python -m docs.generate.commands`. SPACE is a name from `winnow spaces` or a YAML file; RUN is a run folder, or its
name under `runs/`. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted (state kept).
"""
_STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
_PYTHON = """# Python

This page is made from signatures and docstrings by `python -m docs.generate.commands`. Each command is a function of the same name. Bad input raises
`winnow.spaces.errors.InputError` with the message that the command would print. `import search` loads neither torch nor Ray.
"""


def commands_markdown() -> str:
    """One section per command: usage, what it does, a table of its options."""
    return _COMMANDS + "".join(_command(name, command) for name, command in sorted(cli.commands.items()))


def python_markdown() -> str:
    """One section per public name: signature and docstring; of a class its public methods too."""
    options = (
        f"- `{name}: {kind.__forward_arg__}`{'' if name in SearchOptions.__annotations__ else ' (run)'}"
        for name, kind in RunOptions.__annotations__.items()
    )
    names = "".join(_name(name, getattr(search, name)) for name in search.__all__)
    return _PYTHON + names + "\n## Options of run and search\n\n" + "\n".join(options) + "\n"


def _command(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"winnow {name}")
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"\n## {name}\n", f"`winnow {name} {usage}`\n", inspect.cleandoc(command.help or "")]
    options = [each for each in command.params if isinstance(each, click.Option)]
    if options:
        lines += ["", "| option | value | meaning |", "|---|---|---|", *(_option(each, context) for each in options)]
    return "\n".join(lines) + "\n"


def _option(option: click.Option, context: click.Context) -> str:
    names, meaning = option.get_help_record(context) or ("", "")
    name, _, value = names.partition(" ")
    repeated = " (may be repeated)" if option.multiple and "repeated" not in meaning else ""
    cells = (f"`{name}`", f"`{value}`" if value else "", " ".join(meaning.split()) + repeated)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _name(name: str, value: Any) -> str:
    text = f"\n## {name}\n\n"
    if not inspect.isclass(value):
        return text + f"```text\n{_signature(name, value)}\n```\n\n{inspect.getdoc(value)}\n"
    if is_dataclass(value):
        fields = ", ".join(f"{field}: {kind}" for field, kind in inspect.get_annotations(value).items())
        text += f"```text\n{name}({fields})\n```\n\n"
    text += f"{inspect.getdoc(value)}\n"
    members = [(key, each) for key, each in vars(value).items() if not key.startswith("_")]
    return text + "".join(map(_member, *zip(*members, strict=True))) if members else text


def _member(name: str, member: Any) -> str:
    function = member.fget if isinstance(member, property) else member
    if not inspect.isfunction(function):
        return ""
    returns = inspect.get_annotations(function)["return"]
    shown = f".{name}: {returns}" if isinstance(member, property) else "." + _signature(name, function)
    about = " ".join((inspect.getdoc(function) or "").split())
    return f"\n- `{shown}`: {about}\n"


def _signature(name: str, function: Any) -> str:
    """On one line where it is short, else one argument per line. Annotations are as in the source."""
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
    return f"{shown} = {'DeviceOptions()' if parameter.default == search.DeviceOptions() else repr(parameter.default)}"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "commands.md").write_text(commands_markdown(), encoding="utf-8")
    (FOLDER / "python.md").write_text(python_markdown(), encoding="utf-8")
