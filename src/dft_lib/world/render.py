"""Drawings to pixels: where a figure stands, how large, on which background, with which hair.

Everything varies in the vector domain before rasterising (resvg), so pictures stay crisp and the
autoencoder cannot memorise 600 pictures as 600 latents. Hair is recoloured because in the art
hair goes with skin tone (Twemoji's medium tone is ginger, Fluent's medium-light blond): left
alone, a rater could read tone from hair.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import resvg_py
from PIL import Image

from dft_lib.raters.drawings.skin_colours import TONES
from dft_lib.world import turning

SIZE = 64
# Cool tints only: a warm background would read as light skin.
BACKGROUNDS = ("#ffffff", "#e8ecef", "#d8e8f8", "#d9f0e3", "#e2dcf5", "#cfeeee")
SCALES = (0.88, 1.0)
SHIFT = 1.5  # px beyond what the scale leaves free

# (main, highlight) hair colours per family in the drawings of each tone, light to dark.
HAIR: dict[str, tuple[tuple[str, ...], ...]] = {
    "noto": (
        ("#312d2d", "#454140"),
        ("#ab872f", "#bfa055"),
        ("#543930", "#6d4c41"),
        ("#3c2c23", "#554138"),
        ("#232020", "#444140"),
    ),
    "noto-v1": (("#312d2d",), ("#bfa055",), ("#6d4c41",), ("#47352d",), ("#232020",)),
    "fluent": (("#212121",), ("#fff9ba",), ("#593b39",), ("#2d242d",), ("#000000",)),
    "twemoji": (("#292f33",), ("#ffe51e",), ("#963b22",), ("#60352a",), ("#0b0200",)),
}
_HEX = re.compile(r"#([0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b")
_OUTER = re.compile(r"<svg\b[^>]*>")
_VIEWBOX = re.compile(r'viewBox="([^"]+)"')


@dataclass(frozen=True)
class Placement:
    """How one drawing is shown; lengths in pixels of a `SIZE` x `SIZE` picture."""

    x: float = 0.0
    y: float = 0.0
    side: float = float(SIZE)
    background: str = BACKGROUNDS[0]
    hair: int | None = None  # index into HAIR[family]; None keeps the artist's


def long_hex(svg: str) -> str:
    """Write every hex colour of an SVG in six lower-case digits."""

    def expand(match: re.Match[str]) -> str:
        digits = match[1].lower()
        return "#" + (digits if len(digits) == 6 else "".join(2 * d for d in digits))

    return _HEX.sub(expand, svg)


def colours(svg: str) -> set[str]:
    """Return the set of hex colours of an SVG whose colours are already six digits long."""
    return {"#" + digits for digits in _HEX.findall(svg)}


def hair_colours(table: pd.DataFrame) -> dict[int, tuple[str, ...]]:
    """Return {row label: hair colours that may be recoloured} for the drawings of `table`.

    A colour counts as hair if it is the family's hair colour for that tone *and* not shared by
    the drawing's four siblings in other tones: Fluent's black hair is recoloured, a black robe
    is not.
    """
    found: dict[int, tuple[str, ...]] = {}
    people = table[table["skin_tone"].isin(TONES) & table["family"].isin(HAIR)]
    for (family, *_), group in people.groupby(["family", "name", "gender", "age"]):
        used = {row.Index: colours(row.svg) for row in group.itertuples()}
        shared = set.intersection(*used.values())
        for row in group.itertuples():
            own = HAIR[str(family)][TONES.index(str(row.skin_tone))]
            if own[0] in used[row.Index] and own[0] not in shared:
                found[int(row.Index)] = own
    return found


def random_placement(rng: np.random.Generator, *, tinted: bool = False) -> Placement:
    """Draw a placement: scale, shift, background and hair are independent and uniform.

    `tinted` backgrounds are any pale hue that could not pass for skin.
    """
    side = SIZE * rng.uniform(*SCALES)
    free = (SIZE - side) / 2
    x, y = free + rng.uniform(-1, 1, 2) * (free + SHIFT)
    background = turning.tint(rng) if tinted else BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    return Placement(float(x), float(y), float(side), background, int(rng.integers(5)))


def render(
    svg: str,
    placement: Placement = Placement(),
    *,
    family: str = "",
    hair: tuple[str, ...] = (),
    viewbox: str | None = None,
    swap: Mapping[str, str] | None = None,
) -> np.ndarray:
    """Rasterise one drawing.

    Parameters
    ----------
    svg : str
        SVG text with six-digit colours (see `long_hex`).
    placement : Placement
        Position, size, background and hair.
    family, hair
        The drawing's family and the hair colours found by `hair_colours`; without them hair
        stays as drawn.
    viewbox
        Part of the drawing to show; the whole by default.
    swap
        Colours to replace -> what by.

    Returns
    -------
    numpy.ndarray
        uint8, shape (64, 64, 3), RGB.
    """
    outer = _OUTER.search(svg)
    box = _VIEWBOX.search(outer[0]) if outer else None
    if outer is None or box is None:
        raise ValueError("not an SVG with a viewBox; rebuild data/art with `make art`")
    body = svg[outer.end() : svg.rindex("</svg>")]
    change = dict(swap or {})
    if placement.hair is not None and hair:
        change |= zip(hair, HAIR[family][placement.hair], strict=True)
    if change:
        body = _HEX.sub(lambda m: change.get(m[0], m[0]), body)
    text = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {SIZE} {SIZE}"><rect width="{SIZE}" height="{SIZE}" '
        f'fill="{placement.background}"/><svg x="{placement.x:.3f}" y="{placement.y:.3f}" '
        f'width="{placement.side:.3f}" height="{placement.side:.3f}" '
        f'viewBox="{viewbox or box[1]}">{body}</svg></svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=text, width=SIZE, height=SIZE, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png)), formats=("PNG",)).convert("RGB"))


def render_many(
    table: pd.DataFrame,
    rows: np.ndarray,
    rng: np.random.Generator | None = None,
    *,
    turn: bool = False,
) -> np.ndarray:
    """Render the drawings at positions `rows` of `table`, each with a random placement.

    Parameters
    ----------
    table : pandas.DataFrame
        Drawings as `dft_lib.world.art.load` returns them (index 0..n-1).
    rows : numpy.ndarray
        Integer positions, any number of repeats.
    rng : numpy.random.Generator, optional
        Source of the placements; without one every drawing fills the white picture.
    turn : bool
        Turn the hues of clothes and backgrounds at random, too (needs `rng`).

    Returns
    -------
    numpy.ndarray
        uint8, shape (len(rows), 64, 64, 3).
    """
    svgs = [long_hex(s) for s in table["svg"]]
    hair = hair_colours(table.assign(svg=svgs))
    families = table["family"].tolist()
    crops = table["crop"].tolist()
    out = np.empty((len(rows), SIZE, SIZE, 3), np.uint8)
    clothes = turning.clothes(table, [colours(svg) for svg in svgs]) if turn else {}
    for i, row in enumerate(rows):
        place = random_placement(rng, tinted=turn) if rng is not None else Placement()
        angle = float(rng.uniform()) if turn and rng is not None else 0.0
        out[i] = render(
            svgs[row],
            place,
            family=families[row],
            hair=hair.get(int(row), ()),
            viewbox=crops[row],
            swap={c: turning.turned(c, angle) for c in clothes.get(int(row), ())},
        )
    return out
