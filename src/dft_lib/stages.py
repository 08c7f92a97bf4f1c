"""The study's verbs, one per notebook: prompts, synthesis, fine-tune, evaluate."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from dft_lib import (
    adapters,
    audit,
    evaluation,
    finetune,
    lexicon,
    pipelines,
    prompts,
    screening,
    shards,
    synthesis,
    work,
)
from dft_lib.files import write_atomic, write_json
from dft_lib.params import Arm, Base, Evaluate, Finetune, Prompts, Synthesis, training
from dft_lib.paths import resolve, show
from dft_lib.raters.panel import Panel, require_apart
from dft_lib.sampling import Sampler, SamplingSettings

log = logging.getLogger(__name__)


def _model_key(model: str, revision: str | None) -> str:
    folder = resolve(model)
    return work.hash_of(folder) if folder.is_dir() else f"{model}@{revision}"


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV (six significant digits) or Parquet, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        write_atomic(path, lambda part: table.to_csv(part, index=False, float_format="%.6g"))
    else:
        write_atomic(path, lambda part: table.to_parquet(part, index=False, compression="zstd"))


def make_prompts(base: Base, settings: Prompts) -> tuple[pd.DataFrame, pd.DataFrame]:
    """01: write the training and the evaluation grid; return both."""
    words = lexicon.load(settings.lexicon_folder)
    for attribute, shares in base.target.items():
        if list(shares) != list(words.words(attribute)):
            raise ValueError(
                f"base.target.{attribute} names {', '.join(shares)}, but groups.csv has "
                f"{', '.join(words.words(attribute))}: make them the same, in the same order"
            )
    training_grid = prompts.training_grid(words, settings)
    evaluation_grid = prompts.evaluation_grid(words, settings, base.held_out)
    write_table(resolve(settings.out) / "training.csv", training_grid)
    write_table(resolve(settings.out) / "evaluation.csv", evaluation_grid)
    return training_grid, evaluation_grid


def synthesise(base: Base, settings: Synthesis) -> pd.DataFrame:
    """02: draw the training grid with the teacher, screen, weight, audit; return the index."""
    pipelines.set_threads(base.threads)
    require_apart(base.steer, base.judge)
    grid_path = resolve(settings.prompts) / "training.csv"
    grid = prompts.read_grid(grid_path)
    barred = screening.forbidden(grid["prompt"], settings.forbidden_terms)
    if barred.any():
        log.warning("%d prompts hold a forbidden term and are not drawn", int(barred.sum()))
    grid = grid[~barred].reset_index(drop=True)
    model = settings.teacher or base.model
    revision = settings.teacher_revision if settings.teacher else base.revision
    key = [base.model_dump(), settings.model_dump(), _model_key(model, revision)]
    with work.workspace("synthesis", [*key, work.hash_of(grid_path)]) as folder:
        pipeline = pipelines.load(model, revision=revision, device=base.device, dtype=base.dtype)
        about = {"arm": "", "model": pipelines.describe(model, revision)}
        paths = synthesis.draw_shards(
            Sampler(pipeline, SamplingSettings.of(base)),
            grid,
            folder / "publish" / "shards",
            shard_size=settings.shard_size,
            about=about,
            label="synthesis",
        )
        panel = Panel(base.steer)
        parts = []
        for path in paths:
            pictures, records = shards.read(path)
            rated = panel.rate(pictures).add_prefix("rated_")
            verdict = screening.screen(records, rated.rename(columns=lambda c: c[6:]))
            parts.append(pd.concat([records, rated, verdict.rename("verdict")], axis=1))
        index = pd.concat(parts, ignore_index=True)
        index["verdict"] = screening.match_size(index)
        index["weight"] = screening.weigh(index, base.target, settings.minimum_per_cell)
        write_table(folder / "publish" / finetune.INDEX, index)
        write_json(
            folder / "publish" / "manifest.json",
            {"screened_by": sorted(set(base.steer.values())), **about},
        )
        work.publish(folder / "publish", resolve(settings.out))
    table = audit.representation(index, base.target)
    write_json(resolve(settings.audit_file), audit.summary(table, index))
    return index


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
    key.append(_model_key(base.model, base.revision))
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


def evaluate_arm(base: Base, settings: Evaluate, name: str) -> pd.DataFrame:
    """04: draw and judge every prompt with every model of one arm; return the ratings.

    Writes images and ratings to ``out/<arm>/``, and ``<arm>.json`` and ``<arm>.csv`` to
    ``results``.
    """
    pipelines.set_threads(base.threads)
    models = resolve(settings.models) / name
    manifest = adapters.read_manifest(models)
    require_apart(base.steer, base.judge, manifest["raters_used"])
    grid_path = resolve(settings.prompts) / "evaluation.csv"
    grid = prompts.read_grid(grid_path)
    missing = sorted(set(settings.training_seeds) - set(manifest["seeds"]))
    if manifest["training"] is not None and missing:
        raise ValueError(f"{show(models)} has no model of seed {missing[0]}: run 03 for this arm")
    key = [name, base.model_dump(), settings.model_dump(), _model_key(base.model, base.revision)]
    with work.workspace(
        f"evaluate-{name}", [*key, work.hash_of(grid_path), work.hash_of(models)]
    ) as folder:
        publish = folder / "publish"
        panel = Panel(base.judge)
        parts = []
        for seed in settings.training_seeds if manifest["training"] is not None else [-1]:
            pipeline = pipelines.load(
                base.model, revision=base.revision, device=base.device, dtype=base.dtype
            )
            if seed >= 0:
                adapters.load(pipeline, models / f"seed-{seed}")
            paths = synthesis.draw_shards(
                Sampler(pipeline, SamplingSettings.of(base)),
                grid,
                publish / (f"seed-{seed}" if seed >= 0 else "base"),
                shard_size=settings.shard_size,
                about={
                    "arm": name,
                    "seed": seed,
                    "model": pipelines.describe(base.model, base.revision),
                },
                label=f"evaluate {name}" + (f", seed {seed}" if seed >= 0 else ""),
            )
            for path in paths:
                pictures, records = shards.read(path)
                parts.append(
                    pd.concat([records, panel.rate(pictures).add_prefix("rated_")], axis=1)
                )
        ratings = pd.concat(parts, ignore_index=True)
        write_table(publish / "ratings.parquet", ratings)
        work.publish(publish, resolve(settings.out) / name)
    table = evaluation.per_prompt(ratings, base.target, settings.training_seeds, base.held_out)
    results = resolve(settings.results)
    write_table(results / f"{name}.csv", table.assign(arm=name))
    summary = evaluation.summarise(table, ratings, base.target)
    about_arm = {"arm": name, "label": manifest["label"], "judges": base.judge}
    write_json(results / f"{name}.json", about_arm | summary)
    return ratings
