"""Rater `histogram`: perceived skin tone from how much of which colour there is.

A joint CIELAB histogram of the warm part of colour space, blind to where colours stand, then two
dense layers. It learns which colours are skin; `palette` is told.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from skimage.color import rgb2lab

from dft_lib.raters.drawings.networks import NetworkRater, dense_trunk, load

NAME, WIDTH = "histogram", 192
_EDGES = (np.linspace(0, 100, 17), np.linspace(-10, 40, 11), np.linspace(-10, 60, 11))
INPUTS = 16 * 10 * 10


def features(pixels: np.ndarray) -> torch.Tensor:
    """Return square roots of CIELAB histogram shares, float32 of shape (n, 1600)."""
    rows = []
    for picture in pixels:
        lab = rgb2lab(picture).reshape(-1, 3)
        counts, _ = np.histogramdd(lab, bins=_EDGES)
        rows.append(np.sqrt(counts.ravel() / len(lab)))
    return torch.from_numpy(np.array(rows, np.float32).reshape(len(pixels), INPUTS))


def open_rater(path: Path) -> NetworkRater:
    """Load the rater from its weight file."""
    network, minimum = load(path, lambda: dense_trunk(INPUTS, WIDTH), WIDTH)
    return NetworkRater(NAME, network, features, minimum)
