"""Notebook 04: draw and judge every prompt with every model of one arm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dft_lib import adapters, evaluation, lexicon, pipelines, prompts, shards, synthesis, work
from dft_lib.files import write_json, write_table
from dft_lib.interventions.base import Setting, open_intervention
from dft_lib.params import Arm, Base, Evaluate
from dft_lib.paths import resolve, show
from dft_lib.raters.panel import Panel
from dft_lib.raters.wall import require_apart
from dft_lib.sampling import Sampler, SamplingSettings


def evaluate_arm(base: Base, settings: Evaluate, name: str, arm: Arm) -> pd.DataFrame:
    """04: draw and judge every prompt with every model of one arm; return the ratings.

    Writes images and ratings to ``out/<arm>/``, and ``<arm>.json`` and ``<arm>.csv`` to
    ``results``.
    """
    pipelines.start(base.threads, base.device, base.dtype)
    models = resolve(settings.models) / name
    manifest = adapters.read_manifest(models)
    require_apart(base.steer, base.judge, manifest["raters_used"])
    words = lexicon.load(settings.lexicon_folder)
    setting = Setting(
        base.study_seed, base.target, {a: words.words(a) for a in base.target},
        (*words.professions["profession"], *words.people["noun"]),
    )  # fmt: skip
    intervention = open_intervention(arm.intervention, arm.draw, setting)
    grid_path = resolve(settings.prompts) / "evaluation.csv"
    grid = prompts.read_grid(grid_path)
    missing = sorted(set(settings.training_seeds) - set(manifest["seeds"]))
    if manifest["training"] is not None and missing:
        raise ValueError(f"{show(models)} has no model of seed {missing[0]}: run 03 for this arm")
    out = resolve(settings.out) / name
    about: dict[str, Any] = {"arm": name, **pipelines.record(base.model, base.revision)}
    key: list[Any] = [about, base.model_dump(), settings.model_dump(), arm.model_dump()]
    key += [
        work.hash_of(resolve(settings.lexicon_folder)),
        work.hash_of(grid_path),
        work.hash_of(models),
    ]
    with work.workspace(f"evaluate-{name}", out, key) as folder:
        publish = folder / "publish"
        panel = Panel(base.judge)
        panel.features_of(settings.features, np.zeros((0, 64, 64, 3), np.uint8))  # or stop now
        parts, vectors = [], []
        for seed in settings.training_seeds if manifest["training"] is not None else [-1]:
            pipeline = pipelines.load(
                base.model, revision=base.revision, device=base.device, dtype=base.dtype
            )
            if seed >= 0:
                adapters.load(pipeline, models / f"seed-{seed}")
            paths = synthesis.draw_shards(
                Sampler(pipeline, SamplingSettings.of(base), intervention),
                grid,
                publish / (f"seed-{seed}" if seed >= 0 else "base"),
                shard_size=settings.shard_size,
                about=about | {"seed": seed},
                label=f"evaluate {name}" + (f", seed {seed}" if seed >= 0 else ""),
            )
            for path in paths:
                pictures, records = shards.read(path)
                vectors.append(panel.features_of(settings.features, pictures))
                parts.append(
                    pd.concat([records, panel.rate(pictures).add_prefix("rated_")], axis=1)
                )
        ratings = pd.concat(parts, ignore_index=True)
        write_table(publish / "ratings.parquet", ratings)
        seen = pd.DataFrame(np.concatenate(vectors)).round(4).add_prefix("feature_")
        write_table(publish / "features.parquet", seen.assign(sha256=ratings["sha256"]))
        work.publish(publish, out)
        table = evaluation.per_prompt(ratings, base.target, settings.training_seeds, base.held_out)
        results = resolve(settings.results)
        write_table(results / f"{name}.csv", table.assign(arm=name))
        summary = evaluation.summarise(table, ratings, base.target)
        about_arm = {"arm": name, "label": manifest["label"], "judges": base.judge}
        about_arm |= {"raters": panel.about()}
        about_arm |= {"intervention": arm.intervention, "cost": manifest["cost"]}
        about_arm |= {"evaluations_per_step": intervention.evaluations}
        about_arm |= {"trained": manifest["training"] is not None, "features": settings.features}
        write_json(results / f"{name}.json", about_arm | summary)
    return ratings
