"""Notebook 03: make every seed's model of one arm."""

from __future__ import annotations

import shutil
from typing import Any

import pandas as pd

from dft_lib.models import adapters, pipelines
from dft_lib.repro import seals, shards, workspace
from dft_lib.repro.files import write_json, write_table
from dft_lib.repro.paths import resolve
from dft_lib.study import lexicon
from dft_lib.study.arms import ArmTraining, part
from dft_lib.study.base import Base
from dft_lib.study.training import Finetune
from dft_lib.training import job as recipes
from dft_lib.training import launch
from dft_lib.training.model import Model, about, encoded, fit


def train_arm(base: Base, settings: Finetune, name: str, arm: ArmTraining) -> pd.DataFrame:
    """03: make every seed's model of one arm; return the log (``seed, step, loss`` and more).

    An arm without a recipe writes a manifest and nothing else. With ``processes`` above 1 a
    recipe that can share its batches trains in as many processes, started by accelerate.
    """
    pipelines.start(base.threads, base.device, base.dtype)
    chosen = recipes.settings_of(arm, settings)
    out, data = resolve(settings.out) / name, resolve(arm.data)
    known = about(base, name, arm)
    key: list[Any] = [known, base.model_dump(), settings.model_dump(), part(arm, ArmTraining)]
    key += [repr(lexicon.load(base.lexicon_folder).chosen(base.target))]
    used: list[str] = []
    if chosen is not None:
        used = adapters.read_manifest(data)["screened_by"]
        key.append(seals.hash_of(data / shards.INDEX))
    costs = []
    with workspace.hold(f"finetune-{name}", out, key) as folder:
        publish = folder / "publish"
        logs = []
        for seed in base.training_seeds if chosen is not None else []:
            scratch, model = folder / f"seed-{seed}", publish / f"seed-{seed}"
            sealed, made = scratch / "made.sha256", (model, scratch / "log.parquet")
            if not seals.intact(sealed, *made):
                shutil.rmtree(model, ignore_errors=True)
                scratch.mkdir(exist_ok=True)
                one = Model(base, settings, name, arm, seed, scratch, model)
                if settings.processes > 1 and recipes.shares_batches(arm.recipe):
                    encoded(one, chosen)  # encoded here, once, instead of by every process
                    launch.launch(one)
                else:
                    fit(one)
                seals.seal(sealed, *made)
                for state in scratch.glob("*.safetensors"):
                    state.unlink()
            logs.append(pd.read_parquet(scratch / "log.parquet"))
            about_model = adapters.read_manifest(model)
            costs.append(about_model["cost"])
            used = sorted({*used, *about_model["raters_used"]})
        columns = ["seed", "step", "loss"]
        table = pd.concat(logs) if logs else pd.DataFrame(columns=columns)
        table = table[columns + [c for c in table if c not in columns]]
        write_table(publish / "losses.csv", table)
        known["training"] = chosen.model_dump() if chosen is not None else None
        seeds = base.training_seeds if chosen is not None else []
        manifest = known | {"seeds": seeds, "raters_used": used}
        manifest["cost"] = recipes.total(costs)
        write_json(publish / adapters.MANIFEST, manifest)
        workspace.publish(publish, out)
    return table
