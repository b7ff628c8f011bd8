"""Gaussian-process regression with a Matern-5/2 kernel, one length scale per parameter and one noise per group of observations.

After Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006).

A parameter may span several columns (a choice has one column per option), which then share a length scale. The length scales,
amplitude and noise are chosen for the highest posterior density under log-normal priors. The median of the prior on the length scales
grows with the square root of the number of parameters (Hvarfner et al., "Vanilla Bayesian Optimization Performs Great in High
Dimensions", 2024).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import cho_solve, lapack, solve_triangular
from scipy.optimize import minimize
from scipy.special import ndtr

ROOT_5 = math.sqrt(5)
JITTER = 1e-6
LARGEST_FIT = 64  # the kernel is fitted to at most this many points; the posterior uses all points

Array = np.ndarray


class GaussianProcess:
    """A Gaussian process that is fitted to observations.

    Args:
        inputs: The observed points, [n, columns].
        groups: Index of the parameter to which each column belongs, [columns].
        targets: The observed values, [n], with mean 0 and variance 1.
        sources: The noise group of each observation, [n], integers from 0.
        num_sources: Number of noise groups.
        rng: Draws the points to which the kernel is fitted, if there are more than `LARGEST_FIT`.
    """

    def __init__(
        self,
        inputs: Array,
        groups: Array,
        targets: Array,
        sources: Array,
        num_sources: int,
        rng: np.random.Generator,
    ) -> None:
        chosen = best_and_some_others(targets, LARGEST_FIT, rng)
        log_lengths, self.amplitude, self._noises = fit_kernel(
            _distances(inputs[chosen], groups), targets[chosen], sources[chosen], num_sources
        )
        self._scales = np.exp(-log_lengths)[groups]
        self.condition(inputs, targets, sources)

    def condition(self, inputs: Array, targets: Array, sources: Array) -> None:
        """Replace the observations and keep the kernel.

        Args:
            inputs: The observed points, [n, columns].
            targets: The observed values, [n].
            sources: The noise group of each observation, [n], integers from 0.
        """
        self.inputs, self.targets = inputs, targets
        self._factor = lapack.dpotrf(self._noisy_covariance(inputs, sources), lower=1, clean=1)[0]
        self._weights = cho_solve((self._factor, True), targets, check_finite=False)

    def leave_one_out(self, inputs: Array, targets: Array, sources: Array) -> Array:
        """Predict each of the given observations from the others, with the fitted kernel.

        Args:
            inputs: The observed points, [n, columns].
            targets: The observed values, [n].
            sources: The noise group of each observation, [n], integers from 0.

        Returns:
            The predictions, [n].
        """
        precision = np.linalg.inv(self._noisy_covariance(inputs, sources))
        return targets - (precision @ targets) / np.diag(precision)

    def predict(self, inputs: Array) -> tuple[Array, Array]:
        """Return the mean [n] and standard deviation [n] of the noise-free function at points [n, columns]."""
        covariance = self._covariance(inputs, self.inputs)
        explained = solve_triangular(self._factor, covariance.T, lower=True, check_finite=False)
        variance = self.amplitude - (explained**2).sum(axis=0)
        return covariance @ self._weights, np.sqrt(np.maximum(variance, 1e-10))

    def _noisy_covariance(self, inputs: Array, sources: Array) -> Array:
        covariance = self._covariance(inputs, inputs)
        covariance[np.diag_indices(len(inputs))] += self._noises[sources] + JITTER
        return covariance

    def _covariance(self, a: Array, b: Array) -> Array:
        a, b = a * self._scales, b * self._scales
        squared = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
        return self.amplitude * _matern(np.maximum(squared, 0.0))[0]


def log_expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Return log E[max(f - best, 0)] of normally distributed values f. The computation is stable even far below `best`.

    After Ament et al., "Unexpected Improvements to Expected Improvement" (2023).

    Args:
        mean: Mean of each value, [n].
        deviation: Standard deviation of each value, [n], above 0.
        best: The value to exceed.

    Returns:
        Natural logarithms, [n].
    """
    z = (mean - best) / deviation
    near = z > -6
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    inner = np.log(np.maximum(density + z * ndtr(z), 1e-300))
    far_z = np.where(near, -6.0, z)
    far = -0.5 * far_z**2 - 0.5 * math.log(2 * math.pi) - 2 * np.log(-far_z)
    return np.where(near, inner, far) + np.log(deviation)


def fit_kernel(distances: Array, targets: Array, sources: Array, num_sources: int) -> tuple[Array, float, Array]:
    """Find the kernel with the highest posterior density.

    Args:
        distances: Squared distances, one slice per parameter, [d, n, n].
        targets: The observed values, [n].
        sources: The noise group of each observation, [n], integers from 0.
        num_sources: Number of noise groups; a group without observations gets the most probable
            noise under the prior.

    Returns:
        The logarithms of the length scales [d], the amplitude, and the noise variances
        [num_sources].
    """
    d, n = distances.shape[:2]
    flat = distances.reshape(d, n * n)
    mean = np.array([math.log(0.5) + 0.5 * math.log(max(d, 8) / 8)] * d + [0.0] + [math.log(1e-2)] * num_sources)
    spread = np.array([1.0] * d + [1.0] + [2.0] * num_sources)
    of_source = sources == np.arange(num_sources)[:, None]  # [num_sources, n]

    def loss(theta: Array) -> tuple[float, Array]:
        inverse_squares, amplitude, noises = np.exp(-2 * theta[:d]), math.exp(theta[d]), np.exp(theta[d + 1 :])
        correlation, slope = _matern((inverse_squares @ flat).reshape(n, n))
        covariance = amplitude * correlation
        covariance[np.diag_indices(n)] += noises[sources] + JITTER
        factor, failed = lapack.dpotrf(covariance, lower=1, clean=1)
        if failed:
            return 1e10, np.zeros_like(theta)
        weights = cho_solve((factor, True), targets, check_finite=False)
        lower = lapack.dpotri(factor, lower=1)[0]
        inverse = lower + lower.T
        inverse[np.diag_indices(n)] /= 2
        by_covariance = 0.5 * (inverse - np.outer(weights, weights))
        gradient = np.empty_like(theta)
        gradient[:d] = -2 * inverse_squares * (flat @ (by_covariance * amplitude * slope).ravel())
        gradient[d] = (by_covariance * correlation).sum() * amplitude
        gradient[d + 1 :] = of_source @ np.diag(by_covariance) * noises
        likelihood = 0.5 * targets @ weights + np.log(np.diag(factor)).sum()
        prior = 0.5 * (((theta - mean) / spread) ** 2).sum()
        return likelihood + prior, gradient + (theta - mean) / spread**2

    bounds = [(math.log(0.03), math.log(50.0))] * d + [(-4.0, 4.0)] + [(math.log(1e-6), math.log(2.0))] * num_sources
    theta = minimize(loss, mean, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 15}).x
    return theta[:d], math.exp(theta[d]), np.exp(theta[d + 1 :])


def _matern(squared: Array) -> tuple[Array, Array]:
    """Return the correlation, and its derivative with respect to the squared distance."""
    distance = np.sqrt(squared)
    decay = np.exp(-ROOT_5 * distance)
    return (1 + ROOT_5 * distance + 5 / 3 * squared) * decay, -5 / 6 * (1 + ROOT_5 * distance) * decay


def _distances(inputs: Array, groups: Array) -> Array:
    squared = (inputs[:, None] - inputs[None]) ** 2  # [n, n, columns]
    return np.stack([squared[:, :, groups == group].sum(axis=2) for group in range(groups.max() + 1)])


def best_and_some_others(targets: Array, most: int, rng: np.random.Generator) -> Array:
    """Choose the best observations and a random part of the others.

    Args:
        targets: The observed values, [n]; higher is better.
        most: Largest number of observations to choose. If there are more, half of the chosen ones
            are the best, and the others are drawn from the rest.
        rng: Source of the draws.

    Returns:
        The indices of the chosen observations, [min(n, most)].
    """
    order = np.argsort(-targets, kind="stable")
    if len(order) <= most:
        return order
    half = most // 2
    return np.concatenate([order[:half], rng.choice(order[half:], most - half, replace=False)])
