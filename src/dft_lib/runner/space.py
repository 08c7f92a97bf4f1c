"""How much disk a study takes, from its grids and the size of the model's pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import try_to_load_from_cache

from dft_lib.image_sets import real
from dft_lib.models import sources
from dft_lib.repro.paths import ROOT
from dft_lib.study.params.whole import Params

BYTES_PER_PIXEL = 1.6  # a drawn picture as PNG in a shard; 25.6 MB for 4020 of 64 x 64
LATENT_BYTES_PER_PIXEL = 0.5  # mean and deviation, 4 channels each, an eighth of the side, float32
COPIES = 2  # in the work tree and in DVC's cache
ADAPTER_SHARE = 0.1  # of the U-Net's bytes, at most: 8 % on the smallest model, 0.5 % on SD 1.5
UNKNOWN_SIDE = 512  # of a model of the hub that is not here yet


def side_of(model: str) -> int:
    """Return the side of a model's pictures in pixels.

    Raises
    ------
    FileNotFoundError, ValueError
        As `dft_lib.models.sources.find`.
    """
    unet, vae = (_config(model, part) for part in ("unet", "vae"))
    if not unet or not vae:
        return UNKNOWN_SIDE
    return int(unet["sample_size"]) * 2 ** (len(vae["block_out_channels"]) - 1)


def _config(model: str, part: str) -> dict[str, Any]:
    source, name = sources.find(model), f"{part}/config.json"
    if source.revision is None:
        path: Any = Path(source.name) / name
    else:
        path = try_to_load_from_cache(source.name, name, revision=source.revision)
    if not isinstance(path, (str, Path)) or not Path(path).exists():
        return {}
    return dict(json.loads(Path(path).read_text(encoding="utf-8")))


def needed(
    chosen: Params,
    training: pd.DataFrame,
    evaluation: pd.DataFrame,
    sets: Mapping[str, set[str]],
) -> tuple[int, int]:
    """Return the number of pictures of a study, and the bytes that it takes.

    Parameters
    ----------
    chosen : Params
        The study.
    training, evaluation : pandas.DataFrame
        The grids, with their numbers of ``images``.
    sets : mapping
        Folder -> names of the sets of pictures that stages make there.
    """
    seeds = len(chosen.base.training_seeds)
    trained = [arm for arm in chosen.arms.values() if arm.recipe != "none"]
    models = len(trained) * seeds
    drawn = int(training["images"].sum())
    rated = int(evaluation["images"].sum()) * (models + len(chosen.arms) - len(trained))
    people = training.loc[training["kind"] != "general", "noun"].nunique()
    corpora = sets.get(chosen.real.out, set()) & {*real.SETS} - {"art", "general"}
    found = len(corpora) * people * chosen.real.images_per_profession
    if "art" in sets.get(chosen.real.out, ()):
        found += int(training.loc[training["set"] == "balanced", "images"].sum())
    pixels = side_of(chosen.base.model) ** 2
    pictures = (drawn + rated + found) * pixels * BYTES_PER_PIXEL * COPIES
    latents = (drawn + found) * pixels * LATENT_BYTES_PER_PIXEL
    return drawn + rated + found, int(pictures + latents + _adapters(chosen, models))


def _adapters(chosen: Params, models: int) -> float:
    source = sources.find(chosen.base.model)
    files = [] if source.revision else Path(source.name, "unet").glob("*.safetensors")
    whole = chosen.finetune.method == "full"
    unet = sum(path.stat().st_size for path in files)
    return models * unet * (1 if whole else ADAPTER_SHARE) * COPIES


def require(
    chosen: Params,
    training: pd.DataFrame,
    evaluation: pd.DataFrame,
    sets: Mapping[str, set[str]],
) -> None:
    """Refuse a study that the disk of this folder has no room for.

    Raises
    ------
    ValueError
        With one sentence: how much it takes, how much is free.
    """
    pictures, size = needed(chosen, training, evaluation, sets)
    free = shutil.disk_usage(ROOT).free
    if size > free:
        raise ValueError(
            f"{pictures} pictures and the models take about {size / 1e9:.1f} GB, but "
            f"{free / 1e9:.1f} GB are free where this folder lies: make room, or lower "
            "prompts.evaluation_images or the number of arms"
        )
