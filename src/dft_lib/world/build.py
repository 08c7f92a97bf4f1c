"""Build the emoji world stage by stage: ``python -m dft_lib.world.build STAGE``.

Stages, in order: ``corpus``, ``autoencoder``, ``raters``, ``tiny_sd``, ``report``,
``notebook``; ``publish`` copies the result to ``data/``. Each reads what the
earlier ones left in ``world/build/`` and resumes its own training from a checkpoint there.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKL
from pydantic import BaseModel

from dft_lib.models import pipelines
from dft_lib.raters.base import UNCLEAR
from dft_lib.raters.drawings.networks import save
from dft_lib.raters.panel import Panel
from dft_lib.repro import workspace
from dft_lib.repro.files import write_json, write_table
from dft_lib.repro.noise import keyed_rng
from dft_lib.repro.paths import DATA, WORLD
from dft_lib.runner import notebook
from dft_lib.sampling.sampler import SamplingSettings
from dft_lib.study import params
from dft_lib.world import art, autoencoder, corpus, raters, render, report, settings, tiny_sd

log = logging.getLogger(__name__)
BUILD = WORLD / "build"


@contextmanager
def _state(stage: str, group: BaseModel, *inputs: Path) -> Iterator[Path]:
    """Name a training's checkpoint after all it depends on; remove it when the block ends well."""
    text = f"{group.model_dump_json()} {workspace.hash_of(*inputs)}"
    path = BUILD / f"{stage}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.state.safetensors"
    yield path
    path.unlink(missing_ok=True)


def build_corpus(chosen: settings.Settings) -> None:
    """Draw records and render pictures of the training and validation corpus."""
    table = art.load()
    cells = corpus.Cells(table, chosen)
    folder = BUILD / "corpus"
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"train": chosen.corpus.size, "validation": chosen.corpus.validation_size}
    for stream, (name, size) in enumerate(sizes.items()):
        records = corpus.build(cells, chosen, size=size, stream=stream)
        rng = keyed_rng(chosen.seed, "placement", name)
        np.save(folder / f"{name}.npy", render.render_many(table, records["row"].to_numpy(), rng))
        records.to_parquet(folder / f"{name}.parquet", index=False)
        log.info("%s corpus: %d pictures", name, size)


def build_autoencoder(chosen: settings.Settings) -> None:
    """Train the autoencoder on the corpus pictures."""
    pixels = np.load(BUILD / "corpus" / "train.npy", mmap_mode="r")
    with _state("autoencoder", chosen.autoencoder, BUILD / "corpus") as state:
        vae = autoencoder.train(pixels, chosen, state)
        vae.save_pretrained(BUILD / "autoencoder")
    held = np.load(BUILD / "corpus" / "validation.npy")
    log.info("validation PSNR %.2f dB", autoencoder.psnr(autoencoder.reconstruct(vae, held), held))


def load_autoencoder() -> AutoencoderKL:
    """Return the trained autoencoder in single precision, from what will be published."""
    return AutoencoderKL.from_pretrained(BUILD / "autoencoder").eval()


def build_tiny_sd(chosen: settings.Settings) -> None:
    """Train text encoder and U-Net on cached latents; assemble the pipeline folder."""
    vae = load_autoencoder()
    records = pd.read_parquet(BUILD / "corpus" / "train.parquet")
    pixels = np.load(BUILD / "corpus" / "train.npy")
    mean, std = autoencoder.moments(vae, pixels)
    scale = vae.config.scaling_factor
    tokenizer = tiny_sd.make_tokenizer(corpus.vocabulary(), chosen.tiny_sd.max_length)
    latents = (mean * scale, std * scale)
    with _state("tiny_sd", chosen.tiny_sd, BUILD / "corpus", BUILD / "autoencoder") as state:
        text_encoder, unet = tiny_sd.train(records, latents, tokenizer, chosen, state)
        tiny_sd.assemble(vae, text_encoder, tokenizer, unet, chosen.tiny_sd, BUILD / "tiny-sd")


def build_raters(chosen: settings.Settings) -> None:
    """Train the raters and write their weights."""
    table = art.load()
    cells = corpus.Cells(table, chosen)
    networks = raters.train_all(table, cells, load_autoencoder(), chosen.seed)
    for name, network in networks.items():
        save(BUILD / "raters" / f"{name}.safetensors", network, raters.MINIMUM)


def build_report(chosen: settings.Settings) -> None:
    """Measure raters and model; write the tables of ``world/results/``."""
    out = WORLD / "results"
    table = art.load()
    cells = corpus.Cells(table, chosen)
    base = params.load().base
    judge, steer = (Panel(members, BUILD / "raters") for members in (base.judge, base.steer))
    write_table(out / "gender_differences.csv", cells.kept)
    write_table(out / "bias.csv", corpus.truth(chosen.corpus).rename_axis("noun").reset_index())
    rated = report.rate_labelled(cells, load_autoencoder(), (judge, steer), chosen.seed)
    for by in ("kind", "family", "name", "skin_tone"):
        write_table(out / f"rater_errors_by_{by}.csv", report.error_table(rated, by))
    write_table(out / "rater_unclear.csv", report.unclear_table(rated))
    write_table(out / "rater_confusion.csv", report.confusion_table(rated))
    shown = rated[(rated["kind"] == "profession") & (rated["pictures"] == "reconstructed")]
    known = shown[shown["truth"] != UNCLEAR]
    best = (known["answer"] == known["truth"]).groupby([known["rater"], known["attribute"]]).mean()
    ceiling = {a: float(best[judge.members[a], a]) for a in ("role", "gender", "skin_tone")}
    summary = model_summary(chosen, cells, judge, ceiling, out)
    write_json(out / "summary.json", summary)
    log.info("%s", summary)


def model_summary(
    chosen: settings.Settings,
    cells: corpus.Cells,
    judge: Panel,
    ceiling: dict[str, float],
    out: Path,
) -> dict[str, object]:
    """Measure the model: plain, explicit, rare and never-seen prompts, and guidance."""
    base = params.load().base
    pipeline = pipelines.load(str(BUILD / "tiny-sd"), device="cpu")
    sampling = dataclasses.replace(SamplingSettings.of(base), study_seed=chosen.seed)
    sampled = report.Sampled(pipeline, judge, sampling)
    records = pd.read_parquet(BUILD / "corpus" / "train.parquet")
    plain = sampled.rate(report.neutral_prompts(cells.professions), 100)
    shares, fidelity = report.compare_neutral(plain, records)
    write_table(out / "plain_prompts.csv", shares)
    explicit = sampled.rate(report.explicit_prompts(cells.professions), 8)
    right = {a: explicit[f"rated_{a}"] == explicit[a] for a in ("gender", "skin_tone")}
    explicit = explicit.assign(right=right["gender"] & right["skin_tone"])
    explicit["right_gender"], explicit["right_skin_tone"] = right["gender"], right["skin_tone"]
    truth = corpus.truth(chosen.corpus)
    explicit["truth"] = [
        truth.loc[r.name, r.gender] * truth.loc[r.name, r.skin_tone]
        for r in explicit[["name", "gender", "skin_tone"]].itertuples(index=False)
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


def build_notebook(chosen: settings.Settings) -> None:
    """Run ``world/world.py``: sheets and plots into ``world/results/``."""
    values = {"base": params.load().base.model_dump(), "model": str(BUILD / "tiny-sd")}
    values |= {"results": "world/results", "out": "world/results"}
    notebook.run(WORLD / "world.py", values, BUILD / "world.ipynb", stderr=sys.stderr)


def publish(chosen: settings.Settings) -> None:
    """Copy what the study uses into ``data/``."""
    for name in ("tiny-sd", "raters"):
        workspace.replace(BUILD / name, DATA / name)


STAGES = {
    "report": build_report,
    "notebook": build_notebook,
    "publish": publish,
    "corpus": build_corpus,
    "autoencoder": build_autoencoder,
    "raters": build_raters,
    "tiny_sd": build_tiny_sd,
}


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    stage = parser.parse_args().stage
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(os.cpu_count() or 1)
    STAGES[stage](settings.load())


if __name__ == "__main__":
    main()
