"""Drawings recoloured at random: another skin tone, other colours of clothes and tools.

Domain randomisation for the emoji world. Colours change in the SVG, before rasterising, so edges
blend as in any other picture. Which colour is what is read off the art itself: colours that differ
between a drawing's five tones, hair apart, go with the skin (skin, its shades, nose, brows,
mouth); colours shared by the five and absent from plain faces are clothes and tools.
"""

from __future__ import annotations

import colorsys
import re

import numpy as np
import pandas as pd

from dft_lib.raters.drawings.skin_colours import SKIN, TONES
from dft_lib.world.render import (
    Placement,
    colours,
    hair_colours,
    long_hex,
    render,
)

_HEX = re.compile(r"#[0-9a-f]{6}\b")
SATURATED = 0.25  # HSV saturation and value below which a colour has no hue to turn


def rgb(colour: str) -> tuple[int, ...]:
    """Return the three channels of "#rrggbb", 0 to 255."""
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def shaded(colour: str, before: str, after: str) -> str:
    """Return the colour that stands to `after` as `colour` stands to `before`.

    Channel by channel ``colour * after / before``, clipped: a shade is the skin under less light,
    so the ratio is what lasts when the skin changes. `before` itself becomes `after` exactly.
    """
    channels = zip(rgb(colour), rgb(before), rgb(after), strict=True)
    return "#" + "".join(f"{min(255, round(c * a / max(b, 1))):02x}" for c, b, a in channels)


def turned(colour: str, turn: float) -> str:
    """Return the colour with its HSV hue moved by `turn` (1 is the whole circle).

    Greys, and nearly black colours, stay as they are.
    """
    hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in rgb(colour)))
    if saturation < SATURATED or value < SATURATED:
        return colour
    channels = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
    return "#" + "".join(f"{round(255 * c):02x}" for c in channels)


class Drawings:
    """Drawings ready to be rasterised, with what may be recoloured in them.

    Parameters
    ----------
    table : pandas.DataFrame
        Drawings as `dft_lib.world.art.load` returns them (index 0..n-1).
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table
        self.svgs = [long_hex(svg) for svg in table["svg"]]
        self.hair = hair_colours(table.assign(svg=self.svgs))
        self.skin: dict[int, set[str]] = {}
        self.clothes: dict[int, set[str]] = {}
        faces: dict[str, set[str]] = {}
        for row in table[table["kind"] == "generic person"].itertuples():
            faces.setdefault(str(row.family), set()).update(colours(self.svgs[int(row.Index)]))
        people = table[table["skin_tone"].isin(TONES) & table["family"].isin(SKIN)]
        for (family, *_), group in people.groupby(["family", "name", "gender", "age"]):
            used = {int(i): colours(self.svgs[int(i)]) for i in group.index}
            shared = set.intersection(*used.values())
            for i, own in used.items():
                self.skin[i] = own - shared - set(self.hair.get(i, ()))
                self.clothes[i] = shared - faces.get(str(family), set())

    def draw(
        self, row: int, placement: Placement, *, tone: str | None = None, turn: float = 0.0
    ) -> np.ndarray:
        """Rasterise one drawing.

        Parameters
        ----------
        row : int
            Position in the table.
        placement : Placement
            Where it stands.
        tone : str, optional
            Skin tone to show instead of the drawing's own.
        turn : float
            How far the hues of clothes and tools move, 0 to 1 around the circle.

        Returns
        -------
        numpy.ndarray
            uint8, shape (64, 64, 3); without `tone` and `turn` as `render.render_many` draws it.
        """
        entry = self.table.iloc[row]
        family, own = str(entry["family"]), str(entry["skin_tone"])
        swap: dict[str, str] = {}
        if turn:
            swap |= {c: turned(c, turn) for c in self.clothes.get(row, ())}
        if tone is not None and tone != own:
            before, after = (SKIN[family][TONES.index(name)] for name in (own, tone))
            swap |= {c: shaded(c, before, after) for c in self.skin[row]}
        return render(
            _HEX.sub(lambda m: swap.get(m[0], m[0]), self.svgs[row]),
            placement,
            family=family,
            hair=self.hair.get(row, ()),
            viewbox=str(entry["crop"]),
        )
