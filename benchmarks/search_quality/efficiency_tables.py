"""The tables of `search_efficiency.py`: mean regret by family, differences to the default sampler, ranks and the worst task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

REFERENCE = "forecast"  # the others are compared with it

Runs = list[dict[str, Any]]
Array = np.ndarray


def tables(runs: Runs, halves: dict[str, list[str]], budgets: Sequence[int]) -> str:
    """Markdown: for each setting of workers and noise, and each half of the tasks, one table.

    Args:
        runs: The lines of the result file.
        halves: The names of the tasks of each half.
        budgets: The budgets of the longest runs, in full trainings.
    """
    lines = [
        "Normalised regret x 100 (0: best known, 100: median of random configs) of the incumbent, mean over tasks and seeds.",
        "`behind`: how much higher the regret is than that of `"
        + REFERENCE
        + "`, over all tasks, with a 95 % bootstrap interval over tasks.",
        "`family`: how much higher the mean regret of a family is than that of the best searcher in it, for the family where it is most.",
        "`worst`: the largest excess of a task over `random + ASHA`, at the budget where it is largest.",
        "",
    ]
    for workers, noise in sorted({(run["workers"], run["noise"]) for run in runs}):
        for half, tasks in halves.items():
            part = [r for r in runs if r["workers"] == workers and r["noise"] == noise and r["task"] in tasks]
            if part:
                lines += [f"## {half}, {workers} workers, noise {noise:g}", "", *_table(part, budgets), ""]
    return "\n".join(lines)


def _table(runs: Runs, budgets: Sequence[int]) -> list[str]:
    num_budgets = _num_budgets(runs)
    if not num_budgets:
        return ["No searcher has run on all of these tasks."]
    cells = _cells(runs, num_budgets)
    families = list(dict.fromkeys(run["family"] for run in runs))
    tasks = {family: sorted({r["task"] for r in runs if r["family"] == family}) for family in families}
    named = [task for family in families for task in tasks[family]]
    seeds = min(len({r["seed"] for r in runs if (r["contender"], r["task"]) == key}) for key in cells)
    means = {name: np.array([cells[name, task] for task in named]) for name in _complete(cells, named)}
    ranks = rankdata(np.stack(list(means.values())), axis=0).mean(axis=(1, 2))
    head = ["searcher", *(f"{family} ({len(tasks[family])} tasks)" for family in families)]
    head += ["family", "behind", "rank", "worst"]
    reached = " / ".join(map(str, budgets[:num_budgets]))
    lines = [
        f"After the cost of {reached} full trainings. At least {seeds} seeds of each task.",
        "",
        f"| {' | '.join(head)} |",
        "| --- " * len(head) + "|",
    ]
    by_family = {  # name -> [families, budgets]
        name: np.array([np.mean([cells[name, task] for task in tasks[family]], axis=0) for family in families])
        for name in means
    }
    best = np.min(np.stack(list(by_family.values())), axis=0)
    for (name, of_tasks), rank in zip(means.items(), ranks, strict=True):
        most = _joined((by_family[name] - best).max(axis=0))
        row = [name, *map(_joined, by_family[name]), most, _behind(of_tasks, means), f"{rank:.2f}"]
        row.append(_worst(of_tasks, means, named))
        lines.append(f"| {' | '.join(row)} |")
    return lines


def _num_budgets(runs: Runs) -> int:
    """Return how many budgets every searcher that has run on all tasks has reached on them; 0 if none has run on all."""
    longest: dict[str, dict[str, int]] = {}
    for run in runs:
        of_tasks = longest.setdefault(run["contender"], {})
        of_tasks[run["task"]] = max(of_tasks.get(run["task"], 0), len(run["regrets"]))
    num_tasks = len({run["task"] for run in runs})
    return min((min(of_tasks.values()) for of_tasks in longest.values() if len(of_tasks) == num_tasks), default=0)


def _cells(runs: Runs, num_budgets: int) -> dict[tuple[str, str], Array]:
    """(contender, task) -> mean regrets over the seeds, [budgets]."""
    regrets: dict[tuple[str, str], list[list[float]]] = {}
    for run in runs:
        if len(run["regrets"]) >= num_budgets:
            regrets.setdefault((run["contender"], run["task"]), []).append(run["regrets"][:num_budgets])
    return {key: np.mean(of_key, axis=0) for key, of_key in regrets.items()}


def _complete(cells: dict[tuple[str, str], Array], tasks: list[str]) -> list[str]:
    """The contenders that have run on all tasks."""
    return [name for name in dict.fromkeys(name for name, _ in cells) if all((name, task) in cells for task in tasks)]


def _behind(of_tasks: Array, means: dict[str, Array]) -> str:
    if REFERENCE not in means or of_tasks is means[REFERENCE]:
        return ""
    difference = of_tasks - means[REFERENCE]
    low, high = bootstrap(difference)
    ends = zip(difference.mean(axis=0), low, high, strict=True)
    return "; ".join(f"{mean:+.0f} [{start:+.0f}, {end:+.0f}]" for mean, start, end in ends)


def _worst(of_tasks: Array, means: dict[str, Array], tasks: list[str]) -> str:
    if "random + ASHA" not in means or of_tasks is means["random + ASHA"]:
        return ""
    excess = (of_tasks - means["random + ASHA"]).max(axis=1)
    return f"{excess.max():+.0f} ({tasks[int(excess.argmax())]})"


def _joined(values: Array) -> str:
    return " / ".join(f"{value:.0f}" for value in values)


def bootstrap(of_tasks: Array, num_samples: int = 10_000) -> tuple[Array, Array]:
    """The 95 % percentile interval of the mean over tasks: [tasks, budgets] -> two [budgets]."""
    picks = np.random.default_rng(0).integers(len(of_tasks), size=(num_samples, len(of_tasks)))
    low, high = np.quantile(of_tasks[picks].mean(axis=1), [0.025, 0.975], axis=0)
    return low, high
