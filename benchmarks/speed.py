"""Images per second of sampling and training, as ratios measured in one run.

    python benchmarks/speed.py

Sampling: our loop against the stock pipeline called image by image and in batches, same noise,
same steps. Training: LoRA steps on cached latents against the same step that encodes image and
caption every time, as diffusers' example script does. Each arm runs three times, interleaved;
the median is printed. Nothing here is asserted: machines differ.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable

import diffusers
import numpy as np
import torch

from dft_lib import adapters, params, pipelines
from dft_lib.finetune import Examples, train
from dft_lib.noise import initial_noise
from dft_lib.objectives import denoising_loss
from dft_lib.paths import ROOT, SCRATCH
from dft_lib.prompts import Request
from dft_lib.sampling import Sampler, SamplingSettings, make_scheduler

STUDY = params.load(ROOT / "params.yaml")
IMAGES, STEPS, ROUNDS = 128, 30, 3


def fresh():
    return pipelines.load(STUDY.base.model, device="cpu", dtype="float32")


def sampling_arms() -> dict[str, Callable[[], None]]:
    settings = SamplingSettings.of(STUDY.base)
    ours, stock = Sampler(fresh(), settings), fresh()
    stock.scheduler = make_scheduler(settings.scheduler, stock.scheduler.config)
    listed = [Request("speed", "a pilot", i) for i in range(IMAGES)]
    noise = torch.from_numpy(
        np.stack([initial_noise(0, "s", i, ours.shape) for i in range(IMAGES)])
    )

    def loop(batch: int) -> None:
        for i in range(0, IMAGES, batch):
            stock(
                ["a pilot"] * batch, latents=noise[i : i + batch],
                num_inference_steps=settings.num_inference_steps,
                guidance_scale=settings.guidance_scale, output_type="np",
            )  # fmt: skip

    return {
        "ours": lambda: [None for _ in ours.draw(listed)] and None,
        "stock pipeline, one by one": lambda: loop(1),
        "stock pipeline, batches": lambda: loop(settings.batch_size),
    }


def training_arms() -> dict[str, Callable[[], None]]:
    chosen = params.training(STUDY.finetune, STUDY.arms["dft"]).model_copy(update={"steps": STEPS})
    size = chosen.train_batch_size
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.random((size, 3, 64, 64), dtype=np.float32)) * 2 - 1
    latents = torch.from_numpy(rng.standard_normal((256, 4, 8, 8), dtype=np.float32))
    examples = Examples(
        latents, latents.abs() * 0.1, ["a pilot", ""], np.zeros(256, np.int64),
        {"profession": np.full(256, 1 / 256)},
    )  # fmt: skip

    def cached() -> None:
        train(fresh(), examples, chosen, study_seed=0, seed=0,
              state=SCRATCH / "speed.state", checkpoint_every=10**6)  # fmt: skip

    def uncached() -> None:
        pipeline = fresh()
        trained = adapters.attach(pipeline, chosen)
        optimizer = torch.optim.AdamW(trained.values(), lr=chosen.learning_rate)
        schedule = diffusers.DDPMScheduler.from_config(pipeline.scheduler.config)
        ids = pipeline.tokenizer(
            ["a pilot"] * size, padding="max_length", return_tensors="pt"
        ).input_ids
        for _ in range(STEPS):
            with torch.no_grad():
                clean = pipeline.vae.encode(pixels).latent_dist.sample()
                hidden = pipeline.text_encoder(ids)[0]
            noise, timestep = torch.randn_like(clean), torch.randint(1000, (size,))
            denoising_loss(pipeline.unet, schedule, clean, noise, timestep, hidden).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return {"ours (cached latents)": cached, "encoding every step": uncached}


def measure(arms: dict[str, Callable[[], None]], items: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in arms}
    for arm in arms.values():
        arm()
    for _ in range(ROUNDS):
        for name, arm in arms.items():
            start = time.perf_counter()
            arm()
            times[name].append(time.perf_counter() - start)
    return {name: round(items / statistics.median(t), 1) for name, t in times.items()}


def main() -> None:
    torch.set_num_threads(STUDY.base.threads)
    size = params.training(STUDY.finetune, STUDY.arms["dft"]).train_batch_size
    result = {
        "machine": {"processor": platform.processor() or platform.machine(),
                    "cores": os.cpu_count(), "threads": STUDY.base.threads},
        "torch": torch.__version__,
        "sampling, images/s": measure(sampling_arms(), IMAGES),
        "training, images/s": measure(training_arms(), STEPS * size),
    }  # fmt: skip
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
