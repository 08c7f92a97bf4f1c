"""Where gender can be read in grey: ``python -m dft_lib.world.readable --world world/wide``.

A role stays in the world (`corpus.readable_pairs`) if its drawings show gender by more than a
colour. A small convolutional network reads grey pictures of 64 px, in new placements, with turned
hues and other hair. (family, role) pairs are left out in turn, one family of every role at a time,
so it is asked about drawings of a family that it never saw in that role. It learns from all pairs
of women and men that the families have, also those that make no role (``others.csv``). What it
reads right, per pair, goes to ``readable.csv``.

Needs ``npm`` and a network (`dft_lib.world.art`), and half an hour on two cores.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dft_lib.raters.drawings.skin_colours import TONES
from dft_lib.repro.files import write_table
from dft_lib.repro.noise import keyed_rng
from dft_lib.repro.paths import enter
from dft_lib.study.kinds import KINDS
from dft_lib.world import art
from dft_lib.world.corpus import LEAST_FAMILIES
from dft_lib.world.render import render_many
from dft_lib.world.settings import named

log = logging.getLogger(__name__)
PLACEMENTS = 6
EPOCHS = 7
BATCH = 128
LEARNING_RATE = 3e-3
SMOOTH = 0.02  # of the labels: no drawing is certain
GREY = np.array([0.2125, 0.7154, 0.0721], np.float32)  # luma of ITU-R BT.709
STEPS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.95)


class _MeanAndMax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)


def make_network() -> nn.Sequential:
    """Build the untrained network: (n, 1, 64, 64) in [-1, 1] to a logit of "woman", (n, 1)."""
    layers: list[nn.Module] = [nn.Conv2d(1, 24, 5, 2, 2), nn.BatchNorm2d(24), nn.SiLU()]
    for a, b in ((24, 48), (48, 96), (96, 128)):
        layers += [nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.SiLU()]
        layers += [nn.Conv2d(b, b, 3, 1, 1), nn.BatchNorm2d(b), nn.SiLU()]
    return nn.Sequential(*layers, _MeanAndMax(), nn.Dropout(0.1), nn.Linear(256, 1))


def augmented(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Scale, shift, mirror, brighten and fade pictures (n, 1, 64, 64) at random."""
    n = len(x)
    scale, mirror = rng.uniform(0.9, 1.1, n), rng.choice([-1.0, 1.0], n)
    theta = np.zeros((n, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 1, 1] = scale * mirror, scale
    theta[:, :, 2] = rng.uniform(-0.06, 0.06, (n, 2))
    grid = F.affine_grid(torch.from_numpy(theta), list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    gain, lift = (torch.from_numpy(rng.uniform(*ends, (n, 1, 1, 1)).astype(np.float32))
                  for ends in ((0.7, 1.2), (-0.2, 0.2)))  # fmt: skip
    return moved * gain + lift


def fitted(x: Tensor, y: Tensor, seed: int, fold: int) -> nn.Sequential:
    """Train a network on pictures (n, 1, 64, 64) and whether they show a woman, (n,)."""
    torch.manual_seed(seed + fold)
    network = make_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    per_epoch = len(x) // BATCH
    steps = EPOCHS * per_epoch
    order = np.zeros(0, np.int64)
    for step in range(steps):
        rng = keyed_rng(seed, "readable", fold, step)
        if step % per_epoch == 0:
            order = rng.permutation(len(x))
        rows = torch.from_numpy(order[step % per_epoch * BATCH :][:BATCH])
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / 100)
            group["lr"] = LEARNING_RATE * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
        logits = network(augmented(x[rows], rng))[:, 0]
        want = y[rows] * (1 - 2 * SMOOTH) + SMOOTH
        loss = F.binary_cross_entropy_with_logits(logits, want)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return network.eval()


@torch.inference_mode()
def logit(network: nn.Module, x: Tensor) -> Tensor:
    """Return the mean logit of every picture and its mirror image, (n,)."""
    parts = [network(b)[:, 0] + network(b.flip(3))[:, 0] for b in x.split(256)]
    return torch.cat(parts) / 2


def read_in_grey(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Ask about every (family, role) pair a network that did not see it.

    Parameters
    ----------
    table : pandas.DataFrame
        Drawings of women and men in five tones (index 0..n-1).
    seed : int
        Of placements, folds and training.

    Returns
    -------
    pandas.DataFrame
        Columns ``family, noun, kind, pictures, right`` (share, 0 to 1), a row per pair.
    """
    rows = np.repeat(table.index.to_numpy(), PLACEMENTS)
    drawn = render_many(table, rows, keyed_rng(seed, "readable", "placement"), turn=True)
    x = torch.from_numpy(drawn.astype(np.float32) @ GREY / 127.5 - 1)[:, None]
    shown = table.loc[rows].reset_index(drop=True)
    y = torch.from_numpy((shown["gender"] == "woman").to_numpy(np.float32))
    # a Latin square: a fold leaves out one family of every role, and learns from the others
    family, role = (pd.factorize(shown[column], sort=True)[0] for column in ("family", "name"))
    folds = int(family.max()) + 1
    fold = (family + role) % folds
    answer = np.zeros(len(shown), bool)
    for k in range(folds):
        inside, outside = (torch.from_numpy(np.flatnonzero(fold == k) if own else
                           np.flatnonzero(fold != k)) for own in (True, False))  # fmt: skip
        network = fitted(x[outside], y[outside], seed, k)
        answer[fold == k] = (logit(network, x[inside]) > 0).numpy()
        log.info("fold %d: %.3f right", k, (answer == (y.numpy() > 0.5))[fold == k].mean())
    shown["right"] = answer == (y.numpy() > 0.5)
    grouped = shown.groupby(["family", "name", "kind"], sort=False)["right"]
    result = grouped.agg(pictures="size", right="mean").reset_index()
    return result.rename(columns={"name": "noun"}).round(4)


def curve(result: pd.DataFrame) -> pd.DataFrame:
    """Count the roles that stay at every threshold, by two rules.

    Parameters
    ----------
    result : pandas.DataFrame
        From `read_in_grey`.

    Returns
    -------
    pandas.DataFrame
        Columns ``threshold``; ``each`` (each of the role's three most readable families is read
        right so often) and ``together`` (their mean is, which is the world's rule).
    """
    own = result[result["kind"].isin(KINDS) & (result["family"] != "openmoji")]
    best = own.sort_values("right", ascending=False).groupby("noun").head(LEAST_FAMILIES)
    of = best.groupby("noun")["right"].agg(["min", "mean", "size"])
    of = of[of["size"] == LEAST_FAMILIES]
    rows = [(t, int((of["min"] >= t).sum()), int((of["mean"].round(4) >= t).sum())) for t in STEPS]
    return pd.DataFrame(rows, columns=["threshold", "each", "together"])


def main() -> None:
    """Write ``readable.csv`` of a world and print how many roles stay at which threshold."""
    enter()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--world", type=named, required=True)
    world = parser.parse_args().world
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        tables_of = art.wanted(world.folder, ("roles", "others"))
        with tempfile.TemporaryDirectory() as scratch:
            tables = [art.build(family, Path(scratch), *tables_of) for family in art.FAMILIES]
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    table = pd.concat(tables)
    shown = table["skin_tone"].isin(TONES) & table["gender"].isin(art.GENDERS)
    result = read_in_grey(table[shown].reset_index(drop=True), world.seed)
    write_table(world.folder / "readable.csv", result)
    print(curve(result).to_string(index=False))


if __name__ == "__main__":
    main()
