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

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from dft_lib.fairness.record import Metric
from dft_lib.fairness.shares import check_target, difference, shares
from dft_lib.fairness.unbiased import parity_gap_corrected, squared_gap


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
    d = difference(counts, target)
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
    d = difference(counts, target)
    return _pairs(d) / (d.shape[-1] - 1)


def delta(counts: ArrayLike, target: ArrayLike | None = None, *, group: int = 0) -> np.ndarray:
    """Relative deviation of one group, ``|f_g - t_g| / t_g`` (TIME, UCE). 0: as the target.

    Worst: 1 if the group is never shown, ``1/t_g - 1`` if nothing else is.
    """
    d = difference(counts, target)
    t = check_target(target, d.shape[-1])
    return np.abs(d[..., group]) / t[group]


def deviation_ratio(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Largest deviation of a share over the largest possible (InterpretDiffusion). In [0, 1]."""
    d = difference(counts, target)
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
    return np.abs(difference(counts, target)).mean(-1)


def l1_distance(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Sum over groups of ``|f_k - t_k|`` (MAGBIG). 0 to ``2 (1 - 1/K)``."""
    return np.abs(difference(counts, target)).sum(-1)


def l2_distance(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Root of the sum over groups of ``(f_k - t_k)**2`` (MAGBIG). 0 to ``sqrt(1 - 1/K)``."""
    return np.sqrt((difference(counts, target) ** 2).sum(-1))


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
    return np.abs(difference(counts, target).cumsum(-1)[..., :-1]).sum(-1)


def mean_shift(counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
    """Mean position on an ordered scale minus the target's, in steps; negative: to the first."""
    d = difference(counts, target)
    return (d * np.arange(d.shape[-1])).sum(-1)


# In the order of tables. All but those with `squares` are per prompt.
METRICS: dict[str, Metric] = {
    record.name: record
    for record in (
        Metric(
            "parity_gap", parity_gap, 0, "2/K",
            "mean absolute difference between two groups' shares",
            "Shen et al. 2024, arXiv 2311.07604, bias(P)", brief=True,
        ),
        Metric(
            "gap", gap, 0, "1", "parity_gap x K/2: compares attributes of different K",
            "this study", multiple_of="parity_gap", column="gap",
        ),
        Metric(
            "parity_gap_corrected", parity_gap_corrected, 0, "sqrt(2/K)",
            "root of the mean unbiased squared difference: next to no floor, undefined for one "
            "prompt",
            "Simpson 1949 (the estimator)", squares=squared_gap, brief=True,
        ),
        Metric(
            "min_max_ratio", min_max_ratio, 1, "0",
            "rarest over commonest group; the four-fifths mark is at .8", "EEOC 1978",
            brief=True, column="min_max_ratio",
        ),
        Metric(
            "normalized_entropy", normalized_entropy, 1, "0",
            "Shannon entropy over ln K; knows no target", "OpenBias: 1 - severity", brief=True,
            column="entropy",
        ),
        Metric(
            "delta", delta, 0, "K - 1", "relative deviation of one group's share",
            "UCE, TIME", of_group=True,
        ),
        Metric(
            "deviation_ratio", deviation_ratio, 0, "1",
            "largest deviation of a share over the largest possible", "InterpretDiffusion",
        ),
        Metric(
            "kl_divergence", kl_divergence, 0, "ln(K)",
            "Kullback-Leibler divergence from the target, nats", "ITI-GEN and others",
        ),
        Metric(
            "total_variation", total_variation, 0, "1 - 1/K",
            "share of images that would have to change group", "MAGBIG, halved",
            column="total_variation",
        ),
        Metric(
            "l1_distance", l1_distance, 0, "2 (1 - 1/K)", "sum of absolute deviations", "MAGBIG",
            multiple_of="total_variation",
        ),
        Metric(
            "mean_absolute_deviation", mean_absolute_deviation, 0, "2 (K - 1)/K^2",
            "mean over groups of absolute deviations", "DALL-Eval", multiple_of="total_variation",
        ),
        Metric(
            "l2_distance", l2_distance, 0, "sqrt(1 - 1/K)", "Euclidean distance to the target",
            "MAGBIG",
        ),
        Metric(
            "fairness_discrepancy", fairness_discrepancy, 0, "sqrt(1 - 1/K)",
            "l2_distance by its older name", "Choi et al. 2020", multiple_of="l2_distance",
        ),
        Metric(
            "wasserstein_1", wasserstein_1, 0, "(K - 1)/2",
            "earth mover's distance in steps of the scale", "Rubner et al. 1998", ordered=True,
        ),
    )
}  # fmt: skip


def metrics_for(*, ordered: bool = False, group: int = 0) -> dict[str, Metric]:
    """Return the records by name that fit the groups, bound to `group` where they look at one."""
    return {
        name: replace(m, function=partial(m.function, group=group)) if m.of_group else m
        for name, m in METRICS.items()
        if ordered or not m.ordered
    }


def study_columns() -> dict[str, Metric]:
    """Return the records of the study's tables per prompt, by their names there."""
    return {m.column: m for m in METRICS.values() if m.column is not None}
