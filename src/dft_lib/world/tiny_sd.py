"""The tiny Stable Diffusion: tokenizer, text encoder and U-Net, trained on the biased corpus.

The parts are stock classes with small settings, so whatever is written for Stable Diffusion runs
on them unchanged. Training is plain denoising with v-prediction (Salimans & Ho 2022) on the
Stable Diffusion noise schedule, text encoder and U-Net together.
"""

from __future__ import annotations

import copy
import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from dft_lib.repro.noise import keyed_rng
from dft_lib.repro.tensors import load_training_state, save_training_state
from dft_lib.world.settings import Cycle, Settings, TinySD

log = logging.getLogger(__name__)
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def make_tokenizer(words: list[str], max_length: int) -> CLIPTokenizer:
    """Build a byte-level CLIP tokenizer that knows each of `words` as one token.

    Any other text still has tokens (bytes and fragments), as in CLIP; the model just has not
    seen them.
    """
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=100_000, end_of_word_suffix="</w>", initial_alphabet=alphabet,
        show_progress=False,
    )  # fmt: skip
    bpe.train_from_iterator(sorted(words), trainer)
    merges: Any = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    tokens = [*alphabet, *(c + "</w>" for c in alphabet)]
    tokens += [a + b for a, b in merges if a + b not in set(tokens)]
    vocab = {token: i for i, token in enumerate([*dict.fromkeys(tokens), *_SPECIAL])}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=max_length)


def make_text_encoder(settings: TinySD, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Build the untrained text encoder."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.text_width,
            intermediate_size=4 * settings.text_width,
            num_hidden_layers=settings.text_layers,
            num_attention_heads=settings.text_width // 32,
            max_position_embeddings=settings.max_length,
            projection_dim=settings.text_width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_unet(settings: TinySD, latent_channels: int, side: int) -> UNet2DConditionModel:
    """Build the untrained U-Net, cross-attention in every block."""
    channels = settings.block_out_channels
    return UNet2DConditionModel(
        sample_size=side,
        in_channels=latent_channels,
        out_channels=latent_channels,
        layers_per_block=1,
        block_out_channels=channels,
        down_block_types=("CrossAttnDownBlock2D",) * len(channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(channels),
        cross_attention_dim=settings.text_width,
        attention_head_dim=tuple(c // 32 for c in channels),
        norm_num_groups=16,
    )


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Return int64 token ids, (len(texts), model_max_length), padded as the pipeline does."""
    return tokenizer(
        texts, padding="max_length", truncation=True, max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids  # fmt: skip


def learning_rate(settings: TinySD, step: int) -> tuple[float, Cycle, bool]:
    """Cosine decay with warm restarts (Loshchilov & Hutter 2017), each cycle warmed up.

    Returns the rate of `step`, the cycle it belongs to, and whether it is the cycle's first.
    """
    peak = settings.learning_rate
    for cycle in settings.cycles:
        if step < cycle.steps:
            break
        step, peak = step - cycle.steps, peak * settings.cycle_decay
    warm = min(1.0, (step + 1) / settings.warmup)
    cosine = max(0.5 * (1 + math.cos(math.pi * step / cycle.steps)), 0.01)
    return peak * warm * cosine, cycle, step == 0


def _style_weights(styles: pd.Series, cycle: Cycle) -> np.ndarray | None:
    """Cumulative probability of the records in `cycle`, or None where all are alike."""
    if not cycle.weights:
        return None
    weights = styles.map(lambda style: cycle.weights.get(style, 1.0)).to_numpy()
    return np.cumsum(weights / weights.sum())


class Ema:
    """Exponential moving average of parameters, with a warm-up of its decay."""

    def __init__(self, parameters: dict[str, torch.nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.shadow = {k: v.detach().clone() for k, v in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: dict[str, torch.nn.Parameter], step: int) -> None:
        """Move the average towards `parameters`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(self.shadow.values()), [parameters[k].detach() for k in self.shadow], 1 - decay
        )


class Teacher:
    """The model as it was when a cycle began, with guidance."""

    def __init__(
        self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel, weights: dict[str, Tensor]
    ) -> None:
        self.text_encoder = copy.deepcopy(text_encoder).eval()
        self.unet = copy.deepcopy(unet).eval()
        for name, part in (("text_encoder.", self.text_encoder), ("unet.", self.unet)):
            mine = {k.removeprefix(name): v for k, v in weights.items() if k.startswith(name)}
            part.load_state_dict(mine)

    @torch.no_grad()
    def predict(
        self, noisy: Tensor, timestep: Tensor, tokens: Tensor, empty: Tensor, guidance: float
    ) -> Tensor:
        """Return the guided prediction (Ho & Salimans 2022, equation 6, w = guidance - 1)."""
        both = self.text_encoder(torch.cat([tokens, empty[None]]))[0]
        given = self.unet(noisy, timestep, both[:-1]).sample
        without = self.unet(noisy, timestep, both[-1:].expand(len(noisy), -1, -1)).sample
        return without + guidance * (given - without)


def train(
    records: pd.DataFrame,
    latents: tuple[torch.Tensor, torch.Tensor],
    tokenizer: CLIPTokenizer,
    settings: Settings,
    state: Path,
    *,
    checkpoint_every: int = 500,
) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """Train text encoder and U-Net on cached latents, resuming from `state` where it exists.

    Parameters
    ----------
    records : pandas.DataFrame
        The corpus with its ``caption`` column, n rows.
    latents : tuple of torch.Tensor
        Scaled mean and standard deviation of the latents, each float32 (n, 4, 8, 8).
    tokenizer : transformers.CLIPTokenizer
        From `make_tokenizer`.
    settings : Settings
        The world's settings.
    state : pathlib.Path
        Checkpoint file.
    checkpoint_every : int
        Steps between checkpoints.

    Returns
    -------
    tuple
        Text encoder and U-Net carrying the averaged weights, in evaluation mode.
    """
    chosen = settings.tiny_sd
    torch.manual_seed(settings.seed)
    text_encoder = make_text_encoder(chosen, tokenizer).train()
    unet = make_unet(chosen, latents[0].shape[1], latents[0].shape[-1]).train()
    parameters = {f"text_encoder.{k}": p for k, p in text_encoder.named_parameters()}
    parameters |= {f"unet.{k}": p for k, p in unet.named_parameters()}
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=chosen.learning_rate, weight_decay=0.01, fused=True
    )
    ema = Ema(parameters, chosen.ema)
    kept, teacher = {}, None
    start, extra = load_training_state(state, parameters, optimizer)
    if extra:
        ema.shadow = {k: extra[k] for k in parameters}
        kept = {k: extra[f"teacher.{k}"] for k in parameters if f"teacher.{k}" in extra}
        if kept:
            teacher = Teacher(text_encoder, unet, kept)
    schedule = DDPMScheduler(**BETAS, prediction_type=chosen.prediction_type)
    captions = [*records["caption"].drop_duplicates(), ""]
    place = {caption: i for i, caption in enumerate(captions)}
    caption_ids = records["caption"].map(place).to_numpy()
    tokens = tokenize(tokenizer, captions)
    explicit = (records["style"] == "explicit").to_numpy()
    mean, std = latents
    steps = sum(cycle.steps for cycle in chosen.cycles)
    cumulative = {id(c): _style_weights(records["style"], c) for c in chosen.cycles}
    bar = tqdm(range(start, steps), desc="tiny-sd", initial=start, total=steps)
    running = 0.0
    for step in bar:
        rng = keyed_rng(settings.seed, "tiny_sd", step)
        rate, cycle, first = learning_rate(chosen, step)
        if first and cycle.explicit_guidance > 1:
            kept = {k: v.clone() for k, v in ema.shadow.items()}
            teacher = Teacher(text_encoder, unet, kept)
        for group in optimizer.param_groups:
            group["lr"] = rate
        index = rng.integers(len(records), size=chosen.batch_size)
        if (chances := cumulative[id(cycle)]) is not None:
            index = np.searchsorted(chances, rng.random(chosen.batch_size), side="right")
            index = index.clip(max=len(records) - 1)
        dropped = rng.random(chosen.batch_size) < chosen.caption_dropout
        caption = torch.from_numpy(np.where(dropped, len(captions) - 1, caption_ids[index]))
        time = rng.integers(1000, size=chosen.batch_size)
        if cycle.high_noise:
            higher = rng.random(chosen.batch_size) < cycle.high_noise
            time = np.where(higher, 500 + time // 2, time)
        timestep = torch.from_numpy(time)
        shape = (2, chosen.batch_size, *mean.shape[1:])
        draws = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        clean = mean[index] + std[index] * draws[0]
        noisy = schedule.add_noise(clean, draws[1], timestep)
        target = (
            schedule.get_velocity(clean, draws[1], timestep)
            if chosen.prediction_type == "v_prediction"
            else draws[1]
        )
        if teacher is not None and cycle.explicit_guidance > 1:
            rows = torch.from_numpy(explicit[index] & ~dropped)
            target[rows] = teacher.predict(
                noisy[rows], timestep[rows], tokens[caption[rows]], tokens[-1],
                cycle.explicit_guidance,
            )  # fmt: skip
        hidden = text_encoder(tokens[caption])[0]  # all, as in finetune.train: repeats exactly
        loss = F.mse_loss(unet(noisy, timestep, hidden).sample, target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
        optimizer.step()
        ema.update(parameters, step)
        running += float(loss.detach())
        if (step + 1) % checkpoint_every == 0:
            extra = ema.shadow | {f"teacher.{k}": v for k, v in kept.items()}
            save_training_state(state, step + 1, parameters, optimizer, extra)
            log.info("tiny-sd step %d, loss %.4f", step + 1, running / checkpoint_every)
            running = 0.0
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(ema.shadow[key])
    return text_encoder.eval(), unet.eval()


def assemble(
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    settings: TinySD,
    folder: Path,
) -> None:
    """Save the parts as a stock ``StableDiffusionPipeline`` folder.

    U-Net and VAE are stored in half precision (14 MB less); an fp16 text encoder would break
    stock loading, so it stays in single precision. The saved scheduler is DDIM.
    """
    scheduler = DDIMScheduler(
        **BETAS,
        prediction_type=settings.prediction_type,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )
    pipeline = StableDiffusionPipeline(
        vae=vae.half(),
        text_encoder=text_encoder.float(),
        tokenizer=tokenizer,
        unet=unet.half(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    vae.register_to_config(_name_or_path="")  # else the folder it was loaded from
    pipeline.save_pretrained(folder)
