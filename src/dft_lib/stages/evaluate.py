"""Notebook 04: draw and judge every prompt with every model of one arm."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from dft_lib.interventions.base import Setting, open_intervention
from dft_lib.models import adapters, pipelines, sources
from dft_lib.raters.panel import Panel
from dft_lib.repro import seals, shards, workspace
from dft_lib.repro.files import write_json, write_table
from dft_lib.repro.paths import resolve, show
from dft_lib.sampling import drawing
from dft_lib.sampling.workers import Engine
from dft_lib.study import lexicon, prompts
from dft_lib.study.arms import ArmSampling, part
from dft_lib.study.attributes import UNSAFE, Target
from dft_lib.study.base import Base
from dft_lib.study.params.evaluate import Evaluate
from dft_lib.study.wall import require_apart


def evaluate_arm(base: Base, settings: Evaluate, name: str, arm: ArmSampling) -> pd.DataFrame:
    """04: draw and judge every prompt with every model of one arm; return the ratings.

    Writes images, ratings and features to ``out/<arm>/``, and ``about.json``: who judged, and what
    the arm is and cost.
    """
    pipelines.start(base.threads, base.device, base.dtype)
    models = resolve(settings.models) / name
    manifest = adapters.read_manifest(models)
    require_apart(base.steer, base.judge, manifest["raters_used"])
    words = lexicon.load(base.lexicon_folder)
    intervention = open_intervention(arm.intervention, arm.draw, Setting.of(base, words))
    grid_path = resolve(settings.prompts) / "evaluation.parquet"
    grid = prompts.read_grid(grid_path)
    missing = sorted(set(base.training_seeds) - set(manifest["seeds"]))
    if manifest["training"] is not None and missing:
        raise ValueError(f"{show(models)} has no model of seed {missing[0]}: run 03 for this arm")
    out = resolve(settings.out) / name
    about: dict[str, Any] = {"arm": name, **sources.record(base.model)}
    key: list[Any] = [about, base.model_dump(), settings.model_dump(), part(arm, ArmSampling)]
    key += [
        seals.hash_of(resolve(base.lexicon_folder)),
        seals.hash_of(grid_path),
        seals.hash_of(models),
    ]
    with workspace.hold(f"evaluate-{name}", out, key) as folder:
        publish = folder / "publish"
        panel = open_judges(base.judge, settings.features, base.target)  # or stop now
        filters = {a: name for a, name in base.steer.items() if a == UNSAFE}
        Panel(filters)
        parts = []
        for seed in base.training_seeds if manifest["training"] is not None else [-1]:
            name_of_seed = f"seed-{seed}" if seed >= 0 else "base"
            task = drawing.Drawing(
                partial(
                    drawing.open_model, base, base.model,
                    images=int(grid["images"].sum()),
                    adapter=models / name_of_seed if seed >= 0 else None,
                    intervention=intervention,
                ),
                grid,
                publish / name_of_seed,
                settings.shard_size,
                about | {"seed": seed},
                partial(_open_rating, base.judge, settings.features, base.target, filters),
                folder / "ratings" / name_of_seed,
                tuple(base.target),
            )  # fmt: skip
            drawing.draw_shards(
                task, engine=Engine.of(base),
                label=f"evaluate {name}" + (f", seed {seed}" if seed >= 0 else ""),
            )  # fmt: skip
            parts.append(drawing.read_ratings(task))
        ratings = pd.concat(parts, ignore_index=True)
        vectors = ratings.filter(like="feature_")
        ratings = ratings.drop(columns=vectors.columns)
        write_table(publish / "ratings.parquet", ratings)
        seen = vectors.round(4).assign(sha256=ratings["sha256"])
        write_table(publish / "features.parquet", seen)
        shards.write_card(publish, "*/*.parquet")
        about_arm: dict[str, Any] = {"arm": name, "judges": base.judge, "raters": panel.about()}
        about_arm |= {"intervention": arm.intervention, "cost": manifest["cost"]}
        about_arm |= {"evaluations_per_step": intervention.evaluations}
        about_arm |= {"trained": manifest["training"] is not None, "features": settings.features}
        write_json(publish / "about.json", about_arm)
        workspace.publish(publish, out)
    return ratings


def open_judges(members: dict[str, str], features: str, target: Target) -> Panel:
    """Open the judge panel; stop at once if a judge, or the space of distances, is not there."""
    panel = Panel(members, others=[features], groups=target)
    panel.features_of(features, np.zeros((0, 64, 64, 3), np.uint8))
    return panel


def _open_rating(
    members: dict[str, str], features: str, target: Target, filters: dict[str, str]
) -> drawing.Rate:
    """Open the judges, and the study's filter of unsafe pictures, which is asked but judges none.

    What it flags is rated like the rest: left out, it would skew the shares of groups.
    """
    judges = Panel(members, others=[features], groups=target)
    panels = [judges, *([Panel(filters)] if filters else [])]

    def rate(pictures: np.ndarray) -> pd.DataFrame:
        vectors = pd.DataFrame(panels[0].features_of(features, pictures)).add_prefix("feature_")
        answers = [p.rate(pictures).add_prefix("rated_") for p in panels]
        return pd.concat([*answers, vectors], axis=1)

    return rate
