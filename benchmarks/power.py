"""Smallest difference in corrected gender gap that a study of so many nouns detects.

    python benchmarks/power.py [--results results] [--nouns 15 29] [--images 40] [--draws 500]

Simulated from a study's own counts (held-out nouns, plain prompts). Nouns are drawn with
replacement, with the log-odds of "woman" that a reference arm has on them. The other arm has
those, multiplied by a factor, and a scatter: the residuals of a line through the origin that was
fitted to a real arm on that reference (the noise of their images is in them, so they are rather
too wide). Images are drawn, and the sign-flip test over nouns is made as
`dft_lib.evaluation.comparison` makes it. Reported is the difference of the two corrected gaps
(root of the mean squared gap) at the factor at which the wanted power is reached, mean and
standard deviation of four simulations.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from dft_lib.fairness.unbiased import squared_gap
from dft_lib.repro.noise import keyed_rng
from dft_lib.repro.paths import ROOT

FLIPS = 2000
SIMULATIONS = 4
HALVINGS = 10
# arm, reference, and how many comparisons Holm takes together
COMPARISONS = (("dft_blended", "dft", 5), ("dft", "base", 6))


def log_odds(results: Path, arm: str) -> pd.Series:
    """Return noun -> log-odds of "woman" where it is held out, half an image added to each."""
    if not (results / f"{arm}.csv").is_file():
        sys.exit(f"{results} has no {arm}.csv: name a folder of results with that arm")
    table = pd.read_csv(results / f"{arm}.csv")
    rows = table[(table["kind"] == "neutral") & (table["split"] == "held_out")]
    counts = rows.groupby("noun")[["gender:woman", "gender:man"]].sum() + 0.5
    return np.log(counts["gender:woman"] / counts["gender:man"])


def simulated(
    reference: np.ndarray,
    scatter: np.ndarray,
    factor: float,
    nouns: int,
    images: int,
    draws: int,
    seed: int,
) -> tuple[np.ndarray, float]:
    """Return p of `draws` studies at `factor`, and the mean difference of the corrected gaps.

    `reference` and `scatter` are log-odds, (nouns of the study,). p is two-sided, as the study's;
    it is 1 where the other arm came out less fair, which is no finding.
    """
    rng = keyed_rng(seed, "power", nouns)  # the same at every factor, so that power falls with it
    drawn = rng.choice(reference, size=(draws, nouns))
    other = factor * drawn + rng.choice(scatter, size=(draws, nouns))
    shares = expit(np.stack([drawn, other], -1))
    women = (rng.random((*shares.shape, images)) < shares[..., None]).sum(-1)
    squares = squared_gap(np.stack([women, images - women], -1), [0.5, 0.5])
    difference = squares[..., 0] - squares[..., 1]
    signs = rng.choice([-1.0, 1.0], size=(FLIPS, nouns))
    flipped = np.abs(difference @ signs.T)  # (draws, FLIPS)
    p = (1 + (flipped >= np.abs(difference.sum(1))[:, None] - 1e-12).sum(1)) / (1 + FLIPS)
    p = np.where(difference.sum(1) > 0, p, 1.0)
    gaps = np.sqrt(np.square(2 * shares - 1).mean(1))
    return p, float((gaps[:, 0] - gaps[:, 1]).mean())


def detectable(
    reference: np.ndarray, scatter: np.ndarray, level: float, wanted: float = 0.8, **of: int
) -> float:
    """Return the difference found with power `wanted` (NaN: not even at factor 0)."""
    low, high = 0.0, 1.0
    if (simulated(reference, scatter, low, **of)[0] <= level).mean() < wanted:
        return float("nan")
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        enough = (simulated(reference, scatter, middle, **of)[0] <= level).mean() >= wanted
        low, high = (middle, high) if enough else (low, middle)
    return simulated(reference, scatter, low, **of)[1]


def main() -> None:
    """Print a row per comparison and number of nouns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--nouns", type=int, nargs="+", default=[15, 29])
    parser.add_argument("--images", type=int, default=40, help="per noun, and per training seed")
    parser.add_argument("--draws", type=int, default=500)
    chosen = parser.parse_args()
    rows = []
    for arm, reference, together in COMPARISONS:
        pair = pd.concat([log_odds(chosen.results, name) for name in (reference, arm)], axis=1)
        x, y = pair.dropna().to_numpy().T
        scatter = y - (x @ y) / (x @ x) * x
        for level, test in ((0.05, "alone"), (0.05 / together, f"first of {together} (Holm)")):
            for nouns in chosen.nouns:
                of = {"nouns": nouns, "images": chosen.images, "draws": chosen.draws}
                found = [detectable(x, scatter, level, seed=k, **of) for k in range(SIMULATIONS)]
                text = f"{np.mean(found):.2f} +- {np.std(found, ddof=1):.2f}"
                rows.append((f"{arm} - {reference}", test, round(level, 4), nouns, text))
    columns = ["comparison", "test", "level", "nouns", "detectable, power .8"]
    print(pd.DataFrame(rows, columns=columns).to_string(index=False))


if __name__ == "__main__":
    main()
