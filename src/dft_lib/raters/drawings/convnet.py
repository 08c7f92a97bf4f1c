"""Rater `convnet`: person, role and perceived gender from pixels, by a small convolutional net."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dft_lib.raters.drawings.networks import NetworkRater, conv_trunk, load

NAME, WIDTH = "convnet", 128


def features(pixels: np.ndarray) -> torch.Tensor:
    """Return pictures as float32 (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def open_rater(path: Path) -> NetworkRater:
    """Load the rater from its weight file."""
    network, minimum = load(path, lambda: conv_trunk(WIDTH), WIDTH)
    return NetworkRater(NAME, network, features, minimum)
