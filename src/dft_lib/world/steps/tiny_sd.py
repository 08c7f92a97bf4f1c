"""Train the tiny Stable Diffusion."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dft_lib.world import art, autoencoder, corpus, settings, stored, tiny_sd


def run(chosen: settings.Settings) -> None:
    """Train text encoder and U-Net on cached latents; assemble the pipeline folder."""
    vae = stored.autoencoder()
    records = pd.read_parquet(stored.BUILD / "corpus" / "train.parquet")
    pixels = np.load(stored.BUILD / "corpus" / "train.npy")
    mean, std = autoencoder.moments(vae, pixels)
    scale = vae.config.scaling_factor
    tokenizer = tiny_sd.make_tokenizer(corpus.vocabulary(art.load()), chosen.tiny_sd.max_length)
    latents = (mean * scale, std * scale)
    inputs = (stored.BUILD / "corpus", stored.BUILD / "autoencoder")
    with stored.state("tiny_sd", chosen.tiny_sd, *inputs) as state:
        text_encoder, unet = tiny_sd.train(records, latents, tokenizer, chosen, state)
        out = stored.BUILD / "tiny-sd"
        tiny_sd.assemble(vae, text_encoder, tokenizer, unet, chosen.tiny_sd, out)
