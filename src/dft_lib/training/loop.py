"""The training loop: keyed batches, exact resume.

Latents and text embeddings are computed once; each step's batch, timesteps and noise belong to
(study seed, training seed, step), so an interrupted training goes on to the bytes an
uninterrupted one gives, arms of one seed see the same draws, and several processes can share a
batch without talking about it (`dft_lib.training.parallel`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import DDPMScheduler
from tqdm import tqdm

from dft_lib.image_sets.examples import Examples, shares_of
from dft_lib.models import adapters, conditioning
from dft_lib.models.conditioning import Conditioning
from dft_lib.repro.noise import keyed_rng
from dft_lib.repro.paths import show
from dft_lib.repro.tensors import first_broken, load_training_state, save_training_state
from dft_lib.study.training import Training
from dft_lib.training import parallel
from dft_lib.training.backward import Backward, Mixup
from dft_lib.training.objectives import Denoising, Objective, Step, min_snr_weight

CACHED_CAPTIONS = 4096  # 0.5 GB for SD 1.5, 1.3 GB for SDXL in half precision


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
    objective: Callable[[Any], Objective] = Denoising,
    trained: dict[str, torch.nn.Parameter] | None = None,
    offset: int = 0,
) -> pd.DataFrame:
    """Train the attached parts in place.

    Parameters
    ----------
    pipeline : diffusers.DiffusionPipeline
        Freshly loaded; adapters are attached here.
    examples : Examples
        From `dft_lib.image_sets.examples.examples`.
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
    objective : callable, optional
        Makes the objective from the pipeline; by default the denoising loss.
    trained : dict, optional
        What `attach` returned, to train adapters that are attached already.
    offset : int, optional
        Added to a step's number in the key of its random numbers, for trainings in several parts.

    Returns
    -------
    pandas.DataFrame
        ``step, loss`` and the objective's other columns, one row per step.

    Raises
    ------
    FloatingPointError
        If the loss or a weight is not finite; the last good weights, if any, stay in `state`.
    """
    dtype = pipeline.text_encoder.dtype  # before `attach`, which makes what learns float32
    if trained is None:
        trained = attach(pipeline, chosen, study_seed, seed)
    goal = objective(pipeline)
    own = goal.parameters()
    optimizer = torch.optim.AdamW(
        [{"params": list(trained.values()), "times": 1.0}]
        + ([{"params": list(own.values()), "times": goal.rate}] if own else []),
        lr=chosen.learning_rate, weight_decay=1e-2, fused=True,
    )  # fmt: skip
    everything: dict[str, torch.Tensor] = {**trained} | {
        f"objective.{k}": p for k, p in goal.state().items()
    }
    losses = torch.full((chosen.steps, len(goal.columns)), float("nan"))
    start, extra = load_training_state(state, everything, optimizer)
    losses = extra.get("losses", losses)
    embed = _embedder(pipeline, examples.captions, chosen.text_encoder_lora)
    backward = Backward(goal, embed, optimizer, pipeline.device, dtype)
    parts = list(shares_of(chosen, examples.weight).items())
    device = pipeline.device
    size, (rank, _) = chosen.train_batch_size, parallel.world()
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    last = schedule.config.num_train_timesteps
    if chosen.gradient_checkpointing:
        _recompute(pipeline, chosen)
    pipeline.unet.train()
    bar = tqdm(range(start, chosen.steps), desc=label, initial=start, total=chosen.steps,
               disable=rank > 0)  # fmt: skip
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(chosen, step) * group["times"]
        rng = keyed_rng(study_seed, "finetune", seed, step + offset)
        rows = _batch(rng, parts, examples.weight, size)
        dropped = rng.random(size) < chosen.caption_dropout
        caption = np.where(dropped, len(examples.captions) - 1, examples.caption[rows])
        timestep = torch.from_numpy(rng.integers(chosen.lowest_timestep, last, size=size))
        mean, std = examples.latents(rows)
        draws = torch.from_numpy(rng.standard_normal((2, *mean.shape), dtype=np.float32))
        clean = mean + std * draws[0]
        mixup = _mixup(rng, size, chosen.caption_mixup)
        weight = None
        if chosen.min_snr_gamma is not None:
            weight = min_snr_weight(schedule, timestep, chosen.min_snr_gamma).to(device)
        drawn = Step(
            step, step / chosen.steps, rows, ~dropped, clean.to(device), draws[1].to(device),
            timestep.to(device), None, rng, weight,
        )  # fmt: skip
        value, *logged = backward(drawn, caption, mixup)
        norm = torch.nn.utils.clip_grad_norm_(list(trained.values()), chosen.max_grad_norm)
        # Checked before the step; weights themselves before they are kept or given back.
        if not (math.isfinite(value) and math.isfinite(float(norm))):
            if rank == 0 and first_broken(everything) is None:
                save_training_state(state, step, everything, optimizer, {"losses": losses})
            raise _broken(f"the loss became {value} at step {step}", chosen, state)
        optimizer.step()
        losses[step] = torch.tensor([value, *logged])
        last_step = step + 1 == chosen.steps
        keep = (step + 1) % checkpoint_every == 0
        if (keep or last_step) and (name := first_broken(everything)):
            raise _broken(f"{name} was not finite after step {step}", chosen, state)
        if keep and rank == 0:
            save_training_state(state, step + 1, everything, optimizer, {"losses": losses})
    pipeline.unet.eval()
    table = pd.DataFrame(losses.numpy(), columns=list(goal.columns))
    table.insert(0, "step", np.arange(chosen.steps))
    return table


def _broken(what: str, chosen: Training, state: Path) -> FloatingPointError:
    kept = f"the last good weights are kept in {show(state)}" if state.exists() else (
        "no good weights are left to go on from"
    )  # fmt: skip
    return FloatingPointError(
        f"{what}: lower finetune.learning_rate (now {chosen.learning_rate:g}); {kept}"
    )


def attach(
    pipeline: Any, chosen: Training, study_seed: int, seed: int
) -> dict[str, torch.nn.Parameter]:
    """Attach adapters whose first values belong to the seeds; return what is trained.

    Master weights are in full precision, whatever the model's.
    """
    torch.manual_seed(int(keyed_rng(study_seed, "adapter", seed).integers(2**31)))
    trained = adapters.attach(pipeline, chosen)
    for parameter in trained.values():
        parameter.data = parameter.data.float()
    return trained


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


def _mixup(rng: np.random.Generator, size: int, share: float) -> Mixup | None:
    """Draw which embeddings are blended with which; the own one keeps the larger part.

    Mixup (Zhang et al. 2018) on the text side only: between the captions that are trained there
    is then something to learn too.

    Returns
    -------
    tuple or None
        Each example's partner, int64 (n,), and the own share, float32 (n,); None if `share` is 0.
    """
    if share == 0:
        return None
    mixed = rng.random(size) < share
    own = np.where(mixed, rng.uniform(0.5, 1, size), 1.0).astype(np.float32)
    return rng.permutation(size), torch.from_numpy(own)


def _recompute(pipeline: Any, chosen: Training) -> None:
    """Turn gradient checkpointing on in whatever is trained."""
    pipeline.unet.enable_gradient_checkpointing()
    if chosen.text_encoder_lora:
        for _, encoder in conditioning.text_encoders(pipeline).values():
            encoder.gradient_checkpointing_enable()
            encoder.train()


def _embedder(
    pipeline: Any, captions: list[str], trains_text: bool
) -> Callable[[np.ndarray], Conditioning]:
    """Return a function from caption numbers to embeddings, cached unless the encoder learns.

    More than `CACHED_CAPTIONS` are encoded when they are needed: with a caption of its own for
    every picture a table would outgrow the device's memory, and the encoder costs 1 % of a step.
    """
    tokens = conditioning.tokenize(pipeline, captions)
    if not trains_text and len(captions) > CACHED_CAPTIONS:
        return lambda numbers: _encoded(pipeline, tokens[numbers])
    if trains_text:
        # A caption that stands twice in a batch is encoded twice: sharing one embedding would sum
        # its gradients by indexing, which adds in no fixed order on several threads.
        return lambda numbers: conditioning.encode(pipeline, tokens[numbers])
    table = conditioning.concatenate([_encoded(pipeline, part) for part in tokens.split(64)])
    return lambda numbers: table[numbers]


@torch.no_grad()
def _encoded(pipeline: Any, tokens: torch.Tensor) -> Conditioning:
    return conditioning.encode(pipeline, tokens)
