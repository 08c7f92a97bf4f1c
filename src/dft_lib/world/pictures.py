"""Sets of drawings for `dft_lib.image_sets.real`: which drawing, placed how, in which colours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dft_lib.raters.drawings.skin_colours import TONES
from dft_lib.repro.noise import keyed_rng
from dft_lib.study import prompts
from dft_lib.world import art, corpus, settings
from dft_lib.world.recolour import Drawings
from dft_lib.world.render import random_placement


@dataclass(frozen=True)
class World:
    """The drawings, and those of them that the base model's corpus may show."""

    drawings: Drawings
    cells: corpus.Cells
    chosen: settings.Settings

    @classmethod
    def load(cls, folder: Path = settings.EMOJI) -> World:
        """Read the art, and the world's settings from their folder."""
        table, chosen = art.load(), settings.load(folder)
        return cls(Drawings(table), corpus.Cells(table, chosen), chosen)

    def family(self, rows: list[int]) -> list[str]:
        """Return the family of each drawing."""
        return [str(self.drawings.table["family"].iloc[row]) for row in rows]


def shown(world: World, noun: str) -> bool:
    """Say whether any drawing shows a noun."""
    people = any((noun, g, t, "adult") in world.cells.rows for g in art.GENDERS for t in TONES)
    return people or noun in world.cells.objects


def drawn_by_art(world: World, grid: pd.DataFrame, seed: int) -> pd.DataFrame:
    """List the balanced and the general grid drawn by the artists, a random family each.

    Cells that no family shows are left out.

    Returns
    -------
    pandas.DataFrame
        The grid's columns, a row per picture, and ``row`` (position in the art table), ``family``;
        ``set`` is "art" or "general".
    """
    _, records = prompts.requests(grid)
    rows: list[int | None] = []
    rngs: dict[str, np.random.Generator] = {}
    for r in records.itertuples():
        rng = rngs.setdefault(str(r.noun), keyed_rng(seed, "real", "art", str(r.noun)))
        if r.kind == "general":
            found = world.cells.objects.get(str(r.noun), [])
        else:
            cell = (str(r.noun), str(r.gender), str(r.skin_tone), "adult")
            found = list(world.cells.rows.get(cell, {}).values())
        rows.append(found[rng.integers(len(found))] if found else None)
    there = [row is not None for row in rows]
    records, kept = records[there].reset_index(drop=True), [row for row in rows if row is not None]
    names = {"balanced": "art", "general": "general"}
    ids = records["prompt_id"].str.replace(r"^train/(balanced|general)/", "", regex=True)
    records["set"] = records["set"].map(names)
    records["prompt_id"] = "real/" + records["set"] + "/" + ids
    return records.assign(row=kept, family=world.family(kept))


def biased(world: World, nouns: list[str], count: int, seed: int) -> pd.DataFrame:
    """List `count` neutral pictures of every noun as the base model's corpus shows them.

    New pictures of the same distribution: `corpus.build` with a stream of its own, adults under
    captions that name no group.

    Returns
    -------
    pandas.DataFrame
        Columns ``row, noun, gender, skin_tone, family``, noun after noun.
    """
    nouns = [noun for noun in nouns if shown(world, noun) and noun not in world.cells.objects]
    stream = 2 + int(keyed_rng(seed, "real", "corpus").integers(2**31))  # 0 and 1 are the world's
    size, least = 64 * count, -1
    while least < count and nouns:
        table = corpus.build(world.cells, world.chosen, size=size, stream=stream)
        table = table[(table["style"] == "neutral") & (table["age"] == "adult")]
        least = int(table["name"].value_counts().reindex(nouns, fill_value=0).min())
        size *= 2  # the longer list begins with the shorter one
    parts = [table[table["name"] == noun].head(count) for noun in nouns]
    out = pd.concat(parts, ignore_index=True).rename(columns={"name": "noun"})
    family = world.family(out["row"].tolist())
    return out[["row", "noun", "gender", "skin_tone"]].assign(family=family)


def randomised(records: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Give pictures another skin tone and other colours of clothes, at random.

    Tones are dealt evenly inside every noun and gender (each as often as the others, give or take
    one picture); hues of clothes turn by any angle.

    Returns
    -------
    pandas.DataFrame
        `records` with ``skin_tone`` redrawn, ``original_skin_tone`` and ``turn`` (0 to 1).
    """
    out = records.assign(original_skin_tone=records["skin_tone"], turn=0.0)
    for (noun, gender), rows in records.groupby(["noun", "gender"], sort=False):
        rng = keyed_rng(seed, "real", "randomised", str(noun), str(gender))
        hands = [rng.permutation(len(TONES)) for _ in range(-(-len(rows) // len(TONES)))]
        tones = rng.permutation(np.concatenate(hands)[: len(rows)])
        out.loc[rows.index, "skin_tone"] = np.array(TONES, dtype=object)[tones]
        out.loc[rows.index, "turn"] = rng.uniform(size=len(rows))
    return out


def draw(
    world: World, records: pd.DataFrame, plan: pd.DataFrame, key: str, seed: int, size: int
) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
    """Yield pictures and records, `size` at a time.

    Parameters
    ----------
    records : pandas.DataFrame
        What is stored with the pictures.
    plan : pandas.DataFrame
        Same rows: ``row, noun, skin_tone`` and, where recoloured, ``turn``.
    key : str
        Placements belong to (study seed, key, noun): two sets with one key show the same figures
        in the same places.
    """
    rngs: dict[str, np.random.Generator] = {}
    turns = plan["turn"] if "turn" in plan else pd.Series(0.0, index=plan.index)
    recoloured = "turn" in plan
    pictures = []
    entries = zip(plan["row"], plan["noun"], plan["skin_tone"], turns, strict=True)
    for i, (row, noun, tone, turn) in enumerate(entries):
        rng = rngs.setdefault(noun, keyed_rng(seed, "real", "placement", key, noun))
        tone = tone if recoloured else None
        pictures.append(
            world.drawings.draw(int(row), random_placement(rng), tone=tone, turn=float(turn))
        )
        if len(pictures) == size or i == len(plan) - 1:
            yield np.stack(pictures), records.iloc[i + 1 - len(pictures) : i + 1]
            pictures = []
