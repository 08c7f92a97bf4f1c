"""Build the emoji world stage by stage: ``python -m dft_lib.world.build STAGE``.

Stages, in order: ``corpus``, ``autoencoder``, ``raters``, ``tiny_sd``. Each reads what the
earlier ones left in ``world/build/`` and resumes its own training from a checkpoint there.
"""

from __future__ import annotations

import argparse
import logging
import os

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKL

from dft_lib.noise import keyed_rng
from dft_lib.paths import WORLD
from dft_lib.raters.networks import save
from dft_lib.world import art, autoencoder, corpus, raters, render, settings, tiny_sd

log = logging.getLogger(__name__)
BUILD = WORLD / "build"


def build_corpus(chosen: settings.Settings) -> None:
    """Draw records and render pictures of the training and validation corpus."""
    table = art.load()
    cells = corpus.Cells(table, chosen)
    folder = BUILD / "corpus"
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"train": chosen.corpus.size, "validation": chosen.corpus.validation_size}
    for stream, (name, size) in enumerate(sizes.items()):
        records = corpus.build(cells, chosen, size=size, stream=stream)
        rng = keyed_rng(chosen.seed, "placement", name)
        np.save(folder / f"{name}.npy", render.render_many(table, records["row"].to_numpy(), rng))
        records.to_parquet(folder / f"{name}.parquet", index=False)
        log.info("%s corpus: %d pictures", name, size)


def build_autoencoder(chosen: settings.Settings) -> None:
    """Train the autoencoder on the corpus pictures."""
    pixels = np.load(BUILD / "corpus" / "train.npy", mmap_mode="r")
    vae = autoencoder.train(pixels, chosen, BUILD / "autoencoder.state.safetensors")
    vae.save_pretrained(BUILD / "autoencoder")
    held = np.load(BUILD / "corpus" / "validation.npy")
    log.info("validation PSNR %.2f dB", autoencoder.psnr(autoencoder.reconstruct(vae, held), held))


def load_autoencoder() -> AutoencoderKL:
    """Return the trained autoencoder in single precision, from what will be published."""
    return AutoencoderKL.from_pretrained(BUILD / "autoencoder").eval()


def build_tiny_sd(chosen: settings.Settings) -> None:
    """Train text encoder and U-Net on cached latents; assemble the pipeline folder."""
    vae = load_autoencoder()
    records = pd.read_parquet(BUILD / "corpus" / "train.parquet")
    pixels = np.load(BUILD / "corpus" / "train.npy")
    mean, std = autoencoder.moments(vae, pixels)
    scale = vae.config.scaling_factor
    tokenizer = tiny_sd.make_tokenizer(corpus.vocabulary(), chosen.tiny_sd.max_length)
    text_encoder, unet = tiny_sd.train(
        records, (mean * scale, std * scale), tokenizer, chosen, BUILD / "tiny_sd.state.safetensors"
    )
    tiny_sd.assemble(vae, text_encoder, tokenizer, unet, chosen.tiny_sd, BUILD / "tiny-sd")


def build_raters(chosen: settings.Settings) -> None:
    """Train the raters and write their weights."""
    table = art.load()
    cells = corpus.Cells(table, chosen)
    networks = raters.train_all(table, cells, load_autoencoder(), chosen.seed)
    for name, network in networks.items():
        save(BUILD / "raters" / f"{name}.safetensors", network, raters.MINIMUM)


STAGES = {
    "corpus": build_corpus,
    "autoencoder": build_autoencoder,
    "raters": build_raters,
    "tiny_sd": build_tiny_sd,
}


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    stage = parser.parse_args().stage
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(os.cpu_count() or 1)
    STAGES[stage](settings.load())


if __name__ == "__main__":
    main()
