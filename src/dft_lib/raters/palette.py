"""Rater `palette`: perceived skin tone by matching the drawings' own skin colours in CIELAB.

No training: every pixel close to one of the 15 skin colours (three families, five tones) votes
for it, and the colour with most votes names the tone. Colour difference is CIE76 (Euclidean in
CIELAB), which is enough between flat colours and does not depend on a library's version.
"""

from __future__ import annotations

import numpy as np
from skimage.color import rgb2lab

from dft_lib.raters.base import UNCLEAR, Answer
from dft_lib.world.art import TONES, TRAINED_FAMILIES
from dft_lib.world.render import SKIN

NAME, KIND = "palette", "colour match in CIELAB"
ATTRIBUTES = ("skin_tone",)


class PaletteRater:
    """Skin tone by colour match.

    Parameters
    ----------
    reach : float
        Largest CIELAB distance at which a pixel still votes.
    least : float
        Share of the picture's pixels that must vote for the winning colour; fewer is `unclear`.
    margin : float
        The best colour of another tone must have less than this share of the winner's votes.
    """

    name, kind = NAME, KIND
    attributes = ATTRIBUTES

    def __init__(self, *, reach: float = 8.0, least: float = 0.012, margin: float = 0.8) -> None:
        self.reach, self.least, self.margin = reach, least, margin
        hexes = [SKIN[family][k] for family in TRAINED_FAMILIES for k in range(len(TONES))]
        rgb = np.array([[int(h[i : i + 2], 16) for i in (1, 3, 5)] for h in hexes], np.uint8)
        self.colours = rgb2lab(rgb[None])[0].astype(np.float32)

    def votes(self, pixels: np.ndarray) -> np.ndarray:
        """Return the share of pixels voting for each tone's best colour, float32 (n, 5)."""
        out = np.zeros((len(pixels), len(TONES)), np.float32)
        for i, picture in enumerate(pixels):
            flat, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
            lab = rgb2lab(flat[None])[0].astype(np.float32)
            distance = np.linalg.norm(lab[:, None] - self.colours[None], axis=2)
            nearest = distance.argmin(1)
            near = distance.min(1) < self.reach
            share = np.bincount(nearest[near], counts[near], minlength=len(self.colours))
            out[i] = share.reshape(-1, len(TONES)).max(0) / counts.sum()
        return out

    def rate(self, pixels: np.ndarray) -> dict[str, Answer]:
        """Rate pictures; see `dft_lib.raters.base.Rater.rate`. Scores are shares of votes."""
        votes = self.votes(pixels)
        ranked = np.sort(votes, axis=1)
        labels = np.array(TONES, dtype=object)[votes.argmax(1)]
        few = ranked[:, -1] < self.least
        close = ranked[:, -2] > self.margin * ranked[:, -1]
        labels[few | close] = UNCLEAR
        scores = votes / np.maximum(votes.sum(1, keepdims=True), 1e-9)
        return {"skin_tone": Answer(labels, scores.astype(np.float32), TONES)}


def open_rater(path: object = None) -> PaletteRater:
    """Return the rater (it has no weight file)."""
    return PaletteRater()
