"""A loss on drawn images, carried back to the weights: sampling with a truncated gradient.

For recipes that steer what a model draws (alignment, adversarial). Images stay latents, and what
reads a group off them is a small classifier of the recipe's own, on latents: it steers, so it
never judges, and judges look at pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from dft_lib.models.conditioning import Conditioning, concatenate, encode, predict, tokenize
from dft_lib.repro.noise import keyed_rng
from dft_lib.sampling.sampler import make_scheduler
from dft_lib.study.base import Base

Target = Mapping[str, Mapping[str, float]]
CLASSIFIER = "classifier on latents"  # its name in manifests


@dataclass(frozen=True)
class Rollout:
    """One batch of sampling.

    Attributes
    ----------
    states : list of tuple
        (timestep, scaled noisy latents as the U-Net saw them) of every step, in order.
    final : torch.Tensor
        Drawn latents, (n, c, h, w), without gradient.
    """

    states: list[tuple[torch.Tensor, torch.Tensor]]
    final: torch.Tensor


@torch.no_grad()
def roll(pipeline: Any, base: Base, noise: torch.Tensor, given: Conditioning) -> Rollout:
    """Draw latents as the study samples, keeping every state.

    Parameters
    ----------
    pipeline : diffusers.DiffusionPipeline
        The model as it is now.
    base : Base
        Scheduler, steps and guidance.
    noise : torch.Tensor
        Initial noise, (n, c, h, w).
    given : Conditioning
        n captions.
    """
    scheduler = make_scheduler(base.scheduler, pipeline.scheduler.config)
    scheduler.set_timesteps(base.num_inference_steps, device=noise.device)
    guided = base.guidance_scale > 1
    if guided:
        empty = encode(pipeline, tokenize(pipeline, [""] * len(noise)))
    latents = noise * scheduler.init_noise_sigma
    states = []
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, t)
        states.append((t, scaled))
        output = predict(pipeline, scaled, t, given)
        if guided:
            without = predict(pipeline, scaled, t, empty)
            output = without + base.guidance_scale * (output - without)
        latents = scheduler.step(output, t, latents).prev_sample
    return Rollout(states, latents)


def surrogate(
    pipeline: Any,
    rollout: Rollout,
    given: Conditioning,
    gradient: torch.Tensor,
    steps: Sequence[int],
) -> torch.Tensor:
    """Return a scalar whose gradient is the adjusted direct gradient of a loss on drawn latents.

    The chain through the sampler is cut: a step's noisy latents count as given, and the factor by
    which its prediction enters the drawn latents, which is negative for noise and velocity alike
    and would make some steps count thousands of times more than others, is replaced by -1 (Shen
    et al. 2024, arXiv 2311.07604, section 4.2, "adjusted DFT"). Truncated: only `steps` take part.

    Parameters
    ----------
    gradient : torch.Tensor
        Of the loss, at ``rollout.final``, (n, c, h, w).
    steps : sequence of int
        Positions in ``rollout.states``.
    """
    total = torch.zeros((), device=gradient.device)
    for i in steps:
        timestep, latents = rollout.states[i]
        total = total - (gradient * predict(pipeline, latents, timestep, given).float()).sum()
    return total / len(steps)


class LatentClassifier(nn.Module):
    """Groups of each attribute from latents, (n, c, h, w) of any size."""

    def __init__(
        self, channels: int, groups: Mapping[str, Sequence[str]], width: int = 96
    ) -> None:
        super().__init__()
        self.groups = {a: tuple(g) for a, g in groups.items()}
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1), nn.GroupNorm(8, width), nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.SiLU(),
        )  # fmt: skip
        self.heads = nn.ModuleDict({a: nn.Linear(2 * width, len(g)) for a, g in groups.items()})

    def forward(self, latents: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return logits per attribute, (n, K)."""
        seen = self.body(latents.float())
        pooled = torch.cat([seen.mean((2, 3)), seen.amax((2, 3))], 1)
        return {a: head(pooled) for a, head in self.heads.items()}


def fit_classifier(
    moments: torch.Tensor,
    rows: pd.DataFrame,
    target: Target,
    *,
    key: Sequence[str | int],
    steps: int = 400,
    batch: int = 64,
) -> tuple[LatentClassifier, dict[str, float]]:
    """Train a classifier on pictures whose groups are known.

    Parameters
    ----------
    moments : torch.Tensor
        Latent moments of all pictures, (2, n, c, h, w).
    rows : pandas.DataFrame
        Pictures of people with their groups; its index says which. A tenth is not trained on.
    target : mapping
        attribute -> groups.
    key : sequence
        Key of the random numbers.

    Returns
    -------
    LatentClassifier, dict
        Frozen, and its accuracy per attribute on the tenth that was kept aside.
    """
    rng = keyed_rng(*key, "classifier")
    torch.manual_seed(int(rng.integers(2**31)))
    net = LatentClassifier(moments.shape[2], {a: list(g) for a, g in target.items()})
    labels = {
        a: torch.tensor([list(groups).index(g) for g in rows[a]]) for a, groups in target.items()
    }
    place = torch.tensor(rows.index.to_numpy())
    order = rng.permutation(len(rows))
    aside, taught = order[: max(len(rows) // 10, 1)], order[max(len(rows) // 10, 1) :]
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * 0.5 * (1 + np.cos(np.pi * step / steps))
        pick = taught[rng.integers(len(taught), size=batch)]
        noise = torch.from_numpy(
            rng.standard_normal((batch, *moments.shape[2:]), dtype=np.float32)
        )
        # a little noise beyond the encoder's own: drawn latents are rougher than encoded ones
        clean = moments[0, place[pick]] + (moments[1, place[pick]] + 0.1) * noise
        loss = torch.stack(
            [F.cross_entropy(logits, labels[a][pick]) for a, logits in net(clean).items()]
        ).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    net.requires_grad_(False).eval()
    given = net(moments[0, place[aside]].float())
    right = {a: float((given[a].argmax(1) == labels[a][aside]).float().mean()) for a in labels}
    return net, right


class OnPolicy:
    """Rounds of drawing n images of one plain caption with the model as it is.

    Parameters
    ----------
    pipeline : diffusers.DiffusionPipeline
        The model that learns.
    base : Base
        How the study samples.
    captions : sequence of str
        Plain captions of professions; one is drawn for each round.
    images : int
        Images per round.
    gradient_steps : int
        Sampling steps that get a gradient, drawn anew each round.
    """

    def __init__(
        self, pipeline: Any, base: Base, captions: Sequence[str], images: int, gradient_steps: int
    ) -> None:
        self.pipeline, self.base, self.images = pipeline, base, images
        self.gradient_steps = min(gradient_steps, base.num_inference_steps)
        self.captions = list(captions)
        self.tokens = tokenize(pipeline, self.captions)
        config = pipeline.unet.config
        self.shape = (images, config.in_channels, config.sample_size, config.sample_size)

    def draw(self, rng: np.random.Generator) -> tuple[int, torch.Tensor, Conditioning, Rollout]:
        """Return the caption's number, the noise, the conditioning (with gradient), the images."""
        chosen = int(rng.integers(len(self.tokens)))
        noise = torch.from_numpy(rng.standard_normal(self.shape, dtype=np.float32))
        noise = noise.to(self.pipeline.device, self.pipeline.unet.dtype)
        one = encode(self.pipeline, self.tokens[chosen : chosen + 1])
        given = concatenate([one] * self.images)
        return chosen, noise, given, roll(self.pipeline, self.base, noise, given)

    def carry_back(
        self, rollout: Rollout, given: Conditioning, gradient: torch.Tensor, rng: Any
    ) -> torch.Tensor:
        """Return the surrogate of a gradient at the drawn latents, over a few steps."""
        steps = rng.choice(len(rollout.states), size=self.gradient_steps, replace=False)
        return surrogate(self.pipeline, rollout, given, gradient, [int(i) for i in steps])
