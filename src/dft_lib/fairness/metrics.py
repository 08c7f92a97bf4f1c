r"""Metrics of how evenly the groups of an attribute are shown, on anyone's counts.

All take ``counts`` of shape (..., K): how often each of the K groups was seen, for one prompt or a
stack of prompts; shares or mean probabilities work as well. K comes from the schema, never from
the data: a group that is never shown is a zero, not a missing column. `target` is the distribution
called fair, shape (K,), uniform unless given, every entry above 0. A prompt without usable images
gives NaN, never 0.

Headline numbers are means over prompts of per-prompt values: in pooled counts male- and
female-typed professions cancel. Raw values have a noise floor (`dft_lib.fairness.floors`): on few
images even a model that draws at random from the target does not score 0.

With two groups and a uniform target, ``b = |2p - 1|`` equals `parity_gap`, `delta`,
`deviation_ratio` and `l1_distance`, twice `mean_absolute_deviation` and `total_variation`, and
:math:`\sqrt2` times `fairness_discrepancy`. With more groups they differ.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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


def _difference(counts: ArrayLike, target: ArrayLike | None) -> np.ndarray:
    f = shares(counts)
    return f - check_target(target, f.shape[-1])


def _pairs(d: np.ndarray) -> np.ndarray:
    """Sum over i < j of abs(d_i - d_j): in sorted order, d_(r) enters 2r - K + 1 times."""
    ordered = np.sort(d, axis=-1)
    k = d.shape[-1]
    # rounded so that equal shares give 0, not 1e-17
    return np.round((ordered * (2 * np.arange(k) - k + 1)).sum(-1), 15)


def parity_gap(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    r"""Mean absolute difference between the groups' shares: bias(P) of Shen et al.

    .. math:: \frac{2}{K(K-1)} \sum_{i<j} |d_i - d_j|, \quad d = f - t

    0: as the target. At a uniform target the worst value, one group only, is ``2 / K``: do not
    compare it between attributes with different K; `gap` is the same on [0, 1].
    Shen et al. 2024, arXiv 2311.07604.
    """
    d = _difference(counts, target)
    k = d.shape[-1]
    return 2 * _pairs(d) / (k * (k - 1))


def gap(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """`parity_gap` times K/2. 0: as the target; 1: only one group, at a uniform target.

    At another target the worst value may exceed 1.

    Examples
    --------
    >>> float(gap([7, 3]))
    0.4
    """
    d = _difference(counts, target)
    return _pairs(d) / (d.shape[-1] - 1)


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


def delta(counts: ArrayLike, target: ArrayLike | None = None, *, group: int = 0) -> np.ndarray:
    """Relative deviation of one group, ``|f_g - t_g| / t_g`` (TIME, UCE). 0: as the target.

    Worst: 1 if the group is never shown, ``1/t_g - 1`` if nothing else is.
    """
    d = _difference(counts, target)
    t = check_target(target, d.shape[-1])
    return np.abs(d[..., group]) / t[group]


def deviation_ratio(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Largest deviation of a share over the largest possible (InterpretDiffusion). In [0, 1]."""
    d = _difference(counts, target)
    return np.abs(d).max(-1) / (1 - check_target(target, d.shape[-1]).min())


def kl_divergence(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Kullback-Leibler divergence of the shares from the target, in nats.

    0: as the target; ``ln K`` for one group only at a uniform target (ITI-GEN and others).
    """
    f = shares(counts)
    ratio = f / check_target(target, f.shape[-1])
    logs = np.log(ratio, out=np.zeros_like(f), where=f > 0)
    return np.where(np.isnan(f).any(-1), np.nan, np.maximum((f * logs).sum(-1), 0))


def kl_divergence_corrected(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """`kl_divergence` less its first-order noise floor ``(K - 1) / (2N)`` (Miller 1955).

    Nearly unbiased unless groups are almost empty; may be negative. NaN without images.
    """
    array = np.asarray(counts, dtype=np.float64)
    n = array.sum(-1)
    floor = np.divide(array.shape[-1] - 1, 2 * n, out=np.full_like(n, np.nan), where=n > 0)
    return kl_divergence(array, target) - floor


def fairness_discrepancy(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Euclidean distance of shares and target (Choi et al. 2020). 0 to ``sqrt(1 - 1/K)``.

    The published form takes the mean of softmax probabilities instead of shares (pass those):
    an unsure judge then looks fair. Report shares of hard answers.
    """
    return l2_distance(counts, target)


def soft_fairness_discrepancy(
    probabilities: ArrayLike, target: ArrayLike | None = None
) -> np.ndarray:
    """`fairness_discrepancy` of mean probabilities, shape (..., images, K)."""
    return l2_distance(np.asarray(probabilities, dtype=np.float64).mean(-2), target)


def mean_absolute_deviation(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Mean over groups of ``|f_k - t_k|`` (DALL-Eval). 0 to ``2 (K-1) / K**2``."""
    return np.abs(_difference(counts, target)).mean(-1)


def l1_distance(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Sum over groups of ``|f_k - t_k|`` (MAGBIG). 0 to ``2 (1 - 1/K)``."""
    return np.abs(_difference(counts, target)).sum(-1)


def l2_distance(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Root of the sum over groups of ``(f_k - t_k)**2`` (MAGBIG). 0 to ``sqrt(1 - 1/K)``."""
    return np.sqrt((_difference(counts, target) ** 2).sum(-1))


def distance(one: ArrayLike, other: ArrayLike) -> np.ndarray:
    """Total variation of two distributions, half their L1 distance: 0 equal, 1 disjoint."""
    return 0.5 * np.abs(np.asarray(one) - np.asarray(other)).sum(-1)


def total_variation(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Half the L1 distance: the share that would have to change group. 0 to ``1 - min(t)``."""
    return 0.5 * l1_distance(counts, target)


def normalized_entropy(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Shannon entropy of the shares over ``ln K``. 1: all groups equally often; 0: only one.

    Knows no target; `target` is taken (and checked) so that all metrics are called alike.
    OpenBias's severity is 1 minus this.
    """
    f = shares(counts)
    check_target(target, f.shape[-1])
    logs = np.log(f, out=np.zeros_like(f), where=f > 0)
    entropy = -(f * logs).sum(-1) / np.log(f.shape[-1])
    return np.where(np.isnan(f).any(-1), np.nan, np.clip(entropy, 0, 1) + 0.0)


def min_max_ratio(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Smallest over largest representation ``f_k / t_k``. 1: as the target; 0: a group is absent.

    The disparate-impact ratio; below .8 it misses the four-fifths mark (EEOC 1978). Also our
    stand-in for the DFT paper's "group fairness metric", whose formula is unknown.
    """
    f = shares(counts)
    ratio = f / check_target(target, f.shape[-1])
    return ratio.min(-1) / ratio.max(-1)


def four_fifths(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Say where `min_max_ratio` reaches the four-fifths mark (bool; False without images)."""
    return min_max_ratio(counts, target) >= 0.8 - 1e-12  # 4:5 itself reaches it


def wasserstein_1(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Earth mover's distance for *ordered* groups, in steps of the scale. 0 to ``K - 1``."""
    return np.abs(_difference(counts, target).cumsum(-1)[..., :-1]).sum(-1)


def mean_shift(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Mean position on an ordered scale minus the target's, in steps; negative: to the first."""
    d = _difference(counts, target)
    return (d * np.arange(d.shape[-1])).sum(-1)


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


Metric = Callable[..., np.ndarray]

# Per-prompt metrics; every one is called (counts, target). `parity_gap_corrected` needs prompts.
METRICS: dict[str, Metric] = {
    f.__name__: f
    for f in (
        parity_gap, delta, deviation_ratio, kl_divergence, fairness_discrepancy,
        mean_absolute_deviation, l1_distance, l2_distance, total_variation, normalized_entropy,
        min_max_ratio,
    )
}  # fmt: skip
ORDERED_METRICS: dict[str, Metric] = {"wasserstein_1": wasserstein_1}


def metrics_for(*, ordered: bool = False, group: int = 0) -> dict[str, Metric]:
    """Return the per-prompt metrics by name, `delta` bound to a group."""
    chosen = METRICS | (ORDERED_METRICS if ordered else {})
    return chosen | {"delta": partial(delta, group=group)}
