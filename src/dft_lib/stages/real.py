"""Notebook 02b: bring together pictures that no model drew."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from dft_lib.image_sets import parquet, photographs, real
from dft_lib.repro import seals, shards, workspace
from dft_lib.repro.files import write_json, write_table
from dft_lib.repro.paths import DATA, resolve
from dft_lib.study.base import Base
from dft_lib.study.params.real import Real
from dft_lib.world import pictures
from dft_lib.world import settings as worlds

log = logging.getLogger(__name__)
README = "README.md"


def collect_real(base: Base, settings: Real) -> pd.DataFrame:
    """02b: write the sets of real pictures, weighted; return the index."""
    named = list(base.target)
    source = resolve(settings.source)
    drawn = worlds.describes(source)
    if drawn and set(named) != set(real.DRAWN):
        raise ValueError(
            f"real.source is the emoji world, which draws {' and '.join(real.DRAWN)}, but "
            f"base.target names {', '.join(named)}: give it a folder of labelled pictures, or "
            "photographs"
        )
    grid_path = resolve(settings.prompts) / "training.parquet"
    taken = [] if drawn or _empty(source) else parquet.files(source)
    inputs = [grid_path, *([DATA / "art", source] if drawn else taken)]
    grid = real.read_grid(grid_path)
    out = resolve(settings.out)
    key = [base.study_seed, base.target, settings.model_dump(), seals.hash_of(*inputs)]
    with workspace.hold("real", out, key) as folder:
        publish = folder / "publish"
        (publish / "shards").mkdir(parents=True, exist_ok=True)
        for left in (publish / "shards").glob("*.parquet"):  # of a killed run: drawn in seconds
            left.unlink()
        parts: list[pd.DataFrame] = []
        if drawn:
            parts = _emoji(grid, settings, base, publish / "shards")
        elif taken:
            parts = _photographs(grid, settings, base, publish / "shards")
        index = _index(parts, named)
        index["weight"] = real.weigh(index, base.target)
        write_table(publish / shards.INDEX, index)
        shards.write_card(publish, "shards/*.parquet")
        people = grid.loc[grid["kind"] != "general", "noun"].drop_duplicates()
        missing = [noun for noun in people if noun not in set(index["noun"])]
        if missing and parts:
            log.warning("no real picture shows: %s", ", ".join(missing))
        write_json(
            publish / "manifest.json",
            {
                "screened_by": [],
                "source": settings.source,
                "sets": list(dict.fromkeys(index["set"])),
                "summary": real.summary(index, base.target),
                "without_pictures": missing if parts else [],
            },
        )
        workspace.publish(publish, out)
    return index


def _empty(source: Path) -> bool:
    """Say whether a folder holds nothing but a README.md: a place for photographs, none yet."""
    return source.is_dir() and {path.name for path in source.iterdir()} == {README}


def _index(parts: list[pd.DataFrame], attributes: list[str]) -> pd.DataFrame:
    """Bring records together in the order of the shards; every picture is kept."""
    if not parts:
        columns = [*real.columns(attributes), "sha256"]
        empty = pd.DataFrame({c: pd.Series(dtype=str) for c in columns})
        return empty.assign(replicate=pd.Series(dtype="int64"), verdict=pd.Series(dtype=str))
    return pd.concat(parts, ignore_index=True).assign(verdict="kept")


def _emoji(grid: pd.DataFrame, settings: Real, base: Base, folder: Path) -> list[pd.DataFrame]:
    seed, named = base.study_seed, list(base.target)
    world = pictures.World.load(resolve(settings.source))
    art = pictures.drawn_by_art(world, grid, seed)
    people = grid.loc[grid["kind"] != "general", "noun"].drop_duplicates().tolist()
    plan = pictures.biased(world, people, settings.images_per_profession, seed)
    turned = pictures.randomised(plan, seed)
    plans = {
        "art": (art[art["set"] == "art"], "art"),
        "corpus": (plan, "corpus"),
        "oversampled": (plan, "corpus"),
        "randomised": (turned, "corpus"),
        "general": (art[art["set"] == "general"], "general"),
    }
    parts: list[pd.DataFrame] = []
    corpus: list[Path] = []
    for name in tqdm(real.SETS, desc="real pictures", unit="set"):
        rows, key = plans[name]
        if rows.empty:
            continue
        before = set(folder.glob("*.parquet"))
        if name == "oversampled":
            batches = real.again(corpus, "corpus", name, named)
        else:
            whole = "prompt_id" in rows
            records = (
                real.complete(rows, named) if whole else real.caption(rows, grid, name, named)
            )
            batches = pictures.draw(world, records, rows, key, seed, settings.shard_size)
        parts += real.write_set(folder, batches)
        if name == "corpus":
            corpus = sorted(set(folder.glob("*.parquet")) - before)
    return parts


def _photographs(
    grid: pd.DataFrame, settings: Real, base: Base, folder: Path
) -> list[pd.DataFrame]:
    source, named = resolve(settings.source), list(base.target)
    chosen = photographs.choose(
        source, grid, settings.images_per_profession, base.study_seed, named
    )
    drawn = photographs.photographs(source, chosen, settings.shard_size)
    parts = real.write_set(folder, drawn)
    again = real.again(sorted(folder.glob("*.parquet")), "corpus", "oversampled", named)
    return parts + real.write_set(folder, again)
