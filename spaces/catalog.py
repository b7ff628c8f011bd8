"""Loads spaces and recipes by name or from a file, applies overrides and checks them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from winnow.spaces.errors import SpaceError
from winnow.spaces.grammar import overrides as setting
from winnow.spaces.grammar import yaml12
from winnow.spaces.grammar.problems import KeyPath, Problem, SourceMap, nearest, refuse, show_list, show_value
from winnow.spaces.shapes import known_image_shape
from winnow.spaces.space import Space
from winnow.spaces.stub_trials import KnownTrial

PACKAGE = Path(__file__).parent
SUFFIXES = (".yaml", ".yml")
MAX_BYTES = 1_000_000
"""Largest size of a space. A file of somebody else that is larger would take minutes to parse."""


def load(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Space:
    """Load a space or recipe and check it.

    Sizes are checked if the image shape is known without reading the data. Otherwise call
    `winnow.spaces.validation.check` with the shape as soon as it is known.

    Args:
        name_or_path: A space of the catalog (`digits`), a recipe (`recipes/cifar100-a3`) or a YAML file.
        overrides: Changes `path=value`, as for `--set`. Default: none.

    Returns:
        The space.

    Raises:
        SpaceError: The space is not valid; the message lists all problems.
    """
    path, source = _find(str(name_or_path))
    document = _read(path, source)
    return _made(document.tree, overrides, source, document.lines, path.parent)


def changed(space: Space, overrides: Sequence[str]) -> Space:
    """Apply overrides to a space, and check the result.

    Args:
        space: The space, which is not changed itself.
        overrides: Overrides such as `epochs=5`.

    Returns:
        The changed space.

    Raises:
        SpaceError: The space is not valid; the message lists all problems.
    """
    return _made(space.tree, overrides, space.source, {}, Path())


def _made(
    tree: dict[str, Any], overrides: Sequence[str], source: str, lines: dict[KeyPath, int], folder: Path
) -> Space:
    tree, places = setting.apply(tree, overrides)
    source_map = SourceMap(source, lines, places)
    space = Space.from_tree({key: value for key, value in tree.items() if key not in _POINTS}, source, source_map)
    _check(space)
    points, notes = _resolve_points(tree, space, folder, bool(overrides))
    return replace(space, tree={**space.tree, **points}, notes=notes)


def names() -> list[str]:
    """Return the names of the spaces in the catalog."""
    return sorted(path.stem for path in (PACKAGE / "catalog").glob("*.yaml"))


def recipe_names() -> list[str]:
    """Return `recipes/NAME` of each shipped recipe, in numerical order."""
    stems = [path.stem for path in (PACKAGE / "recipes").glob("*.yaml")]
    return [f"recipes/{stem}" for stem in sorted(stems, key=_with_numbers)]


def listing() -> list[tuple[str, str]]:
    """Return (name, description) of every shipped space and recipe. The description is the first comment line of the file."""
    return [(name, _description(_find(name)[0])) for name in [*names(), *recipe_names()]]


def _description(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        line = file.readline()
    return line.removeprefix("#").strip() if line.startswith("#") else ""


def _with_numbers(stem: str) -> list[tuple[str, int]]:
    """Return a sort key that puts a2 before a10, and e3a before e4."""
    return [(text, int("0" + number)) for text, number in re.findall(r"(\D*)(\d*)", stem)]


# --- files ----------------------------------------------------------------------------------------------------------


def _find(name: str, beside: Path | None = None) -> tuple[Path, str]:
    """Return the file of a space or recipe, and its name in messages. A path in a space file may be relative to that file."""
    if name in names():
        return PACKAGE / "catalog" / f"{name}.yaml", f"catalog/{name}.yaml"
    if name in recipe_names():
        return PACKAGE / f"{name}.yaml", f"{name}.yaml"
    for path in (Path(name), *([beside / name] if beside else [])):
        if path.is_file():
            return path, str(path)
    if name.endswith(SUFFIXES):
        raise SpaceError(f"{name}: no such file")
    if Path(name).is_dir():
        raise SpaceError(f"{name}: is a folder, but a space is a YAML file")
    known = [*names(), *recipe_names()]
    hint = f"; did you mean recipes/{name}?" if f"recipes/{name}" in known else nearest(name, known)
    raise SpaceError(f"{name}: no space or file of this name; the catalog has: {show_list(known)}{hint}")


def _read(path: Path, source: str) -> yaml12.Document:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise SpaceError(
                f"{source}: larger than {MAX_BYTES / 1e6:.0f} MB, which no space is; is this the right file?"
            )
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpaceError(f"{source}: not readable as YAML: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise SpaceError(f"{source}: cannot be read: {error.strerror or error}") from error
    document = yaml12.load(text, source)
    if not isinstance(document.tree, dict):
        raise SpaceError(f"{source}:1: a space is a mapping of keys, but got {show_value(document.tree)}")
    return document


def _check(space: Space) -> None:
    from winnow.spaces.validation import check

    check(space, known_image_shape(space.tree.get("data")))


# --- start points and baseline ----------------------------------------------------------------------------------------

_POINTS = ("start_from", "baseline")


def _resolve_points(
    tree: dict[str, Any], space: Space, folder: Path, was_overridden: bool
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """Return `start_from` and `baseline` with recipes written out as {name: config}, and notes on omitted start points."""
    problems: list[Problem] = []
    notes: list[str] = []
    resolved: dict[str, dict[str, Any]] = {}
    named = {section: _named_recipes(tree.get(section), section, folder, problems) for section in _POINTS}
    # The default `baseline` is the first start point, even if an override leaves it outside the space.
    for section, recipes in {**named, "baseline": named["baseline"] or named["start_from"][:1]}.items():
        points: dict[str, Any] = {}
        for where, name, recipe in recipes:
            raw, problem = _fit(recipe, space, must_be_inside=section == "start_from")
            if problem is None:
                points[name] = raw
            elif was_overridden:
                notes.append(f"{section}: {name} is left out because it does not fit the overrides: {problem}")
            else:
                problems.append(Problem(where, f"{name}: {problem}"))
        if points:
            resolved[section] = points
    refuse(problems, space.source_map)
    return resolved, tuple(notes)


def _named_recipes(
    value: Any, section: str, folder: Path, problems: list[Problem]
) -> Sequence[tuple[KeyPath, str, dict[str, Any]]]:
    """Return (key path, name, raw config) of each recipe that a section names or contains as {name: config}."""
    if value is None:
        return []
    if isinstance(value, dict):
        written_out = [((section, name), name, config) for name, config in value.items() if isinstance(config, dict)]
        if len(written_out) == len(value) and (len(value) == 1 or section == "start_from"):
            return written_out
    recipes = [value] if section == "baseline" else value
    if not isinstance(recipes, list) or not all(isinstance(name, str) for name in recipes):
        allowed = "a list of recipe names" if section == "start_from" else "the name of one recipe"
        problems.append(
            Problem((section,), f"must be {allowed}, or a mapping {{name: config}}, but got {show_value(value)}")
        )
        return []
    read: list[tuple[KeyPath, str, dict[str, Any]]] = []
    for index, name in enumerate(recipes):
        where: KeyPath = (section, index) if section == "start_from" else (section,)
        try:
            read.append((where, name, _read_recipe(name, folder)))
        except SpaceError as error:
            problems.append(Problem(where, str(error)))
    return read


def _read_recipe(name: str, folder: Path) -> dict[str, Any]:
    path, source = _find(name, beside=folder)
    document = _read(path, source)
    tree = {key: value for key, value in document.tree.items() if key not in _POINTS}
    recipe = Space.from_tree(tree, source, SourceMap(source, document.lines))
    if not recipe.is_recipe:
        raise SpaceError(f"{name}: a recipe must fix every value, but {recipe.parameters()[0].path} is open")
    raw = recipe.suggest(KnownTrial({}))
    recipe.config(raw)
    return raw


def _fit(recipe: dict[str, Any], space: Space, must_be_inside: bool) -> tuple[dict[str, Any], str | None]:
    """Return the recipe under the protocol of the space, and the reason why it does not fit, if it does not."""
    from winnow.spaces.start_points import under_protocol

    raw = under_protocol(recipe, space.root)
    reason = space.infeasible(raw, known_image_shape(raw.get("data")))
    if reason is None and must_be_inside:
        try:
            space.encode(raw)
        except SpaceError as error:
            reason = str(error)
    return raw, reason
