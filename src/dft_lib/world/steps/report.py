"""Measure the world: its raters, its model; tables, sheets and plots."""

from __future__ import annotations

import dataclasses
import logging
import sys
from pathlib import Path

import pandas as pd

from dft_lib.models import pipelines
from dft_lib.raters.drawings.skin_colours import TONES
from dft_lib.raters.panel import Panel
from dft_lib.repro.files import write_json, write_table
from dft_lib.repro.paths import WORLD
from dft_lib.runner import notebook
from dft_lib.sampling.sampler import SamplingSettings
from dft_lib.study.attributes import UNCLEAR
from dft_lib.study.base import load_base
from dft_lib.study.kinds import KINDS
from dft_lib.world import art, corpus, plant, report, settings, stored

log = logging.getLogger(__name__)


def run(chosen: settings.Settings) -> None:
    """Measure raters and model; write tables, then the sheets and plots of ``world/world.py``."""
    out = stored.BUILD / "report"
    table = art.load()
    cells = corpus.Cells(table, chosen)
    base = load_base()
    weights = stored.BUILD / "raters"
    judge, steer = (Panel(members, weights) for members in (base.judge, base.steer))
    write_table(out / "gender_differences.csv", cells.kept)
    write_table(out / "bias.csv", plant.truth(chosen).rename_axis("noun").reset_index())
    rated = report.rate_labelled(cells, stored.autoencoder(), (judge, steer), chosen.seed)
    for by in ("kind", "family", "name", "skin_tone"):
        write_table(out / f"rater_errors_by_{by}.csv", report.error_table(rated, by))
    write_table(out / "rater_unclear.csv", report.unclear_table(rated))
    write_table(out / "rater_confusion.csv", report.confusion_table(rated))
    shown = rated[(rated["kind"].isin(KINDS)) & (rated["pictures"] == "reconstructed")]
    known = shown[shown["truth"] != UNCLEAR]
    best = (known["answer"] == known["truth"]).groupby([known["rater"], known["attribute"]]).mean()
    ceiling = {a: float(best[judge.members[a], a]) for a in ("role", "gender", "skin_tone")}
    summary = model_summary(chosen, cells, judge, ceiling, out)
    write_json(out / "summary.json", summary)
    log.info("%s", summary)
    # the notebook reads the tables and adds pictures to them
    values = {"base": base.model_dump(), "model": str(stored.BUILD / "tiny-sd")}
    values |= {"results": str(out), "out": str(out)}
    notebook.run(WORLD / "world.py", values, stored.BUILD / "world.ipynb", stderr=sys.stderr)


def model_summary(
    chosen: settings.Settings,
    cells: corpus.Cells,
    judge: Panel,
    ceiling: dict[str, float],
    out: Path,
) -> dict[str, object]:
    """Measure the model: plain, explicit, rare and never-seen prompts, and guidance."""
    base = load_base()
    pipeline = pipelines.load(str(stored.BUILD / "tiny-sd"), device="cpu")
    sampling = dataclasses.replace(SamplingSettings.of(base), study_seed=chosen.seed)
    sampled = report.Sampled(pipeline, judge, sampling)
    records = pd.read_parquet(stored.BUILD / "corpus" / "train.parquet")
    plain = sampled.rate(report.neutral_prompts(cells.professions), 100)
    shares, fidelity = report.compare_neutral(plain, records)
    write_table(out / "plain_prompts.csv", shares)
    explicit = sampled.rate(report.explicit_prompts(cells.professions), 8)
    right = {a: explicit[f"rated_{a}"] == explicit[a] for a in ("gender", "skin_tone")}
    explicit = explicit.assign(right=right["gender"] & right["skin_tone"])
    explicit["right_gender"], explicit["right_skin_tone"] = right["gender"], right["skin_tone"]
    planted = plant.joint(chosen)
    explicit["truth"] = [
        planted[name][0][(g := art.GENDERS.index(gender))] * planted[name][1][g, TONES.index(tone)]
        for name, gender, tone in explicit[["name", "gender", "skin_tone"]].to_numpy()
    ]
    rare = explicit["truth"] <= explicit["truth"].quantile(0.1)
    unseen = pd.Series(
        [
            not cells.rows.get((r.name, r.gender, r.skin_tone, "adult"))
            for r in explicit[["name", "gender", "skin_tone"]].itertuples(index=False)
        ]
    )
    both = ceiling["gender"] * ceiling["skin_tone"]
    columns = ["right", "right_gender", "right_skin_tone", "truth"]
    write_table(
        out / "explicit_prompts.csv",
        explicit.groupby(["name", "gender", "skin_tone"], sort=False)[columns]
        .mean()
        .reset_index(),
    )
    guidance = {}
    for scale in (1.0, 2.0, 4.0, 7.5):
        guided = report.Sampled(
            pipeline, judge, dataclasses.replace(sampling, guidance_scale=scale)
        ).rate(report.neutral_prompts(cells.professions), 40)
        _, numbers = report.compare_neutral(guided, records)
        role = float((guided["rated_role"] == guided["name"]).mean())
        guidance[str(scale)] = numbers | {"role_accuracy": role}
    role = float((plain["rated_role"] == plain["name"]).mean())
    return {
        "rater_accuracy_on_reconstructions": ceiling,
        "role": {"accuracy": role, "relative": role / ceiling["role"]},
        "explicit": {
            a: {
                "accuracy": float(right[a].mean()),
                "relative": float(right[a].mean()) / ceiling[a],
            }
            for a in ("gender", "skin_tone")
        },
        "rare_combinations": {
            "cells": int(rare.sum() // 8),
            "accuracy": float(explicit.loc[rare, "right"].mean()),
            "relative": float(explicit.loc[rare, "right"].mean()) / both,
        },
        "never_in_corpus": {
            "cells": int(unseen.sum() // 8),
            "accuracy": float(explicit.loc[unseen, "right"].mean()) if unseen.any() else None,
        },
        "plain": fidelity,
        "guidance": guidance,
        "images_per_second": round(report.images_per_second(sampled.sampler), 1),
    }
