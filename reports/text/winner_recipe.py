"""Finds the winning config of a run, and the command that repeats its training."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.reports.tables.candidates import incumbent
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData


def winner_config(run: RunData) -> dict[str, Any] | None:
    """Return the config of the first winner, or before retraining the best config so far; None if no trial has an objective."""
    for row in run.rows("winners"):
        if row["rank"] == 1:
            return json.loads(row["config"])
    best = incumbent(run, run.rows("trials"))
    return json.loads(best["config"]) if best is not None and best["config"] else None


def training_command(run: RunData, recipe: Path | str, rank: int = 1) -> str | None:
    """Return the command that repeats the retraining of a winner with its lowest seed.

    With the same hardware and versions, the result is bit-for-bit equal.

    Args:
        run: The run.
        recipe: The file that contains the winner's config.
        rank: Rank of the winner, from 1. Default: 1, the best.

    Returns:
        A shell command; None if no retraining of this winner completed.
    """
    rows = [row for row in run.rows("retrains") if row["rank"] == rank and row["status"] == TrialStatus.COMPLETED]
    if not rows:
        return None
    row = min(rows, key=lambda row: row["seed"])
    if row["keep_validation"]:  # the split uses the seed of the search, but the training has its own seed
        return None
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
    """Return the `winnow train` command with all options that affect the result.

    Args:
        recipe: The file that contains the config.
        seed: Seed of the training.
        fit_validation: Whether the network is also trained on the validation images. Default: False.
        threads: Number of CPU threads; None to leave out the option.
        micro_batches: Number of pieces into which each batch is split. Default: 1.
        device: The device as recorded: `cpu`, `mps` or the name of a GPU; None to leave out the option.
        data: The `data` section of the space.
        data_dir: Folder of CIFAR; None to leave out the option.
    """
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
