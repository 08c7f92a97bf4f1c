"""Raters `stand_in_left` and `stand_in_right`: groups from plain colours, for trying a study.

They see no people. A study of attributes that nobody can rate yet (age, ten tones) runs through
all stages with them, and tests know what plain pictures are: the answer for a target's first
attribute is the level of red, for the second of green, for the third of blue, each in steps of 8
(of 256) that go through the groups again and again; `plain` paints such a picture. More attributes
take the channels again in coarser steps, and then depend on the first ones. A black picture shows
nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dft_lib.raters.base import Answer, check_pixels
from dft_lib.study.attributes import NO_PERSON, PERSON

STEP = 8  # levels of a channel that mean the same group
BLACK = 4.0  # mean level up to which nobody is there
HALVES = {"stand_in_left": slice(0, 1), "stand_in_right": slice(1, 2)}


class StandIn:
    """A rater of the mean colour of one half of the picture.

    Parameters
    ----------
    name : str
        One of `HALVES`.
    groups : mapping
        Attribute -> its groups; their order decides which channel answers for which.
    """

    def __init__(self, name: str, groups: Mapping[str, Sequence[str]]) -> None:
        self.name, self.groups = name, {a: tuple(g) for a, g in groups.items()}

    def weights(self) -> list[Path]:
        """Return no files: nothing was learned."""
        return []

    def features_of(self, pixels: np.ndarray) -> np.ndarray:
        """Return the mean colours of both halves, float32 (n, 6), 0 to 255."""
        return _halves(pixels).reshape(len(pixels), 6).astype(np.float32)

    def rate(self, pixels: np.ndarray) -> dict[str, Answer]:
        """Rate pictures; see `dft_lib.raters.base.Rater.rate`. Scores are 0 or 1."""
        colour = _halves(pixels)[:, HALVES[self.name]].mean(1)
        nobody = colour.max(1) <= BLACK if len(colour) else np.zeros(0, bool)
        here = np.where(nobody, NO_PERSON, PERSON).astype(object)
        seen = np.stack([~nobody, nobody], 1).astype(np.float32)
        answers = {PERSON: Answer(here, seen, (PERSON, NO_PERSON))}
        for number, (attribute, groups) in enumerate(self.groups.items()):
            level = colour[:, number % 3] // (STEP * (1 + number // 3))
            place = level.astype(int) % len(groups)
            labels = np.array(groups, dtype=object)[place]
            labels[nobody] = NO_PERSON
            scores = np.eye(len(groups), dtype=np.float32)[place]
            answers[attribute] = Answer(labels, scores, groups)
        return answers


def _halves(pixels: np.ndarray) -> np.ndarray:
    """Return mean colours of the left and the right half, float64 (n, 2, 3)."""
    middle = check_pixels(pixels).shape[2] // 2
    parts = [pixels[:, :, :middle], pixels[:, :, middle:]]
    return np.stack([part.astype(np.float64).mean((1, 2)) for part in parts], 1)


def plain(cell: Mapping[str, str], groups: Mapping[str, Sequence[str]], size: int) -> np.ndarray:
    """Paint a picture that both raters read as `cell`, uint8 (size, size, 3).

    Of three attributes at most; an attribute that is not in `cell` gets its first group.
    """
    colour = np.full(3, 128)
    for channel, (attribute, names) in zip(range(3), groups.items(), strict=False):
        place = list(names).index(cell[attribute]) if cell.get(attribute) else 0
        turns = 128 // (STEP * len(names))  # of the middle of the scale
        colour[channel] = (turns * len(names) + place) * STEP + STEP // 2
    return np.broadcast_to(colour.astype(np.uint8), (size, size, 3)).copy()


def open_rater(path: Path, groups: Mapping[str, Sequence[str]]) -> StandIn:
    """Return the rater that the path's stem names; there is no weight file."""
    return StandIn(Path(path).stem, groups)
