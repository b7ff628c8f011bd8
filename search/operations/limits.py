"""Reports how much of a space lies within the limits of a search, before anything is launched."""

from __future__ import annotations

import random

from winnow.spaces.errors import InputError
from winnow.spaces.grammar import nodes
from winnow.spaces.schema import Config, Limits
from winnow.spaces.shapes import ImageShape
from winnow.spaces.sizes import known_excess, size_of
from winnow.spaces.space import Space
from winnow.spaces.stub_trials import ProbeTrial

NUM_DRAWN = 1000
"""Number of random configs from which the share within the limits is estimated."""
MAX_NAMED = 3


def limit_notes(space: Space, image_shape: ImageShape, num_classes: int) -> list[str]:
    """Describe what the size limits of a space exclude. They are the limits that can be checked before training.

    Args:
        space: The space.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of classes.

    Returns:
        Sentences for the user; empty if the space has no size limit.

    Raises:
        InputError: None of the random configs is within the limits.
    """
    limits = space.settings.limits
    if limits is None or (limits.parameters is None and limits.multiply_adds is None):
        return []
    refused = [
        f"start point {name}: {excess}; it is not tried"
        for name, raw in space.start_from_named()
        if (excess := known_excess(limits, space.config(raw), image_shape, num_classes)) is not None
    ]
    more = [f"{len(refused) - MAX_NAMED} more start points are beyond the limits"] * (len(refused) > MAX_NAMED)
    return [*_share(space, limits, image_shape, num_classes), *refused[:MAX_NAMED], *more]


def _share(space: Space, limits: Limits, image_shape: ImageShape, num_classes: int) -> list[str]:
    """Describe the share of random configs that are within the limits."""
    configs = _drawn(space, image_shape)
    sized = [config for config in configs if size_of(config.model, image_shape, num_classes) is not None]
    if not sized:
        return [f"limits {limits}: the sizes of these networks are known only after a worker has built them"]
    within = [config for config in sized if known_excess(limits, config, image_shape, num_classes) is None]
    if not within and len(sized) == len(configs):
        smallest = min(size for config in sized if (size := size_of(config.model, image_shape, num_classes)))
        raise InputError(
            f"{space.source}: search.limits: none of {len(sized)} random configs is within {limits}; the smallest network has "
            f"{smallest.parameters:,} parameters and {smallest.multiply_adds:,} multiply-adds"
        )
    share = 100 * len(within) / len(sized)
    percent = f"{share:.1f}" if share < 1 else f"{share:.0f}"
    return [f"limits {limits}: {percent} % of {len(sized)} random configs are small enough"]


def _drawn(space: Space, image_shape: ImageShape) -> list[Config]:
    rng = random.Random(0)
    drawn = (nodes.draw(space.root, ProbeTrial({}, rng.choice, rng)) for _ in range(NUM_DRAWN))
    return [space.config(raw) for raw in drawn if not space.infeasible(raw, image_shape)]
