"""Notebook 03: train every seed of one arm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from dft_lib import adapters, finetune, pipelines, work
from dft_lib.files import write_json, write_table
from dft_lib.params import Arm, Base, Finetune, training
from dft_lib.paths import resolve, show


def train_arm(base: Base, settings: Finetune, name: str, arm: Arm) -> pd.DataFrame:
    """03: train every seed of one arm; return the losses (``seed, step, loss``).

    An arm without training writes a manifest and nothing else.
    """
    pipelines.set_threads(base.threads)
    chosen = training(settings, arm)
    out = resolve(settings.out) / name
    losses: list[pd.DataFrame] = []
    synthetic = resolve(settings.synthetic)
    key: list[Any] = [name, base.model_dump(), settings.model_dump(), arm.model_dump()]
    key.append(pipelines.fingerprint(base.model, base.revision))
    if chosen is not None:
        if not (synthetic / finetune.INDEX).exists():
            raise FileNotFoundError(
                f"{show(synthetic)} is missing: run notebook 02_synthesis first"
            )
        key.append(work.hash_of(synthetic / finetune.INDEX))
    with work.workspace(f"finetune-{name}", key) as folder:
        publish = folder / "publish"
        if chosen is not None:
            pictures, index = finetune.read_synthetic(synthetic)
            screened_by = adapters.read_manifest(synthetic)["screened_by"]
            for seed in settings.training_seeds:
                losses.append(
                    _train_seed(base, settings, name, chosen, seed, folder, pictures, index,
                                screened_by)
                )  # fmt: skip
        table = pd.concat(losses) if losses else pd.DataFrame(columns=["seed", "step", "loss"])
        write_table(publish / "losses.csv", table)
        used = sorted(set(base.steer.values())) if chosen is not None else []
        write_json(
            publish / adapters.MANIFEST,
            {
                "arm": name,
                "label": arm.label,
                "seeds": settings.training_seeds if chosen is not None else [],
                "raters_used": used,
                "training": chosen.model_dump() if chosen is not None else None,
            },
        )
        work.publish(publish, out)
    return table


def _train_seed(
    base: Base,
    settings: Finetune,
    name: str,
    chosen: Any,
    seed: int,
    folder: Path,
    pictures: Any,
    index: pd.DataFrame,
    screened_by: list[str],
) -> pd.DataFrame:
    done = folder / "publish" / f"seed-{seed}"
    state = folder / f"seed-{seed}.state.safetensors"
    losses_path = folder / f"seed-{seed}.losses.parquet"
    if not (done / adapters.MANIFEST).exists():
        pipeline = pipelines.load(
            base.model, revision=base.revision, device=base.device, dtype=base.dtype
        )
        rows = finetune.select(index, chosen, seed, base.held_out)
        losses = finetune.train(
            pipeline,
            finetune.encode(pipeline, pictures, rows),
            chosen,
            study_seed=base.study_seed,
            seed=seed,
            state=state,
            checkpoint_every=settings.checkpoint_every,
            label=f"{name}, seed {seed}",
        )
        table = pd.DataFrame({"seed": seed, "step": range(len(losses)), "loss": losses})
        write_table(losses_path, table)
        manifest = {
            "arm": name,
            "seed": seed,
            "model": pipelines.describe(base.model, base.revision),
            "images": len(rows),
            "raters_used": screened_by,
            "training": chosen.model_dump(),
        }
        adapters.save(pipeline, chosen, done, manifest)
        state.unlink(missing_ok=True)
    return pd.read_parquet(losses_path)
