"""Writes a first space for a folder of images: a commented YAML file whose values suit these images."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from winnow.search.data.datasets import list_dataset
from winnow.search.data.decode import is_grey, is_wide, many_pixels_allowed, size_of
from winnow.search.data.foreign import shown
from winnow.search.data.labels import number_labels
from winnow.search.data.listing import Part
from winnow.search.data.source import Source, check_on_images
from winnow.search.storage.run_folder import write_text
from winnow.spaces import catalog, schema
from winnow.spaces.errors import InputError

NUM_LOOKED_AT = 500
"""Number of images whose headers are read, spread evenly over the training images."""
LARGEST = 64
"""Largest image size to suggest, in pixels: larger images train for hours on a CPU."""
IMBALANCE = 3.0
"""Ratio of the largest to the smallest class from which the file uses a metric that counts all classes equally."""


@dataclass(frozen=True)
class Look:
    """The properties of the images of a folder."""

    folder: Path
    num_images: int
    counts: dict[str, int]
    """Training images by class."""
    height: int
    """Median height, in pixels."""
    width: int
    sizes_differ: bool
    is_grey: bool
    is_wide: bool
    """Whether some images have more than 8 bits per channel."""
    splits: tuple[str, ...]
    notes: tuple[str, ...]
    """Sentences about columns and folders in use, files that were left out, and files that cannot be read."""

    @property
    def size(self) -> int:
        """The suggested image size: a multiple of 8 near the median of the shorter side, at most `LARGEST`."""
        return int(min(LARGEST, max(8, 8 * round(min(self.height, self.width) / 8))))

    @property
    def imbalance(self) -> float:
        """The size of the largest class divided by that of the smallest."""
        return max(self.counts.values()) / max(1, min(self.counts.values()))


def first_space(folder: Path, output: Path) -> list[str]:
    """Write a space for the images of a folder, check it on them, and describe it.

    Args:
        folder: A folder with one subfolder of images per class, which may be grouped into folders `train`, `validation` and `test`;
            or a table of images.
        output: The YAML file to write; it must not exist.

    Returns:
        Sentences that describe the images.

    Raises:
        InputError: There are no such images, or the file already exists or cannot be written.
    """
    if output.exists():
        raise InputError(f"--output {output}: exists already; choose another name")
    listing = look(folder)
    try:
        write_text(output, space_text(listing))
    except OSError as error:
        raise InputError(f"--output {output}: cannot be written ({error.strerror or error})") from error
    try:
        check_on_images(catalog.load(output), Source(Path("data")))
    except InputError:
        output.unlink()
        raise
    return _sentences(listing)


def look(folder: Path) -> Look:
    """Determine the properties of the images in a folder. The headers of up to `NUM_LOOKED_AT` images are read.

    Raises:
        InputError: There are no images of at least two classes.
    """
    if not folder.exists():
        raise InputError(f"{shown(folder)}: there is no such folder")
    data = schema.Data.model_validate({"name": "image_folder", "path": str(folder), "image_size": 8})
    listing = list_dataset(data, Path("data"), download=False)
    train = listing.parts["train"]
    labels = {split: part.labels for split, part in listing.parts.items()}
    names, numbers = number_labels(labels, listing.class_names, str(folder), data.remap_labels)
    counts = Counter(names[number] for number in numbers["train"].tolist())
    headers, damaged = _headers(train)
    if not headers:
        raise InputError(f"{shown(folder)}: none of the images can be read; {damaged[0]}")
    notes = [*listing.notes, *_damaged_note(damaged, len(headers))]
    num_wide = sum(header.is_wide for header in headers)
    if num_wide:
        notes.append(
            f"warning: {num_wide} of {len(headers)} images have more than 8 bits per channel; say which values are black and white: "
            "data.pixel_range"
        )
    sizes = [header.size for header in headers]
    return Look(
        folder=folder,
        num_images=sum(len(part.labels) for part in listing.parts.values()),
        counts=dict(sorted(counts.items())),
        height=round(median(height for height, _ in sizes)),
        width=round(median(width for _, width in sizes)),
        sizes_differ=len(set(sizes)) > 1,
        is_grey=all(header.is_grey for header in headers),
        is_wide=num_wide > 0,
        splits=tuple(listing.parts),
        notes=tuple(notes),
    )


def _damaged_note(damaged: Sequence[str], num_read: int) -> list[str]:
    if not damaged:
        return []
    num = len(damaged) + num_read
    return [
        f"warning: {len(damaged)} of {num} images cannot be read, the first: {damaged[0]}; data.skip_damaged: true leaves such images out"
    ]


@dataclass(frozen=True)
class _Header:
    size: tuple[int, int]
    is_grey: bool
    is_wide: bool


def _headers(part: Part) -> tuple[list[_Header], list[str]]:
    """Return the headers of images that are spread evenly over a part, and the messages about those that cannot be read."""
    rows = np.unique(np.linspace(0, len(part.labels) - 1, min(NUM_LOOKED_AT, len(part.labels))).astype(int)).tolist()
    headers, damaged = [], []
    with many_pixels_allowed():
        for item in part.items(rows):
            try:
                headers.append(_Header(size_of(item), is_grey(item), is_wide(item)))
            except InputError as error:
                damaged.append(str(error))
    return headers, damaged


def space_text(look: Look) -> str:
    """Return the text of the YAML file."""
    size, num_train = look.size, sum(look.counts.values())
    depth = max(1, min(4, round(math.log2(size)) - 2))
    batches = [16, 32, 64] if num_train < 2000 else [64, 128, 256]
    augment = "[none, crop]" if look.is_grey else "[none, flip, flip_crop]"
    why = "grey images may be text or scans, which a flip would spoil" if look.is_grey else "a photo may be mirrored"
    validation, pixel_range = "", ""
    if look.is_wide:
        pixel_range = "  # Which values are black and white? Then take the # away.\n  # pixel_range: [0, 65535]\n"
    if "validation" not in look.splits:
        validation = "  # The share of the training images that the search selects by.\n  validation: 0.2\n"
    epochs = 40 if num_train < 5000 else 25
    balance = ""
    if look.imbalance >= IMBALANCE:
        balance = (
            f"  # The largest class has {look.imbalance:.1f} times the images of the smallest: this counts all classes equally.\n"
            "  objective: validation_macro_f1\n"
        )
    widths = [16 * 2 ** min(index, 2) for index in range(depth)]
    stages = ", ".join(f"{{filters: {width}, pool: max}}" for width in widths)
    return f"""# Images of {shown(look.folder.name)}: {look.num_images:,} images of {len(look.counts)} classes, {look.height}x{look.width} pixels (median).
# Search it with: winnow run THIS_FILE. See what it will cost first: winnow plan THIS_FILE. All keys: docs/reference/spaces.md.

data:
  name: image_folder
  path: {json.dumps(str(look.folder.resolve()))}
  # Every image is resized to this many pixels. Twice as many cost four times the time.
  image_size: {size}
  channels: {1 if look.is_grey else 3}
{pixel_range}  normalize: computed
{validation}  # {why[0].upper()}{why[1:]}; the search decides whether it helps.
  augment: {{choice: {augment}}}

epochs: {epochs}
batch_size: {{choice: {batches}}}

model:
  name: cnn
  # Each stage is a convolution; with `max` it halves the image.
  depth: {{int: [1, {depth + 1}]}}
  stages:
    repeat: depth
    of: {{filters: {{choice: [16, 32, 64, 128]}}, pool: {{choice: [max, none]}}}}
  activation: {{choice: [relu, silu]}}
  norm: batch
  features: avg
  head: {{choice: [[], [64], [128]]}}
  dropout: {{float: [0.0, 0.5]}}

optimizer:
  choice:
    adamw: {{lr: {{log: [3.0e-4, 1.0e-2]}}, weight_decay: {{log: [1.0e-4, 1.0e-1]}}}}
    sgd: {{lr: {{log: [3.0e-3, 3.0e-1]}}, momentum: {{float: [0.8, 0.98]}}, nesterov: true}}
schedule: {{choice: {{constant: {{}}, cosine: {{warmup: {{choice: [0, 2]}}}}}}}}

search:
  trials: 40
{balance}retrain: {{top: 3, seeds: 3}}

# What the winners are compared with: a plain network, nothing tuned.
baseline:
  plain:
    data: {{name: image_folder, normalize: computed}}
    batch_size: {batches[1]}
    model: {{name: cnn, stages: [{stages}], norm: batch, features: avg}}
    optimizer: {{name: adamw, lr: 0.001}}
"""


def _sentences(look: Look) -> list[str]:
    names: Sequence[str] = [
        f"{count:,} {shown(name)}" for name, count in sorted(look.counts.items(), key=lambda item: -item[1])
    ]
    more = f", and {len(names) - 8} more" if len(names) > 8 else ""
    differ = "sizes differ, the median is " if look.sizes_differ else ""
    return [
        f"{look.num_images:,} images of {len(look.counts)} classes: {', '.join(names[:8])}{more}",
        f"{differ}{look.height}x{look.width} pixels, {'grey' if look.is_grey else 'colour'}; they are resized to {look.size}x{look.size}",
        *look.notes,
    ]
