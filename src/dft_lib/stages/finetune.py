"""Notebook 03: train every seed of one arm."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from dft_lib import adapters, finetune, pipelines, shards, work
from dft_lib.files import write_json, write_table
from dft_lib.params import Arm, Base, Finetune, training
from dft_lib.paths import resolve


def train_arm(base: Base, settings: Finetune, name: str, arm: Arm) -> pd.DataFrame:
    """03: train every seed of one arm; return the losses (``seed, step, loss``).

    An arm without training writes a manifest and nothing else.
    """
    pipelines.start(base.threads, base.device, base.dtype)
    chosen = training(settings, arm)
    out, synthetic = resolve(settings.out) / name, resolve(settings.synthetic)
    about: dict[str, Any] = {"arm": name, **pipelines.record(base.model, base.revision)}
    key: list[Any] = [about, base.model_dump(), settings.model_dump(), arm.model_dump()]
    used: list[str] = []
    if chosen is not None:
        pictures, index = finetune.read_synthetic(synthetic, chosen.images)
        used = adapters.read_manifest(synthetic)["screened_by"]
        key.append(work.hash_of(synthetic / shards.INDEX))
    about |= {"raters_used": used, "training": chosen.model_dump() if chosen is not None else None}
    with work.workspace(f"finetune-{name}", out, key) as folder:
        publish = folder / "publish"
        losses = []
        if chosen is not None:
            fresh = partial(pipelines.load, base.model, revision=base.revision,
                            device=base.device, dtype=base.dtype)  # fmt: skip
            moments = finetune.encode(fresh(), pictures)
            for seed in settings.training_seeds:
                rows = finetune.select(index, chosen, seed, base.held_out)
                if not (publish / f"seed-{seed}" / adapters.MANIFEST).exists():
                    pipeline = fresh()
                    state = folder / f"seed-{seed}.state.safetensors"
                    loss = finetune.train(
                        pipeline,
                        finetune.examples(moments, rows),
                        chosen,
                        study_seed=base.study_seed,
                        seed=seed,
                        state=state,
                        checkpoint_every=settings.checkpoint_every,
                        label=f"{name}, seed {seed}",
                    )
                    table = pd.DataFrame({"seed": seed, "step": range(len(loss)), "loss": loss})
                    write_table(folder / f"seed-{seed}.losses.parquet", table)
                    manifest = about | {"seed": seed, "images": len(rows)}
                    adapters.save(pipeline, chosen, publish / f"seed-{seed}", manifest)
                    state.unlink(missing_ok=True)
                losses.append(pd.read_parquet(folder / f"seed-{seed}.losses.parquet"))
        table = pd.concat(losses) if losses else pd.DataFrame(columns=["seed", "step", "loss"])
        write_table(publish / "losses.csv", table)
        seeds = settings.training_seeds if chosen is not None else []
        manifest = about | {"label": arm.label, "seeds": seeds}
        write_json(publish / adapters.MANIFEST, manifest)
        work.publish(publish, out)
    return table
