"""Unbiased squares: no noise floor, so arms with different numbers of images compare.

They need whole counts: shares alone do not say how much of them is noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from dft_lib.fairness.shares import check_target, shares


def squared_gap(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    r"""Unbiased estimate of the mean *squared* difference between the groups' shares.

    .. math:: \frac{2}{K(K-1)} \sum_{i<j} (d_i - d_j)^2 = \frac{2}{K-1} \sum_k d_k^2

    from :math:`S = \sum_k c_k (c_k - 1) / (N (N-1))`, which is unbiased for
    :math:`\sum_k p_k^2` (Simpson 1949). It may be negative for one prompt: average it over prompts
    before taking a root. With two groups and a uniform target it estimates ``(2p - 1)**2``. Needs
    whole counts, two or more; otherwise NaN.
    """
    c = np.asarray(counts, dtype=np.float64)
    f = shares(c)
    t = check_target(target, f.shape[-1])
    n = c.sum(-1)
    pairs = n * (n - 1)
    whole = (n > 1) & (c == np.round(c)).all(-1)
    same = np.divide((c * (c - 1)).sum(-1), pairs, out=np.full_like(n, np.nan), where=whole)
    return 2 / (f.shape[-1] - 1) * (same - 2 * (f * t).sum(-1) + (t**2).sum())


def parity_gap_corrected(
    counts: ArrayLike, target: ArrayLike | None = None, axis: int = -1
) -> np.ndarray:
    """Root of the mean over prompts of `squared_gap`, negative means counted as 0.

    Parameters
    ----------
    counts : array_like
        Shape (..., P, K): P prompts. Prompts with fewer than two images are left out.
    target : array_like, optional
        Shape (K,).
    axis : int
        The axis of prompts in the array of per-prompt values.

    Returns
    -------
    numpy.ndarray
        NaN for a single prompt: no unbiased estimator of an absolute difference exists, and the
        root of one noisy square is worse than the raw value. The worst value is
        ``sqrt(2 / K)`` at a uniform target (1 for two groups).

    Notes
    -----
    A root mean square, so above the mean of the true gaps where prompts differ: compare it with
    itself, not with `parity_gap`.
    """
    squares = squared_gap(counts, target)
    if squares.ndim == 0 or squares.shape[axis] < 2:
        return np.full(squares.shape[:-1], np.nan)
    known = ~np.isnan(squares)
    number = known.sum(axis)
    total = np.where(known, squares, 0.0).sum(axis)
    mean = np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 1)
    return np.sqrt(np.maximum(mean, 0))


def squared_cramer_gap(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Unbiased estimate of the sum over ``k < K`` of ``(F_k - T_k)**2``, for ordered groups.

    F and T are cumulative shares. May be negative for one prompt; NaN below two images.
    """
    f = shares(counts)
    t = check_target(target, f.shape[-1])
    n = np.asarray(counts, dtype=np.float64).sum(-1)
    cumulative = f.cumsum(-1)[..., :-1]
    noise = (cumulative * (1 - cumulative)).sum(-1)
    correction = np.divide(noise, n - 1, out=np.full_like(n, np.nan), where=n > 1)
    return ((cumulative - t.cumsum()[:-1]) ** 2).sum(-1) - correction
