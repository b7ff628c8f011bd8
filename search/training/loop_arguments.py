"""The arguments of a user's own training loop: `config`, `data` and `checkpoint`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Protocol

import torch
from torch import nn

from winnow.search.training.batches import Batches
from winnow.search.training.device_data import DeviceData
from winnow.search.training.epoch_images import epoch_chunks
from winnow.search.training.heartbeat import beat
from winnow.search.training.ranks import Rank
from winnow.spaces.errors import InputError

Split = Literal["train", "validation"]


class LoopConfig(Mapping[str, Any]):
    """The settings of a loop: the keys of `train`, and `epochs`, `batch_size` and `seed`; as attributes or as a mapping."""

    def __init__(self, entries: Mapping[str, Any], network: Callable[[], nn.Module]) -> None:
        self._entries = dict(entries)
        self._read: set[str] = set()
        self._network = network

    def network(self) -> nn.Module:
        """Build the network of the space's `model` section, on the device, with the initial weights of the seed."""
        return self._network()

    def unread(self) -> set[str]:
        """Return the keys that have not been read yet."""
        return self._entries.keys() - self._read

    def __getitem__(self, key: str) -> Any:
        self._read.add(key)
        return self._entries[key]

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_") or key not in self._entries:
            known = ", ".join(self.__dict__.get("_entries", ()))
            raise AttributeError(f"the config of the loop has no {key}, only {known}; put further keys into `train`")
        return self[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class LoopData:
    """The images of a loop.

    Attributes:
        num_classes: Number of classes.
        image_shape: (channels, height, width).
        mean: Mean of each channel by which the loaders normalize, for pixels in [0, 1].
        std: Standard deviation of each channel, likewise.
        epoch: The running epoch, counted from 1.
        seed: Seed of the training.
        memory_format: Memory format of the images.
    """

    def __init__(self, data: DeviceData, batch_size: int, seed: int, epoch: int) -> None:
        self.num_classes = data.num_classes
        self.image_shape = data.image_shape
        self.mean, self.std = data.mean, data.std
        self.epoch, self.seed = epoch, seed
        self.memory_format = torch.contiguous_format
        self._data = data
        self._batch_size = batch_size

    def loader(self, split: Split = "train", batch_size: int | None = None) -> Loader:
        """Make an iterable of the batches of a split.

        Args:
            split: `train`: in a new random order in every epoch, augmented as `data.augment` says. `validation`: in order, without
                augmentation; empty in retraining, which trains on these images too.
            batch_size: Images per batch. Default: the `batch_size` of the space.
        """
        self._check(split)
        return Loader(self, self._data, split, batch_size or self._batch_size)

    def tensors(self, split: Split = "train") -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images of a split as they are, uint8 [N, C, H, W], and their labels, int64 [N], on the device."""
        self._check(split)
        part = self._data.train if split == "train" else self._data.validation
        if part is None:
            part, index = self._data.train, self._data.train.index[:0]
        else:
            index = part.index
        images = next(part.gathered([index]))
        return images.permute(0, 3, 1, 2), part.labels.index_select(0, index)

    def _check(self, split: str) -> None:
        if split not in ("train", "validation"):
            raise InputError(
                f"data: there is no split {split!r} for a loop, only train and validation; only Winnow opens the test images"
            )


class Loader:
    """The batches of a split: pairs of images float32 [n, C, H, W], normalized, and labels int64 [n], both on the device.

    A last batch of one training image is left out, since batch norm cannot normalize it.

    Attributes:
        batch_size: Images per batch.
        dataset: A sequence whose length is the number of images.
    """

    def __init__(self, owner: LoopData, data: DeviceData, split: Split, batch_size: int) -> None:
        self.batch_size = batch_size
        self._owner, self._data, self._split = owner, data, split
        self._turns = (0, 0)
        num = data.num_train if split == "train" else len(data.validation or ())
        self.dataset = range(num)
        self._batches = Batches(num, batch_size, split == "train", 1, Rank())

    def __len__(self) -> int:
        return self._batches.steps_per_epoch if len(self.dataset) else 0

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for images, labels in self._chunks():
            for (batch,) in self._batches.of(images, labels):
                yield batch.images, batch.labels
                beat()

    def _chunks(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        memory_format, validation = self._owner.memory_format, self._data.validation
        if self._split == "train":
            epoch = self._owner.epoch
            turn = self._turns[1] if self._turns[0] == epoch else 0
            self._turns = (epoch, turn + 1)
            return epoch_chunks(self._data, self.batch_size, self._owner.seed, epoch, memory_format, turn)
        return iter(()) if validation is None else self._data.chunks(validation, self.batch_size, memory_format)


class Stateful(Protocol):
    """An object whose state is stored: a network, optimizer, schedule or scaler of torch, or an object with the same methods."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class Checkpoint:
    """The state of a loop.

    Attributes:
        done: Epochs that an earlier process finished; 0 at the beginning.
        model: The network, once the loop has named it.
        current: The running epoch, counted from 1; None before the loop begins.
    """

    def __init__(self, num_epochs: int, state: dict[str, Any] | None, begin: Callable[[int], None]) -> None:
        self.done: int = state["epoch"] if state else 0
        self.model: nn.Module | None = None
        self.current: int | None = None
        self._num_epochs = num_epochs
        self._state = state
        self._begin = begin
        self._parts: dict[str, Stateful] = {}

    def epochs(self, *, model: nn.Module, **parts: Stateful) -> Iterator[int]:
        """Restore the state of an interrupted training, if there is one, and return the remaining epochs.

        The state of all parts is stored after an epoch, whenever the search needs it.

        Args:
            model: The network that is validated, tested and kept: that of `config.network()`, or one with weights of the same shapes, such
                as their average.
            **parts: Everything else that changes from epoch to epoch, such as `optimizer` and `scheduler`.

        Returns:
            The numbers of the epochs, counted from 0.

        Raises:
            InputError: A part has no state, or the state was stored for other parts.
        """
        if not isinstance(model, nn.Module):
            raise InputError(f"checkpoint.epochs: model must be a torch.nn.Module, but got {type(model).__name__}")
        for name, part in parts.items():
            if not (hasattr(part, "state_dict") and hasattr(part, "load_state_dict")):
                raise InputError(
                    f"checkpoint.epochs: {name} must have state_dict() and load_state_dict(), but a {type(part).__name__} has not"
                )
        self.model, self._parts = model, {"model": model, **parts}
        if self._state is not None:
            stored = self._state["parts"]
            if stored.keys() != self._parts.keys():
                raise InputError(
                    f"checkpoint.epochs: the stored state has {', '.join(stored)}, but the loop names {', '.join(self._parts)}"
                )
            for name, part in self._parts.items():
                part.load_state_dict(stored[name])
        return self._numbers()

    def _numbers(self) -> Iterator[int]:
        for epoch in range(self.done, self._num_epochs):
            self.current = epoch + 1
            self._begin(epoch + 1)
            yield epoch

    def parts_state(self) -> dict[str, dict[str, Any]]:
        """Return the state of each part by name."""
        return {name: part.state_dict() for name, part in self._parts.items()}
