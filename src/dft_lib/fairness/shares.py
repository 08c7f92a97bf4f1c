"""Counts to shares, and shares minus a target: what every metric starts from."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def shares(counts: ArrayLike) -> np.ndarray:
    """Return group shares, float64 (..., K); NaN where a prompt has no usable image.

    Raises
    ------
    ValueError
        For negative, infinite or missing counts, or fewer than two groups.
    """
    array = np.asarray(counts, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] < 2:
        raise ValueError("counts need at least two groups on the last axis")
    if not (np.isfinite(array).all() and (array >= 0).all()):
        raise ValueError("counts must be finite and not negative")
    total = array.sum(-1, keepdims=True)
    return np.divide(array, total, out=np.full_like(array, np.nan), where=total > 0)


def check_target(target: ArrayLike | None, groups: int) -> np.ndarray:
    """Return the target as an array, uniform if None.

    Raises
    ------
    ValueError
        If it is no distribution over `groups` groups, or gives one of them nothing.
    """
    if target is None:
        return np.full(groups, 1 / groups)
    t = np.asarray(target, dtype=np.float64)
    if t.shape != (groups,) or not (t > 0).all() or not np.isclose(t.sum(), 1, atol=1e-6):
        raise ValueError(f"target must be {groups} positive shares that sum to 1")
    return t / t.sum()


def difference(counts: ArrayLike, target: ArrayLike | None) -> np.ndarray:
    """Return shares minus target, (..., K)."""
    f = shares(counts)
    return f - check_target(target, f.shape[-1])


def distance(one: ArrayLike, other: ArrayLike) -> np.ndarray:
    """Total variation of two distributions, half their L1 distance: 0 equal, 1 disjoint."""
    return 0.5 * np.abs(np.asarray(one) - np.asarray(other)).sum(-1)
