"""Train the autoencoder."""

from __future__ import annotations

import logging

import numpy as np

from dft_lib.world import autoencoder, settings, stored

log = logging.getLogger(__name__)


def run(chosen: settings.Settings) -> None:
    """Train the autoencoder on the corpus pictures."""
    pixels = np.load(stored.BUILD / "corpus" / "train.npy", mmap_mode="r")
    with stored.state("autoencoder", chosen.autoencoder, stored.BUILD / "corpus") as state:
        vae = autoencoder.train(pixels, chosen, state)
        vae.save_pretrained(stored.BUILD / "autoencoder")
    held = np.load(stored.BUILD / "corpus" / "validation.npy")
    log.info("validation PSNR %.2f dB", autoencoder.psnr(autoencoder.reconstruct(vae, held), held))
