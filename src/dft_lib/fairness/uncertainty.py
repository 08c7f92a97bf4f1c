"""Intervals and tests for studies of prompts x seeds.

Prompts are the clusters: what varies from profession to profession is what a reader wants to
generalise over, and images of one prompt are not independent pieces of evidence about it. Training
seeds are a second, crossed factor. Arms that share prompts and initial noise are compared by
differences per prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

FEWEST_PROMPTS = 5


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % (or other) interval; NaN where there is none."""

    value: float
    low: float
    high: float

    def map(self, function: Callable[[float], float]) -> Interval:
        """Apply an increasing function to all three."""
        return Interval(*(float(function(x)) for x in (self.value, self.low, self.high)))


def resampled_means(values: ArrayLike, *, draws: int = 10_000, seed: int = 0) -> np.ndarray:
    """Resample prompts, and training seeds, and return the means, shape (draws,).

    Parameters
    ----------
    values : array_like
        Shape (P,) or (P, S): one value per prompt, or per prompt and seed; NaN where a prompt was
        not measured under a seed (held-out folds).
    draws, seed : int
        Number of resamples, and of NumPy's generator.

    Notes
    -----
    The crossed bootstrap (Owen 2007): prompts and seeds are drawn independently with replacement;
    a prompt's value is the mean over its drawn seeds, and every drawn prompt weighs alike. With
    three seeds, the seeds' part of the interval rests on three numbers. Where every prompt was
    measured under one seed only (held-out folds), seeds and prompts cannot be told apart: prompts
    alone are drawn then.
    """
    v = _clean(values)
    if not v.size:
        return np.full(draws, np.nan)
    prompts, seeds = v.shape
    known = (~np.isnan(v)).astype(np.float64)
    filled = np.nan_to_num(v)
    rng = np.random.default_rng(seed)
    out = np.empty(draws)
    chunk = max(1, min(draws, 4_000_000 // (prompts * seeds)))  # about 100 MB at a time
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        rows = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=size)
        columns = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=size)
        weight = columns @ known.T
        mean = np.divide(columns @ filled.T, weight, out=np.zeros_like(weight), where=weight > 0)
        drawn = rows * (weight > 0)
        with np.errstate(invalid="ignore"):
            out[start : start + size] = (drawn * mean).sum(1) / drawn.sum(1)
    return out


def _clean(values: ArrayLike) -> np.ndarray:
    """Return values as (P, S) without empty prompts and seeds; (P, 1) if seeds are nested."""
    v = np.asarray(values, dtype=np.float64)
    v = v[:, None] if v.ndim == 1 else v
    v = v[~np.isnan(v).all(1)][:, ~np.isnan(v).all(0)]
    if v.size and nested(~np.isnan(v)):
        return np.nanmean(v, axis=1, keepdims=True)
    return v


def nested(measured: np.ndarray) -> bool:
    """Say whether most prompts, bool (P, S), were measured under one seed only."""
    return bool(np.median(measured.sum(1)) <= 1)


def mean_of(values: ArrayLike) -> float:
    """Return the mean over prompts of each prompt's mean over seeds; NaN if there is none."""
    v = _clean(values)
    return float(np.nanmean(v, axis=1).mean()) if v.size else float("nan")


def bootstrap_interval(
    values: ArrayLike, *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile cluster bootstrap of a mean over prompts (and seeds); see `resampled_means`.

    For raw metrics, with `noise_floor` beside it: a bootstrap interval does not know the floor,
    and near a fair model it lies above 0 however fair the model is. For squared gaps
    `mean_interval` covers better. One prompt has no interval over prompts: NaN.
    """
    v = _clean(values)
    if len(v) < 2:
        return Interval(mean_of(v), float("nan"), float("nan"))
    means = resampled_means(v, draws=draws, seed=seed)
    low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean_of(v), float(low), float(high))


def t_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """Student's t interval of a mean over prompts, shape (P,)."""
    v = np.asarray(values, dtype=np.float64)
    v = v[~np.isnan(v)]
    if len(v) < 2:
        return Interval(mean_of(values), float("nan"), float("nan"))
    half = stats.t.ppf(0.5 + level / 2, len(v) - 1) * v.std(ddof=1) / np.sqrt(len(v))
    return Interval(float(v.mean()), float(v.mean() - half), float(v.mean() + half))


def studentised_interval(
    values: ArrayLike, *, level: float = 0.95, draws: int = 4000, seed: int = 0
) -> Interval:
    """Bootstrap-t interval of a mean over prompts, shape (P,) (Efron & Tibshirani 1993)."""
    v = np.asarray(values, dtype=np.float64)
    v = v[~np.isnan(v)]
    if len(v) < 3:
        return t_interval(v, level=level)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(v), np.full(len(v), 1 / len(v)), size=draws) / len(v)
    error = v.std(ddof=1) / np.sqrt(len(v))
    centred = v - v.mean()  # so that rounding leaves no spread where there is none
    means = weights @ centred
    variance = np.maximum(weights @ centred**2 - means**2, 0) * len(v) / (len(v) - 1)
    spread = np.sqrt(variance / len(v))
    usable = spread > 1e-6 * error
    ratios = means[usable] / spread[usable]
    if v.std() < 1e-12:  # all prompts came out alike: their spread says nothing
        return Interval(float(v.mean()), float("nan"), float("nan"))
    if usable.mean() < 0.99:
        # Most prompts agree. Resamples without the others have no spread and an infinite ratio:
        # dropping them would cut a tail off.
        return t_interval(v, level=level)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(v.mean()), float(v.mean() - high * error), float(v.mean() - low * error))


def mean_interval(
    values: ArrayLike, *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Interval:
    """Interval of a mean of unbiased estimates (`squared_gap`): the method that covers best.

    Over prompts alone `studentised_interval`, with several seeds the crossed
    `bootstrap_interval`; how often they hold the truth: ``docs/measurement.md``. Below
    `FEWEST_PROMPTS` no method can be trusted: NaN.
    """
    v = _clean(values)
    if len(v) < FEWEST_PROMPTS:
        return Interval(mean_of(v), float("nan"), float("nan"))
    if v.shape[1] == 1:
        return studentised_interval(v[:, 0], level=level, draws=draws, seed=seed)
    return bootstrap_interval(v, level=level, draws=draws, seed=seed)


def smallest_p(prompts: int, *, draws: int = 10_000, exact_up_to: int = 16) -> float:
    """Return the smallest two-sided p value a sign-flip test over `prompts` prompts can give.

    Below six prompts it is above .05: no difference, however large, can be significant. Prompts
    whose difference is exactly 0 cannot count. Multiply it by the number of arms for the smallest
    value that Holm's correction can leave.
    """
    if prompts <= 0:
        return 1.0
    return min(1.0, 2.0 ** (1 - prompts)) if prompts <= exact_up_to else 1 / (draws + 1)


def sign_flip_test(
    differences: ArrayLike, *, draws: int = 10_000, seed: int = 0, exact_up_to: int = 16
) -> float:
    """Two-sided sign-flip permutation test that paired differences per prompt centre on 0.

    It generalises over prompts, for these very models: a training run that shifts all its prompts
    together is not guarded against, only more training runs could do that. Read the differences
    of the single seeds beside it.

    Parameters
    ----------
    differences : array_like
        Shape (P,): arm minus base per prompt, means over seeds. NaN is left out.
    draws : int
        Random sign patterns, if there are more than ``2 ** exact_up_to``.
    seed : int
        Of NumPy's generator.

    Returns
    -------
    float
        p, between `smallest_p` and 1; random tests count the observed pattern too, so that p is
        never 0 (Phipson & Smyth 2010). 1 for no prompts.
    """
    d = np.asarray(differences, dtype=np.float64)
    d = d[~np.isnan(d)]
    if not len(d):
        return 1.0
    observed = abs(d.mean()) * (1 - 1e-12)
    if len(d) <= exact_up_to:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(d))))
        return float((np.abs(signs @ d) / len(d) >= observed).mean())
    rng = np.random.default_rng(seed)
    signs = rng.choice((-1.0, 1.0), size=(draws, len(d)))
    extreme = (np.abs(signs @ d) / len(d) >= observed).sum()
    return float((extreme + 1) / (draws + 1))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction over arms: adjusted p values, each at most 1 (Holm 1979)."""
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    adjusted, highest = {}, 0.0
    for rank, (name, p) in enumerate(ordered):
        highest = max(highest, min(1.0, p * (len(ordered) - rank)))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}
