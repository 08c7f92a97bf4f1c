"""Notebook 02: draw, screen, weight and audit the training set."""

from __future__ import annotations

import logging
from functools import partial

import pandas as pd

from dft_lib.image_sets import audit, screening
from dft_lib.models import pipelines, sources
from dft_lib.raters.panel import Panel
from dft_lib.repro import seals, shards, workspace
from dft_lib.repro.files import write_json, write_table
from dft_lib.repro.paths import resolve
from dft_lib.repro.places import require_writable
from dft_lib.sampling import drawing
from dft_lib.sampling.workers import Engine
from dft_lib.study import prompts
from dft_lib.study.base import Base
from dft_lib.study.params.synthesis import Synthesis

log = logging.getLogger(__name__)


def synthesise(base: Base, settings: Synthesis) -> pd.DataFrame:
    """02: draw the training grid with the teacher, screen, weight, audit; return the index."""
    pipelines.start(base.threads, base.device, base.dtype)
    Panel(base.steer, groups=base.target)  # or stop now
    grid_path = resolve(settings.prompts) / "training.parquet"
    grid = prompts.read_grid(grid_path)
    barred = screening.forbidden(grid["prompt"], settings.forbidden_terms)
    if barred.any():
        log.warning("%d prompts hold a forbidden term and are not drawn", int(barred.sum()))
    grid = grid[~barred].reset_index(drop=True)
    if grid.empty:
        raise ValueError("synthesis.forbidden_terms bars every prompt: remove a term")
    about = {"arm": "", **sources.record(settings.teacher)}
    key = [about, base.model_dump(), settings.model_dump(), seals.hash_of(grid_path)]
    out = resolve(settings.out)
    require_writable(resolve(settings.audit_file), "synthesis")
    with workspace.hold("synthesis", out, key) as folder:
        task = drawing.Drawing(
            partial(drawing.open_model, base, settings.teacher, images=int(grid["images"].sum())),
            grid,
            folder / "publish" / "shards",
            settings.shard_size,
            about,
            partial(_open_steering, base),
            folder / "ratings",
            tuple(base.target),
        )
        drawing.draw_shards(task, engine=Engine.of(base), label="synthesis")
        index = drawing.read_ratings(task)
        rated = index.filter(like="rated_").rename(columns=lambda c: c[6:])
        index["verdict"] = screening.screen(index, rated, list(base.target))
        index["verdict"] = screening.match_size(index)
        index["weight"] = screening.weigh(index, base.target, settings.minimum_per_cell)
        write_table(folder / "publish" / shards.INDEX, index)
        shards.write_card(folder / "publish", "shards/*.parquet")
        write_json(
            folder / "publish" / "manifest.json",
            {"screened_by": sorted(set(base.steer.values())), **about},
        )
        workspace.publish(folder / "publish", out)
        table = audit.representation(index, base.target)
        unsafe = audit.flagged(index, base.target)
        write_json(resolve(settings.audit_file), audit.summary(table, index, unsafe))
    return index


def _open_steering(base: Base) -> drawing.Rate:
    panel = Panel(base.steer, groups=base.target)
    return lambda pictures: panel.rate(pictures).add_prefix("rated_")
