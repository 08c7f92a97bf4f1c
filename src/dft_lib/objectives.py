"""Training losses."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler


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
    unet: Any,
    schedule: DDPMScheduler,
    clean: torch.Tensor,
    noise: torch.Tensor,
    timestep: torch.Tensor,
    hidden: torch.Tensor,
) -> torch.Tensor:
    """Mean squared error of the U-Net's prediction (the "simple" loss of Ho et al. 2020, eq. 14).

    Parameters
    ----------
    unet : diffusers.UNet2DConditionModel
        The model.
    schedule : diffusers.DDPMScheduler
        The model's own noise schedule.
    clean, noise : torch.Tensor
        Scaled latents and standard normal noise, (n, c, h, w).
    timestep : torch.Tensor
        int64, (n,), 0 to 999.
    hidden : torch.Tensor
        Text embeddings, (n, tokens, width).

    Returns
    -------
    torch.Tensor
        Scalar.
    """
    noisy = schedule.add_noise(clean, noise, timestep)
    prediction = unet(noisy, timestep, encoder_hidden_states=hidden).sample
    target = denoising_target(schedule, clean, noise, timestep)
    return F.mse_loss(prediction.float(), target.float())
