"""The Universal Scalability Law itself: its curve, its peak, and its least squares solution; pure.

With a = 1/lambda, b = sigma/lambda, c = kappa/lambda the law is f = N / (a + b (N - 1) + c N (N - 1))
within 0 <= b <= a and 0 <= c. The sum of (1 - f/X)^2 is minimised by Gauss-Newton steps, each an exact
least squares problem under these bounds; many sets of throughputs are solved at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_MOST_STEPS = 30
_SETTLED = 1e-9
"""Of 1/lambda: a step that moves less has arrived."""


def law(n: Floats, coefficients: Floats) -> Floats:
    """Throughput, shape (sets, levels), of coefficients of shape (sets, 3)."""
    lam, sigma, kappa = (coefficients[:, i : i + 1] for i in range(3))
    return np.asarray(lam * n / (1 + sigma * (n - 1) + kappa * n * (n - 1)))


def law_at(n: Floats, coefficients: Floats) -> Floats:
    """Throughput of each set at a level of its own; its asymptote where that is infinite."""
    lam, sigma, kappa = coefficients.T
    finite = np.where(np.isfinite(n), n, 1.0)
    with np.errstate(divide="ignore"):
        law = lam * finite / (1 + sigma * (finite - 1) + kappa * finite * (finite - 1))
        return np.asarray(np.where(np.isfinite(n), law, lam / sigma))


def peak_n(coefficients: Floats) -> Floats:
    """N* of each set, 1 or more; infinite where kappa is 0."""
    sigma, kappa = coefficients[:, 1], coefficients[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        peaks = np.sqrt(np.maximum(1 - sigma, 0) / kappa)
    return np.asarray(np.where(kappa > 0, np.maximum(peaks, 1.0), np.inf))


def solved(n: Floats, x: Floats) -> Floats:
    """Coefficients that fit each row of x best; shapes (levels,), (sets, levels) -> (sets, 3)."""
    basis = np.stack([np.ones_like(n), n - 1, n * (n - 1)], axis=1)
    free = [  # what of (a, b, c) may move where some bounds hold: the first with nothing at a bound
        np.array(columns, dtype=float).T
        for columns in (
            [(1, 0, 0), (0, 1, 0), (0, 0, 1)],
            [(1, 0, 0), (0, 1, 0)],  # c = 0
            [(1, 0, 0), (0, 0, 1)],  # b = 0
            [(1, 0, 0)],
            [(1, 1, 0), (0, 0, 1)],  # b = a
            [(1, 1, 0)],
        )
    ]
    theta = _bounded(basis, n / x, x / n, free)
    for _ in range(_MOST_STEPS):
        inverse = theta @ basis.T
        curve = n / inverse
        slope = curve / (inverse * x)  # of the residual 1 - curve/x, by the basis
        before, theta = theta, _bounded(basis, inverse - (1 - curve / x) / slope, slope, free)
        if np.all(np.abs(theta - before) <= _SETTLED * before[:, :1]):
            break
    a, b, c = theta.T
    return np.stack([1 / a, b / a, c / a], axis=1)


def _bounded(basis: Floats, target: Floats, weight: Floats, free: Sequence[Floats]) -> Floats:
    """theta of each set that brings basis @ theta nearest to its target, within the bounds.

    The problem is convex: where nothing needs to be held at a bound, nothing else need be looked at.
    """
    theta = np.zeros((len(target), 3))
    best = np.full(len(target), np.inf)
    left = np.arange(len(target))
    for columns in free:
        reduced = basis @ columns
        scale = reduced.max(axis=0)
        weighted = weight[left, :, None] * (reduced / scale)
        normal = weighted.transpose(0, 2, 1) @ weighted
        right = weighted.transpose(0, 2, 1) @ (weight[left] * target[left])[:, :, None]
        candidate = (np.linalg.solve(normal, right)[:, :, 0] / scale) @ columns.T
        cost = (((candidate @ basis.T - target[left]) * weight[left]) ** 2).sum(axis=1)
        a, b, c = candidate.T
        possible = (a > 0) & (b >= 0) & (c >= 0) & (b <= a * (1 + 1e-12)) & (cost < best[left])
        theta[left[possible]], best[left[possible]] = candidate[possible], cost[possible]
        if columns.shape[1] == 3:
            left = left[~possible]
        if not len(left):
            break
    return theta
