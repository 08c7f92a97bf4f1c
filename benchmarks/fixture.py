"""Models and pictures to measure speed on: full-size structures with random weights.

Random weights are good for time and memory only. The configurations are those published with
Stable Diffusion 1.5 and SDXL; parameter counts are asserted. ``tiny`` is the study's own model;
``sd15-small`` and ``sdxl-small`` have the structures and a few thousand weights, to try a
command out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from dft_lib.repro.paths import DATA
from dft_lib.world import art, corpus, tiny_sd

SIZES = ("tiny", "sd15-small", "sdxl-small", "sd15", "sdxl")
UNET = {
    "sd15": {
        "sample_size": 64, "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
    "sdxl": {
        "sample_size": 128, "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10), "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True, "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}  # fmt: skip
SMALL = {
    "sd15": {"block_out_channels": (32, 32, 64, 64), "cross_attention_dim": 32},
    "sdxl": {
        "block_out_channels": (32, 32, 64), "cross_attention_dim": 64,
        "attention_head_dim": (2, 2, 4), "transformer_layers_per_block": (1, 1, 1),
        "projection_class_embeddings_input_dim": 6 * 256 + 32,
    },
}  # fmt: skip
VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
}  # fmt: skip
CLIP_L = {
    "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "projection_dim": 768,
}  # fmt: skip
BIG_G = {
    "vocab_size": 49408, "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
    "num_attention_heads": 20, "projection_dim": 1280, "hidden_act": "gelu",
}  # fmt: skip
SMALL_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
                  "num_attention_heads": 4, "projection_dim": 32}  # fmt: skip
PARAMETERS = {
    ("sd15", "unet"): 859_520_964, ("sdxl", "unet"): 2_567_463_684,
    ("sd15", "vae"): 83_653_863, ("sdxl", "vae"): 83_653_863,
    ("sd15", "text_encoder"): 123_060_480, ("sdxl", "text_encoder"): 123_060_480,
    ("sdxl", "text_encoder_2"): 694_659_840,
}  # fmt: skip


def parts(size: str) -> dict[str, Any]:
    """Build the networks of a size, on the device that is the default."""
    kind, _, small = size.partition("-")
    unet = UNET[kind] | (SMALL[kind] | {"sample_size": 8} if small else {})
    vae = VAE | ({"block_out_channels": (32,) * 4, "layers_per_block": 1} if small else {})
    text = SMALL_TEXT if small else {}
    scale = {"sd15": 0.18215, "sdxl": 0.13025}[kind]
    made = {
        "unet": UNet2DConditionModel(**unet),
        "vae": AutoencoderKL(
            **vae, sample_size=8 * unet["sample_size"], scaling_factor=scale,
            force_upcast=kind == "sdxl",
        ),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**CLIP_L | text)),
    }  # fmt: skip
    if kind == "sdxl":
        made["text_encoder_2"] = CLIPTextModelWithProjection(CLIPTextConfig(**BIG_G | text))
    for name, network in made.items():
        count = sum(p.numel() for p in network.parameters())
        assert count == PARAMETERS.get((size, name), count), (size, name, count)
    return made


def model(size: str, folder: Path, dtype: torch.dtype) -> Path:
    """Return the folder of a model of a size, made if it is not there."""
    if size == "tiny":
        return DATA / "tiny-sd"
    path = folder / f"{size}-{str(dtype).removeprefix('torch.')}"
    if (path / "model_index.json").exists():
        return path
    torch.manual_seed(0)
    networks = parts(size)
    tokenizer = tiny_sd.make_tokenizer(corpus.vocabulary(art.load()), 77)
    noise = tiny_sd.BETAS | {"prediction_type": "epsilon", "steps_offset": 1}
    if size.startswith("sd15"):
        pipeline = StableDiffusionPipeline(
            **networks, tokenizer=tokenizer, scheduler=PNDMScheduler.from_config(noise),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
    else:
        pipeline = StableDiffusionXLPipeline(
            **networks, tokenizer=tokenizer, tokenizer_2=tokenizer,
            scheduler=EulerDiscreteScheduler.from_config(noise), add_watermarker=False,
        )  # fmt: skip
    pipeline.to(dtype).save_pretrained(path)
    return path


def picture_folder(folder: Path, side: int, count: int) -> Path:
    """Return a folder of pictures with captions, as peers' scripts read it (imagefolder)."""
    path = folder / f"pictures-{side}-{count}"
    if not (path / "metadata.jsonl").exists():
        path.mkdir(parents=True, exist_ok=True)
        rng, lines = np.random.default_rng(0), []
        for i in range(count):
            coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)  # smooth, as pictures are
            Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(
                path / f"{i:05d}.png"
            )
            lines.append(json.dumps({"file_name": f"{i:05d}.png", "text": "a photo of a pilot"}))
        (path / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
