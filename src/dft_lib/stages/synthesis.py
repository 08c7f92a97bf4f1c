"""Notebook 02: draw, screen, weight and audit the training set."""

from __future__ import annotations

import logging

import pandas as pd

from dft_lib import audit, pipelines, prompts, screening, shards, synthesis, work
from dft_lib.files import write_json, write_table
from dft_lib.params import Base, Synthesis
from dft_lib.paths import resolve
from dft_lib.raters.panel import Panel
from dft_lib.sampling import Sampler, SamplingSettings

log = logging.getLogger(__name__)


def synthesise(base: Base, settings: Synthesis) -> pd.DataFrame:
    """02: draw the training grid with the teacher, screen, weight, audit; return the index."""
    pipelines.start(base.threads, base.device, base.dtype)
    panel = Panel(base.steer)
    grid_path = resolve(settings.prompts) / "training.csv"
    grid = prompts.read_grid(grid_path)
    barred = screening.forbidden(grid["prompt"], settings.forbidden_terms)
    if barred.any():
        log.warning("%d prompts hold a forbidden term and are not drawn", int(barred.sum()))
    grid = grid[~barred].reset_index(drop=True)
    if grid.empty:
        raise ValueError("synthesis.forbidden_terms bars every prompt: remove a term")
    model = settings.teacher or base.model
    revision = settings.teacher_revision if settings.teacher else base.revision
    about = {"arm": "", **pipelines.record(model, revision)}
    key = [about, base.model_dump(), settings.model_dump(), work.hash_of(grid_path)]
    out = resolve(settings.out)
    with work.workspace("synthesis", out, key) as folder:
        pipeline = pipelines.load(model, revision=revision, device=base.device, dtype=base.dtype)
        paths = synthesis.draw_shards(
            Sampler(pipeline, SamplingSettings.of(base)),
            grid,
            folder / "publish" / "shards",
            shard_size=settings.shard_size,
            about=about,
            label="synthesis",
        )
        parts = []
        for path in paths:
            pictures, records = shards.read(path)
            rated = panel.rate(pictures).add_prefix("rated_")
            verdict = screening.screen(records, rated.rename(columns=lambda c: c[6:]))
            parts.append(pd.concat([records, rated, verdict.rename("verdict")], axis=1))
        index = pd.concat(parts, ignore_index=True)
        index["verdict"] = screening.match_size(index)
        index["weight"] = screening.weigh(index, base.target, settings.minimum_per_cell)
        write_table(folder / "publish" / shards.INDEX, index)
        write_json(
            folder / "publish" / "manifest.json",
            {"screened_by": sorted(set(base.steer.values())), **about},
        )
        work.publish(folder / "publish", out)
        table = audit.representation(index, base.target)
        write_json(resolve(settings.audit_file), audit.summary(table, index))
    return index
