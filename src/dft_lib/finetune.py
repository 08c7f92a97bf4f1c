"""The training loop: cached latents, keyed batches, exact resume.

Latents and text embeddings are computed once; each step's batch, timesteps and noise belong to
(study seed, training seed, step), so an interrupted training goes on to the bytes an
uninterrupted one gives, and arms of one seed see the same draws.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import DDPMScheduler
from tqdm import tqdm

from dft_lib import adapters, shards
from dft_lib.lexicon import held_out
from dft_lib.noise import keyed_rng
from dft_lib.objectives import denoising_loss
from dft_lib.params import Training
from dft_lib.paths import show
from dft_lib.tensors import load_training_state, save_training_state

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examples:
    """Training examples of one arm and seed.

    Attributes
    ----------
    mean, std : torch.Tensor
        Scaled latent moments, float32 (n, c, h, w).
    captions : list of str
        The distinct captions, the empty one last.
    caption : numpy.ndarray
        int64 (n,): index into `captions`.
    weight : dict
        Name of a part ("profession", "person", "general") -> weights (n,) that sum to 1.
    """

    mean: torch.Tensor
    std: torch.Tensor
    captions: list[str]
    caption: np.ndarray
    weight: dict[str, np.ndarray]


def usable(index: pd.DataFrame, images: str) -> pd.Series:
    """Say which rows an arm may train on: its own set and the general pictures, if kept."""
    return index["set"].isin([images, "general"]) & (index["weight"] > 0)


def read_synthetic(folder: Path, images: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Read the pictures that an arm may train on, and their rows of the index.

    Parameters
    ----------
    folder : pathlib.Path
        The synthetic set.
    images : str
        The arm's ``images``: "balanced" or "unbalanced".

    Returns
    -------
    numpy.ndarray, pandas.DataFrame
        uint8 (n, height, width, 3), and n rows numbered from 0.

    Raises
    ------
    FileNotFoundError, ValueError
        If the set is missing, damaged, or its index belongs to other shards.
    """
    index_path = folder / shards.INDEX
    if not index_path.exists():
        raise FileNotFoundError(f"{show(index_path)} is missing: run notebook 02_synthesis first")
    pictures, records = shards.read_folder(folder / "shards")
    index = pd.read_parquet(index_path)
    if not index["sha256"].equals(records["sha256"]):
        raise ValueError(
            f"{show(index_path)} does not belong to the shards beside it: delete "
            f"{show(folder)} and run `dvc repro` again"
        )
    rows = usable(index, images)
    return pictures[rows.to_numpy()], index[rows].reset_index(drop=True)


def select(index: pd.DataFrame, chosen: Training, seed: int, mode: str) -> pd.DataFrame:
    """Return the usable rows that train this arm and seed, with their training captions.

    Professions held out for this seed are dropped; captions are the prompt ("kept"), the prompt
    without attributes ("dropped"), or alternate ("mixed").

    Raises
    ------
    ValueError
        If nothing is left to train on.
    """
    rows = index[[not held_out(fold, seed, mode) for fold in index["fold"]]].copy()
    if not (rows["kind"] == "profession").any():
        raise ValueError(
            "no training image is left for this arm and seed: look at results/audit.json, or "
            "raise prompts.professions and prompts.images_per_cell"
        )
    odd = np.arange(len(rows)) % 2 == 1
    keep = {"kept": np.ones(len(rows), bool), "dropped": np.zeros(len(rows), bool), "mixed": odd}
    rows["text"] = np.where(keep[chosen.captions], rows["prompt"], rows["caption"])
    return rows


@torch.inference_mode()
def encode(pipeline: Any, pictures: np.ndarray, batch: int = 64) -> torch.Tensor:
    """Encode pictures once into latent moments.

    Returns
    -------
    torch.Tensor
        Scaled means and standard deviations, float32 (2, n, c, h, w), on the CPU.
    """
    vae = pipeline.vae
    scale, shift = vae.config.scaling_factor, getattr(vae.config, "shift_factor", None) or 0.0
    moments = []
    for i in range(0, len(pictures), batch):
        part = torch.from_numpy(pictures[i : i + batch]).permute(0, 3, 1, 2)
        part = part.to(vae.device, vae.dtype) / 127.5 - 1
        posterior = vae.encode(part).latent_dist
        both = torch.stack([posterior.mean - shift, posterior.std]) * scale
        moments.append(both.float().cpu())
    # clone(): a tensor made under inference_mode cannot take part in autograd
    return torch.cat(moments, 1).clone()


def examples(moments: torch.Tensor, rows: pd.DataFrame) -> Examples:
    """Bring together latents, captions and weights of the selected rows.

    Parameters
    ----------
    moments : torch.Tensor
        From `encode`, of all pictures that `read_synthetic` returned.
    rows : pandas.DataFrame
        From `select`; its index says which pictures.
    """
    positions = torch.tensor(rows.index.to_numpy())
    captions = [*rows["text"].drop_duplicates(), ""]
    place = {text: i for i, text in enumerate(captions)}
    weight = {}
    for kind, group in rows.groupby("kind", sort=False):
        values = np.where(rows["kind"] == kind, rows["weight"], 0.0)
        weight[str(kind)] = values / group["weight"].sum()
    caption = rows["text"].map(place).to_numpy()
    return Examples(moments[0, positions], moments[1, positions], captions, caption, weight)


def shares_of(chosen: Training, weight: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the share of a batch that each kind of example gets, of those that are there."""
    wanted = {
        "general": chosen.preservation_share,
        "person": chosen.person_share,
        "profession": 1 - chosen.preservation_share - chosen.person_share,
    }
    there = {kind: share for kind, share in wanted.items() if kind in weight and share > 0}
    return {kind: share / sum(there.values()) for kind, share in there.items()}


def train(
    pipeline: Any,
    examples: Examples,
    chosen: Training,
    *,
    study_seed: int,
    seed: int,
    state: Path,
    checkpoint_every: int,
    label: str = "training",
) -> np.ndarray:
    """Train the attached parts in place.

    Parameters
    ----------
    pipeline : diffusers.DiffusionPipeline
        Freshly loaded; adapters are attached here.
    examples : Examples
        From `encode`.
    chosen : Training
        The arm's training.
    study_seed, seed : int
        Keys of all random numbers.
    state : pathlib.Path
        Checkpoint file; training goes on from it if it exists.
    checkpoint_every : int
        Steps between checkpoints.
    label : str
        Name of the progress bar.

    Returns
    -------
    numpy.ndarray
        float32, shape (steps,): the loss of every step.

    Raises
    ------
    FloatingPointError
        If the loss is not finite; the last good weights stay in `state`.
    """
    torch.manual_seed(int(keyed_rng(study_seed, "adapter", seed).integers(2**31)))
    device, dtype = pipeline.device, pipeline.unet.dtype
    trained = adapters.attach(pipeline, chosen)
    for parameter in trained.values():  # master weights in full precision, whatever the model's
        parameter.data = parameter.data.float()
    optimizer = torch.optim.AdamW(
        trained.values(), lr=chosen.learning_rate, weight_decay=1e-2, fused=True
    )
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    losses = torch.full((chosen.steps,), float("nan"))
    start = 0
    if state.exists():
        start, extra = load_training_state(state, trained, optimizer)
        losses = extra["losses"]
    embed = _embedder(pipeline, examples.captions, chosen.text_encoder_lora)
    parts = list(shares_of(chosen, examples.weight).items())
    shape = (2, chosen.train_batch_size, *examples.mean.shape[1:])
    pipeline.unet.train()
    bar = tqdm(range(start, chosen.steps), desc=label, initial=start, total=chosen.steps)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(chosen, step)
        rng = keyed_rng(study_seed, "finetune", seed, step)
        rows = _batch(rng, parts, examples.weight, chosen.train_batch_size)
        dropped = rng.random(len(rows)) < chosen.caption_dropout
        caption = np.where(dropped, len(examples.captions) - 1, examples.caption[rows])
        last = schedule.config.num_train_timesteps
        timestep = torch.from_numpy(rng.integers(chosen.lowest_timestep, last, size=len(rows)))
        draws = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        clean = examples.mean[rows] + examples.std[rows] * draws[0]
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            hidden = embed(caption)
            hidden = _mixup(rng, hidden, chosen.caption_mixup)
            loss = denoising_loss(
                pipeline.unet, schedule, clean.to(device), draws[1].to(device),
                timestep.to(device), hidden,
            )  # fmt: skip
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(trained.values()), chosen.max_grad_norm)
        value = float(loss.detach())
        # Checked before the step, so that no checkpoint can hold a broken weight.
        if not (math.isfinite(value) and math.isfinite(float(norm))):
            save_training_state(state, step, trained, optimizer, {"losses": losses})
            raise FloatingPointError(
                f"the loss became {value} at step {step}: lower finetune.learning_rate (now "
                f"{chosen.learning_rate:g}); the last good weights are kept in {show(state)}"
            )
        optimizer.step()
        losses[step] = value
        if (step + 1) % checkpoint_every == 0:
            save_training_state(state, step + 1, trained, optimizer, {"losses": losses})
    pipeline.unet.eval()
    return losses.numpy()


def _learning_rate(chosen: Training, step: int) -> float:
    """Linear warm-up, then cosine decay to a twentieth."""
    warm = min(1.0, (step + 1) / max(chosen.warmup_steps, 1))
    cosine = 0.5 * (1 + math.cos(math.pi * step / max(chosen.steps, 1)))
    return chosen.learning_rate * warm * max(cosine, 0.05)


def _batch(
    rng: np.random.Generator,
    parts: list[tuple[str, float]],
    weight: dict[str, np.ndarray],
    size: int,
) -> np.ndarray:
    """Draw a batch: first the kind of each example, then a row by its weight."""
    kinds = rng.choice(len(parts), size=size, p=[share for _, share in parts])
    rows = np.empty(size, np.int64)
    for i, (kind, _) in enumerate(parts):
        here = kinds == i
        rows[here] = rng.choice(len(weight[kind]), size=int(here.sum()), p=weight[kind])
    return rows


def _mixup(rng: np.random.Generator, hidden: torch.Tensor, share: float) -> torch.Tensor:
    """Blend a share of the embeddings with another of the batch; the own keeps the larger part.

    Mixup (Zhang et al. 2018) on the text side only: between the captions that are trained there
    is then something to learn too.
    """
    if share == 0:
        return hidden
    mixed = rng.random(len(hidden)) < share
    own = np.where(mixed, rng.uniform(0.5, 1, len(hidden)), 1.0).astype(np.float32)
    part = torch.from_numpy(own)[:, None, None].to(hidden)
    return part * hidden + (1 - part) * hidden[torch.from_numpy(rng.permutation(len(hidden)))]


def _embedder(
    pipeline: Any, captions: list[str], trains_text: bool
) -> Callable[[np.ndarray], torch.Tensor]:
    """Return a function from caption numbers to embeddings, cached unless the encoder learns."""
    tokenizer, encoder = pipeline.tokenizer, pipeline.text_encoder
    tokens = tokenizer(
        captions, padding="max_length", truncation=True, max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids.to(pipeline.device)  # fmt: skip
    if trains_text:
        # A caption that stands twice in a batch is encoded twice: sharing one embedding would sum
        # its gradients by indexing, which adds in no fixed order on several threads.
        return lambda numbers: encoder(tokens[numbers])[0]
    with torch.no_grad():
        table = torch.cat([encoder(part)[0] for part in tokens.split(64)])
    return lambda numbers: table[numbers]
