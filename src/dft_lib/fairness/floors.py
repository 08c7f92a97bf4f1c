"""What a model that draws at random from the target scores on finitely many images.

A raw metric is not 0 (or 1) for such a model: it has a *noise floor* that falls slowly with the
number of images. A value means little without it. Floors assume independent images; a method that
forces its counts (exactly half and half) can lie below them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, norm

from dft_lib.fairness.record import Formula
from dft_lib.fairness.shares import check_target

_AT_ONCE = 2_000_000  # counts, 16 MB


def even_gap(images: int, groups: int) -> float:
    r"""Return the expected `gap` of a perfectly even model on finitely many images: its floor.

    .. math:: \frac{K}{2N} \, E|X_1 - X_2|, \quad X \sim \mathrm{Multinomial}(N, 1/K)

    computed exactly: given :math:`X_1 + X_2 = n`, which is Binomial(N, 2/K), :math:`X_1` is
    Binomial(n, 1/2). Exactly 1 for one image; 0 only in the limit. For two groups about
    ``sqrt(2 / (pi N))``.

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


@dataclass(frozen=True)
class Null:
    """What a fair model scores: the mean (the noise floor) and the middle 95 % of studies."""

    floor: float
    low: float
    high: float


def fair_studies(
    images: ArrayLike, target: ArrayLike, *, draws: int = 2000, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yield what `simulate_fair` returns in parts of some studies each, which fit the memory."""
    n = np.atleast_1d(np.asarray(images))
    if not np.array_equal(n, np.round(n)) or (n < 0).any():
        raise ValueError("images must be whole numbers, not negative")
    t = check_target(target, len(np.asarray(target)))
    rng = np.random.default_rng(seed)
    most = max(1, _AT_ONCE // max(len(n) * len(t), 1))
    for start in range(0, draws, most):
        yield rng.multinomial(n.astype(np.int64), t, size=(min(most, draws - start), len(n)))


def simulate_fair(
    images: ArrayLike, target: ArrayLike, *, draws: int = 2000, seed: int = 0
) -> np.ndarray:
    """Draw counts of a model that draws from the target: shape (draws, P, K).

    Parameters
    ----------
    images : array_like
        int, shape (P,): usable images per prompt.
    target : array_like
        Shape (K,).
    draws : int
        Simulated studies.
    seed : int
        Of NumPy's generator: the same arguments give the same draws.
    """
    return np.concatenate(list(fair_studies(images, target, draws=draws, seed=seed)))


def null_of(values: np.ndarray) -> Null:
    """Summarise simulated study values, shape (draws,)."""
    if np.isnan(values).all():
        return Null(float("nan"), float("nan"), float("nan"))
    low, high = np.nanquantile(values, [0.025, 0.975])
    return Null(float(np.nanmean(values)), float(low), float(high))


def noise_floor(
    metric: Formula, images: ArrayLike, target: ArrayLike, *, draws: int = 2000, seed: int = 0
) -> Null:
    """Return what a fair model scores in the mean over prompts of a per-prompt metric.

    Prompts without images are left out, as they are in the study's own mean.
    """
    n = np.atleast_1d(np.asarray(images))
    counts = simulate_fair(n[n > 0], target, draws=draws, seed=seed)
    return null_of(np.asarray(metric(counts, target)).mean(-1))


def wilson(successes: ArrayLike, totals: ArrayLike, level: float = 0.95) -> np.ndarray:
    """Wilson score interval of a share, shape (..., 2); (0, 1) without images.

    Wilson 1927. 166 of 250: .603 to .720.
    """
    k, n = np.asarray(successes, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    if (k < 0).any() or (k > n).any():
        raise ValueError("successes must lie between 0 and totals")
    z = norm.ppf(0.5 + level / 2)
    n = np.maximum(n, 1e-300)
    p = k / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return np.stack([np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)], -1)


def images_for_width(half_width: float, share: float = 0.5, level: float = 0.95) -> int:
    """Return how many images give a share's interval `half_width` to either side (Wald).

    ``images_for_width(0.10)`` is 97, ``images_for_width(0.05)`` 385.
    """
    if not 0 < half_width < 1 or not 0 <= share <= 1:
        raise ValueError("half_width must lie between 0 and 1, share in [0, 1]")
    z = norm.ppf(0.5 + level / 2)
    return max(1, math.ceil(z**2 * share * (1 - share) / half_width**2))


def detectable_difference(
    prompts: int,
    images: int,
    *,
    metric: Formula,
    target: ArrayLike,
    power: float = 0.8,
    level: float = 0.95,
) -> float:
    r"""Return the smallest difference between two nearly fair arms that a study would see.

    .. math:: (z_{1-\alpha/2} + z_{power}) \, \sqrt{2}\, \mathrm{sd} / \sqrt{P}

    sd is the standard deviation of the per-prompt metric of a fair model (simulated). Independent
    arms; pairing by initial noise helps, prompts that really differ hurt.
    """
    values = metric(simulate_fair([images], target, draws=20_000), target)[:, 0]
    factor = norm.ppf(0.5 + level / 2) + norm.ppf(power)
    return float(factor * math.sqrt(2) * values.std(ddof=1) / math.sqrt(prompts))
