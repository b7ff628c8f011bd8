"""The training loop. Search, retraining, `winnow train` and the tests all call `train`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from winnow.search.seeds import Stream, derive_seed
from winnow.search.training.averaging import WeightAverage
from winnow.search.training.batches import Batches, EpochSums, MicroBatch, has_batch_norm
from winnow.search.training.checkpoint import to_cpu
from winnow.search.training.device_data import DeviceData
from winnow.search.training.early_stopping import BestWeights, EarlyStopping
from winnow.search.training.epoch_images import epoch_chunks
from winnow.search.training.epoch_result import NO_METRICS, EpochResult
from winnow.search.training.evaluate import EVALUATION_BATCH, predict, score
from winnow.search.training.graph_replay import GraphReplay, has_graphs
from winnow.search.training.heartbeat import beat
from winnow.search.training.loss_scaling import LEAST_SCALE, loss_scaler
from winnow.search.training.losses import LossFunction, build_loss
from winnow.search.training.mixing import Mixer
from winnow.search.training.network import initial_network
from winnow.search.training.optimizers import build_optimizer
from winnow.search.training.own_loop import own_epochs
from winnow.search.training.precision import autocast, image_format, number_type, prepare_device
from winnow.search.training.ranks import Rank, Team
from winnow.search.training.schedules import Plateau, lr_factor, momentum_at
from winnow.search.training.seeding import seeded
from winnow.spaces import schema
from winnow.spaces.epoch_figures import to_minimize


def train(
    config: schema.Config,
    data: DeviceData,
    device: torch.device,
    seed: int,
    checkpoint: dict[str, Any] | None = None,
    micro_batches: int = 1,
    team: Team | None = None,
) -> Iterator[EpochResult]:
    """Train one config, with its custom loop if it names one, and yield one result per epoch.

    The same seed gives the same numbers on the same device and number of threads, whether the training is interrupted or not:
    every epoch draws from generators seeded by (seed, stream, epoch), and the global generators are restored. Early stopping and
    the choice of weights need a validation split. Data built for retraining have none, so both are ignored there, and
    `config.stop_after` takes their place. A non-finite loss ends the training with a result whose `diverged` is true.

    Args:
        config: The config to train. Its `data` section must be the one that `data` was built with.
        data: The images on the device.
        device: The device to train on.
        seed: Seed of the weights, the order of the images, the augmentation and dropout.
        checkpoint: What `EpochResult.state` returned after an earlier epoch. Default: start from the beginning.
        micro_batches: Number of pieces in which each batch goes through the network (gradient accumulation), to save
            memory. The update is the same up to rounding, except that batch norm uses the statistics of a piece, and
            dropout draws differ. Default: 1.
        team: The ranks that train this config together, on which the same training was begun; each batch is split among
            them. Default: train alone.

    Yields:
        The result of each epoch, as soon as it is over.

    Raises:
        InputError: The network has batch norm and there is a single training image.
        RankLost: A rank of the team no longer responds.
        ValueError: The checkpoint is of a training with another seed.
    """
    if config.train is not None:
        yield from own_epochs(config, data, device, seed, checkpoint, micro_batches)
        return
    if team is None:
        training = TrainingState.start(config, data, device, seed, Rank(), micro_batches)
    else:
        with team.supervised():  # making the network parallel waits for all ranks
            training = TrainingState.start(config, data, device, seed, team.rank, micro_batches)
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


@dataclass
class TrainingState:
    """The state of a training between two epochs, on one rank."""

    config: schema.Config
    data: DeviceData
    device: torch.device
    seed: int
    rank: Rank
    model: nn.Module
    parallel: nn.Module
    """The model as called in training; with several ranks, it averages the gradients over them. It may replay CUDA graphs."""
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    """Scales the loss in float16; does nothing with other number types."""
    peak_lrs: list[float]
    """Learning rate of each parameter group before the schedule scales it."""
    batches: Batches
    best_weights: BestWeights
    early_stopping: EarlyStopping | None
    plateau: Plateau | None
    average: WeightAverage | None
    epoch: int = 0
    stopped: bool = False
    """Whether early stopping or divergence ended the training."""

    @staticmethod
    def start(
        config: schema.Config, data: DeviceData, device: torch.device, seed: int, rank: Rank, micro_batches: int
    ) -> TrainingState:
        """Build the network, the optimizer and the rest, before the first epoch.

        Args:
            config: The config to train; it names no custom loop.
            data: The images on the device.
            device: The device to train on.
            seed: Seed of the training.
            rank: The rank of this process among those that train the network together.
            micro_batches: Number of pieces in which each batch goes through the network, at least
                1.
        """
        prepare_device(device)
        model = initial_network(config, data, device, seed)
        assert config.optimizer is not None  # only a config with a custom loop has none
        optimizer = build_optimizer(config.optimizer, model, device, config.batch_size)
        batches = Batches(data.num_train, config.batch_size, has_batch_norm(model), micro_batches, rank)
        # A custom model may decide something in Python, which a recording would repeat for ever. While images are read ahead, another
        # thread allocates memory, which spoils a recording.
        can_replay = (
            not data.train.reads_ahead
            and not isinstance(config.model, schema.Custom)
            and rank.count == 1
            and micro_batches == 1
        )
        replays = config.cuda_graphs and can_replay and has_graphs(device)
        schedule, stopping, selects = config.schedule, config.early_stopping, data.validation is not None
        return TrainingState(
            config=config,
            data=data,
            device=device,
            seed=seed,
            rank=rank,
            model=model,
            parallel=GraphReplay(model) if replays else rank.parallel(model, device),
            optimizer=optimizer,
            scaler=loss_scaler(number_type(config.precision, device, model), device, optimizer),
            peak_lrs=[group["lr"] for group in optimizer.param_groups],
            batches=batches,
            average=WeightAverage.start(config.averaging, model, config.epochs * batches.steps_per_epoch)
            if config.averaging
            else None,
            best_weights=BestWeights(config.weights if selects else "last"),
            early_stopping=EarlyStopping(stopping.patience, stopping.min_delta, stopping.metric)
            if stopping and selects
            else None,
            plateau=Plateau(schedule.factor, schedule.patience, schedule.reductions)
            if isinstance(schedule, schema.Plateau)
            else None,
        )

    @property
    def ended(self) -> bool:
        """Whether no epoch follows."""
        return self.stopped or self.epoch >= self.config.last_epoch

    def run_epoch(self) -> EpochResult:
        """Train and validate one epoch, alone or as rank 0."""
        started = time.perf_counter()
        self.epoch += 1
        with seeded(self.device, derive_seed(Stream.DROPOUT, self.seed, self.epoch)):
            losses, train_loss, train_accuracy = self._fit()
            trained = time.perf_counter()
            validation_loss, metrics = None, dict[str, float | None](NO_METRICS)
            if self.data.validation is not None and math.isfinite(train_loss):
                images_at_once = EVALUATION_BATCH // self.batches.micro_batches
                with self._averaged():
                    logits, labels = predict(
                        self.model, self.data, self.data.validation, self.config.precision, images_at_once
                    )
                validation_loss, scores = score(logits, labels, self.config)
                metrics.update(scores)
        diverged = not math.isfinite(train_loss) or (validation_loss is not None and not math.isfinite(validation_loss))
        if diverged:
            self.stopped = True
            validation_loss, metrics = None, dict(NO_METRICS)
        else:
            self._observe(train_loss, {"validation_loss": validation_loss, **metrics})
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
            weights_epoch=self.best_weights.epoch or self.epoch,
            replays_graphs=isinstance(self.parallel, GraphReplay) and self.parallel.is_used,
            batch_losses=losses,
            _training=self,
        )

    def follow_epoch(self, lr_scale: float) -> None:
        """Train this rank's part of an epoch, on a rank other than 0. Rank 0 validates and decides."""
        self.epoch += 1
        if self.plateau is not None:
            self.plateau.scale = lr_scale
        # Each rank has its own dropout seed: the same draws would drop the same units for different images.
        with seeded(self.device, derive_seed(Stream.DROPOUT, self.seed, self.epoch, self.rank.index)):
            self._fit()

    def _fit(self) -> tuple[torch.Tensor, float, float]:
        """Train on all images once, and return (loss of each micro-batch, mean loss, accuracy).

        Mean and accuracy are NaN if a loss is not finite, or if gradients overflow in float16 at any scale of the loss; the epoch
        then ends early. All ranks draw and augment whole batches in the same way, and each trains its part.
        """
        steps_per_epoch = self.batches.steps_per_epoch
        step, total_steps = (self.epoch - 1) * steps_per_epoch, self.config.epochs * steps_per_epoch
        loss_function = build_loss(self.config.loss, self.data.class_counts)
        mixed_precision = autocast(self.config.precision, self.device, self.model)
        sums = EpochSums(self.rank, self.device)
        self.parallel.train()
        mixer = None
        if self.config.mix is not None:
            per_image = not isinstance(self.config.loss, schema.OwnLoss)
            mixer = Mixer(self.config.mix, derive_seed(Stream.MIXING, self.seed, self.epoch), per_image)
        memory_format = image_format(self.parallel)
        chunks = epoch_chunks(self.data, self.config.batch_size, self.seed, self.epoch, memory_format)
        for images, labels in chunks:
            for batch in self.batches.of(images, labels, mixer):
                self._set_lr(step, total_steps, steps_per_epoch)
                self._set_momentum(step, total_steps)
                self._update(batch, loss_function, mixed_precision, sums)
                beat()
                step += 1
            # The host waits for the device only here, so a diverged training ends after the chunk, on all ranks.
            if not sums.all_finite() or self._overflows():
                break
        losses, mean_loss, accuracy = sums.figures()
        return (losses, math.nan, math.nan) if self._overflows() else (losses, mean_loss, accuracy)

    def _update(
        self,
        batch: list[MicroBatch],
        loss_function: LossFunction,
        mixed_precision: AbstractContextManager[object],
        sums: EpochSums,
    ) -> None:
        """Take one optimizer step. In float16, a step whose gradients overflow is skipped, and the scale of the loss is lowered."""
        self.optimizer.zero_grad()
        for part in batch:
            with mixed_precision:
                logits = self.parallel(part.images)
                loss = _loss_of(loss_function, logits.float(), part)
            self.scaler.scale(loss if part.weight == 1 else loss * part.weight).backward()
            sums.add(part, loss, logits)
        self.scaler.unscale_(self.optimizer)
        if self.config.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parallel.parameters(), self.config.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.step()

    def _overflows(self) -> bool:
        """Return whether gradients overflow in float16 at any scale of the loss. All ranks agree, since their gradients are equal."""
        return self.scaler.is_enabled() and self.scaler.get_scale() < LEAST_SCALE

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Give the model the averaged weights within this context, if there is an average."""
        if self.average is None:
            yield
            return
        self.average.swap()
        try:
            yield
        finally:
            self.average.swap()

    def _set_lr(self, step: int, total_steps: int, steps_per_epoch: int) -> None:
        """Set the learning rates: the peak of each group, times the factor of the schedule, times the scale of a plateau."""
        factor = lr_factor(self.config.schedule, step, total_steps, steps_per_epoch)
        if self.plateau is not None:
            factor *= self.plateau.scale
        for group, peak in zip(self.optimizer.param_groups, self.peak_lrs, strict=True):
            group["lr"] = peak * factor

    def _set_momentum(self, step: int, total_steps: int) -> None:
        """Set the momentum, or Adam's `beta1`, if the schedule changes it."""
        if getattr(self.config.schedule, "lowest_momentum", None) is None:
            return
        defaults = self.optimizer.defaults
        is_adam = "betas" in defaults
        momentum = defaults["betas"][0] if is_adam else defaults["momentum"]
        value = momentum_at(self.config.schedule, momentum, step, total_steps)
        for group in self.optimizer.param_groups:
            group.update({"betas": (value, group["betas"][1])} if is_adam else {"momentum": value})

    def _observe(self, train_loss: float, values: dict[str, float | None]) -> None:
        """Pass the values of a finished epoch to the plateau schedule, the choice of weights and early stopping."""
        is_validated = values["validation_loss"] is not None
        schedule = self.config.schedule
        if self.plateau is not None and isinstance(schedule, schema.Plateau):
            # Without a validation split, the training loss takes the place of the metric.
            self.plateau.observe(self.epoch, to_minimize(schedule.metric, values) if is_validated else train_loss)
        if not is_validated:
            return
        with self._averaged():
            self.best_weights.observe(self.epoch, values, self.model)
        if self.early_stopping is not None:
            self.stopped = self.early_stopping.observe(values)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return CPU copies of the weights to evaluate."""
        best = self.best_weights.weights
        if best is not None:
            return best
        return to_cpu(self.average.average if self.average else self.model.state_dict())

    def state(self) -> dict[str, Any]:
        """Return what `restore` reads: CPU tensors and plain values."""
        return to_cpu(
            {
                "epoch": self.epoch,
                "seed": self.seed,
                "stopped": self.stopped,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                **{key: vars(part) if part else None for key, part in self._observers.items()},
                **({"average": self.average.state()} if self.average else {}),
            }
        )

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned.

        Raises:
            ValueError: The checkpoint is of a training with another seed.
        """
        if state["seed"] != self.seed:
            raise ValueError(f"the checkpoint has the seed {state['seed']}, not {self.seed}")
        self.epoch, self.stopped = state["epoch"], state["stopped"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        # The state is empty after epochs with another number type, on another kind of device.
        if self.scaler.is_enabled() and state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        for key, part in self._observers.items():
            if state[key] is not None:
                vars(part).update(state[key])
        if self.average is not None:
            self.average.restore(state["average"])

    @property
    def _observers(self) -> dict[str, BestWeights | EarlyStopping | Plateau | None]:
        """The parts that remember earlier epochs, by their keys in a checkpoint."""
        return {"kept": self.best_weights, "early_stop": self.early_stopping, "plateau": self.plateau}


def weights_of(checkpoint: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights to evaluate from a checkpoint, as `EpochResult.weights` returned them after its epoch.

    Args:
        checkpoint: What `EpochResult.state` returned.
    """
    weights: dict[str, torch.Tensor] | None = checkpoint["kept"]["weights"]
    if weights is not None:
        return weights
    model = checkpoint["model"] if "model" in checkpoint else checkpoint["parts"]["model"]  # of a custom loop
    return dict(checkpoint["average"]["average"] if "average" in checkpoint else model)


def _loss_of(loss_function: LossFunction, logits: torch.Tensor, part: MicroBatch) -> torch.Tensor:
    """Return the mean loss of a micro-batch, mixed in the same way as its images."""
    if part.other_labels is None or part.shares is None:
        return loss_function(logits, part.labels)
    return loss_function(logits, part.labels, part.shares) + loss_function(logits, part.other_labels, 1 - part.shares)
