"""What an arm trains on: the pictures it may use, their captions and weights, their latents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from dft_lib.repro import shards
from dft_lib.repro.noise import keyed_rng
from dft_lib.repro.paths import show
from dft_lib.study.lexicon import held_out
from dft_lib.study.training import Training


@dataclass(frozen=True)
class Examples:
    """Training examples of one arm and seed.

    Attributes
    ----------
    moments : torch.Tensor
        Scaled latent moments of all usable pictures, (2, m, c, h, w); may lie on disk.
    position : numpy.ndarray
        int64 (n,): where the examples' moments are.
    captions : list of str
        The distinct captions, the empty one last.
    caption : numpy.ndarray
        int64 (n,): index into `captions`.
    weight : dict
        Name of a part ("profession", "person", "general") -> weights (n,) that sum to 1.
    """

    moments: torch.Tensor
    position: np.ndarray
    captions: list[str]
    caption: np.ndarray
    weight: dict[str, np.ndarray]

    def latents(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return means and standard deviations of some examples, float32 (len(rows), c, h, w)."""
        where = torch.from_numpy(self.position[rows])
        return self.moments[0, where].float(), self.moments[1, where].float()


def usable(index: pd.DataFrame, images: str) -> pd.Series:
    """Say which rows an arm may train on: its own set and the general pictures, if kept."""
    there = index.loc[index["weight"] > 0, "set"]
    if images not in set(there):
        raise ValueError(
            f"no pictures of the set {images!r}; there are: {', '.join(sorted(set(there)))}. Mend "
            "the arm's images or data"
        )
    return index["set"].isin([images, "general"]) & (index["weight"] > 0)


def read_index(folder: Path, images: str) -> pd.DataFrame:
    """Read which pictures an arm may train on.

    Parameters
    ----------
    folder : pathlib.Path
        The set of pictures.
    images : str
        The arm's ``images``, a name in the index's column ``set``.

    Returns
    -------
    pandas.DataFrame
        n rows of the index, numbered from 0; ``place`` says where each lies in the whole set.

    Raises
    ------
    FileNotFoundError, ValueError
        If the set is missing, or its index belongs to other shards.
    """
    index_path = folder / shards.INDEX
    if not index_path.exists():
        raise FileNotFoundError(f"{show(index_path)} is missing: run notebook 02 first")
    index = pd.read_parquet(index_path)
    sums = [shards.read_records(path)["sha256"] for path in shards.files(folder / "shards")]
    if not index["sha256"].equals(pd.concat(sums, ignore_index=True)):
        raise ValueError(
            f"{show(index_path)} does not belong to the shards beside it: delete "
            f"{show(folder)} and run `dvc repro` again"
        )
    place = np.flatnonzero(usable(index, images))
    return index.iloc[place].assign(place=place).reset_index(drop=True)


def pictures(folder: Path, index: pd.DataFrame) -> Iterator[np.ndarray]:
    """Read the pictures of some rows of `read_index`, in their order, shard by shard.

    Yields
    ------
    numpy.ndarray
        uint8 (m, height, width, 3).

    Raises
    ------
    ValueError
        If a shard is damaged.
    """
    first, places = 0, np.sort(index["place"].to_numpy())
    for path in shards.files(folder / "shards"):
        size = shards.count(path)
        mine = places[(places >= first) & (places < first + size)] - first
        if len(mine):
            yield shards.read(path)[0][mine]
        first += size


def select(
    index: pd.DataFrame, chosen: Training, seed: int, mode: str, attributes: Sequence[str]
) -> pd.DataFrame:
    """Return the usable rows that train this arm and seed, with their training captions.

    Professions held out for this seed are dropped; of every cell the first `data_share` of its
    pictures stays; weights follow `target` if one is given. Captions (``text``) are the prompt
    ("kept"), the prompt without attributes ("dropped"), either in turn ("mixed"), or the latter
    exchanged at random among the pictures of people ("shuffled", a control). A cell is a noun and
    a group of each of the study's `attributes`.

    Raises
    ------
    ValueError
        If nothing is left to train on.
    """
    rows = index[[not held_out(fold, seed, mode) for fold in index["fold"]]].copy()
    if not (rows["kind"] == "profession").any():
        raise ValueError(
            "no training image is left for this arm and seed: look at results/audit.json, or "
            "raise prompts.professions and prompts.images_per_cell"
        )
    cell = ["kind", "noun", *attributes]
    rows = _thinned(rows, chosen.data_share, cell)
    if chosen.target:
        rows["weight"] = _retargeted(rows, chosen.target, cell)
    odd = np.arange(len(rows)) % 2 == 1
    kept = {"kept": np.ones(len(rows), bool), "mixed": odd}
    keep = kept.get(chosen.captions, np.zeros(len(rows), bool))
    rows["text"] = np.where(keep, rows["prompt"], rows["caption"])
    if chosen.captions == "shuffled":
        people = rows.index[rows["kind"] != "general"]
        order = keyed_rng("shuffled captions", seed).permutation(len(people))
        rows.loc[people, "text"] = rows.loc[people, "text"].to_numpy()[order]
    return rows


def _cells(rows: pd.DataFrame, cell: list[str]) -> Any:
    return rows.groupby([rows[k] for k in cell], sort=False)


def _thinned(rows: pd.DataFrame, share: float, cell: list[str]) -> pd.DataFrame:
    """Keep a share of every cell's pictures (at least one); a cell weighs as before.

    Captions stay as mixed as they were: a cell's captions take turns, and the first one differs
    from cell to cell; otherwise the dose would change the wording too.
    """
    if share == 1:
        return rows
    turn = rows.groupby([*(rows[k] for k in cell), rows["caption"]], sort=False).cumcount()
    wording = _cells(rows, cell)["caption"].transform(lambda texts: pd.factorize(texts)[0])
    first = (wording + _cells(rows, cell).ngroup()) % (wording.max() + 1)
    order = np.lexsort([np.arange(len(rows)), first, turn])
    place = _cells(rows.iloc[order], cell).cumcount()[rows.index]
    size = _cells(rows, cell)["weight"].transform("size")
    weight = _cells(rows, cell)["weight"].transform("sum")
    rows = rows[place < np.maximum(np.ceil(size * share - 1e-9), 1)].copy()
    left = _cells(rows, cell)["weight"].transform("sum")
    rows["weight"] *= weight[rows.index] / left
    return rows


def _retargeted(
    rows: pd.DataFrame, target: dict[str, dict[str, float]], cell: list[str]
) -> pd.Series:
    """Weigh every noun's cells by a target other than the study's; a noun weighs as before."""
    share = pd.Series(1.0, index=rows.index)
    for attribute, shares in target.items():
        share *= rows[attribute].map(shares).fillna(0.0)
    asked = rows[list(target)].ne("").all(axis=1)
    before = _cells(rows, cell)["weight"].transform("size")
    wanted = rows["weight"].where(~asked, share / before)
    noun = rows.groupby(["kind", "noun"], sort=False)["weight"].transform("sum")
    return wanted * noun / wanted.groupby([rows["kind"], rows["noun"]]).transform("sum")


def examples(moments: torch.Tensor, rows: pd.DataFrame) -> Examples:
    """Bring together latents, captions and weights of the selected rows.

    Parameters
    ----------
    moments : torch.Tensor
        From `dft_lib.image_sets.latents`, of all pictures of `read_index`.
    rows : pandas.DataFrame
        From `select`; its index says which pictures.
    """
    captions = [*rows["text"].drop_duplicates(), ""]
    place = {text: i for i, text in enumerate(captions)}
    weight = {}
    for kind, group in rows.groupby("kind", sort=False):
        values = np.where(rows["kind"] == kind, rows["weight"], 0.0)
        weight[str(kind)] = values / group["weight"].sum()
    caption = rows["text"].map(place).to_numpy()
    return Examples(moments, rows.index.to_numpy(np.int64), captions, caption, weight)


def shares_of(chosen: Training, weight: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the share of a batch that each kind of example gets, of those that are there."""
    wanted = {
        "general": chosen.preservation_share,
        "person": chosen.person_share,
        "profession": 1 - chosen.preservation_share - chosen.person_share,
    }
    there = {kind: share for kind, share in wanted.items() if kind in weight and share > 0}
    return {kind: share / sum(there.values()) for kind, share in there.items()}
