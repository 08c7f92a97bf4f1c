"""Distances between sets of images in a named feature space: drift, and diversity within a group.

Features come from a rater's network
(`dft_lib.raters.drawings.networks.NetworkRater.features_of`); the
space is named with every number, because values in different spaces do not compare. Nothing here
is FID, which is the Frechet distance in one particular Inception network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import linalg
from scipy.spatial.distance import pdist

from dft_lib.repro.paths import show


def frechet_distance(one: ArrayLike, other: ArrayLike) -> float:
    r"""Return the Frechet distance of two Gaussians fitted to features, shape (n, d) each.

    .. math:: |\mu_1 - \mu_2|^2 + \mathrm{tr}(C_1 + C_2 - 2 (C_1 C_2)^{1/2})

    0: same mean and covariance. Biased upwards on few images: compare values of equal n only
    (Heusel et al. 2017, arXiv 1706.08500; Chong & Forsyth 2020, arXiv 1911.07023).
    """
    x, y = (np.asarray(a, dtype=np.float64) for a in (one, other))
    if min(len(x), len(y)) < 2:
        return float("nan")
    cx, cy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    # tr (C1 C2)^(1/2) = sum of roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), symmetric
    values, vectors = linalg.eigh(cx)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    between = np.sqrt(np.maximum(linalg.eigvalsh(root @ cy @ root), 0)).sum()
    distance = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cx) + np.trace(cy) - 2 * between
    return float(max(distance, 0.0))


def kernel_distance(one: ArrayLike, other: ArrayLike) -> float:
    """Return the unbiased squared maximum mean discrepancy with a cubic kernel (KID's estimator).

    For *paired* sets: row i of both shows the same prompt from the same noise. Pairs are left out
    of the comparison between the sets, as an image's likeness to itself is within one. 0 in the
    mean where both come from one model; may be negative. Binkowski et al. 2018, arXiv 1801.01401.

    Raises
    ------
    ValueError
        If the sets are not of one length.
    """
    x, y = (np.asarray(a, dtype=np.float64) for a in (one, other))
    n = len(x)
    if len(y) != n:
        raise ValueError(f"kernel_distance needs paired images, not {n} and {len(y)}")
    if n < 2:
        return float("nan")

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def others(a: np.ndarray, b: np.ndarray) -> float:
        values = kernel(a, b)
        return float((values.sum() - np.trace(values)) / (n * (n - 1)))

    return others(x, x) + others(y, y) - 2 * others(x, y)


def diversity(features: ArrayLike) -> float:
    """Return the mean Euclidean distance between two images of a set; NaN below two images."""
    x = np.asarray(features, dtype=np.float64)
    return float(pdist(x).mean()) if len(x) > 1 else float("nan")


def diversity_cells(features: np.ndarray, ratings: pd.DataFrame, attribute: str) -> pd.Series:
    """Return `diversity` among images of one prompt rated as one group, mean over seeds.

    A method may even out the groups by drawing the same few people again and again: then this
    falls. Compare arms over the cells that both have: professions differ in diversity.

    Parameters
    ----------
    features : numpy.ndarray
        Shape (n, d).
    ratings : pandas.DataFrame
        The same n images: ``seed, prompt_id, kind, rated_<attribute>``.
    attribute : str
        Which attribute's perceived groups.

    Returns
    -------
    pandas.Series
        Indexed by (prompt_id, group); only cells with two images or more under some seed.
    """
    plain = (ratings["kind"] == "neutral").to_numpy()
    rows = ratings[plain].reset_index(drop=True)
    shown = features[plain]
    cells: dict[tuple[str, str], list[float]] = {}
    for (_, prompt, group), part in rows.groupby(["seed", "prompt_id", f"rated_{attribute}"]):
        if len(part) > 1:
            cells.setdefault((prompt, group), []).append(diversity(shown[part.index]))
    found = pd.Series({cell: float(np.mean(v)) for cell, v in cells.items()}, dtype=float)
    found.index = pd.MultiIndex.from_tuples(found.index, names=["prompt_id", "group"])
    return found


def read_features(folder: Path, ratings: pd.DataFrame) -> np.ndarray:
    """Read the features that notebook 04 stored beside its ratings, float32 (n, d).

    Raises
    ------
    FileNotFoundError, ValueError
        If they are missing, or not of these ratings.
    """
    path = folder / "features.parquet"
    if not path.exists():
        raise FileNotFoundError(f"{show(path)} is missing: run notebook 04_evaluate for this arm")
    table = pd.read_parquet(path)
    if not table["sha256"].equals(ratings["sha256"]):
        raise ValueError(f"{show(path)} does not belong to the ratings beside it: run 04 again")
    return table.drop(columns="sha256").to_numpy(np.float32)
