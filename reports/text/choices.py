"""Compares the options of a choice, such as the optimizers, among completed trials of the same depth."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from winnow.reports.tables.candidates import completed_inside

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

DEPTH = "model.depth"
"""The parameter whose values are compared separately: deeper networks are often better, whatever trains them."""
MAX_CHOICES = 6
"""Largest number of choices that are compared; those of whole parts, such as `optimizer.name`, come first."""
MAX_DEPTHS = 8
"""Largest number of depths that are shown: those with the most completed trials."""


@dataclass(frozen=True)
class Results:
    """The objectives of the completed trials with one option and one depth."""

    median: float
    best: float
    num: int


@dataclass(frozen=True)
class EqualDepth:
    """The results of each option of each choice, by depth."""

    depths: list[int]
    """Ascending."""
    options: dict[tuple[str, str], dict[int, Results]]
    """{(path of the choice, option): {depth: its results}}; a depth without completed trials is left out."""
    num_depths_left_out: int
    """Number of further depths, with fewer completed trials."""
    num_choices_left_out: int
    """Number of further choices that the space searches, beyond `MAX_CHOICES`."""


def choice_paths(run: RunData) -> list[str]:
    """Return the choices that are compared: columns of texts or of true and false that the space searches, without those of single stages.

    Args:
        run: The run. The result is empty if its space does not search the depth.
    """
    return _all_choice_paths(run)[:MAX_CHOICES]


def _all_choice_paths(run: RunData) -> list[str]:
    """Return the choices that could be compared, in the order of `choice_paths`."""
    kinds = run.space.columns()
    if kinds.get(DEPTH) != "int":
        return []
    paths = [path for path, kind in kinds.items() if kind in ("string", "bool") and not _is_numbered(path)]
    return sorted(paths, key=lambda path: not path.endswith(".name"))


def _is_numbered(path: str) -> bool:
    """Return whether a path belongs to one of several stages, as `model.stages.0.pool`."""
    return any(part.isdigit() for part in path.split("."))


def at_equal_depth(run: RunData) -> EqualDepth | None:
    """Compare the options of each choice among completed trials of the same depth.

    Args:
        run: The run.

    Returns:
        The results; None if the space does not search the depth, or if no choice has two options with completed trials.
    """
    paths = choice_paths(run)
    values: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    num_of_depth: Counter[int] = Counter()
    for row in completed_inside(run.rows("trials") if paths else []):
        if row[DEPTH] is None:
            continue
        num_of_depth[row[DEPTH]] += 1
        for path in paths:
            if row[path] is not None:
                values[path, _option(row[path])][row[DEPTH]].append(row["objective"])
    if max(Counter(path for path, _ in values).values(), default=0) < 2:
        return None
    best = max if run.maximize else min
    depths = sorted(sorted(num_of_depth, key=lambda depth: (-num_of_depth[depth], depth))[:MAX_DEPTHS])
    options = {
        (path, option): {
            depth: Results(median(found), best(found), len(found)) for depth, found in sorted(by_depth.items())
        }
        for path in paths
        for (known, option), by_depth in sorted(values.items())
        if known == path
    }
    return EqualDepth(depths, options, len(num_of_depth) - len(depths), len(_all_choice_paths(run)) - len(paths))


def _option(value: str | bool) -> str:
    """Return an option as text, as SQL writes it."""
    return str(value).lower() if isinstance(value, bool) else value
