"""What a measured number of trials at once is worth to a search."""

from __future__ import annotations

import math

from winnow.search.resources.packing import WORTH, Level


def worth(level: Level) -> float:
    """Return the images per second of a level, less what twice the trials at once have to gain; 0 if it was not measured."""
    return (level.images_per_second or 0.0) / WORTH ** math.log2(level.at_once)
