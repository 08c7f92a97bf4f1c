"""Prompt grid to image shards: draw, record, and never draw the same image twice."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from dft_lib import prompts, shards
from dft_lib.paths import show
from dft_lib.prompts import Request
from dft_lib.sampling import Sampler

ATTRIBUTES_DRAWN = ("gender", "skin_tone")  # what an intervention may have drawn, "" if nothing
log = logging.getLogger(__name__)


def draw_shards(
    sampler: Sampler,
    grid: pd.DataFrame,
    folder: Path,
    *,
    shard_size: int,
    about: dict[str, Any],
    label: str = "images",
) -> list[Path]:
    """Draw every image of a grid into shards, skipping shards that are there and verify.

    Parameters
    ----------
    sampler : Sampler
        With the model (and adapters) that draws.
    grid : pandas.DataFrame
        From `dft_lib.prompts`.
    folder : pathlib.Path
        Where the shards go; belongs to this grid and these settings alone.
    shard_size : int
        Images per shard, a multiple of the batch size, so that a shard's bytes depend on nothing
        outside it.
    about : dict
        Fields added to every record (model, arm); how the images are drawn is added here.
    label : str
        Name of the progress bar.

    Returns
    -------
    list of pathlib.Path
        The shards in grid order.

    Raises
    ------
    ValueError
        If `shard_size` is no multiple of the batch size.
    """
    size = sampler.settings.batch_size
    if shard_size % size:
        raise ValueError(
            f"shard_size {shard_size} is not a multiple of base.batch_size {size}; make it one"
        )
    listed, records = prompts.requests(grid)
    plans = [sampler.plan(request) for request in listed]
    records = records.assign(
        **about,
        drawn_prompt=[plan.prompt for plan in plans],
        **{f"drawn_{a}": [plan.drawn.get(a, "") for plan in plans] for a in ATTRIBUTES_DRAWN},
        **asdict(sampler.settings),
        threads=torch.get_num_threads(),
        device=sampler.pipeline.device.type,
        dtype=str(sampler.pipeline.unet.dtype).removeprefix("torch."),
    )
    paths = []
    with tqdm(total=len(listed), desc=label, unit="image") as bar:
        for number, part in enumerate(shards.slices(len(listed), shard_size)):
            path = folder / f"shard-{number:05d}.parquet"
            paths.append(path)
            if not _whole(path, part.stop - part.start):
                pictures = np.concatenate(list(_batches(sampler, listed[part])))
                shards.write(path, pictures, records.iloc[part])
            bar.update(part.stop - part.start)
    return paths


def _batches(sampler: Sampler, listed: list[Request]) -> Iterator[np.ndarray]:
    for _, pictures in sampler.draw(listed):
        yield pictures


def _whole(path: Path, images: int) -> bool:
    """Say whether a finished shard is there; a damaged one is removed and drawn again."""
    if not path.exists():
        return False
    try:
        found, _ = shards.read(path)
    except ValueError as error:
        log.warning("%s; drawing it again", error)
        path.unlink()
        return False
    if len(found) != images:
        raise ValueError(
            f"shard {show(path)} holds {len(found)} images, not {images}: delete its folder"
        )
    return True
