"""Train the emoji world's raters on labelled drawings, and measure their errors.

Labels come with the art. Pictures are new placements of the drawings, half of them passed through
the autoencoder, because that is what a rater will see. ``person`` drawings carry the gender target
one half, the yellow default carries an even tone target: both are what ``unclear`` is for.
The corpus's held-out cells are held out here too.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from tqdm import tqdm

from dft_lib.raters.drawings import convnet, histogram, hog
from dft_lib.raters.drawings.networks import HeadedNetwork, Heads, conv_trunk, dense_trunk
from dft_lib.raters.drawings.skin_colours import TONES
from dft_lib.repro.noise import keyed_rng
from dft_lib.study.kinds import KINDS
from dft_lib.world.art import GENDERS, OBJECTS
from dft_lib.world.autoencoder import reconstruct
from dft_lib.world.corpus import Cells
from dft_lib.world.render import render_many

log = logging.getLogger(__name__)
MINIMUM = {"gender": 0.8, "skin_tone": 0.6, "person": 0.5, "role": 0.3}


def labelled(table: pd.DataFrame, cells: Cells) -> pd.DataFrame:
    """Return the drawings a rater may be asked about, with a column ``held_out``.

    (family, profession) pairs in which woman and man hardly differ are left out altogether: the
    generator never draws them, and their labels say nothing a picture could show.
    """
    kept = set(cells.kept.loc[cells.kept["kept"], ["profession", "family"]].itertuples(
        index=False, name=None
    ))  # fmt: skip
    families = set(cells.kept["family"])
    professions = {p for p, _ in kept}
    usable = [
        row.kind not in KINDS
        or (row.name, row.family) in kept
        or (row.family not in families and row.name in professions)
        for row in table.itertuples()
    ]
    chosen = table[usable]
    held = [
        (row.name, row.gender, row.skin_tone, row.family) in cells.held_out
        for row in chosen.itertuples()
    ]
    return chosen.assign(held_out=held)


def draw(chosen: pd.DataFrame, size: int, rng: np.random.Generator) -> np.ndarray:
    """Choose `size` drawings (index labels): every profession, person age and object alike."""
    key = np.where(chosen["kind"] == "object", "object", chosen["name"] + chosen["age"])
    counts = pd.Series(key).map(pd.Series(key).value_counts()).to_numpy(float)
    weight = np.where(chosen["kind"] == "object", 3.0, 1.0) / counts
    return rng.choice(chosen.index.to_numpy(), size=size, p=weight / weight.sum())


def targets(chosen: pd.DataFrame, heads: Heads) -> dict[str, torch.Tensor]:
    """Return soft targets per head, (n, groups); a row of zeros takes no part in the loss."""
    out = {}
    for head, groups in heads.items():
        want = np.zeros((len(chosen), len(groups)), np.float32)
        for i, row in enumerate(chosen.itertuples()):
            if head == "person":
                want[i, groups.index("no_person" if row.kind == "object" else "person")] = 1
            elif head == "role":
                want[i, groups.index(str(row.name))] = 1
            elif row.kind != "object":
                value = str(getattr(row, head))
                want[i] = 1 / len(groups)
                if value in groups:
                    want[i] = np.eye(len(groups), dtype=np.float32)[groups.index(value)]
        out[head] = torch.from_numpy(want)
    return out


def fit(
    network: HeadedNetwork,
    inputs: torch.Tensor | Callable[[np.ndarray], torch.Tensor],
    want: dict[str, torch.Tensor],
    *,
    seed: int,
    name: str,
    epochs: int,
    batch: int = 128,
    learning_rate: float = 2e-3,
) -> HeadedNetwork:
    """Fit all heads by cross-entropy to soft targets (AdamW, cosine decay).

    `inputs` is the input tensor, or a function from row positions to a batch of it.
    """
    size = len(next(iter(want.values())))
    get = inputs if callable(inputs) else lambda rows: inputs[torch.from_numpy(rows)]
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.02)
    steps = epochs * (size // batch)
    order = np.zeros(0, np.int64)
    network.train()
    for step in tqdm(range(steps), desc=f"rater {name}"):
        if step % (size // batch) == 0:
            order = keyed_rng(seed, "rater", name, step).permutation(size)
        rows = np.sort(order[(step % (size // batch)) * batch :][:batch])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        logits = network(get(rows))
        loss = torch.zeros(())
        for head, scores in logits.items():
            target = want[head][torch.from_numpy(rows)]
            takes_part = target.sum(1)
            each = F.cross_entropy(scores, target, reduction="none")
            loss = loss + (each * takes_part).sum() / takes_part.sum().clamp(min=1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    log.info("rater %s: last loss %.4f", name, float(loss.detach()))
    return network.eval()


def pictures(
    table: pd.DataFrame,
    rows: np.ndarray,
    vae: AutoencoderKL | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Render drawings in new placements; with a VAE, as it reconstructs them."""
    rendered = render_many(table, rows, rng)
    return reconstruct(vae, rendered) if vae is not None else rendered


def train_all(
    table: pd.DataFrame, cells: Cells, vae: AutoencoderKL, seed: int, size: int = 20_000
) -> dict[str, HeadedNetwork]:
    """Train `convnet`, `hog` and `histogram`; returns their networks by name."""
    chosen = labelled(table, cells)
    seen = chosen[~chosen["held_out"]]
    rng = keyed_rng(seed, "rater pictures")
    rows = draw(seen, size, rng)
    pixels = pictures(table, rows, None, rng)
    pixels[::2] = reconstruct(vae, pixels[::2])
    shown = seen.loc[rows]
    roles = (*cells.professions, "person", *OBJECTS)
    heads: Heads = {"person": ("person", "no_person"), "role": roles, "gender": GENDERS}
    torch.manual_seed(seed)
    networks = {}
    net = HeadedNetwork(conv_trunk(convnet.WIDTH), convnet.WIDTH, heads)
    networks["convnet"] = fit(
        net, lambda r: convnet.features(pixels[r]), targets(shown, heads), seed=seed,
        name="convnet", epochs=14,
    )  # fmt: skip
    net = HeadedNetwork(dense_trunk(hog.INPUTS, hog.WIDTH), hog.WIDTH, heads)
    networks["hog"] = fit(
        net, hog.features(pixels), targets(shown, heads), seed=seed, name="hog", epochs=25
    )
    heads = {"skin_tone": TONES}
    net = HeadedNetwork(dense_trunk(histogram.INPUTS, histogram.WIDTH), histogram.WIDTH, heads)
    networks["histogram"] = fit(
        net, histogram.features(pixels), targets(shown, heads), seed=seed, name="histogram",
        epochs=15,
    )  # fmt: skip
    return networks
