"""Metrics of a network's answers: functions of (logits float32 [N, K], labels int64 [N]) that `EPOCH_FIGURES` names."""

from __future__ import annotations

import torch

from winnow.spaces.epoch_figures import METRICS, load_metric


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Share of images whose highest logit is that of the true class."""
    return (logits.argmax(1) == labels).double().mean()


def all_metrics(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every metric of `winnow.spaces.epoch_figures.METRICS` by name, as float64 scalars on the device of the logits.

    Args:
        logits: float32 [N, K].
        labels: int64 [N].
    """
    return {
        figure.name: torch.as_tensor(load_metric(figure)(logits, labels), dtype=torch.float64, device=logits.device)
        for figure in METRICS
    }
