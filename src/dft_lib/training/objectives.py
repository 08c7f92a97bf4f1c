"""Training losses: the denoising loss, and the interface of objectives that add to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler

from dft_lib.models.conditioning import Conditioning, predict


@dataclass(frozen=True)
class Step:
    """What the training loop has drawn for one step.

    Attributes
    ----------
    number : int
        The step, from 0.
    share : float
        Part of the training that is done, 0 to 1.
    rows : numpy.ndarray
        int64 (n,): which examples.
    plain : numpy.ndarray
        bool (n,): examples whose caption was not replaced by the empty one.
    clean, noise : torch.Tensor
        Scaled latents and standard normal noise, (n, c, h, w).
    timestep : torch.Tensor
        int64 (n,).
    given : Conditioning or None
        The captions, with gradients where a text encoder learns; None until a part is taken.
    rng : numpy.random.Generator
        The step's own random stream, for further draws.
    weight : torch.Tensor or None
        Weights of the examples' losses, (n,); None: all 1.
    """

    number: int
    share: float
    rows: np.ndarray
    plain: np.ndarray
    clean: torch.Tensor
    noise: torch.Tensor
    timestep: torch.Tensor
    given: Conditioning | None
    rng: np.random.Generator
    weight: torch.Tensor | None = None

    def part(self, part: slice, given: Conditioning) -> Step:
        """Return a part of the batch, under its captions."""
        return replace(
            self, rows=self.rows[part], plain=self.plain[part], clean=self.clean[part],
            noise=self.noise[part], timestep=self.timestep[part], given=given,
            weight=None if self.weight is None else self.weight[part],
        )  # fmt: skip


class Objective(Protocol):
    """What a recipe minimises. Made after adapters are attached, so that it may hold the model.

    Attributes
    ----------
    columns : tuple of str
        Names of the numbers that are logged at every step; the first one is ``loss``.
    rate : float
        Learning rate of its own parameters, times the model's.
    splits : bool
        The loss is a mean over examples, so that a batch may be cut into parts (for memory, or
        for several processes) and the parts' gradients added up.
    """

    columns: tuple[str, ...]
    rate: float
    splits: bool

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Return what is trained beside the model and thrown away after it."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """Return what a checkpoint must hold of it: its parameters and buffers."""
        ...

    def __call__(self, step: Step) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss of one step and the other numbers to log."""
        ...


class Denoising:
    """The denoising loss alone."""

    columns: tuple[str, ...] = ("loss",)
    rate = 1.0
    splits = True

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.schedule = DDPMScheduler.from_config(pipeline.scheduler.config)

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Nothing beside the model."""
        return {}

    def state(self) -> dict[str, torch.Tensor]:
        """Nothing beside the model."""
        return {}

    def denoising(self, step: Step) -> torch.Tensor:
        """Return the denoising loss of a step."""
        assert step.given is not None
        return denoising_loss(
            self.pipeline, self.schedule, step.clean, step.noise, step.timestep, step.given,
            step.weight,
        )  # fmt: skip

    def __call__(self, step: Step) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the denoising loss."""
        return self.denoising(step), {}


def denoising_target(
    schedule: DDPMScheduler, clean: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
) -> torch.Tensor:
    """Return what the U-Net should predict, as the model was trained for.

    The noise (Ho et al. 2020), or the velocity (Salimans & Ho 2022, appendix D).

    Raises
    ------
    ValueError
        For any other prediction type (flow matching included).
    """
    kind = schedule.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return schedule.get_velocity(clean, noise, timestep)
    raise ValueError(f"prediction type {kind!r} is not supported: use an epsilon or v model")


def denoising_loss(
    pipeline: Any,
    schedule: DDPMScheduler,
    clean: torch.Tensor,
    noise: torch.Tensor,
    timestep: torch.Tensor,
    given: Conditioning,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean squared error of the U-Net's prediction (the "simple" loss of Ho et al. 2020, eq. 14).

    Parameters
    ----------
    pipeline : diffusers.DiffusionPipeline
        The model.
    schedule : diffusers.DDPMScheduler
        The model's own noise schedule.
    clean, noise : torch.Tensor
        Scaled latents and standard normal noise, (n, c, h, w).
    timestep : torch.Tensor
        int64, (n,), 0 to 999.
    given : Conditioning
        The captions.
    weight : torch.Tensor, optional
        Of each example, (n,); from `min_snr_weight`.

    Returns
    -------
    torch.Tensor
        Scalar.
    """
    noisy = schedule.add_noise(clean, noise, timestep)
    prediction = predict(pipeline, noisy, timestep, given)
    target = denoising_target(schedule, clean, noise, timestep)
    if weight is None:
        return F.mse_loss(prediction.float(), target.float())
    squares = F.mse_loss(prediction.float(), target.float(), reduction="none")
    return (squares.flatten(1).mean(1) * weight).mean()


def min_snr_weight(schedule: DDPMScheduler, timestep: torch.Tensor, gamma: float) -> torch.Tensor:
    """Return the loss weight of noise levels: ``min(SNR, gamma) / SNR`` (noise), or SNR + 1 below.

    Almost clean pictures, whose noise is easy to see, then count less (Hang et al. 2023, arXiv
    2303.09556, equation 6; for a velocity the denominator is ``SNR + 1``, as there in 3.3).

    Parameters
    ----------
    schedule : diffusers.DDPMScheduler
        The model's own noise schedule.
    timestep : torch.Tensor
        int64, (n,).
    gamma : float
        Where the weight starts to fall; 5 in the paper.

    Returns
    -------
    torch.Tensor
        float32, (n,), above 0, at most 1.
    """
    kept = schedule.alphas_cumprod.to(timestep.device)[timestep].double()
    ratio = kept / (1 - kept)
    over = ratio if schedule.config.prediction_type == "epsilon" else ratio + 1
    return (ratio.clamp(max=gamma) / over).float()
