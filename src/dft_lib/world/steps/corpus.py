"""Draw the corpus: records, and pictures of them."""

from __future__ import annotations

import logging

import numpy as np

from dft_lib.repro.noise import keyed_rng
from dft_lib.world import art, corpus, render, settings, stored

log = logging.getLogger(__name__)


def run(chosen: settings.Settings) -> None:
    """Draw records and render pictures of the training and validation corpus."""
    table = art.load()
    cells = corpus.Cells(table, chosen)
    folder = stored.BUILD / "corpus"
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"train": chosen.corpus.size, "validation": chosen.corpus.validation_size}
    for stream, (name, size) in enumerate(sizes.items()):
        records = corpus.build(cells, chosen, size=size, stream=stream)
        rng = keyed_rng(chosen.seed, "placement", name)
        pixels = render.render_many(table, records["row"].to_numpy(), rng, turn=chosen.corpus.turn)
        np.save(folder / f"{name}.npy", pixels)
        records.to_parquet(folder / f"{name}.parquet", index=False)
        log.info("%s corpus: %d pictures", name, size)
