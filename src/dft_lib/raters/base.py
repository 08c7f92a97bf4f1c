"""What a rater is, and the answers it may give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from dft_lib.study.attributes import UNCLEAR


@dataclass(frozen=True)
class Answer:
    """Answers of one rater about one attribute.

    Attributes
    ----------
    labels : numpy.ndarray
        str (object), shape (n,): a group of the attribute, `UNCLEAR` or `NO_PERSON`.
    scores : numpy.ndarray
        float32, shape (n, k): the rater's own confidence per group, in the order of `groups`,
        each between 0 and 1; not calibrated unless the rater says so.
    groups : tuple of str
        The attribute's groups.
    """

    labels: np.ndarray
    scores: np.ndarray
    groups: tuple[str, ...]


class Rater(Protocol):
    """A function from pictures to answers; `dft_lib.study.wall.RATERS` says what it looks at."""

    name: str

    def rate(self, pixels: np.ndarray) -> dict[str, Answer]:
        """Rate uint8 RGB pictures of shape (n, height, width, 3), one `Answer` per attribute."""
        ...


@runtime_checkable
class HasWeights(Protocol):
    """A rater whose weights are not ``<name>.safetensors`` in the raters' folder."""

    def weights(self) -> list[Path]:
        """List the weight files, for the record."""
        ...


@runtime_checkable
class HasFeatures(Protocol):
    """A rater whose last hidden layer serves as a space for distances between images."""

    def features_of(self, pixels: np.ndarray) -> np.ndarray:
        """Return float32 features, shape (n, width), of uint8 RGB pictures."""
        ...


def check_pixels(pixels: np.ndarray) -> np.ndarray:
    """Return pictures unchanged, or refuse what is no batch of RGB pictures.

    Raises
    ------
    ValueError
        Unless they are uint8 of shape (n, height, width, 3).
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3:
        raise ValueError(
            f"raters take uint8 pictures of shape (n, height, width, 3), not {pixels.dtype} of "
            f"shape {pixels.shape}: convert to RGB, and add an axis for a single picture"
        )
    return pixels


def answer(scores: np.ndarray, groups: tuple[str, ...], minimum: float) -> Answer:
    """Label each picture with its best group, or `unclear` where the best score is too small.

    Parameters
    ----------
    scores : numpy.ndarray
        float, shape (n, k).
    groups : tuple of str
        The k groups.
    minimum : float
        Smallest best score, 0 to 1, that still counts as an answer.
    """
    labels = np.array(groups, dtype=object)[scores.argmax(1)]
    labels[scores.max(1) < minimum] = UNCLEAR
    return Answer(labels, scores.astype(np.float32), groups)
