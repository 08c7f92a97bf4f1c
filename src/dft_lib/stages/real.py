"""Notebook 02b: bring together pictures that no model drew."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from dft_lib.image_sets import parquet, photographs, real
from dft_lib.repro import shards, workspace
from dft_lib.repro.files import write_json, write_table
from dft_lib.repro.paths import DATA, WORLD, resolve
from dft_lib.study.params import Base, Real
from dft_lib.world import pictures

log = logging.getLogger(__name__)
EMOJI = "emoji"


def collect_real(base: Base, settings: Real) -> pd.DataFrame:
    """02b: write the sets of real pictures, weighted; return the index."""
    grid_path = resolve(settings.prompts) / "training.parquet"
    inputs = [grid_path]
    if settings.source == EMOJI:
        code = sorted(Path(pictures.__file__).parent.glob("*.py"))
        inputs += [DATA / "art", WORLD / "params.yaml", WORLD / "bias.csv", *code]
    elif settings.source is not None:
        inputs += parquet.files(resolve(settings.source))
    grid = real.read_grid(grid_path)
    source = workspace.hash_of(*inputs)
    out = resolve(settings.out)
    key = [base.study_seed, base.target, settings.model_dump(), source]
    with workspace.hold("real", out, key) as folder:
        publish = folder / "publish"
        (publish / "shards").mkdir(parents=True, exist_ok=True)
        for left in (publish / "shards").glob("*.parquet"):  # of a killed run: drawn in seconds
            left.unlink()
        parts: list[pd.DataFrame] = []
        if settings.source == EMOJI:
            parts = _emoji(grid, settings, base.study_seed, publish / "shards")
        elif settings.source is not None:
            parts = _photographs(grid, settings, base.study_seed, publish / "shards")
        index = _index(parts)
        index["weight"] = real.weigh(index, base.target)
        write_table(publish / shards.INDEX, index)
        shards.write_card(publish, "shards/*.parquet")
        people = grid.loc[grid["kind"] != "general", "noun"].drop_duplicates()
        missing = [noun for noun in people if noun not in set(index["noun"])]
        if missing and settings.source:
            log.warning("no real picture shows: %s", ", ".join(missing))
        write_json(
            publish / "manifest.json",
            {
                "screened_by": [],
                "source": settings.source,
                "sets": list(dict.fromkeys(index["set"])),
                "summary": real.summary(index, base.target),
                "without_pictures": missing if settings.source else [],
            },
        )
        workspace.publish(publish, out)
    return index


def _index(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Bring records together in the order of the shards; every picture is kept."""
    if not parts:
        empty = pd.DataFrame({c: pd.Series(dtype=str) for c in (*real.COLUMNS, "sha256")})
        return empty.assign(replicate=pd.Series(dtype="int64"), verdict=pd.Series(dtype=str))
    return pd.concat(parts, ignore_index=True).assign(verdict="kept")


def _emoji(grid: pd.DataFrame, settings: Real, seed: int, folder: Path) -> list[pd.DataFrame]:
    world = pictures.World.load()
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
            batches = real.again(corpus, "corpus", name)
        else:
            whole = "prompt_id" in rows
            records = real.complete(rows) if whole else real.caption(rows, grid, name)
            batches = pictures.draw(world, records, rows, key, seed, settings.shard_size)
        parts += real.write_set(folder, batches)
        if name == "corpus":
            corpus = sorted(set(folder.glob("*.parquet")) - before)
    return parts


def _photographs(
    grid: pd.DataFrame, settings: Real, seed: int, folder: Path
) -> list[pd.DataFrame]:
    source = resolve(str(settings.source))
    chosen = photographs.choose(source, grid, settings.images_per_profession, seed)
    drawn = photographs.photographs(source, chosen, settings.shard_size)
    parts = real.write_set(folder, drawn)
    again = real.again(sorted(folder.glob("*.parquet")), "corpus", "oversampled")
    return parts + real.write_set(folder, again)
