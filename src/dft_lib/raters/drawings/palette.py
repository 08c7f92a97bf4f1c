"""Rater `palette`: perceived skin tone by matching the drawings' own skin colours in CIELAB.

No training: every pixel close to one of the 15 skin colours (three families, five tones) votes
for it, and the colour with most votes names the tone. Pixels count the more the nearer they are to
where faces are, so that brown hair, jackets and frames hardly vote. Colour difference is CIE76
(Euclidean in CIELAB), which is enough between flat colours and depends on no library version.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist
from skimage.color import rgb2lab

from dft_lib.raters.base import Answer
from dft_lib.raters.drawings.skin_colours import SKIN, TONES, TRAINED_FAMILIES
from dft_lib.study.attributes import UNCLEAR


class PaletteRater:
    """Skin tone by colour match.

    Parameters
    ----------
    reach : float
        Largest CIELAB distance at which a pixel still votes.
    centre : tuple of float
        Where faces are, (x, y) as shares of width and height.
    spread : float
        Standard deviation of the pixels' weight around `centre`, as a share of the width.
    least : float
        Share of the weight that must vote for the winning colour; less is `unclear`.
    margin : float
        The best colour of another tone must have less than this share of the winner's votes.
    """

    name = "palette"

    def __init__(
        self,
        *,
        reach: float = 8.0,
        centre: tuple[float, float] = (0.53, 0.5),
        spread: float = 0.15,
        least: float = 0.03,
        margin: float = 0.8,
    ) -> None:
        self.reach, self.centre, self.spread = reach, centre, spread
        self.least, self.margin = least, margin
        hexes = [SKIN[family][k] for family in TRAINED_FAMILIES for k in range(len(TONES))]
        rgb = np.array([[int(h[i : i + 2], 16) for i in (1, 3, 5)] for h in hexes], np.uint8)
        self.colours = rgb2lab(rgb[None])[0].astype(np.float32)

    def votes(self, pixels: np.ndarray) -> np.ndarray:
        """Return the share of the weight voting for each tone's best colour, float32 (n, 5)."""
        out = np.zeros((len(pixels), len(TONES)), np.float32)
        weight = self._weight(*pixels.shape[1:3])
        for i, picture in enumerate(pixels):
            distance = cdist(rgb2lab(picture).reshape(-1, 3), self.colours)
            near = distance.min(1) < self.reach
            votes = np.bincount(
                distance.argmin(1)[near], weight[near], minlength=len(self.colours)
            )
            out[i] = votes.reshape(-1, len(TONES)).max(0)
        return out

    def _weight(self, height: int, width: int) -> np.ndarray:
        """Return the pixels' weights, shape (height * width,), sum 1."""
        y = ((np.arange(height) + 0.5) / height - self.centre[1]) * height / width
        x = (np.arange(width) + 0.5) / width - self.centre[0]
        weight = np.exp(-(y[:, None] ** 2 + x**2) / (2 * self.spread**2)).ravel()
        return weight / weight.sum()

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
