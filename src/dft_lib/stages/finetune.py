"""Notebook 03: make every seed's model of one arm."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from dft_lib import adapters, launch, pipelines, shards, work
from dft_lib.files import write_json, write_table
from dft_lib.latents import identity, moments_of
from dft_lib.params import Arm, Base, Finetune
from dft_lib.paths import resolve
from dft_lib.recipes import base as recipes


class Model(NamedTuple):
    """One model to make: all that another process needs to know."""

    base: Base
    settings: Finetune
    name: str
    arm: Arm
    seed: int
    scratch: Path
    out: Path


def train_arm(base: Base, settings: Finetune, name: str, arm: Arm) -> pd.DataFrame:
    """03: make every seed's model of one arm; return the log (``seed, step, loss`` and more).

    An arm without a recipe writes a manifest and nothing else. With ``processes`` above 1 a
    recipe that can share its batches trains in as many processes, started by accelerate.
    """
    pipelines.start(base.threads, base.device, base.dtype)
    chosen = recipes.settings_of(arm, settings)
    out, data = resolve(settings.out) / name, resolve(arm.data)
    about = _about(base, name, arm)
    key: list[Any] = [about, base.model_dump(), settings.model_dump(), arm.model_dump()]
    used: list[str] = []
    if chosen is not None:
        used = adapters.read_manifest(data)["screened_by"]
        key.append(work.hash_of(data / shards.INDEX))
    costs = []
    with work.workspace(f"finetune-{name}", out, key) as folder:
        publish = folder / "publish"
        logs = []
        for seed in settings.training_seeds if chosen is not None else []:
            scratch, model = folder / f"seed-{seed}", publish / f"seed-{seed}"
            if not (model / adapters.MANIFEST).exists():
                scratch.mkdir(exist_ok=True)
                one = Model(base, settings, name, arm, seed, scratch, model)
                if settings.processes > 1 and recipes.shares_batches(arm.recipe):
                    _moments(one, chosen)  # encoded here, once, instead of by every process
                    launch.launch(one)
                else:
                    fit(one)
                for state in scratch.glob("*.safetensors"):
                    state.unlink()
            logs.append(pd.read_parquet(scratch / "log.parquet"))
            made = adapters.read_manifest(model)
            costs.append(made["cost"])
            used = sorted({*used, *made["raters_used"]})
        columns = ["seed", "step", "loss"]
        table = pd.concat(logs) if logs else pd.DataFrame(columns=columns)
        table = table[columns + [c for c in table if c not in columns]]
        write_table(publish / "losses.csv", table)
        about["training"] = chosen.model_dump() if chosen is not None else None
        seeds = settings.training_seeds if chosen is not None else []
        manifest = about | {"label": arm.label, "seeds": seeds, "raters_used": used}
        manifest["cost"] = recipes.total(costs)
        write_json(publish / adapters.MANIFEST, manifest)
        work.publish(publish, out)
    return table


def fit(one: Model, *, writes: bool = True) -> None:
    """Make one model; of several processes that make it together, one writes it."""
    base, settings, arm = one.base, one.settings, one.arm
    chosen = recipes.settings_of(arm, settings)
    data = resolve(arm.data)
    moments, index = _moments(one, chosen)
    job = recipes.Job(
        base, chosen, one.name, one.seed, data, moments, index, one.scratch,
        settings.checkpoint_every, pipelines.opener(base),
    )  # fmt: skip
    fitted = recipes.find(arm.recipe).fit(job)
    if not writes:
        return
    write_table(one.scratch / "log.parquet", fitted.log.assign(seed=one.seed))
    manifest = _about(base, one.name, arm) | {"training": chosen.model_dump()} | fitted.about
    manifest |= {"seed": one.seed, "cost": asdict(fitted.cost)}
    screened = adapters.read_manifest(data)["screened_by"]
    manifest["raters_used"] = sorted({*screened, *fitted.raters})
    adapters.save(fitted.pipeline, one.out, manifest, whole_unet=fitted.whole_unet)


def _moments(one: Model, chosen: Any) -> tuple[Any, pd.DataFrame]:
    model = identity(one.base)
    return moments_of(resolve(one.arm.data), chosen.images, pipelines.opener(one.base), model)


def _about(base: Base, name: str, arm: Arm) -> dict[str, Any]:
    return {"arm": name, **pipelines.record(base.model, base.revision), "recipe": arm.recipe}
