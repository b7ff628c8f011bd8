"""Chooses images to hold out or to sample: seeded, stratified, and with no group in two splits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from winnow.spaces.errors import InputError


def hold_out(
    labels: np.ndarray, share: float, stratified: bool, seed: int, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Divide images into those that are kept and those that are held out.

    Args:
        labels: int64 [N].
        share: Fraction of the images to hold out, in (0, 1).
        stratified: Whether to hold out this fraction of each class, within one image, and to keep at least one image of each.
        seed: Seed of the draw.
        groups: int64 [N]; images of one group stay together, so the fractions are met only approximately. Default: no groups.

    Returns:
        (kept, held out): ascending indices. Without groups, round(share * N) images are held out, or fewer if otherwise a class
        would keep none.
    """
    random = np.random.default_rng(seed)
    num_held_out = round(share * len(labels))
    if groups is not None:
        held_out = _whole_groups(labels if stratified else np.zeros_like(labels), groups, num_held_out, random)
    else:
        shuffled = random.permutation(len(labels))
        if stratified:
            held_out = _first_of_each_class(shuffled, labels, num_held_out, keep_one=True)
        else:
            held_out = shuffled[:num_held_out]
    mask = np.zeros(len(labels), dtype=bool)
    mask[held_out] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def sample(labels: np.ndarray, num: int, seed: int) -> np.ndarray:
    """Draw the same fraction of each class, at least one image.

    Which images of a class are drawn depends only on their order within the class.

    Args:
        labels: Classes, int64 [N].
        num: Number of images to draw; all if there are no more.
        seed: Seed of the draw.

    Returns:
        Ascending indices of the images.

    Raises:
        InputError: `num` is below the number of classes.
    """
    if num >= len(labels):
        return np.arange(len(labels))
    classes = np.unique(labels)
    if num < len(classes):
        raise InputError(
            f"data.limit: {num} images cannot cover all {len(classes)} classes; {len(classes)} is the least, and a validation "
            "split needs more"
        )
    members = [np.flatnonzero(labels == k) for k in classes]
    quota = _quotas(np.array([len(of_class) for of_class in members]), num, least=1)
    chosen = [
        np.random.default_rng((seed, int(k))).permutation(of_class)[:n]
        for k, of_class, n in zip(classes, members, quota, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def _first_of_each_class(shuffled: np.ndarray, labels: np.ndarray, num: int, keep_one: bool) -> np.ndarray:
    """Return the first of each class in the shuffled order, `num` in all, shared out by largest remainder."""
    classes, sizes = np.unique(labels, return_counts=True)
    quota = _quotas(sizes, num, most=sizes - 1 if keep_one else sizes)
    in_class = [shuffled[labels[shuffled] == k] for k in classes]
    return np.concatenate([members[:n] for members, n in zip(in_class, quota, strict=True)] or [shuffled[:0]])


def _quotas(sizes: np.ndarray, num: int, least: int = 0, most: np.ndarray | None = None) -> np.ndarray:
    """Share `num` out over classes in proportion to their sizes, by largest remainder, within [least, most] of each."""
    most = sizes if most is None else most
    exact = sizes * (num / max(1, int(sizes.sum())))
    quota = np.clip(np.floor(exact).astype(np.int64), least, most)
    while (missing := num - int(quota.sum())) != 0:
        open_classes = np.flatnonzero(quota < most) if missing > 0 else np.flatnonzero(quota > least)
        if not len(open_classes):
            break
        behind = (quota - exact)[open_classes] * np.sign(missing)
        for k in open_classes[np.argsort(behind, kind="stable")][: abs(missing)]:
            quota[k] += np.sign(missing)
    return quota


def _whole_groups(labels: np.ndarray, groups: np.ndarray, num: int, random: np.random.Generator) -> np.ndarray:
    """Take groups in random order, each if it brings the held-out classes nearer to their fractions and leaves images of each class."""
    num_classes = int(labels.max(initial=-1)) + 1
    sizes = np.bincount(labels, minlength=num_classes)
    target, left = sizes * (num / max(1, len(labels))), sizes.copy()
    held = np.zeros(num_classes, dtype=np.int64)
    chosen = []
    for members in _members(groups, random):
        counts = np.bincount(labels[members], minlength=num_classes)
        nearer = np.abs(held + counts - target).sum() < np.abs(held - target).sum()
        if nearer and np.all((left - counts > 0) | (counts == 0)):
            held, left = held + counts, left - counts
            chosen.append(members)
    return np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64)


def _members(groups: np.ndarray, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the images of each group, the groups in random order; groups are numbered by their first image."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[inverse]
    order = np.argsort(rank, kind="stable")
    bounds = np.cumsum(np.bincount(rank))[:-1]
    parts = np.split(order, bounds)
    for k in random.permutation(len(parts)):
        yield parts[k]
