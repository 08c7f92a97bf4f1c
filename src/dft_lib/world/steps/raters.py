"""Train the raters."""

from __future__ import annotations

from dft_lib.raters.drawings.networks import save
from dft_lib.world import art, corpus, raters, settings, stored


def run(chosen: settings.Settings) -> None:
    """Train the raters and write their weights."""
    table = art.load()
    cells = corpus.Cells(table, chosen)
    networks = raters.train_all(table, cells, stored.autoencoder(), chosen.seed)
    for name, network in networks.items():
        save(stored.BUILD / "raters" / f"{name}.safetensors", network, raters.MINIMUM)
