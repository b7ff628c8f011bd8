"""The bootstrap over seeds and test images, as a rival of the report's intervals in `benchmarks.search_quality.intervals`.

Seeds and images are drawn with replacement, independently of each other (Owen 2007, "The pigeonhole bootstrap"). In a difference the
images are the same for both configs, whose seeds are drawn separately. Three intervals are made of the same draws: the percentile
interval, BCa (Efron 1987), whose acceleration is summed over seeds and images, and the standard deviation of the draws times the
quantile of Student's t with the degrees of freedom of the seeds.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr, ndtri

from winnow.reports.tables.intervals import Interval, t_975

Array = np.ndarray
KINDS = ("percentile", "bca", "t")
ENDS = np.array([0.025, 0.975])


class Bootstrap:
    """Draws of images that are shared by many data sets of the same size.

    The draws do not depend on the data, so using them again leaves the coverage of each data set as it is.
    """

    def __init__(self, num_images: int, num_draws: int, random: np.random.Generator) -> None:
        drawn = random.integers(num_images, size=(num_draws, num_images))
        counts = np.stack([np.bincount(row, minlength=num_images) for row in drawn])
        self.weights = (counts / num_images).astype(np.float32)
        self.random = random

    def of_mean(self, values: Array) -> dict[str, Interval]:
        """The intervals of a mean over networks, from the contributions of the images, [S, N]."""
        return _intervals(float(values.mean()), self._means(values), [values.mean(1)], values.mean(0), len(values) - 1)

    def of_difference(self, a: Array, b: Array) -> dict[str, Interval]:
        """The intervals of the mean of one config, [S, N], minus that of another, [T, N], paired by image."""
        by_seed = [a.mean(1), -b.mean(1)]
        by_image = a.mean(0) - b.mean(0)
        return _intervals(
            float(by_image.mean()), self._means(a) - self._means(b), by_seed, by_image, len(a) + len(b) - 2
        )

    def _means(self, values: Array) -> Array:
        """The mean in each draw."""
        return self.over_seeds(self.weights @ values.T.astype(np.float32))

    def over_seeds(self, by_seed: Array) -> Array:
        """The mean over drawn seeds, from the value of each seed in each draw of images, [draws, S]."""
        num_seeds = by_seed.shape[1]
        seeds = self.random.multinomial(num_seeds, [1 / num_seeds] * num_seeds, len(by_seed)) / num_seeds
        return (by_seed * seeds).sum(1)


def _intervals(mean: float, drawn: Array, by_seed: list[Array], by_image: Array, freedom: int) -> dict[str, Interval]:
    half = t_975(freedom) * float(drawn.std(ddof=1))
    low, high = np.quantile(drawn, ENDS)
    bca_low, bca_high = np.quantile(drawn, _bca_ends(mean, drawn, [*by_seed, by_image]))
    return {
        "percentile": Interval(mean, float(low), float(high)),
        "bca": Interval(mean, float(bca_low), float(bca_high)),
        "t": Interval(mean, mean - half, mean + half),
    }


def _bca_ends(mean: float, drawn: Array, levels: list[Array]) -> Array:
    """The shares of the draws below the ends of BCa; those of the percentile interval if all draws are on one side."""
    below = float((drawn < mean).mean() + (drawn == mean).mean() / 2)
    if not 0 < below < 1:
        return ENDS
    effects = [(values - values.mean()) / len(values) for values in levels]
    squares = sum(float((values**2).sum()) for values in effects)
    cubes = sum(float((values**3).sum()) for values in effects)
    acceleration = cubes / (6 * math.sqrt(squares) ** 3) if squares > 0 else 0.0
    bias = float(ndtri(below))
    shifted = bias + ndtri(ENDS)
    return np.asarray(ndtr(bias + shifted / (1 - acceleration * shifted)))
