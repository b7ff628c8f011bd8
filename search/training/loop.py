"""The one training loop. Search, retraining, `winnow train` and the tests all consume `train`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from winnow import models
from winnow.search.seeds import Stream, derive_seed
from winnow.search.training.device_data import DeviceData
from winnow.search.training.early_stopping import EarlyStop, KeptWeights
from winnow.search.training.evaluate import EVALUATION_BATCH, predict, score
from winnow.search.training.losses import build_loss
from winnow.search.training.optimizers import build_optimizer
from winnow.search.training.precision import autocast, image_format, prepare_device
from winnow.search.training.ranks import Rank, Team
from winnow.search.training.schedules import Plateau, lr_factor
from winnow.spaces import schema
from winnow.spaces.epoch_figures import EPOCH_FIGURES, METRICS
from winnow.spaces.errors import InputError

NO_METRICS: dict[str, float | None] = dict.fromkeys(figure.name for figure in METRICS)


def train(
    config: schema.Config,
    data: DeviceData,
    device: torch.device,
    seed: int,
    checkpoint: dict[str, Any] | None = None,
    micro_batches: int = 1,
    team: Team | None = None,
) -> Iterator[EpochResult]:
    """Train `config` on `data`, one result an epoch, from the start or from what `EpochResult.state` gave.

    The same seed gives the same numbers on the same device and number of threads, interrupted or not: every epoch draws
    from generators seeded by (seed, stream, epoch), and the global generators are left as they were found. Early stopping
    and the choice of weights need a validation split; in retrain use there is none, and both are passed over.
    A non-finite loss ends the training with a result that says `diverged`. With `micro_batches` above 1 each batch goes
    through the network in so many pieces, which needs less memory: the same update up to rounding, but where the network
    has batch norm (its statistics are then those of a piece) or draws dropout. With a `team`, on which the same training
    was begun, each batch is shared out among its ranks; the same holds. A rank that is lost raises RankLost.
    """
    if team is None:
        training = Training.start(config, data, device, seed, Rank(), micro_batches)
    else:
        with team.supervised():  # making the network parallel waits for all ranks
            training = Training.start(config, data, device, seed, team.rank, micro_batches)
    if checkpoint is not None:
        training.restore(checkpoint)
    while not training.ended:
        if team is None:
            result = training.run_epoch()
        else:
            with team.supervised():
                team.epoch(training.plateau.scale if training.plateau else 1.0)
                result = training.run_epoch()
        yield result


@dataclass(frozen=True)
class EpochResult:
    """One epoch. `state` and `weights` read the live training: call them before the next epoch is asked for."""

    epoch: int
    """From 1."""
    train_loss: float
    """Means over the images of the epoch, while the weights were moving; NaN if the training diverged."""
    train_accuracy: float
    validation_loss: float | None
    """Without label smoothing; None in retrain use and where the training diverged."""
    metrics: dict[str, float | None]
    """What the validation images gave (`winnow.spaces.epoch_figures.METRICS`), by name; None like `validation_loss`."""
    lr: float
    """Of the first parameter group, at the last step."""
    wall_seconds: float
    """Validation included."""
    images_per_second: float
    """Training images, validation not included."""
    diverged: bool
    last: bool
    """No epoch follows: by count, early stopping or divergence."""
    weights_epoch: int
    """The epoch whose weights `weights` gives."""
    batch_losses: torch.Tensor = field(repr=False)
    """float32 [steps] on the CPU: the training loss of each batch."""
    _training: Training = field(repr=False, compare=False)

    @property
    def validation_accuracy(self) -> float | None:
        return self.metrics["validation_accuracy"]

    def figures(self) -> dict[str, Any]:
        """The plain values of all `EPOCH_FIGURES` by name; a value that is not finite stays as it is."""
        return {f.name: self.metrics[f.name] if f.metric else getattr(self, f.name) for f in EPOCH_FIGURES}

    def state(self) -> dict[str, Any]:
        """All that is needed to go on exactly from here: CPU tensors and plain values."""
        return self._live().state()

    def weights(self) -> dict[str, torch.Tensor]:
        """CPU copies of the weights to be tested: of the last epoch, or of the best as `config.weights` says."""
        return self._live().weights()

    def _live(self) -> Training:
        if self._training.epoch != self.epoch:
            raise RuntimeError(f"epoch {self.epoch} is over: the training is at epoch {self._training.epoch}")
        return self._training


@dataclass
class Training:
    """A training between two epochs, or a rank's part in one."""

    config: schema.Config
    data: DeviceData
    device: torch.device
    seed: int
    rank: Rank
    model: nn.Module
    parallel: nn.Module
    """The model, or on several ranks what makes its gradients theirs together."""
    optimizer: torch.optim.Optimizer
    peak_lrs: list[float]
    """Of each parameter group, before the schedule."""
    kept: KeptWeights
    early_stop: EarlyStop | None
    plateau: Plateau | None
    epoch: int = 0
    stopped: bool = False
    """By early stopping or divergence."""
    micro_batches: int = 1

    @staticmethod
    def start(
        config: schema.Config, data: DeviceData, device: torch.device, seed: int, rank: Rank, micro_batches: int
    ) -> Training:
        prepare_device(device)
        with _seeded(device, derive_seed(Stream.WEIGHTS, seed)):
            model = models.build(config.model, data.image_shape, data.num_classes)
        model.to(device)
        model.to(memory_format=image_format(model))
        optimizer = build_optimizer(config.optimizer, model, device)
        schedule, selects = config.schedule, data.validation is not None
        return Training(
            config=config,
            data=data,
            device=device,
            seed=seed,
            rank=rank,
            model=model,
            parallel=rank.parallel(model, device),
            optimizer=optimizer,
            peak_lrs=[group["lr"] for group in optimizer.param_groups],
            kept=KeptWeights(config.weights if selects else "last"),
            early_stop=EarlyStop(config.early_stopping.patience) if config.early_stopping and selects else None,
            plateau=Plateau(schedule.factor, schedule.patience) if isinstance(schedule, schema.Plateau) else None,
            micro_batches=micro_batches,
        )

    @property
    def ended(self) -> bool:
        return self.stopped or self.epoch >= self.config.epochs

    def run_epoch(self) -> EpochResult:
        started = time.perf_counter()
        self.epoch += 1
        with _seeded(self.device, derive_seed(Stream.DROPOUT, self.seed, self.epoch)):
            losses, train_loss, train_accuracy = self._fit()
            trained = time.perf_counter()
            validation_loss, metrics = None, dict[str, float | None](NO_METRICS)
            if self.data.validation is not None and math.isfinite(train_loss):
                images_at_once = EVALUATION_BATCH // self.micro_batches
                logits, labels = predict(self.model, self.data, self.data.validation, self.config, images_at_once)
                validation_loss, scores = score(logits, labels, self.config)
                metrics.update(scores)
        diverged = not math.isfinite(train_loss) or (validation_loss is not None and not math.isfinite(validation_loss))
        if diverged:
            self.stopped = True
            validation_loss, metrics = None, dict(NO_METRICS)
        else:
            self._observe(train_loss, validation_loss, metrics["validation_accuracy"])
        return EpochResult(
            epoch=self.epoch,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=validation_loss,
            metrics=metrics,
            lr=self.optimizer.param_groups[0]["lr"],
            wall_seconds=time.perf_counter() - started,
            images_per_second=self.data.num_train / (trained - started),
            diverged=diverged,
            last=self.ended,
            weights_epoch=self.kept.epoch or self.epoch,
            batch_losses=losses,
            _training=self,
        )

    def follow_epoch(self, lr_scale: float) -> None:
        """The part of a rank other than 0 in an epoch; what follows from the epoch rank 0 decides."""
        self.epoch += 1
        if self.plateau is not None:
            self.plateau.scale = lr_scale
        # Dropout of its own: the same draws on every rank would drop the same units of different images.
        with _seeded(self.device, derive_seed(Stream.DROPOUT, self.seed, self.epoch, self.rank.index)):
            self._fit()

    def _fit(self) -> tuple[torch.Tensor, float, float]:
        """One pass over the training images: (loss of each batch, mean loss, accuracy); NaN as soon as a loss is not finite.

        On several ranks all of them draw and augment whole batches in the same way, and each trains its part.
        """
        config, model, optimizer, rank = self.config, self.parallel, self.optimizer, self.rank
        batch_size, loss_function = config.batch_size, build_loss(config.loss)
        order = torch.Generator().manual_seed(derive_seed(Stream.ORDER, self.seed, self.epoch))
        draws = torch.Generator(self.device).manual_seed(derive_seed(Stream.AUGMENTATION, self.seed, self.epoch))
        # A single image cannot be batch-normalised, so no part of a batch has less than two.
        has_batch_norm = _has_batch_norm(model)
        least = 2 if has_batch_norm else 1
        skip_single = batch_size > 1 and has_batch_norm
        num_images = self.data.num_train
        steps_per_epoch = -(-num_images // batch_size)
        if skip_single and num_images % batch_size == 1:
            steps_per_epoch -= 1
        if not steps_per_epoch:
            raise InputError("data: a single training image cannot be batch-normalised; use more images")
        step, total_steps = (self.epoch - 1) * steps_per_epoch, config.epochs * steps_per_epoch
        mixed_precision = autocast(config.precision, self.device, self.model)
        losses, sizes, right = [], [], []
        model.train()
        for images, labels in self.data.train_chunks(batch_size, order, draws, image_format(model)):
            guesses, truths = [], []
            for batch, truth in zip(images.split(batch_size), labels.split(batch_size), strict=True):
                if skip_single and len(batch) == 1:
                    continue
                self._set_lr(step, total_steps, steps_per_epoch)
                optimizer.zero_grad()
                num_images_of_batch, num_ranks = len(batch), 1
                if rank.shares(len(batch), least):
                    num_ranks = rank.count
                    batch, truth = (whole.tensor_split(num_ranks)[rank.index] for whole in (batch, truth))
                # As many on every rank, of which the smallest part has so many images.
                num_pieces = min(self.micro_batches, num_images_of_batch // num_ranks // least) or 1
                for part, part_truth in zip(
                    batch.tensor_split(num_pieces), truth.tensor_split(num_pieces), strict=True
                ):
                    with mixed_precision:
                        logits = model(part)
                        loss = loss_function(logits.float(), part_truth)
                    # The mean over the ranks is then the mean over the images of the batch.
                    share = num_ranks * len(part) / num_images_of_batch
                    (loss if share == 1 else loss * share).backward()
                    losses.append(loss.detach())
                    counted = num_ranks == rank.count or rank.index == 0
                    sizes.append(len(part) if counted else 0)
                    if counted:
                        guesses.append(logits.detach().argmax(1))
                        truths.append(part_truth)
                if config.gradient_clip is not None:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
                optimizer.step()
                step += 1
            if guesses:
                right.append((torch.cat(guesses) == torch.cat(truths)).sum())
            # The one place where the host waits for the device: a diverged training ends within the chunk, on all ranks.
            if not math.isfinite(rank.sum(losses[-1].clone()).item()):
                break
        weight = torch.tensor(sizes, dtype=torch.float64)
        batch_losses = torch.stack(losses).float().cpu()
        num_right = torch.stack(right).sum() if right else torch.zeros((), dtype=torch.int64, device=self.device)
        if rank.count > 1:
            batch_losses, weight = self._over_ranks(batch_losses, weight)
            rank.sum(num_right)
        if not bool(batch_losses.isfinite().all()):
            return batch_losses, math.nan, math.nan
        mean_loss = float((batch_losses.double() * weight).sum() / weight.sum())
        return batch_losses, mean_loss, int(num_right) / int(weight.sum())

    def _over_ranks(self, losses: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(losses, sizes) of all ranks together, of each rank's own; NCCL wants them on the GPU."""
        both = torch.stack([losses.double() * sizes, sizes]).to(self.device)
        total, weight = self.rank.sum(both).cpu()
        return (total / weight).float(), weight

    def _set_lr(self, step: int, total_steps: int, steps_per_epoch: int) -> None:
        factor = lr_factor(self.config.schedule, step, total_steps, steps_per_epoch)
        if self.plateau is not None:
            factor *= self.plateau.scale
        for group, peak in zip(self.optimizer.param_groups, self.peak_lrs, strict=True):
            group["lr"] = peak * factor

    def _observe(self, train_loss: float, validation_loss: float | None, validation_accuracy: float | None) -> None:
        if self.plateau is not None:
            # Retraining has no validation split; the plateau of the training loss is the nearest thing.
            self.plateau.observe(train_loss if validation_loss is None else validation_loss)
        if validation_loss is None or validation_accuracy is None:
            return
        self.kept.observe(self.epoch, validation_loss, validation_accuracy, self.model)
        if self.early_stop is not None:
            self.stopped = self.early_stop.observe(validation_loss)

    def weights(self) -> dict[str, torch.Tensor]:
        return self.kept.weights if self.kept.weights is not None else to_cpu(self.model.state_dict())

    def state(self) -> dict[str, Any]:
        return to_cpu(
            {
                "epoch": self.epoch,
                "seed": self.seed,
                "stopped": self.stopped,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "kept": vars(self.kept),
                "early_stop": vars(self.early_stop) if self.early_stop else None,
                "plateau": vars(self.plateau) if self.plateau else None,
            }
        )

    def restore(self, state: dict[str, Any]) -> None:
        """ValueError for the state of a training with another seed."""
        if state["seed"] != self.seed:
            raise ValueError(f"the checkpoint is of seed {state['seed']}, not of {self.seed}")
        self.epoch, self.stopped = state["epoch"], state["stopped"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in ("kept", "early_stop", "plateau"):
            if state[name] is not None:
                vars(getattr(self, name)).update(state[name])


def to_cpu(value: Any) -> Any:
    """A copy of a state with its tensors on the CPU, memory formats kept (fused optimizers rely on equal strides)."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: to_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_cpu(item) for item in value)
    return value


def _has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Run on the global generators (weights and dropout draw from them), then put those back."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        # torch.manual_seed would also seed GPUs that this training has nothing to do with.
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
