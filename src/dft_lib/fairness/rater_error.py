r"""How wrong a rater is, and what that does to the shares it reports.

A confusion matrix C, ``C[i, j] = P(rater says j | truth i)``, is measured on labelled images of
the same kind as the rated ones, if possible per skin tone. What the rater reports is then
``C.T @ p``, not the true shares p. Correcting costs variance, and says nothing if the images
differ from those that C was measured on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

LEAST_LABELLED = 30  # per group; our rule
LEAST_SINGULAR = 0.3  # smallest singular value of C at which correcting still makes sense


def confusion(
    truth: Sequence[str], rated: Sequence[str], groups: Sequence[str], answers: Sequence[str]
) -> np.ndarray:
    """Count answers per true group: int64, shape (groups, answers).

    Parameters
    ----------
    truth, rated : sequence of str
        Same length; images whose truth is not among `groups` are left out.
    groups : sequence of str
        Rows.
    answers : sequence of str
        Columns: the groups, then "unclear" and "no_person" if the rater may say so. They belong to
        the matrix: a rater that is more often unsure about one group hides that group.

    Raises
    ------
    ValueError
        If an answer is not listed, so that nothing is dropped unseen.
    """
    column = {name: j for j, name in enumerate(answers)}
    row = {name: i for i, name in enumerate(groups)}
    counts = np.zeros((len(groups), len(answers)), np.int64)
    for true, said in zip(truth, rated, strict=True):
        if true not in row:
            continue
        if said not in column:
            raise ValueError(f"the rater answered {said!r}, which is not among the answers listed")
        counts[row[true], column[said]] += 1
    return counts


def rogan_gladen(share: ArrayLike, sensitivity: float, specificity: float) -> np.ndarray:
    """Correct the share of the first of two groups: ``(f + sp - 1) / (se + sp - 1)``.

    Rogan & Gladen 1978. May leave [0, 1] on few images: `calibrated_shares` does not.
    """
    j = sensitivity + specificity - 1
    if j <= 0:
        raise ValueError("a rater no better than chance cannot be corrected")
    return (np.asarray(share, dtype=np.float64) + specificity - 1) / j


def rogan_gladen_error(
    share: float, images: int, sensitivity: float, specificity: float, labelled: tuple[int, int]
) -> float:
    """Return the standard error of `rogan_gladen` at a true share, calibration included.

    `labelled` are the images of either group that sensitivity and specificity were measured on.
    """
    j = sensitivity + specificity - 1
    f = share * sensitivity + (1 - share) * (1 - specificity)
    variance = f * (1 - f) / images
    variance += share**2 * sensitivity * (1 - sensitivity) / labelled[0]
    variance += (1 - share) ** 2 * specificity * (1 - specificity) / labelled[1]
    return float(np.sqrt(variance) / j)


def check_calibration(calibration: ArrayLike) -> np.ndarray:
    """Return C from calibration counts, or refuse.

    One pseudo-count is spread over each row's answers, so that an answer that the calibration
    never saw is improbable, not impossible.

    Raises
    ------
    ValueError
        If a group has fewer than 30 labelled images, or the answers hardly depend on the truth.
    """
    counts = np.asarray(calibration, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] < 2 or counts.shape[1] < counts.shape[0]:
        raise ValueError("calibration counts need a row per group and a column per answer")
    labelled = counts.sum(1)
    if labelled.min() < LEAST_LABELLED:
        raise ValueError(
            f"a group has {labelled.min():.0f} labelled images, {LEAST_LABELLED} are needed: "
            "label more, or report uncorrected shares"
        )
    matrix = (counts + 1 / counts.shape[1]) / (labelled[:, None] + 1)
    smallest = np.linalg.svd(matrix, compute_uv=False).min()
    if smallest < LEAST_SINGULAR:
        raise ValueError(
            f"this rater cannot tell the groups apart well enough (smallest singular value "
            f"{smallest:.2f}, {LEAST_SINGULAR} needed): report uncorrected shares"
        )
    return matrix


def calibrated_shares(
    reported: ArrayLike, matrix: ArrayLike, iterations: int = 2000
) -> np.ndarray:
    """Return the most likely true shares behind reported counts, shape (..., K).

    Parameters
    ----------
    reported : array_like
        Counts (or shares) per answer, shape (..., J).
    matrix : array_like
        C, shape (..., K, J), rows summing to 1.
    iterations : int
        Of expectation maximisation for the multinomial likelihood on the simplex, so that no
        share leaves [0, 1], as plain inversion does.

    Raises
    ------
    ValueError
        If an answer was reported that no group can give according to C.
    """
    f = np.asarray(reported, dtype=np.float64)
    c = np.asarray(matrix, dtype=np.float64)
    total = f.sum(-1, keepdims=True)
    f = np.divide(f, total, out=np.full_like(f, np.nan), where=total > 0)
    if ((c.sum(-2) == 0) & (np.nan_to_num(f) > 0)).any():
        raise ValueError("an answer was reported that the confusion matrix says nobody gives")
    shape = np.broadcast_shapes(f.shape[:-1], c.shape[:-2])
    p = np.full((*shape, c.shape[-2]), 1 / c.shape[-2])
    for _ in range(iterations):
        expected = np.einsum("...k,...kj->...j", p, c)
        ratio = np.divide(f, expected, out=np.zeros((*shape, f.shape[-1])), where=expected > 0)
        step = p * np.einsum("...kj,...j->...k", c, ratio)
        if np.nanmax(np.abs(step - p), initial=0) < 1e-10:
            break
        p = step
    return np.where(np.isnan(f).any(-1, keepdims=True), np.nan, p)


@dataclass(frozen=True)
class Prevalence:
    """Corrected shares and their intervals, each of shape (K,)."""

    shares: np.ndarray
    low: np.ndarray
    high: np.ndarray


def calibrated_prevalence(
    reported: ArrayLike,
    calibration: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    groups: int | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Prevalence:
    """Correct shares for rater error; images *and* calibration are redrawn for the interval.

    Parameters
    ----------
    reported : array_like
        int, counts per answer: shape (J,), or (P, J) for P prompts, which are then resampled and
        weigh alike.
    calibration : array_like
        int, shape (K, J), from `confusion`; or (T, K, J), one per stratum, for a rater whose
        errors depend on something else in the picture (the skin tone).
    strata : array_like, optional
        Shape (T,): how often the strata occur among the reported images. The mixture is exact
        if strata and groups are independent.
    groups : int, optional
        The first `groups` truths are groups, the rest (`unclear`) are none: the groups' shares are
        of the images that show a group, the others' of all.

    Raises
    ------
    ValueError
        See `check_calibration`.
    """
    counts = np.atleast_2d(np.asarray(reported, dtype=np.float64))
    counts = counts[counts.sum(1) > 0]
    labelled = np.asarray(calibration, dtype=np.int64)
    labelled = labelled[None] if labelled.ndim == 2 else labelled
    weight = np.ones(len(labelled)) if strata is None else np.asarray(strata, dtype=np.float64)
    weight = weight / weight.sum()
    parts = np.stack([check_calibration(one) for one in labelled])
    matrix = np.einsum("t,tkj->kj", weight, parts)
    if not len(counts):
        empty = np.full(len(matrix), np.nan)
        return Prevalence(empty, empty, empty)
    rng = np.random.default_rng(seed)
    said = counts / counts.sum(1, keepdims=True)
    if len(counts) == 1:
        drawn = rng.multinomial(int(counts.sum()), said[0], size=draws) / counts.sum()
    else:
        weights = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=draws)
        drawn = weights @ said / len(counts)
    alpha = labelled + 1 / labelled.shape[-1]  # the posterior of each row (Perks 1947)
    redrawn = np.zeros((draws, *matrix.shape))
    for share, one in zip(weight, alpha, strict=True):
        redrawn += share * np.stack([rng.dirichlet(row, size=draws) for row in one], axis=1)
    replicas = _among(calibrated_shares(drawn, redrawn), groups)
    low, high = np.quantile(replicas, [(1 - level) / 2, (1 + level) / 2], axis=0)
    # The rates are linear in the true shares, so the mean of reported shares is corrected once.
    return Prevalence(_among(calibrated_shares(said.mean(0), matrix), groups), low, high)


def _among(shares: np.ndarray, groups: int | None) -> np.ndarray:
    """Return the first `groups` shares relative to their sum, the others as they are."""
    if groups is None:
        return shares
    known = np.maximum(shares[..., :groups].sum(-1, keepdims=True), 1e-12)
    return np.concatenate([shares[..., :groups] / known, shares[..., groups:]], axis=-1)


def cohen_kappa(table: ArrayLike) -> float:
    """Agreement of two raters beyond chance, from their K x K table of answers (Cohen 1960).

    1: always the same; 0: as if by chance. ``[[45, 5], [10, 40]]`` gives 0.70.
    """
    counts = np.asarray(table, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError("kappa needs a square table: the same answers for both raters")
    p = counts / counts.sum()
    chance = (p.sum(0) * p.sum(1)).sum()
    return float((np.trace(p) - chance) / (1 - chance)) if chance < 1 else float("nan")


def krippendorff_alpha(answers: Sequence[Sequence[str | None]]) -> float:
    """Krippendorff's alpha for nominal answers; any number of raters, gaps allowed.

    Parameters
    ----------
    answers : sequence of sequences
        One row per rater, one column per image; None where a rater gave no answer.

    Returns
    -------
    float
        1: always the same; 0: as if by chance; NaN if all answers are one group, or no image has
        two answers (Krippendorff 2011, "Computing Krippendorff's alpha-reliability").
    """
    labels = sorted({a for row in answers for a in row if a is not None})
    place = {label: i for i, label in enumerate(labels)}
    together = np.zeros((len(labels), len(labels)))
    for column in zip(*answers, strict=True):
        counts = np.zeros(len(labels))
        for label in column:
            if label is not None:
                counts[place[label]] += 1
        n = counts.sum()
        if n > 1:
            together += (np.outer(counts, counts) - np.diag(counts)) / (n - 1)
    totals = together.sum(1)
    n = totals.sum()
    chance = n**2 - (totals**2).sum()
    if chance == 0:
        return float("nan")
    return float(1 - (n - 1) * (n - np.trace(together)) / chance)
