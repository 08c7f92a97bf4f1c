"""Prompts + noise + arm -> images, the same whatever the order or the worker.

The loop is the stock pipeline's, opened up: every distinct prompt is encoded once, every image
has its own keyed noise, and every batch has the same size (the last one is padded), because batch
size and thread count move a few pixels by one level and are therefore part of the numerics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from dft_lib.noise import initial_noise
from dft_lib.prompts import Request


@dataclass(frozen=True)
class SamplingSettings:
    """How images are drawn; recorded with every image."""

    study_seed: int
    batch_size: int
    num_inference_steps: int
    guidance_scale: float
    scheduler: str

    @classmethod
    def of(cls, base: Any) -> SamplingSettings:
        """Take the sampling settings out of the parameter group ``base``."""
        return cls(**{f.name: getattr(base, f.name) for f in fields(cls)})


def make_scheduler(name: str, config: Any) -> Any:
    """Return the named scheduler on the model's own noise schedule, steps spaced from the end.

    "trailing" spacing starts at the last timestep, which matters at few steps (Lin et al. 2024,
    arXiv 2305.08891).
    """
    if name == "ddim":
        return DDIMScheduler.from_config(config, timestep_spacing="trailing")
    if name == "dpmsolver++":
        return DPMSolverMultistepScheduler.from_config(config, timestep_spacing="trailing")
    raise ValueError(f"base.scheduler: no scheduler {name!r}; use ddim or dpmsolver++")


class Sampler:
    """Draws images with one pipeline.

    Parameters
    ----------
    pipeline : diffusers.DiffusionPipeline
        A latent text-to-image pipeline with a U-Net, adapters already loaded.
    settings : SamplingSettings
        Recorded numerics.
    """

    def __init__(self, pipeline: Any, settings: SamplingSettings) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.scheduler = make_scheduler(settings.scheduler, pipeline.scheduler.config)
        unet = pipeline.unet
        self.shape = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
        self._encoded: dict[str, torch.Tensor] = {}

    @torch.inference_mode()
    def encode(self, prompt: str) -> torch.Tensor:
        """Return the prompt's text embedding, shape (tokens, width); each prompt once."""
        if prompt not in self._encoded:
            embedding, _ = self.pipeline.encode_prompt(
                prompt, self.pipeline.device, 1, do_classifier_free_guidance=False
            )
            self._encoded[prompt] = embedding[0]
        return self._encoded[prompt]

    @torch.inference_mode()
    def batch(self, requests: Sequence[Request]) -> np.ndarray:
        """Draw at most `batch_size` images; uint8, shape (n, height, width, 3)."""
        size, pipeline = self.settings.batch_size, self.pipeline
        padded = [*requests, *[requests[-1]] * (size - len(requests))]
        noise = np.stack(
            [
                initial_noise(self.settings.study_seed, r.prompt_id, r.replicate, self.shape)
                for r in padded
            ]
        )
        device, dtype = pipeline.device, pipeline.unet.dtype
        latents = torch.from_numpy(noise).to(device, dtype)
        hidden = torch.stack([self.encode(r.prompt) for r in padded])
        guided = self.settings.guidance_scale > 1
        if guided:
            empty = self.encode("").expand_as(hidden)
            hidden = torch.cat([empty, hidden])
        self.scheduler.set_timesteps(self.settings.num_inference_steps, device=device)
        latents = latents * self.scheduler.init_noise_sigma
        for t in self.scheduler.timesteps:
            model_input = torch.cat([latents, latents]) if guided else latents
            model_input = self.scheduler.scale_model_input(model_input, t)
            output = pipeline.unet(model_input, t, encoder_hidden_states=hidden).sample
            if guided:
                without, given = output.chunk(2)
                output = without + self.settings.guidance_scale * (given - without)
            latents = self.scheduler.step(output, t, latents).prev_sample
        config = pipeline.vae.config
        latents = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0)
        images = pipeline.vae.decode(latents.to(pipeline.vae.dtype)).sample
        return pixels(images)[: len(requests)]

    def draw(self, requests: Sequence[Request]) -> Iterator[tuple[int, np.ndarray]]:
        """Draw all requests in their order; yields (index of the first, pixels) per batch."""
        for start in range(0, len(requests), self.settings.batch_size):
            yield start, self.batch(requests[start : start + self.settings.batch_size])


def pixels(images: torch.Tensor) -> np.ndarray:
    """Turn decoded images, float (n, 3, h, w) in [-1, 1], into uint8 (n, h, w, 3)."""
    levels = (images.float() / 2 + 0.5).clamp(0, 1).mul(255).round()
    return levels.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
