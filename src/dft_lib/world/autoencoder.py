"""The tiny ``AutoencoderKL``: 64 x 64 pictures to 8 x 8 x 4 latents and back."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from tqdm import tqdm

from dft_lib.repro.noise import keyed_rng
from dft_lib.repro.tensors import load_training_state, save_training_state
from dft_lib.world.render import SIZE
from dft_lib.world.settings import Settings

log = logging.getLogger(__name__)


def make(settings: Settings) -> AutoencoderKL:
    """Build the untrained autoencoder (f = 8, no attention: faces fit its receptive field)."""
    channels = settings.autoencoder.block_out_channels
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=settings.autoencoder.latent_channels,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=SIZE,
    )


def to_model(pixels: np.ndarray) -> torch.Tensor:
    """Turn uint8 (n, h, w, 3) pictures into float32 (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pixels(batch: torch.Tensor) -> np.ndarray:
    """Turn float (n, 3, h, w) in [-1, 1] into uint8 (n, h, w, 3), clipped and rounded."""
    scaled = ((batch.float() + 1) * 127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).numpy()


def loss_of(vae: AutoencoderKL, x: torch.Tensor, noise: torch.Tensor, kl_weight: float):
    """L1 at full and half size, plus a small KL (Rombach et al. 2022, without the critic)."""
    posterior = vae.encode(x).latent_dist
    y = vae.decode(posterior.mean + posterior.std * noise).sample
    full = (y - x).abs().mean()
    half = (F.avg_pool2d(y, 2) - F.avg_pool2d(x, 2)).abs().mean()
    kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    return full + 0.5 * half + kl_weight * kl * posterior.mean[0].numel(), full


def train(pixels: np.ndarray, settings: Settings, state: Path) -> AutoencoderKL:
    """Train on the corpus pictures, resuming from `state` where it exists.

    Parameters
    ----------
    pixels : numpy.ndarray
        uint8, shape (n, 64, 64, 3).
    settings : Settings
        The world's settings.
    state : pathlib.Path
        Checkpoint file, written every 500 steps.

    Returns
    -------
    diffusers.AutoencoderKL
        Trained, in evaluation mode, with ``scaling_factor`` set so that latents have unit
        standard deviation.
    """
    chosen = settings.autoencoder
    torch.manual_seed(settings.seed)
    vae = make(settings)
    parameters = dict(vae.named_parameters())
    optimizer = torch.optim.AdamW(vae.parameters(), lr=chosen.learning_rate, weight_decay=0.0)
    start, _ = load_training_state(state, parameters, optimizer)
    side = SIZE // 2 ** (len(chosen.block_out_channels) - 1)
    shape = (chosen.batch_size, chosen.latent_channels, side, side)
    bar = tqdm(range(start, chosen.steps), desc="autoencoder", initial=start, total=chosen.steps)
    for step in bar:
        rng = keyed_rng(settings.seed, "autoencoder", step)
        warm = min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            decay = 0.5 * (1 + math.cos(math.pi * step / chosen.steps))
            group["lr"] = chosen.learning_rate * warm * max(decay, 0.01)
        x = to_model(pixels[np.sort(rng.integers(len(pixels), size=chosen.batch_size))])
        noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        loss, full = loss_of(vae, x, noise, chosen.kl_weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 500 == 0:
            save_training_state(state, step + 1, parameters, optimizer)
            log.info("autoencoder step %d, L1 %.4f", step + 1, float(full))
    vae.eval()
    mean, _ = moments(vae, pixels[:4000])
    vae.register_to_config(scaling_factor=float(1 / mean.std()))
    return vae


@torch.inference_mode()
def moments(vae: AutoencoderKL, pixels: np.ndarray, batch: int = 64) -> tuple[torch.Tensor, ...]:
    """Return the latents' (mean, standard deviation), unscaled, each (n, 4, 8, 8) float32."""
    means, stds = [], []
    for i in range(0, len(pixels), batch):
        posterior = vae.encode(to_model(pixels[i : i + batch])).latent_dist
        means.append(posterior.mean)
        stds.append(posterior.std)
    return torch.cat(means), torch.cat(stds)


@torch.inference_mode()
def reconstruct(vae: AutoencoderKL, pixels: np.ndarray, batch: int = 64) -> np.ndarray:
    """Encode (to the mean) and decode pictures: what the best possible sample would look like."""
    out = []
    for i in range(0, len(pixels), batch):
        mean = vae.encode(to_model(pixels[i : i + batch])).latent_dist.mean
        out.append(to_pixels(vae.decode(mean).sample))
    return np.concatenate(out)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Mean peak signal-to-noise ratio in dB over pictures of 8 bits."""
    error = np.square(a.astype(np.float64) - b).mean(axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / np.maximum(error, 1e-8))))
