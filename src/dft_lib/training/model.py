"""One model of an arm: what its training is told, and the training itself."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from dft_lib.image_sets.latents import identity, moments_of
from dft_lib.models import adapters, pipelines, sources
from dft_lib.repro.files import write_table
from dft_lib.repro.paths import resolve
from dft_lib.study import lexicon
from dft_lib.study.arms import ArmTraining
from dft_lib.study.base import Base
from dft_lib.study.training import Finetune
from dft_lib.training import job as recipes


class Model(NamedTuple):
    """One model to make: all that another process needs to know."""

    base: Base
    settings: Finetune
    name: str
    arm: ArmTraining
    seed: int
    scratch: Path
    out: Path


def fit(one: Model, *, writes: bool = True) -> None:
    """Make one model; of several processes that make it together, one writes it."""
    base, settings, arm = one.base, one.settings, one.arm
    chosen = recipes.settings_of(arm, settings)
    data = resolve(arm.data)
    moments, index = encoded(one, chosen)
    job = recipes.Job(
        base, chosen, one.name, one.seed, data, moments, index, one.scratch,
        settings.checkpoint_every, pipelines.opener(base),
        lexicon.load(base.lexicon_folder).chosen(base.target),
    )  # fmt: skip
    fitted = recipes.find(arm.recipe).fit(job)
    if not writes:
        return
    write_table(one.scratch / "log.parquet", fitted.log.assign(seed=one.seed))
    manifest = about(base, one.name, arm) | {"training": chosen.model_dump()} | fitted.about
    manifest |= {"seed": one.seed, "cost": asdict(fitted.cost)}
    screened = adapters.read_manifest(data)["screened_by"]
    manifest["raters_used"] = sorted({*screened, *fitted.raters})
    adapters.save(fitted.pipeline, one.out, manifest, whole_unet=fitted.whole_unet)


def encoded(one: Model, chosen: Any) -> tuple[torch.Tensor, pd.DataFrame]:
    """Return the latent moments of the pictures that a model may train on, and their index."""
    model = identity(one.base)
    return moments_of(resolve(one.arm.data), chosen.images, pipelines.opener(one.base), model)


def about(base: Base, name: str, arm: ArmTraining) -> dict[str, Any]:
    """Return what every manifest of an arm says: arm, base model and its weights, recipe."""
    return {"arm": name, **sources.record(base.model), "recipe": arm.recipe}
