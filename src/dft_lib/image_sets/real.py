"""Pictures that no model drew: the data of oversampling and domain randomisation.

Five sets, in the layout of the synthetic one. ``corpus`` is what the base model was trained on,
skew included; ``oversampled`` are the same pictures, minority groups weighted up to the target;
``randomised`` are the same with skin tone and colours of clothes redrawn at random, then weighted
likewise; ``art`` is the balanced grid drawn by the artists, a teacher that never errs; ``general``
are things without people. Of photographs there are only ``corpus, oversampled, general``: nobody
can draw the art, and recolouring faces is out of scope.

No rater takes part: labels are the truth of the drawing, or what the folder of photographs says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dft_lib.image_sets import screening
from dft_lib.repro import shards
from dft_lib.repro.noise import keyed_rng
from dft_lib.study import prompts
from dft_lib.study.attributes import cells

SETS = ("art", "corpus", "oversampled", "randomised", "general")
DRAWN = ("gender", "skin_tone")  # what the drawings of a world differ in
OF_PHOTOGRAPHS = ("corpus", "oversampled", "general")
EVEN = ("art", "oversampled", "randomised")  # sets weighted to the target


def columns(attributes: Sequence[str]) -> list[str]:
    """Return the columns of a set of pictures with these attributes."""
    return ["prompt_id", "prompt", "caption", "set", "kind", "noun", "fold", *attributes,
            "replicate", "family", "original_skin_tone"]  # fmt: skip


def nouns_of(grid: pd.DataFrame) -> dict[str, str]:
    """Return {noun: kind} of a training grid, in its order."""
    return dict(zip(grid["noun"], grid["kind"], strict=True))


def caption(
    records: pd.DataFrame, grid: pd.DataFrame, name: str, attributes: Sequence[str]
) -> pd.DataFrame:
    """Give labelled pictures the captions, prompts and folds of the training grid.

    A noun's pictures take its templates in turn, whatever the groups, so a caption says nothing
    about who is shown.

    Parameters
    ----------
    records : pandas.DataFrame
        Columns ``noun`` and the attributes ("" for things), and more that are kept.
    grid : pandas.DataFrame
        The training grid.
    name : str
        The set.
    attributes : sequence of str
        The study's.

    Returns
    -------
    pandas.DataFrame
        `columns`, same rows.

    Raises
    ------
    ValueError
        If a picture shows a group that the grid does not know.
    """
    captions = {n: list(dict.fromkeys(rows)) for n, rows in grid.groupby("noun")["caption"]}
    keys = ["noun", *attributes, "caption"]
    asked = grid[[*keys, "prompt"]].itertuples(index=False, name=None)
    explicit = {tuple(cell): prompt for *cell, prompt in asked}
    folds = dict(zip(grid["noun"], grid["fold"], strict=True))
    kinds = nouns_of(grid)
    turn = records.groupby("noun", sort=False).cumcount()
    out = records.assign(
        set=name,
        kind=records["noun"].map(kinds),
        fold=records["noun"].map(folds),
        caption=[captions[n][t % len(captions[n])]
                 for n, t in zip(records["noun"], turn, strict=True)],
    )  # fmt: skip
    shown = out[keys].itertuples(index=False, name=None)
    try:
        out["prompt"] = [explicit[cell] for cell in shown]
    except KeyError as error:
        noun, *groups, _ = error.args[0]
        raise ValueError(
            f"a real picture of {noun!r} is labelled {str(groups)[1:-1]}, which the training "
            "grid never asks for: use the groups of lexicon/groups.csv, or leave it out"
        ) from None
    parts = [out["noun"], *(out[a] for a in attributes)]
    template = [captions[n].index(c) for n, c in zip(out["noun"], out["caption"], strict=True)]
    out["prompt_id"] = [
        "/".join(["real", name, *filter(None, cell), str(t)])
        for *cell, t in zip(*parts, template, strict=True)
    ]
    return complete(out, attributes)


def complete(records: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """Return records with all of `columns`, replicates counted per prompt."""
    records = records.reset_index(drop=True)
    records["replicate"] = records.groupby("prompt_id", sort=False).cumcount()
    for column in ("family", "original_skin_tone"):
        if column not in records:
            records[column] = ""
    return records[columns(attributes)]


def weigh(index: pd.DataFrame, target: dict[str, dict[str, float]]) -> pd.Series:
    """Weight pictures: every noun of a set counts once; inside it cells of `EVEN` as the target.

    Cells without a picture cannot be weighted up; the others share their part.
    """
    weight = pd.Series(0.0, index=index.index)
    for name, rows in index.groupby("set", sort=False):
        if name in EVEN:
            weight[rows.index] = screening.weigh(rows.assign(set="balanced"), target, 0)
        else:
            weight[rows.index] = 1 / rows.groupby("noun")["noun"].transform("size")
    return weight.fillna(0.0)  # a noun of whose cells the target wants none


def summary(index: pd.DataFrame, target: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Count, per set, pictures, nouns, and the cells that no picture shows.

    Returns
    -------
    dict
        set -> ``pictures, nouns, cells`` (of the target), ``empty_cells`` and, over professions,
        ``unreachable``: the mean share of the target in empty cells, 0 to 1, which no weighting
        of these pictures can give.
    """
    wanted = {cell: share for cell, share in cells(target).items() if share > 0}
    out: dict[str, Any] = {}
    for name, rows in index.groupby("set", sort=False):
        entry: dict[str, Any] = {"pictures": len(rows), "nouns": int(rows["noun"].nunique())}
        people = rows[rows["kind"] != "general"]
        if len(people):
            empty, lost = 0, []
            for (kind, _), part in people.groupby(["kind", "noun"], sort=False):
                shown = set(part[list(target)].itertuples(index=False, name=None))
                missing = [cell for cell in wanted if cell not in shown]
                empty += len(missing)
                lost += [sum(wanted[c] for c in missing)] if kind == "profession" else []
            entry |= {
                "cells": len(wanted) * people["noun"].nunique(),
                "empty_cells": empty,
                "unreachable": round(float(np.mean(lost)), 6) if lost else None,
            }
        out[str(name)] = entry
    return out


def shares(index: pd.DataFrame, target: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Return the shares of each group among a set's professions, before and after weighting.

    Returns
    -------
    pandas.DataFrame
        Columns ``set, attribute, group, pictures`` (share of the pictures), ``weighted`` (share
        of the weight) and ``target``; both shares sum to 1 per set and attribute.
    """
    rows = []
    for name, part in index[index["kind"] == "profession"].groupby("set", sort=False):
        for attribute, wanted in target.items():
            for group, share in wanted.items():
                hit = part[attribute] == group
                weighted = part["weight"][hit].sum() / part["weight"].sum()
                rows.append((name, attribute, group, hit.mean(), weighted, share))
    columns = ["set", "attribute", "group", "pictures", "weighted", "target"]
    return pd.DataFrame(rows, columns=columns)


def write_set(
    folder: Path, pictures: Iterator[tuple[np.ndarray, pd.DataFrame]]
) -> list[pd.DataFrame]:
    """Write batches of pictures as the folder's next shards; return their records with sha256."""
    written = []
    for batch, records in pictures:
        path = folder / f"shard-{len(list(folder.glob('*.parquet'))):05d}.parquet"
        shards.write(path, batch, records)
        written.append(records.assign(sha256=[shards.sha256_of(p) for p in batch]))
    return written


def again(
    paths: list[Path], of: str, name: str, attributes: Sequence[str]
) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
    """Yield the pictures that written shards hold of the set `of` once more, as the set `name`."""
    for path in paths:
        pictures, records = shards.read(path)
        take = (records["set"] == of).to_numpy()
        if not take.any():
            continue
        records = records.loc[take, columns(attributes)].assign(set=name)
        ids = records["prompt_id"].str.replace(f"real/{of}/", f"real/{name}/", regex=False)
        yield pictures[take], records.assign(prompt_id=ids)


def read_grid(path: Path) -> pd.DataFrame:
    """Read the training grid, as far as it asks for somebody or something."""
    grid = prompts.read_grid(path)
    return grid[grid["set"].isin(["balanced", "general"])].reset_index(drop=True)


def examples(folder: Path, index: pd.DataFrame, count: int, seed: int) -> dict[str, np.ndarray]:
    """Return `count` pictures of every set, as a training batch would draw them: by weight."""
    out: dict[str, np.ndarray] = {}
    for name, rows in index.groupby("set", sort=False):
        rng = keyed_rng(seed, "real", "examples", str(name))
        share = (rows["weight"] / rows["weight"].sum()).to_numpy()
        out[str(name)] = shards.pick(folder, rng.choice(rows.index.to_numpy(), count, p=share))
    return out or {"no real pictures": np.full((count, 8, 8, 3), 255, np.uint8)}
