"""Prompts + noise + arm -> images, the same whatever the order or the worker.

The loop is the stock pipeline's, opened up: every distinct prompt is encoded once, every image
has its own keyed noise, and every batch has the same size (the last one is padded), because batch
size and thread count move a few pixels by one level and are therefore part of the numerics.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from dft_lib.models import conditioning
from dft_lib.models.conditioning import Conditioning
from dft_lib.models.memory import BatchSplitter
from dft_lib.repro.noise import initial_noise
from dft_lib.sampling.plan import Plan, Planner
from dft_lib.study.base import Base
from dft_lib.study.prompts import Request

ENCODED_PROMPTS = 1024  # kept; SDXL's take 0.3 MB each in half precision


@dataclass(frozen=True)
class SamplingSettings:
    """How images are drawn; recorded with every image."""

    study_seed: int
    batch_size: int
    num_inference_steps: int
    guidance_scale: float
    scheduler: str

    @classmethod
    def of(cls, base: Base) -> SamplingSettings:
        """Take the sampling settings out of the parameter group ``base``."""
        return cls(**{f.name: getattr(base, f.name) for f in fields(cls)})


def make_scheduler(name: str, config: Any) -> Any:
    """Return the named scheduler on the model's own noise schedule, steps spaced from the end.

    "trailing" spacing starts at the last timestep, which matters at few steps (Lin et al. 2024,
    arXiv 2305.08891).
    """
    if name == "ddim":
        # where the model's configuration is silent, the class would clip latents to [-1, 1]
        clip = config.get("clip_sample", False)
        return DDIMScheduler.from_config(config, timestep_spacing="trailing", clip_sample=clip)
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
    intervention : Planner, optional
        What the arm changes at sampling time; by default nothing.
    """

    def __init__(
        self,
        pipeline: Any,
        settings: SamplingSettings,
        intervention: Planner | None = None,
    ) -> None:
        self.pipeline, self.settings = pipeline, settings
        self.intervention = intervention
        self.scheduler = make_scheduler(settings.scheduler, pipeline.scheduler.config)
        unet = pipeline.unet
        self.shape = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
        self._encoded: OrderedDict[str, Conditioning] = OrderedDict()
        self._denoising, self._decoding = BatchSplitter("denoising"), BatchSplitter("decoding")

    def encode(self, prompt: str) -> Conditioning:
        """Return the conditioning of one prompt, a batch of 1."""
        return self.encode_all([prompt])

    @torch.inference_mode()
    def encode_all(self, prompts: Sequence[str]) -> Conditioning:
        """Return the conditioning of several prompts, each encoded once and kept for a while."""
        new = [p for p in dict.fromkeys(prompts) if p not in self._encoded]
        # On a GPU together. On a CPU one by one: there the company a prompt is encoded in would
        # move its last bits, and shards are promised to be the same bytes.
        size = len(new) if self.pipeline.device.type == "cuda" else 1
        for start in range(0, len(new), max(size, 1)):
            part = new[start : start + size]
            tokens = conditioning.tokenize(self.pipeline, part)
            given = conditioning.encode(self.pipeline, tokens)
            for i, prompt in enumerate(part):
                # a copy, so that a kept row does not keep its whole batch
                self._encoded[prompt] = given[i : i + 1] if size == 1 else given[[i]]
        for prompt in prompts:
            self._encoded.move_to_end(prompt)
        given = conditioning.concatenate([self._encoded[prompt] for prompt in prompts])
        while len(self._encoded) > ENCODED_PROMPTS:
            self._encoded.popitem(last=False)
        return given

    def plan(self, request: Request) -> Plan:
        """Say how a request is drawn."""
        if self.intervention is None:
            return Plan(request, request.prompt)
        return self.intervention.plan(request)

    @torch.inference_mode()
    def batch(self, requests: Sequence[Request]) -> np.ndarray:
        """Draw at most `batch_size` images; uint8, shape (n, height, width, 3)."""
        return self.decode(self.latents(requests))[: len(requests)]

    @torch.inference_mode()
    def latents(self, requests: Sequence[Request]) -> torch.Tensor:
        """Draw a padded batch without decoding it: scaled latents, (batch_size, c, h, w)."""
        size, pipeline = self.settings.batch_size, self.pipeline
        padded = [*requests, *[requests[-1]] * (size - len(requests))]
        plans = [self.plan(r) for r in padded]
        noise = np.stack(
            [
                initial_noise(self.settings.study_seed, r.prompt_id, r.replicate, self.shape)
                for r in padded
            ]
        )
        device, dtype = pipeline.device, pipeline.unet.dtype
        latents = torch.from_numpy(noise).to(device, dtype)
        given = self.encode_all([plan.prompt for plan in plans])
        guide = self.intervention.guide(self, plans) if self.intervention else None
        guided = self.settings.guidance_scale > 1
        if guided:
            given = conditioning.concatenate([self.encode_all([""] * size), given])
        self.scheduler.set_timesteps(self.settings.num_inference_steps, device=device)
        latents = latents * self.scheduler.init_noise_sigma
        for step, t in enumerate(self.scheduler.timesteps):
            scaled = self.scheduler.scale_model_input(latents, t)
            model_input = torch.cat([scaled, scaled]) if guided else scaled
            output = self.predict(model_input, t, given)
            if guided:
                without, asked = output.chunk(2)
                output = without + self.settings.guidance_scale * (asked - without)
            if guide is not None:
                output = guide(step, scaled, t, output)
            latents = self.scheduler.step(output, t, latents).prev_sample
        return latents

    def predict(
        self, latents: torch.Tensor, timestep: torch.Tensor, given: Conditioning
    ) -> torch.Tensor:
        """Return the U-Net's prediction, (n, c, h, w), in as many parts as memory asks for."""
        parts = self._denoising.run(
            lambda part: conditioning.predict(self.pipeline, latents[part], timestep, given[part]),
            len(latents),
        )
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Decode scaled latents into uint8 pictures, (n, height, width, 3)."""
        vae = self.pipeline.vae
        shift = getattr(vae.config, "shift_factor", None) or 0
        latents = (latents / vae.config.scaling_factor + shift).to(vae.dtype)
        parts = self._decoding.run(
            lambda part: pixels(vae.decode(latents[part]).sample), len(latents)
        )
        return np.concatenate(parts)

    def draw(self, requests: Sequence[Request]) -> Iterator[tuple[int, np.ndarray]]:
        """Draw all requests in their order; yields (index of the first, pixels) per batch."""
        for start in range(0, len(requests), self.settings.batch_size):
            yield start, self.batch(requests[start : start + self.settings.batch_size])


def pixels(images: torch.Tensor) -> np.ndarray:
    """Turn decoded images, float (n, 3, h, w) in [-1, 1], into uint8 (n, h, w, 3).

    Raises
    ------
    FloatingPointError
        If a value is not finite; clamped, it would be a black picture that is rated like another.
    """
    if not bool(torch.isfinite(images).all()):
        raise FloatingPointError(
            "the model drew values that are not finite: its weights are damaged or overflow in "
            "half precision; make base.dtype float32 or bfloat16, or train the arm again"
        )
    levels = (images.float() / 2 + 0.5).clamp(0, 1).mul(255).round()
    return levels.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
