"""The config that the run ends in, and the command that trains it again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.reports.text.terminal import best_first

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData


def winner_config(run: RunData) -> dict[str, Any] | None:
    """The config of the first winner; before any retrain of the best trial; None where no trial has an objective."""
    for row in run.rows("winners"):
        if row["rank"] == 1:
            return json.loads(row["config"])
    ranked = best_first(run, run.rows("trials"))
    return json.loads(ranked[0]["config"]) if ranked and ranked[0]["config"] else None


def training_command(run: RunData, recipe: Path | str, rank: int = 1) -> str | None:
    """What trains winner `rank` again as retraining did, bit for bit where hardware and versions are the same: its lowest seed.

    `recipe` is the file of its config. None where no training of it was completed.
    """
    rows = [row for row in run.rows("retrains") if row["rank"] == rank and row["status"] == "completed"]
    if not rows:
        return None
    row = min(rows, key=lambda row: row["seed"])
    return training_words(
        recipe,
        seed=row["seed"],
        fit_validation=True,
        threads=row["threads"],
        micro_batches=row["micro_batches"],
        device=row["device"],
        data=run.space.tree.get("data"),
        data_dir=run.study.get("data_dir"),
    )


def training_words(
    recipe: Path | str,
    *,
    seed: int,
    fit_validation: bool = False,
    threads: int | None = None,
    micro_batches: int = 1,
    device: str | None = None,
    data: Any = None,
    data_dir: str | None = None,
) -> str:
    """`winnow train` with the options that decide the figures; `device` as recorded, a GPU by its name."""
    parts = ["winnow", "train", str(recipe), "--seed", str(seed)]
    if fit_validation:
        parts.append("--fit-validation")
    if threads is not None:
        parts += ["--threads", str(threads)]
    if micro_batches > 1:
        parts += ["--micro-batches", str(micro_batches)]
    if device is not None:
        parts += ["--device", device if device in ("cpu", "mps") else "cuda"]
    name = data.get("name") if isinstance(data, dict) else data
    if data_dir is not None and name in ("cifar10", "cifar100"):
        parts += ["--data-dir", data_dir]
    return shlex.join(parts)
