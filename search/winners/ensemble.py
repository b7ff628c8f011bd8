"""The ensemble of a run's winners as one network: its outputs are the logarithm of the mean of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from winnow.reports.tables.ensemble import members
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import RunFolder, open_run
from winnow.search.winners.winner import Winner, load_retrained
from winnow.spaces.errors import InputError


class MeanOfProbabilities(nn.Module):
    """Several networks from images [N, C, H, W] to logits, as one: the softmax of its outputs is the mean of theirs."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logarithms = [network(images).log_softmax(1) for network in self.networks]
        return torch.stack(logarithms).logsumexp(0) - math.log(len(self.networks))


def load_ensemble(run: str | Path) -> Winner:
    """Load all retrained networks of all winners of a run as one network, on the CPU, ready to predict.

    Args:
        run: The run: its path, its name under `runs/`, or a `Run`.

    Returns:
        The ensemble. Its config is that of the first winner, and its `members` are the networks.

    Raises:
        InputError: There is no such run, or it has fewer than two retrained networks.
    """
    folder = open_run(run)
    return joined(_members(folder))


def _members(folder: RunFolder) -> list[Winner]:
    lines = [line for line in members(list(read_json_lines(folder.retrained))) if line.get("weights")]
    if len(lines) < 2:
        raise InputError(
            f"{folder.path}: an ensemble needs at least two retrained networks of winners, but there are {len(lines)}; "
            f"first: {folder.command('retrain')}"
        )
    return [load_retrained(folder, line) for line in lines]


def joined(networks: Sequence[Winner]) -> Winner:
    """Join winners of one run into one; they take the same images and have the same classes."""
    first = networks[0]
    network = MeanOfProbabilities([each.network for each in networks]).eval()
    origin: dict[str, Any] = {**first.origin, "ensemble": [_label(each.origin) for each in networks]}
    return Winner(network, first.config, first.class_names, origin, first.image_shape, tuple(networks))


def _label(origin: dict[str, Any]) -> dict[str, Any]:
    return {key: origin[key] for key in ("rank", "trial", "seed")}
