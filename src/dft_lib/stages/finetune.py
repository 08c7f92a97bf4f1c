"""Notebook 03: make every seed's model of one arm."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import pandas as pd

from dft_lib import adapters, examples, pipelines, shards, work
from dft_lib.files import write_json, write_table
from dft_lib.params import Arm, Base, Finetune
from dft_lib.paths import resolve
from dft_lib.recipes import base as recipes


def train_arm(base: Base, settings: Finetune, name: str, arm: Arm) -> pd.DataFrame:
    """03: make every seed's model of one arm; return the log (``seed, step, loss`` and more).

    An arm without a recipe writes a manifest and nothing else.
    """
    pipelines.start(base.threads, base.device, base.dtype)
    chosen = recipes.settings_of(arm, settings)
    out, data = resolve(settings.out) / name, resolve(arm.data)
    about: dict[str, Any] = {"arm": name, **pipelines.record(base.model, base.revision)}
    key: list[Any] = [about, base.model_dump(), settings.model_dump(), arm.model_dump()]
    used: list[str] = []
    about |= {"recipe": arm.recipe, "training": None}
    if chosen is not None:
        pictures, index = examples.read_set(data, chosen.images)
        used = adapters.read_manifest(data)["screened_by"]
        key.append(work.hash_of(data / shards.INDEX))
        about["training"] = chosen.model_dump()
    costs = []
    with work.workspace(f"finetune-{name}", out, key) as folder:
        publish = folder / "publish"
        logs = []
        if chosen is not None:
            fresh = partial(pipelines.load, base.model, revision=base.revision,
                            device=base.device, dtype=base.dtype)  # fmt: skip
            moments = examples.encode(fresh(), pictures)
            for seed in settings.training_seeds:
                scratch, model = folder / f"seed-{seed}", publish / f"seed-{seed}"
                if not (model / adapters.MANIFEST).exists():
                    scratch.mkdir(exist_ok=True)
                    job = recipes.Job(
                        base, chosen, name, seed, data, moments, index, scratch,
                        settings.checkpoint_every, fresh,
                    )  # fmt: skip
                    fitted = recipes.find(arm.recipe).fit(job)
                    log = fitted.log.assign(seed=seed)
                    write_table(scratch / "log.parquet", log)
                    manifest = about | fitted.about | {"seed": seed, "cost": asdict(fitted.cost)}
                    manifest["raters_used"] = sorted({*used, *fitted.raters})
                    adapters.save(fitted.pipeline, model, manifest, whole_unet=fitted.whole_unet)
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
        seeds = settings.training_seeds if chosen is not None else []
        manifest = about | {"label": arm.label, "seeds": seeds, "raters_used": used}
        manifest["cost"] = recipes.total(costs)
        write_json(publish / adapters.MANIFEST, manifest)
        work.publish(publish, out)
    return table
