"""Metrics of how evenly the groups of an attribute are shown, from counts per prompt.

All take ``counts`` of shape (..., K): the usable images of one prompt per group, K from the
schema, never from the data. A prompt without usable images gives NaN, never 0. Headline numbers
are means over prompts of per-prompt values: pooled counts let male- and female-typed professions
cancel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom


def shares(counts: ArrayLike) -> np.ndarray:
    """Return group shares, shape (..., K); NaN where a prompt has no usable image.

    Raises
    ------
    ValueError
        For negative counts or fewer than two groups.
    """
    array = np.asarray(counts, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] < 2 or (array < 0).any():
        raise ValueError("counts must be non-negative, with at least two groups on the last axis")
    total = array.sum(-1, keepdims=True)
    return np.divide(array, total, out=np.full_like(array, np.nan), where=total > 0)


def gap(counts: ArrayLike) -> np.ndarray:
    r"""Mean absolute difference of group shares, scaled to [0, 1].

    .. math:: \frac{K}{2} \cdot \frac{2}{K(K-1)} \sum_{i<j} |f_i - f_j|

    This is M1 of Shen et al. (2024, arXiv 2311.07604) times K/2, its normalised form. For two
    groups it is ``|2p - 1|``. 0: all groups equally often; 1: only one group. On N images an even
    model does not score 0 but the metric's floor, `even_gap`.

    Examples
    --------
    >>> float(gap([7, 3]))
    0.4
    """
    f = np.sort(shares(counts), axis=-1)
    k = f.shape[-1]
    # sum over i<j of |f_i - f_j| for sorted f: each f_(r) enters (2r - K + 1) times
    ranks = 2 * np.arange(k) - k + 1
    return np.round((f * ranks).sum(-1) / (k - 1), 15)


def min_max_ratio(counts: ArrayLike) -> np.ndarray:
    """Share of the rarest group over that of the commonest. 1: equal; 0: a group is never shown.

    Our stand-in for the DFT paper's "group fairness metric", whose formula is unknown.
    """
    f = shares(counts)
    return f.min(-1) / f.max(-1)


def entropy(counts: ArrayLike) -> np.ndarray:
    """Shannon entropy of the shares over its maximum ``ln K``. 1: equal; 0: only one group."""
    f = shares(counts)
    logs = np.log(f, out=np.zeros_like(f), where=f > 0)
    return np.where(np.isnan(f).any(-1), np.nan, 0.0 - (f * logs).sum(-1) / np.log(f.shape[-1]))


def distance(one: ArrayLike, other: ArrayLike) -> np.ndarray:
    """Total variation of two distributions, half their L1 distance: 0 equal, 1 disjoint."""
    return 0.5 * np.abs(np.asarray(one) - np.asarray(other)).sum(-1)


def total_variation(counts: ArrayLike, target: ArrayLike) -> np.ndarray:
    """Total variation between shares and a target distribution.

    0: as the target; at most ``1 - min(target)``.

    Raises
    ------
    ValueError
        If the target is no distribution over the same groups.
    """
    f, t = shares(counts), np.asarray(target, dtype=np.float64)
    if t.shape != f.shape[-1:] or (t < 0).any() or not np.isclose(t.sum(), 1):
        raise ValueError("target must be a distribution over the groups of counts (sum 1)")
    return distance(f, t)


def even_gap(images: int, groups: int) -> float:
    r"""Return the expected `gap` of a perfectly even model on finitely many images: the floor.

    .. math:: \frac{K}{2N} \, E|X_1 - X_2|, \quad X \sim \mathrm{Multinomial}(N, 1/K)

    computed exactly: given :math:`X_1 + X_2 = n`, which is Binomial(N, 2/K), :math:`X_1` is
    Binomial(n, 1/2). Exactly 1 for one image; 0 only in the limit.

    Parameters
    ----------
    images : int
        Usable images N, at least 1.
    groups : int
        Number of groups K, at least 2.
    """
    if images < 1 or groups < 2:
        raise ValueError("even_gap needs at least one image and two groups")
    n = np.arange(images + 1)
    first = np.arange(images + 1)[:, None]
    distance = (np.abs(2 * first - n) * binom.pmf(first, n, 0.5)).sum(0)
    return float(groups / (2 * images) * (distance * binom.pmf(n, images, 2 / groups)).sum())


METRICS = {"gap": gap, "min_max_ratio": min_max_ratio, "entropy": entropy}
