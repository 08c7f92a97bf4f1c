"""Rates compared between groups: accuracy of a rater or of the generator, demographic parity."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def rates_by_group(successes: ArrayLike, totals: ArrayLike) -> dict[str, np.ndarray | float]:
    """Compare a rate between groups: accuracy of a rater or of the generator, or parity.

    Parameters
    ----------
    successes, totals : array_like
        Shape (K,): images with the outcome, and all images, per group.

    Returns
    -------
    dict
        ``rates`` (NaN for an empty group), their ``difference`` (largest minus smallest; 0: equal)
        and ``ratio`` (smallest over largest; 1: equal), over groups that have images. Fairlearn's
        ``demographic_parity_difference`` and ``_ratio``, of any rate.

    Raises
    ------
    ValueError
        If a success count exceeds its total, or anything is negative.
    """
    s, n = np.asarray(successes, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    if s.shape != n.shape or (s < 0).any() or (s > n).any():
        raise ValueError("successes must lie between 0 and totals, group by group")
    rates = np.divide(s, n, out=np.full_like(n, np.nan), where=n > 0)
    known = rates[~np.isnan(rates)]
    if not len(known):
        return {"rates": rates, "difference": float("nan"), "ratio": float("nan")}
    most = known.max()
    ratio = float(known.min() / most) if most > 0 else float("nan")
    return {"rates": rates, "difference": float(most - known.min()), "ratio": ratio}
