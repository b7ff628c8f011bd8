"""Computes 95 % intervals of test metrics and of their differences, over training seeds and test images at once.

A test accuracy, or another metric whose contributions by image are known (see `contributions`), varies for two reasons: another
seed gives another network, and another test set has other images. Both are random effects. They are crossed, since every network
classifies every image. The variance of the mean is therefore the sum of a part due to images and a part due to seeds, from a two-way
analysis of variance without replication (rows: seeds, columns: images). Each part has its own number of degrees of freedom. The
squared half width is the sum of both parts, each times the square of its own quantile of Student's t (Howe 1974, "Approximate
confidence limits on the mean of X + Y").

A metric within [0, 1] gets the score interval of Wilson (1927) at the effective number of images that this variance implies, so it
stays within [0, 1] and never has zero width. A difference is paired by image, so that what makes an image hard for both networks
cancels. A difference of accuracies changes only in steps of one prediction. Half a step is subtracted from its half width, as with
the mid-p value (Lancaster 1961, "Significance tests in discrete distributions"), since a few wrong predictions would otherwise make
it too wide.

`python -m benchmarks.search_quality.intervals` simulates coverage and false differences.
"""

from __future__ import annotations

import math
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

KURTOSIS_WEIGHT = 4.0
"""Scales the degrees of freedom for a skewed share of correct predictions. With 4, the coverage in the simulation is 93 to 97 %."""
NORMAL_975 = 1.959964
# fmt: off
T_975 = (
    12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139,
    2.200985, 2.178813, 2.160369, 2.144787, 2.131450, 2.119905, 2.109816, 2.100922, 2.093024, 2.085963,
    2.079614, 2.073873, 2.068658, 2.063899, 2.059539, 2.055529, 2.051831, 2.048407, 2.045230, 2.042272,
)
# fmt: on
"""0.975 quantiles of Student's t for 1, 2, ... 30 degrees of freedom. Importing SciPy takes as long as the rest of `winnow show`."""


class Interval(NamedTuple):
    """An estimate and the ends of its 95 % interval; the ends are None if the data do not allow an interval."""

    mean: float | None
    low: float | None
    high: float | None


class _Components(NamedTuple):
    """Mean squares of seeds, images and residuals, each divided by the number of predictions: parts of the variance of the mean."""

    mean: float
    seeds: float
    images: float
    residual: float


def share_interval(values: np.ndarray, effective_images: float | None = None, of_ranks: bool = False) -> Interval:
    """Return the mean over networks of a metric within [0, 1], with the interval for other seeds and other images.

    Args:
        values: The contribution of each image to the metric of each network, [S, N], S >= 2 seeds and N >= 2 images. For an
            accuracy, whether the network is right, as bool.
        effective_images: Size of a test set on which an accuracy would be as uncertain as the metric is. Default: N.
        of_ranks: Whether the metric is computed from ranks, such as AUROC. It can then vary less than the share of correct
            predictions among S x N independent ones, which limits the other metrics. Default: False.

    Returns:
        The mean and its interval, within [0, 1].
    """
    num_seeds, num_images = values.shape
    most = num_images if effective_images is None else effective_images
    mean, variance, t = _mean_and_spread(values)
    effective = float(most)
    if variance > 0:
        limit = math.inf if of_ranks else float(num_seeds * most)
        effective = min(max(mean * (1 - mean), 0.0) / variance, limit) or float(most)
    shift = t**2 / effective
    center = (mean + shift / 2) / (1 + shift)
    half = t / (1 + shift) * math.sqrt(mean * (1 - mean) / effective + shift / (4 * effective))
    return Interval(mean, max(0.0, min(mean, center - half)), min(1.0, max(mean, center + half)))


def mean_interval(values: np.ndarray) -> Interval:
    """Return the mean of a metric of at least 0 without an upper bound, such as a loss, with an interval as in `share_interval`.

    Args:
        values: The contribution of each image to the metric of each network, [S, N], S >= 2 seeds and N >= 2 images.
    """
    mean, variance, t = _mean_and_spread(values)
    if variance <= 0:
        return Interval(mean, None, None)
    half = t * math.sqrt(variance)
    return Interval(mean, max(0.0, mean - half), mean + half)


def difference_interval(a: np.ndarray, b: np.ndarray, most: float = 1.0, step: float = 0.0) -> Interval:
    """Return the metric of one config minus that of another, with the interval for other seeds and other images.

    Args:
        a: The contribution of each image to the metric of each network of the first config, [S, N], S >= 2. For an
            accuracy, whether the network is right, as bool.
        b: The same for the networks of the second config, [T, N], T >= 2, with the same images in the same order.
        most: The largest possible difference. Default: 1.
        step: Smallest possible change of one contribution: 1 for an accuracy, 0 (the default) for continuous values.

    Returns:
        The difference and its interval, within [-most, most]; it extends at least about one image of N to each side.
    """
    num_images = a.shape[1]
    if b.shape[1] != num_images:
        raise ValueError(f"both need predictions for the same images, but got {num_images} and {b.shape[1]}")
    by_image = a.mean(0) - b.mean(0)
    images = float(by_image.var(ddof=1)) / num_images
    excess, squares, spread = 0.0, 0.0, 0.0
    for values in (a, b):
        _, seeds, _, residual = _components(values)
        excess, squares, spread = excess + seeds - residual, squares + seeds, spread + seeds**2 / (len(values) - 1)
    seed_freedom = squares**2 / spread if spread > 0 else 1.0  # Welch and Satterthwaite
    half = t_975(num_images - 1) * max(math.sqrt(images), 0.5 / num_images)
    half = math.hypot(half, t_975(seed_freedom) * math.sqrt(max(0.0, excess)))
    half -= step / 2 / (num_images * math.lcm(len(a), len(b)))
    difference = float(by_image.mean())
    return Interval(difference, max(-most, difference - half), min(most, difference + half))


def _mean_and_spread(values: np.ndarray) -> tuple[float, float, float]:
    """Return the mean, its variance over seeds and images, and the quantile of the standardized mean."""
    mean, seeds, images, residual = _components(values)
    excess = max(0.0, seeds - residual)
    t_images = t_975(max(1.0, _image_freedom(values)))
    if images + excess <= 0:
        return mean, 0.0, t_images
    t_seeds = t_975(len(values) - 1)
    return mean, images + excess, math.sqrt((t_images**2 * images + t_seeds**2 * excess) / (images + excess))


def _components(values: np.ndarray) -> _Components:
    num_seeds, num_images = values.shape
    values = values.astype(np.float64)
    mean, by_seed, by_image = values.mean(), values.mean(1), values.mean(0)
    residuals = values - by_seed[:, None] - by_image + mean
    answers = num_seeds * num_images
    return _Components(
        float(mean),
        float(num_images * ((by_seed - mean) ** 2).sum() / (num_seeds - 1)) / answers,
        float(num_seeds * ((by_image - mean) ** 2).sum() / (num_images - 1)) / answers,
        float((residuals**2).sum() / ((num_seeds - 1) * (num_images - 1))) / answers,
    )


def _image_freedom(values: np.ndarray) -> float:
    """Return the degrees of freedom of the images' mean square. They are few if nearly all images are right: a few wrong ones decide it."""
    num_images = values.shape[1]
    deviations = values.mean(0) - values.mean()
    second = float((deviations**2).mean())
    kurtosis = float((deviations**4).mean()) / second**2 if second > 0 else 1.0
    return min(num_images - 1, KURTOSIS_WEIGHT * num_images / max(kurtosis - 1, 1e-9))


def seeds_interval(values: Sequence[float], bounds: tuple[float, float] = (0.0, 1.0)) -> Interval:
    """Return the mean of values and Student's interval over seeds only, within the bounds.

    It does not cover the variation of test images, so it is used only for runs without predictions and for custom metrics. There is
    no interval for a single value, nor for values that are all equal, since its width would be zero.

    Args:
        values: One value for each seed.
        bounds: (lowest, highest) possible value.
    """
    if not values:
        return Interval(None, None, None)
    mean = fmean(values)
    if len(set(values)) < 2:
        return Interval(mean, None, None)
    half = t_975(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Interval(mean, max(bounds[0], mean - half), min(bounds[1], mean + half))


def t_975(freedom: float) -> float:
    """Return the 0.975 quantile of Student's t distribution with `freedom` >= 1 degrees of freedom.

    The logarithm is interpolated between whole numbers, linearly in their reciprocals. This is exact at whole numbers, and within
    0.5 % elsewhere from 2 upwards.
    """
    if freedom <= 1:
        return T_975[0]
    below = min(int(freedom), len(T_975))
    above = below + 1 if below < len(T_975) else math.inf
    low, high = T_975[below - 1], T_975[below] if below < len(T_975) else NORMAL_975
    share = (1 / below - 1 / freedom) / (1 / below - 1 / above)
    return low * (high / low) ** share
