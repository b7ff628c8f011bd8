"""Named random streams, from which the seed of every random draw of Winnow is derived."""

from __future__ import annotations

import hashlib
from enum import IntEnum


class Stream(IntEnum):
    """The uses of derived seeds. Values must never be reused: they are part of what makes a run reproducible."""

    TRIAL = 1
    """Training of a trial of the search; part: trial number."""
    RETRAINING = 2
    """Training of a winner; part: index of the seed."""
    AUDIT = 3
    """Whether a stopped trial is audited; part: trial number."""
    SAMPLER = 4
    """The sampler that suggests one trial; part: trial number."""
    SEQUENCE = 5
    """Order of the points of a grid or quasi-random sequence, one for the whole search."""
    WEIGHTS = 6
    """Initial weights of a network."""
    ORDER = 7
    """Order of the training images; part: epoch."""
    AUGMENTATION = 8
    """Augmentation of the training images; part: epoch."""
    DROPOUT = 9
    """Dropout masks; parts: epoch, and the rank where it is above 0."""
    MIXING = 10
    """Mixing of the training images; part: epoch."""


def derive_seed(stream: Stream, seed: int, *parts: int) -> int:
    """Derive the seed of one random stream.

    The hash covers the stream, the seed and the number of parts, so that no two different argument lists share their input:
    `(seed, 1)` and `(seed, 1, 0)` are unrelated.

    Args:
        stream: What the seed is used for.
        seed: Seed of the search or of the training, any integer; large integers are not truncated to 32 bits.
        *parts: Numbers that select a draw of this stream, such as a trial number or an epoch.

    Returns:
        A seed in [0, 2**31), which every generator in use accepts.
    """
    text = ",".join(str(int(part)) for part in (stream, seed, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") >> 1
