"""Runs a user's own training loop, named by import path. Every epoch yields an `EpochResult`, as in Winnow's loop."""

from __future__ import annotations

import inspect
import math
import numbers
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from winnow import models
from winnow.search.seeds import Stream, derive_seed
from winnow.search.training.checkpoint import to_cpu
from winnow.search.training.device_data import DeviceData
from winnow.search.training.early_stopping import BestWeights, EarlyStopping
from winnow.search.training.epoch_result import NO_METRICS, EpochResult
from winnow.search.training.evaluate import predict, score
from winnow.search.training.heartbeat import beat
from winnow.search.training.loop_arguments import Checkpoint, LoopConfig, LoopData
from winnow.search.training.network import initial_network
from winnow.search.training.precision import image_format, prepare_device
from winnow.search.training.seeding import all_seeded, seed_all
from winnow.spaces import own_code, schema
from winnow.spaces.epoch_figures import BUILT_IN_METRICS
from winnow.spaces.errors import InputError

ARGUMENTS = ("config", "data", "device", "checkpoint")
VALIDATED = ("validation_loss", *(figure.name for figure in BUILT_IN_METRICS))
YIELDED = ("train_loss", "train_accuracy", "lr", *VALIDATED)
"""The figures that a loop may yield. Those of the validation images are computed by Winnow, whatever it yields."""
LOSSES = ("train_loss", "validation_loss")
"""The figures that must be finite, otherwise the training has diverged."""
MOST_APART = 0.1
"""Largest difference between a yielded validation accuracy and that of the network.

They may differ, since a loop may average over several views of an image."""


def own_epochs(
    config: schema.Config,
    data: DeviceData,
    device: torch.device,
    seed: int,
    checkpoint: dict[str, Any] | None = None,
    micro_batches: int = 1,
) -> Iterator[EpochResult]:
    """Train one config with its custom loop, and yield one result per epoch.

    Args:
        config: The config to train, which names a loop.
        data: The images on the device.
        device: The device to train on.
        seed: Seed of the weights and of all draws.
        checkpoint: What `EpochResult.state` returned after an earlier epoch. Default: start from
            the beginning.
        micro_batches: 1, the default; anything above is refused.

    Yields:
        The result of each epoch, as soon as it is over.

    Raises:
        InputError: The loop does not follow docs/how-to/own-loop.md.
        MemoryError: `micro_batches` is above 1, but only Winnow's own loop can divide batches into
            pieces.
        ValueError: The checkpoint is of a training with another seed.
    """
    if micro_batches > 1:
        raise MemoryError(
            "out of memory, and Winnow cannot split the batches of a custom loop into micro-batches; a smaller batch_size needs less"
        )
    training = OwnTraining(config, data, device, seed, checkpoint)
    with closing(training):
        while not training.ended:
            yield training.run_epoch()


class OwnTraining:
    """A training with a custom loop, between two epochs."""

    def __init__(
        self,
        config: schema.Config,
        data: DeviceData,
        device: torch.device,
        seed: int,
        state: dict[str, Any] | None = None,
    ) -> None:
        assert config.train is not None
        if state is not None and state["seed"] != seed:
            raise ValueError(f"the checkpoint has the seed {state['seed']}, not {seed}")
        prepare_device(device)
        stopping, selects = config.early_stopping, data.validation is not None
        self.epoch: int = state["epoch"] if state else 0
        self.stopped: bool = state["stopped"] if state else False
        self._config, self._data, self._device, self._seed = config, data, device, seed
        self._best_weights = BestWeights(config.weights if selects else "last")
        self._early_stopping = (
            EarlyStopping(stopping.patience, stopping.min_delta, stopping.metric) if stopping and selects else None
        )
        if state is not None:
            for part, key in ((self._best_weights, "kept"), (self._early_stopping, "early_stop")):
                if part is not None and state[key] is not None:
                    vars(part).update(state[key])
        self._network: nn.Module | None = None
        self._images = LoopData(data, config.batch_size, seed, self.epoch + 1)
        self.checkpoint = Checkpoint(config.epochs, state, self._begin)
        self._name = config.train.name
        self._function = own_code.load("train", self._name)
        self._loop = self._start(config.train)

    @property
    def ended(self) -> bool:
        """Whether no epoch follows."""
        return self.stopped or self.epoch >= self._config.last_epoch

    def unread(self) -> set[str]:
        """Return the keys of `train` that the loop has not read yet."""
        assert self._config.train is not None
        return self._settings.unread() & self._config.train.keys.keys()

    def close(self) -> None:
        """End the loop where it is, and run its `finally` blocks."""
        self._loop.close()

    def run_epoch(self) -> EpochResult:
        """Let the loop run until it yields, and validate its network."""
        started = time.perf_counter()
        self.epoch += 1
        with all_seeded(self._device, derive_seed(Stream.DROPOUT, self._seed, self.epoch)):
            figures = self._next_figures()
            beat()  # the loop may read no loader, and a retraining reports no epochs
            trained = time.perf_counter()
            validation_loss, metrics = None, dict(NO_METRICS)
            diverged = not all(math.isfinite(figures[name]) for name in LOSSES if name in figures)
            if self._data.validation is not None and not diverged:
                validation_loss, metrics = self._validate(figures)
                diverged = not math.isfinite(validation_loss)
        if diverged:
            self.stopped = True
            validation_loss, metrics = None, dict(NO_METRICS)
        elif validation_loss is not None:
            values = {"validation_loss": validation_loss, **metrics}
            self._best_weights.observe(self.epoch, values, self.model)
            self.stopped = self._early_stopping is not None and self._early_stopping.observe(values)
        return EpochResult(
            epoch=self.epoch,
            train_loss=math.nan if diverged else figures.get("train_loss", math.nan),
            train_accuracy=math.nan if diverged else figures.get("train_accuracy", math.nan),
            validation_loss=validation_loss,
            metrics=metrics,
            lr=figures.get("lr", math.nan),
            wall_seconds=time.perf_counter() - started,
            images_per_second=self._data.num_train / (trained - started),
            diverged=diverged,
            last=self.ended,
            weights_epoch=self._best_weights.epoch or self.epoch,
            replays_graphs=False,
            batch_losses=torch.empty(0),
            _training=self,
        )

    @property
    def model(self) -> nn.Module:
        """The network that the loop named."""
        if self.checkpoint.model is None:
            raise self._refusal("must loop over checkpoint.epochs(model=..., optimizer=...), which stores the state")
        return self.checkpoint.model

    def weights(self) -> dict[str, torch.Tensor]:
        """Return CPU copies of the weights to evaluate."""
        best = self._best_weights.weights
        weights: dict[str, torch.Tensor] = to_cpu(self.model.state_dict()) if best is None else best
        return weights

    def state(self) -> dict[str, Any]:
        """Return what a later `OwnTraining` takes: CPU tensors and plain values."""
        state: dict[str, Any] = to_cpu(
            {
                "epoch": self.epoch,
                "seed": self._seed,
                "stopped": self.stopped,
                "parts": self.checkpoint.parts_state(),
                "kept": vars(self._best_weights),
                "early_stop": vars(self._early_stopping) if self._early_stopping else None,
            }
        )
        return state

    def _start(self, settings: schema.OwnLoop) -> Generator[Any, None, None]:
        try:
            inspect.signature(self._function).bind(*ARGUMENTS)
        except TypeError as error:
            raise self._refusal(f"must take ({', '.join(ARGUMENTS)}), but {error}") from error
        entries = {
            **settings.keys,
            "epochs": self._config.epochs,
            "batch_size": self._config.batch_size,
            "seed": self._seed,
        }
        if not inspect.isgeneratorfunction(self._function):
            raise self._refusal("must be a generator: it has to `yield` the figures of every epoch")
        self._settings = LoopConfig(entries, self._build)
        loop: Generator[Any, None, None] = self._function(self._settings, self._images, self._device, self.checkpoint)
        return loop

    def _build(self) -> nn.Module:
        self._network = initial_network(self._config, self._data, self._device, self._seed)
        self._images.memory_format = image_format(self._network)
        return self._network

    def _begin(self, epoch: int) -> None:
        """Seed the draws of an epoch, so that they are the same after an interruption."""
        self._images.epoch = epoch
        seed_all(self._device, derive_seed(Stream.DROPOUT, self._seed, epoch))

    def _next_figures(self) -> dict[str, float]:
        try:
            yielded = next(self._loop)
        except StopIteration:
            raise self._refusal(
                f"ended after {self.epoch - 1} of {self._config.last_epoch} epochs; it must yield once per epoch (to stop early: `early_stopping`)"
            ) from None
        first = self.checkpoint.done + 1 == self.epoch
        current = self.checkpoint.current
        if self.model is not self._network and first:
            self._check_weights(self.model)
        if current != self.epoch:
            raise self._refusal(f"must yield once in every epoch, but yield {self.epoch} came in epoch {current}")
        return self._checked(yielded)

    def _checked(self, yielded: Any) -> dict[str, float]:
        if not isinstance(yielded, Mapping):
            raise self._refusal(f"must yield a dict of figures, but yielded {type(yielded).__name__}")
        figures = {}
        for name, value in yielded.items():
            if name not in YIELDED:
                near = get_close_matches(str(name), YIELDED, n=1)
                hint = f"; did you mean {near[0]}?" if near else "; for a custom metric, use the key own_metric"
                raise self._refusal(f"yielded {name!r}, which is not one of {', '.join(YIELDED)}{hint}")
            if isinstance(value, torch.Tensor) and value.numel() == 1:
                value = value.item()
            if not isinstance(value, numbers.Real) or isinstance(value, bool):
                raise self._refusal(f"must yield numbers, but {name} is {value!r}")
            if name not in VALIDATED or self._data.validation is not None:
                figures[name] = float(value)
        return figures

    def _validate(self, figures: dict[str, float]) -> tuple[float, dict[str, float | None]]:
        """Return the loss and metrics of the network on the validation images.

        Those that the loop yielded are not used: another loss or another way to measure could not be compared with other trials, nor
        with the test.
        """
        assert self._data.validation is not None
        model = self.model.to(self._device)
        with _modes_kept(model):
            logits, labels = predict(model, self._data, self._data.validation, "float32")
        loss, metrics = score(logits, labels, self._config)
        measured, yielded = metrics["validation_accuracy"], figures.get("validation_accuracy")
        if yielded is not None and measured is not None and abs(yielded - measured) > MOST_APART:
            raise self._refusal(
                f"yielded a validation_accuracy of {yielded:.4f} in epoch {self.epoch}, but the network classifies {measured:.4f} of "
                "these images correctly; it must take them as data.loader() gives them (see data.normalize), and `model` in "
                "checkpoint.epochs must be the network that was measured"
            )
        return loss, metrics

    def _check_weights(self, model: nn.Module) -> None:
        """Refuse a network whose weights do not fit the `model` section, since that is what is tested and exported."""
        with torch.random.fork_rng(devices=[]):
            rebuilt = models.build(self._config.model, self._data.image_shape, self._data.num_classes)
        try:
            rebuilt.load_state_dict(model.state_dict())
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise self._refusal(
                f"the network must be that of the space's `model` section, as config.network() builds it, but {reason}"
            ) from error

    def _refusal(self, what: str) -> InputError:
        frame = getattr(getattr(self, "_loop", None), "gi_frame", None)
        code = getattr(inspect.unwrap(self._function), "__code__", None)
        line = frame.f_lineno if frame else getattr(code, "co_firstlineno", 0)
        place = f" ({Path(code.co_filename).name}:{line})" if code else ""
        return InputError(f"train {self._name}{place}: {what}")


@contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    """Leave every layer in the mode that it was in, training or evaluation."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
