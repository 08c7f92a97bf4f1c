"""Rater `hog`: person, role and perceived gender from outlines.

Histograms of oriented gradients (Dalal & Triggs 2005) of the grey picture, then two dense
layers: it never sees a colour or a filter that `convnet` learned.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from skimage.color import rgb2gray
from skimage.feature import hog

from dft_lib.raters.drawings.networks import NetworkRater, dense_trunk, load

NAME, WIDTH, INPUTS = "hog", 192, 1764


def features(pixels: np.ndarray) -> torch.Tensor:
    """Return HOG descriptors, float32 of shape (n, 1764), of 64 x 64 pictures."""
    rows = [
        hog(rgb2gray(p), orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2))
        for p in pixels
    ]
    return torch.from_numpy(np.array(rows, np.float32).reshape(len(pixels), INPUTS))


def open_rater(path: Path) -> NetworkRater:
    """Load the rater from its weight file."""
    network, minimum = load(path, lambda: dense_trunk(INPUTS, WIDTH), WIDTH)
    return NetworkRater(NAME, network, features, minimum)
