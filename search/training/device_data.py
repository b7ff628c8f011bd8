"""Images on the device, kept there as uint8 while the process lives, and normalized and augmented there in batches."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from winnow.search.data.image_data import ImageData, joined, split, uses_given
from winnow.search.training.augment import augment, check_augmentations
from winnow.spaces import schema
from winnow.spaces.errors import InputError

# A chunk of batches is gathered, augmented and normalised at once. This takes few calls per step for small images, and bounded
# memory for large ones.
CHUNK_FLOATS = 8 * 1024 * 1024

GPU_SHARE = 0.5
"""Images that take a larger fraction of a GPU's free memory than this stay on the CPU and are sent in chunks."""

PUBLISHED_STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "digits": ((0.3053,), (0.3760,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


@dataclass(frozen=True)
class Labelled:
    """Images uint8 [N, H, W, C] and labels int64 [N] on the device; `index` int64 [n] selects those in use.

    Images that take too much memory stay where they are, on the CPU or in a mapped file, and are read in chunks.
    """

    images: torch.Tensor
    labels: torch.Tensor
    index: torch.Tensor
    reads_ahead: bool = False
    """Whether the next chunk of images is read while the device works on this one."""

    @property
    def device(self) -> torch.device:
        """The device of the training."""
        return self.labels.device

    def gathered(self, indices: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield the images [k, H, W, C] of each index int64 [k], on the device."""
        if not self.reads_ahead:
            yield from (self.images.index_select(0, index) for index in indices)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="images") as reader:
            ahead = deque(reader.submit(self._read, index) for index in indices[:1])
            for index in indices[1:]:
                ahead.append(reader.submit(self._read, index))
                yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _read(self, index: torch.Tensor) -> torch.Tensor:
        chunk = self.images.index_select(0, index.to(self.images.device))
        return chunk if chunk.device == self.device else chunk.pin_memory().to(self.device, non_blocking=True)

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Exact (mean, standard deviation) of each channel over the images in use, with pixels scaled to [0, 1]."""
        num_channels = self.images.shape[3]
        counts = torch.zeros(num_channels, 256, dtype=torch.int64)
        at_once = min(8192, max(1, CHUNK_FLOATS // self.images[0].numel()))
        for chunk in self.gathered(self.index.split(at_once)):
            pixels = chunk.view(-1, num_channels)
            for channel in range(num_channels):
                counts[channel] += torch.bincount(pixels[:, channel], minlength=256).cpu()
        share = counts.double() / counts.sum(1, keepdim=True)
        value = torch.arange(256, dtype=torch.float64) / 255
        mean = share @ value
        std = ((share * (value - mean[:, None]) ** 2).sum(1)).sqrt()
        return tuple(mean.tolist()), tuple(std.tolist())


@dataclass(frozen=True)
class DeviceData:
    """The data of one training, from `DeviceData.build`. The trials of a process share the tensors."""

    train: Labelled
    validation: Labelled | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Mean and standard deviation of the normalization, per channel, for pixels in [0, 1]. To use the network elsewhere, normalize with them."""
    settings: schema.Data
    num_classes: int

    @staticmethod
    def build(
        data: ImageData,
        settings: schema.Data,
        device: torch.device,
        seed: int,
        use: Literal["search", "retrain"] = "search",
    ) -> DeviceData:
        """Put a data set on a device.

        Args:
            data: The data set.
            settings: The `data` section of the config.
            device: The device to train on.
            seed: Seed of the split.
            use: `search`: train on the training split, select on the validation split. `retrain`: train on both, without
                validation. Default: `search`.

        Raises:
            InputError: Normalization or augmentation does not fit the images.
        """
        check_augmentations(settings.augment, data.image_shape, "data.augment")
        if settings.extra is not None:
            check_augmentations(settings.extra.augment, data.image_shape, "data.extra.augment")
        train, validation = _parts(data, settings, device, seed, use)
        mean, std = _normalization(settings, data, train)
        return DeviceData(train, validation, mean, std, settings, data.num_classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        height, width, channels = self.train.images.shape[1:]
        return channels, height, width

    @property
    def num_train(self) -> int:
        """Number of training images in one epoch, extra copies included."""
        return len(self.train) + (self.settings.extra.copies if self.settings.extra else 0)

    def train_chunks(
        self,
        batch_size: int,
        order: torch.Generator,
        draws: torch.Generator,
        memory_format: torch.memory_format,
        odd: torch.Tensor | None = None,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the images of one epoch in random order, augmented and normalized.

        Args:
            batch_size: Images per batch.
            order: Generator of the order, on the CPU, so that the order is the same on every device.
            draws: Generator of the augmentation, on the device.
            memory_format: Memory format of the images.
            odd: bool [images of the training split], on the CPU; see `augment`. Default: the flip is drawn.

        Yields:
            (images float32 [k, C, H, W], labels int64 [k]). A chunk holds whole batches, except the last one.
        """
        part, device = self.train, self.train.device
        permutation = torch.randperm(self.num_train, generator=order)
        position = self._sources(order)[permutation].to(device, non_blocking=True)
        marks = None if odd is None else odd.to(device, non_blocking=True).index_select(0, position)
        is_extra = (permutation >= len(part)).to(device, non_blocking=True)
        size = chunk_size(self.image_shape, batch_size)
        indices = part.index.index_select(0, position).split(size)
        marks_of = [None] * len(indices) if marks is None else marks.split(size)
        for chunk, index, extra, mark in zip(
            part.gathered(indices), indices, is_extra.split(size), marks_of, strict=True
        ):
            images = self._augment(_pixels(chunk), extra, draws, mark)
            yield self._normalize(images, memory_format), part.labels.index_select(0, index)

    def chunks(
        self, part: Labelled, batch_size: int, memory_format: torch.memory_format
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield images in their own order, normalized but not augmented.

        Args:
            part: The images.
            batch_size: Images per batch.
            memory_format: Memory format of the images.

        Yields:
            (images float32 [k, C, H, W], labels int64 [k]). A chunk holds whole batches, except the
            last one.
        """
        indices = part.index.split(chunk_size(self.image_shape, batch_size))
        for chunk, index in zip(part.gathered(indices), indices, strict=True):
            yield self._normalize(_pixels(chunk), memory_format), part.labels.index_select(0, index)

    def place(self, images: np.ndarray, labels: np.ndarray) -> Labelled:
        """Put other images, such as those of the test set, on the same device.

        Args:
            images: uint8 [N, H, W, C].
            labels: int64 [N].
        """
        return _place(images, labels, np.arange(len(labels)), self.train.device)

    @cached_property
    def class_counts(self) -> torch.Tensor:
        """Training images of each class, int64 [K] on the device."""
        return torch.bincount(self.train.labels[self.train.index], minlength=self.num_classes)

    def _sources(self, order: torch.Generator) -> torch.Tensor:
        """Return the positions of this epoch's training images among those in use.

        They are int64 [num_train]; extra copies are the last.
        """
        if self.settings.sampling == "balanced":
            return self._balanced_sources(order)
        num = len(self.train)
        return torch.cat([torch.arange(num), _in_turns(num, self.num_train - num, order)])

    def _balanced_sources(self, order: torch.Generator) -> torch.Tensor:
        """Return `_sources` with the same number of images of each class, give or take one."""
        num, rest = divmod(self.num_train, len(self._class_positions))
        has_one_more = torch.randperm(len(self._class_positions), generator=order) < rest
        chosen = [
            positions[_in_turns(len(positions), num + more, order)]
            for positions, more in zip(self._class_positions, has_one_more.tolist(), strict=True)
        ]
        return torch.cat(chosen)[torch.randperm(self.num_train, generator=order)]

    @cached_property
    def _class_positions(self) -> list[torch.Tensor]:
        """For each class that has training images, their positions among the images in use."""
        labels = self.train.labels[self.train.index].cpu()
        return [positions for k in range(self.num_classes) if len(positions := (labels == k).nonzero()[:, 0])]

    def first_images(self, num: int, memory_format: torch.memory_format) -> torch.Tensor:
        """Return the first training images float32 [n, C, H, W], normalized but not augmented.

        Args:
            num: Largest number of images to return.
            memory_format: Memory format of the images.
        """
        images = next(self.train.gathered([self.train.index[:num]]))
        return self._normalize(_pixels(images), memory_format)

    def _augment(
        self, images: torch.Tensor, is_extra: torch.Tensor, draws: torch.Generator, odd: torch.Tensor | None
    ) -> torch.Tensor:
        originals = augment(images, self.settings.augment, draws, odd)
        if self.settings.extra is None:
            return originals
        # Both are computed for all images, because selecting the copies would make the host wait for the device.
        # In a flip that alternates, a copy shows the view that its original does not show in this epoch.
        copies = augment(images, self.settings.extra.augment, draws, None if odd is None else ~odd)
        return torch.where(is_extra.view(-1, 1, 1, 1), copies, originals)

    def _normalize(self, images: torch.Tensor, memory_format: torch.memory_format) -> torch.Tensor:
        scale, shift = self._scale_and_shift
        return torch.addcmul(shift, images, scale).contiguous(memory_format=memory_format)

    @cached_property
    def _scale_and_shift(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and shift [1, C, 1, 1] of the normalization, for pixels in [0, 255]."""
        mean, std = (torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1) for values in (self.mean, self.std))
        device = self.train.device
        return (1 / (255 * std)).float().to(device), (-mean / std).float().to(device)


# The tensors that this process placed last, by what they were made from. There is one entry, since a worker trains on one data set.
_placed: dict[tuple[object, ...], tuple[Labelled, Labelled | None]] = {}


def placed_bytes() -> int:
    """Return the bytes of the images that this process keeps on a GPU for its next training."""
    parts = [part for pair in _placed.values() for part in pair if part is not None]
    tensors = [tensor for part in parts for tensor in (part.images, part.labels, part.index) if tensor.is_cuda]
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


def _parts(
    data: ImageData, settings: schema.Data, device: torch.device, seed: int, use: str
) -> tuple[Labelled, Labelled | None]:
    key = (data.fingerprint, settings.validation, settings.stratified, seed, use, str(device))
    if key not in _placed:
        _placed.clear()
        _placed[key] = _place_parts(data, settings, device, seed, use)
    return _placed[key]


def _place_parts(
    data: ImageData, settings: schema.Data, device: torch.device, seed: int, use: str
) -> tuple[Labelled, Labelled | None]:
    validation_images = data.validation_images if uses_given(data, settings.validation) else None
    if use == "retrain":
        images, labels = data.train_images, data.train_labels
        if validation_images is not None and data.validation_labels is not None:
            images = joined(images, validation_images)
            labels = np.concatenate([labels, data.validation_labels])
        return _place(images, labels, np.arange(len(labels)), device), None
    parts = split(data, settings.validation, settings.stratified, seed)
    train = _place(data.train_images, data.train_labels, parts.train_index, device)
    if validation_images is not None and data.validation_labels is not None:
        return train, _place(validation_images, data.validation_labels, parts.validation_index, device)
    index = torch.from_numpy(parts.validation_index).to(device)
    return train, replace(train, index=index)


def _place(images: np.ndarray, labels: np.ndarray, index: np.ndarray, device: torch.device) -> Labelled:
    is_mapped = isinstance(images, np.memmap)
    stays = is_mapped or _is_too_large(images.nbytes, device)
    with warnings.catch_warnings():
        # On the CPU the tensors are views of arrays that Ray shares read-only between workers; nothing writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        pixels = torch.from_numpy(np.ascontiguousarray(images))
        truth, used = (torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in (labels, index))
    return Labelled(pixels if stays else pixels.to(device), truth, used, reads_ahead=stays)


def _is_too_large(num_bytes: int, device: torch.device) -> bool:
    """Return whether images would leave a GPU too little memory for the training."""
    return device.type == "cuda" and num_bytes > GPU_SHARE * torch.cuda.mem_get_info(device)[0]


def _normalization(
    settings: schema.Data, data: ImageData, train: Labelled
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    num_channels = data.image_shape[0]
    if settings.normalize == "none":
        return (0.0,) * num_channels, (1.0,) * num_channels
    if settings.normalize == "computed":
        mean, std = train.statistics
        # A constant channel has a standard deviation of zero, by which nothing can be divided.
        return mean, tuple(value or 1.0 for value in std)
    if isinstance(settings.normalize, schema.Normalization):
        mean, std = tuple(settings.normalize.mean), tuple(settings.normalize.std)
    else:
        mean, std = PUBLISHED_STATISTICS[settings.name]
    if len(mean) != num_channels:
        raise InputError(
            f"data.normalize: statistics of {len(mean)} channels, but the images of {data.name} have {num_channels}"
        )
    return mean, std


def _in_turns(num: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """Return numbers below `num` in random order, int64 [count]. None occurs twice before all occur once."""
    rounds = [torch.randperm(num, generator=generator) for _ in range(-(-count // num))]
    return torch.cat(rounds)[:count] if rounds else torch.empty(0, dtype=torch.int64)


def _pixels(images: torch.Tensor) -> torch.Tensor:
    """Convert images uint8 [n, H, W, C] to float32 [n, C, H, W] in [0, 255]; in memory they stay channels_last."""
    return images.permute(0, 3, 1, 2).to(torch.float32)


def chunk_size(image_shape: tuple[int, int, int], batch_size: int) -> int:
    """Return the number of images in a chunk, which consists of whole batches, at least one.

    A chunk has at most `CHUNK_FLOATS` numbers, unless one batch has more.

    Args:
        image_shape: (channels, height, width).
        batch_size: Images per batch.
    """
    return batch_size * max(1, CHUNK_FLOATS // (batch_size * int(np.prod(image_shape))))
