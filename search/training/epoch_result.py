"""The result of one epoch, from Winnow's loop and from a user's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from winnow.spaces.epoch_figures import EPOCH_FIGURES, METRICS

NO_METRICS: dict[str, float | None] = dict.fromkeys(figure.name for figure in METRICS)


class LiveTraining(Protocol):
    """A training between two epochs."""

    epoch: int
    """The last finished epoch, counted from 1."""

    def state(self) -> dict[str, Any]:
        """Return everything that is needed to resume from here: CPU tensors and plain values."""
        ...

    def weights(self) -> dict[str, torch.Tensor]:
        """Return CPU copies of the weights to evaluate."""
        ...


@dataclass(frozen=True)
class EpochResult:
    """The result of one epoch. `state` and `weights` read the live training: call them before the next epoch begins."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    """Mean over the images of the epoch, while the weights were changing; NaN if the training diverged, or if a custom loop does not yield it."""
    train_accuracy: float
    """In [0, 1], measured like `train_loss`."""
    validation_loss: float | None
    """Without label smoothing and class weights; None in retraining and if the training diverged."""
    metrics: dict[str, float | None]
    """The metrics of the validation images (`winnow.spaces.epoch_figures.METRICS`) by name; None like `validation_loss`."""
    lr: float
    """Learning rate of the first parameter group at the last step; NaN if a custom loop does not yield it."""
    wall_seconds: float
    """Duration of the epoch, validation included."""
    images_per_second: float
    """Training images per second, without validation, unless a custom loop validates by itself."""
    diverged: bool
    last: bool
    """Whether the training is over, because of its number of epochs, early stopping or divergence."""
    weights_epoch: int
    """The epoch whose weights `weights` returns."""
    replays_graphs: bool
    """Whether its last steps replayed the network as CUDA graphs."""
    batch_losses: torch.Tensor = field(repr=False)
    """float32 [micro-batches] on the CPU: the training loss of each; empty for a custom loop."""
    _training: LiveTraining = field(repr=False, compare=False)

    @property
    def validation_accuracy(self) -> float | None:
        return self.metrics["validation_accuracy"]

    def figures(self) -> dict[str, Any]:
        """Return the plain values of all `EPOCH_FIGURES` by name; a value that is not finite stays as it is."""
        return {f.name: self.metrics[f.name] if f.name in NO_METRICS else getattr(self, f.name) for f in EPOCH_FIGURES}

    def state(self) -> dict[str, Any]:
        """Return everything that is needed to resume exactly from here: CPU tensors and plain values."""
        return self._live().state()

    def weights(self) -> dict[str, torch.Tensor]:
        """Return CPU copies of the weights to evaluate: of the last epoch, or of the best one by `config.weights`."""
        return self._live().weights()

    def _live(self) -> LiveTraining:
        if self._training.epoch != self.epoch:
            raise RuntimeError(f"epoch {self.epoch} is over; the training has reached epoch {self._training.epoch}")
        return self._training
