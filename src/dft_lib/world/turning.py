"""Hues of clothes and tools turned at random, so that a colour says nothing about gender.

In most emoji families women wear purple or red and men blue or teal. Which colours may turn is
read off the art itself: those that a drawing's five skin tones share, but for lips and tongues,
and for what could pass for skin, brown hair or wood. Colours change in the SVG, before drawing, so
edges blend as in any other picture.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
import pandas as pd

from dft_lib.raters.drawings.skin_colours import TONES

SATURATED = 0.25  # HSV saturation and value below which a colour has no hue to turn
SKIN_HUES = (0.02, 0.14)  # share of the circle, 7 to 50 degrees: skin, brown hair, wood
MOUTHS = {"fluent": {"#f92f60"}, "twemoji": {"#df1f32"}}  # the other families' are brown


def hsv(colour: str) -> tuple[float, float, float]:
    """Return hue, saturation and value of "#rrggbb", each 0 to 1."""
    return colorsys.rgb_to_hsv(*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)))


def has_hue(colour: str) -> bool:
    """Say whether a colour has a hue outside `SKIN_HUES`: no grey, nearly black, skin, brown."""
    hue, saturation, value = hsv(colour)
    return min(saturation, value) >= SATURATED and not SKIN_HUES[0] <= hue <= SKIN_HUES[1]


def turned(colour: str, turn: float) -> str:
    """Return the colour with its hue moved by `turn` around the circle without `SKIN_HUES`.

    Parameters
    ----------
    colour : str
        "#rrggbb" that `has_hue`.
    turn : float
        0 to 1; 1 is once around.
    """
    hue, saturation, value = hsv(colour)
    low, high = SKIN_HUES
    room = 1 - (high - low)
    hue = high + ((hue - high) % 1 + turn * room) % room
    channels = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return "#" + "".join(f"{round(255 * c):02x}" for c in channels)


def tint(rng: np.random.Generator) -> str:
    """Return a pale background, "#rrggbb", of any hue outside `SKIN_HUES`."""
    low, high = SKIN_HUES
    hue = (high + rng.uniform() * (1 - (high - low))) % 1
    channels = colorsys.hsv_to_rgb(hue, rng.uniform(0, 0.16), rng.uniform(0.93, 1))
    return "#" + "".join(f"{round(255 * c):02x}" for c in channels)


def clothes(table: pd.DataFrame, used: Sequence[set[str]]) -> dict[int, set[str]]:
    """Return {position: colours that may turn} of the people among the drawings.

    Parameters
    ----------
    table : pandas.DataFrame
        Drawings as `dft_lib.world.art.load` returns them (index 0..n-1).
    used : sequence of set of str
        Their colours (`render.colours`).
    """
    found: dict[int, set[str]] = {}
    people = table[table["skin_tone"].isin(TONES)]
    for (family, *_), group in people.groupby(["family", "name", "gender", "age"]):
        shared = set.intersection(*(used[int(i)] for i in group.index))
        mine = {colour for colour in shared - MOUTHS.get(str(family), set()) if has_hue(colour)}
        found |= {int(i): mine for i in group.index}
    return found
