"""Skin-tone raters: error on a rendered chart under three lights, and speed.

    make photos && python benchmarks/tone.py

The chart shows each of Monk's ten colours as a shaded patch with noise in four rooms. The speed is
measured beside the package skin-tone-classifier on the same pictures in one run, if it is there
(GPL-3.0: a comparator only, never a dependency):

    pip install skin-tone-classifier==1.2.6 "opencv-python<5"
"""

from __future__ import annotations

import statistics
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from skimage.color import deltaE_ciede2000

from dft_lib.raters.photographs import faces, skin
from dft_lib.raters.photographs.faces import Face

MONK = tuple(f"#{h}" for h in skin.MONK)
# Linear-light factors of red, green, blue, and what they imitate.
LIGHTS = {
    "daylight": (1.0, 1.0, 1.0),
    "incandescent (2,900 K)": (1.45, 1.0, 0.52),
    "shade (9,000 K)": (0.84, 1.0, 1.26),
    "daylight, 1 stop dark": (0.5, 0.5, 0.5),
}
FACE = Face(1.0, np.array([78.0, 58, 178, 198]),
            np.array([[105.0, 110], [151, 110], [128, 138], [110, 160], [146, 160]]))  # fmt: skip


# Linear RGB of the walls, and whether a white and a black card hang there.
ROOMS = {
    "grey, cards": ((0.35, 0.35, 0.35), True),
    "grey": ((0.35, 0.35, 0.35), False),
    "brown": ((0.42, 0.33, 0.24), False),
    "blue": ((0.10, 0.25, 0.60), False),
}


def chart(
    colour: np.ndarray, light: tuple[float, ...], wall: tuple[float, ...], cards: bool
) -> np.ndarray:
    """Render one patch of sRGB `colour` under a light, uint8 (256, 256, 3)."""
    rng = np.random.default_rng(0)
    scene = np.full((256, 256, 3), wall)  # linear light
    if cards:
        scene[10:40, 10:60], scene[10:40, 70:120] = 0.85, 0.03
    rows, columns = np.mgrid[:256, :256]
    inside = ((columns - 128) / 55.0) ** 2 + ((rows - 128) / 75.0) ** 2 <= 1
    shading = 1 - 0.12 * ((columns - 128) / 55.0) ** 2  # a rounded face, lit from the front
    scene[inside] = (skin._linear(colour) * shading[..., None])[inside]
    lit = skin._encoded(scene * np.array(light)) * 255
    return np.clip(lit + rng.normal(0, 2, lit.shape), 0, 255).round().astype(np.uint8)


def errors() -> None:
    print("| light | walls | correction | Monk steps off | worst | CIEDE2000 | ITA groups right |")
    print("|---|---|---|---|---|---|---|")
    rgb = [np.array([int(h[i : i + 2], 16) for i in (0, 2, 4)], float) for h in skin.MONK]
    truth = skin.monk_colours()
    for (light, factors), (room, (wall, cards)) in product(LIGHTS.items(), ROOMS.items()):
        for balance in (False, True):
            shown = [chart(c, factors, wall, cards) for c in rgb]
            found = [skin.skin_colour(picture, FACE, balance=balance) for picture in shown]
            steps = [abs(int(skin.nearest_monk(f).argmin()) - i) for i, f in enumerate(found)]
            far = [float(deltaE_ciede2000(f, t)) for f, t in zip(found, truth, strict=True)]
            angles = [[skin.ita_group(float(skin.individual_typology_angle(c))) for c in pair]
                      for pair in zip(found, truth, strict=True)]  # fmt: skip
            right = sum(a == b for a, b in angles)
            name = "shades of grey" if balance else "none"
            print(f"| {light} | {room} | {name} | {np.mean(steps):.1f} | {max(steps)} "
                  f"| {np.mean(far):.1f} | {right} of 10 |")  # fmt: skip


def pictures() -> np.ndarray:
    """Return 512 x 512 photographs of a face: scikit-image's astronaut, mirrored, brightened."""
    one = data.astronaut()
    return np.stack([one, one[:, ::-1], np.minimum(one * 1.2, 255).astype(np.uint8),
                     (one * 0.8).astype(np.uint8)])  # fmt: skip


def timed(function: object, rounds: int = 5) -> float:
    """Return the median seconds of a call."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()  # type: ignore[operator]
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def speed() -> None:
    shown = pictures()
    rater = skin.SkinToneRater("monk")
    rater.rate(shown)
    ours = timed(lambda: rater.rate(shown)) / len(shown)
    found = [f[0] for f in faces.detect(shown)]
    alone = timed(lambda: [skin.skin_colour(p, f) for p, f in zip(shown, found, strict=True)])
    print("\n| rater | ms per picture (512 x 512) | answers |\n|---|---|---|")
    print(f"| monk, with face detection | {1e3 * ours:.1f} "
          f"| {', '.join(rater.rate(shown)['skin_tone'].labels)} |")  # fmt: skip
    print(f"| monk, face given | {1e3 * alone / len(shown):.1f} | |")
    try:
        import cv2
        import stone
    except ImportError:
        print("(skin-tone-classifier is not installed: no comparison)")
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{i}.png") for i in range(len(shown))]
        for path, picture in zip(paths, shown, strict=True):
            Image.fromarray(picture).save(path)
        # it reads files, we take arrays: what reading costs is taken off
        reading = timed(lambda: [cv2.imread(p) for p in paths]) / len(shown)
        for least in ((90, 90), (20, 20)):  # its default, and one at which it finds this face

            def classify(least: tuple[int, int] = least) -> list[dict]:
                return [stone.process(p, "color", list(MONK), min_size=least) for p in paths]

            theirs = timed(classify, 3) / len(shown) - reading
            answers = ", ".join(str(r["faces"][0]["tone_label"]) for r in classify())
            ratio = theirs / ours, theirs / (alone / len(shown))
            print(f"| skin-tone-classifier, min_size {least[0]} | {1e3 * theirs:.1f} (reading "
                  f"{1e3 * reading:.1f} ms taken off) | {answers} |\n"
                  f"  ratio: {ratio[0]:.0f} x with detection, {ratio[1]:.0f} x, face given"
            )  # fmt: skip


if __name__ == "__main__":
    errors()
    speed()
