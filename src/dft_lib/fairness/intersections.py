"""Two attributes at once: their cells, and what their margins hide."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from dft_lib.fairness.shares import shares


def mutual_information(counts: ArrayLike) -> np.ndarray:
    """Mutual information of two attributes in nats, from counts of shape (..., K1, K2).

    0: the attributes are independent. With even marginals it is what a report of marginals hides:
    ``[[.4, .1], [.1, .4]]`` is even for both and still has .193.
    """
    array = np.asarray(counts, dtype=np.float64)
    f = shares(array.reshape(*array.shape[:-2], -1)).reshape(array.shape)
    product = f.sum(-1, keepdims=True) * f.sum(-2, keepdims=True)
    logs = np.log(np.divide(f, product, out=np.ones_like(f), where=f > 0))
    return np.maximum((f * logs).sum((-2, -1)), 0)


def cells(counts: ArrayLike) -> np.ndarray:
    """Return counts of two attributes, (..., K1, K2), as counts of their K1 * K2 cells."""
    array = np.asarray(counts)
    return array.reshape(*array.shape[:-2], -1)
