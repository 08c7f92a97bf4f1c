"""Labelled photographs that a stranger hands over: chosen by label, opened, cut to squares.

Nothing is taken on trust; what cannot be used stops with one sentence that names file and row
(counted from 0). The files themselves: `dft_lib.image_sets.parquet`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dft_lib.image_sets import parquet
from dft_lib.image_sets.picture_files import open_picture, square
from dft_lib.image_sets.real import caption, nouns_of
from dft_lib.repro import shards
from dft_lib.repro.noise import keyed_rng
from dft_lib.repro.paths import show

MOST_BYTES = 1 << 28  # of pixels in a batch that is handed on
log = logging.getLogger(__name__)


def choose(
    folder: Path, grid: pd.DataFrame, images_per_noun: int, seed: int, attributes: Sequence[str]
) -> pd.DataFrame:
    """Choose the labelled photographs of a folder that the study can use.

    Of every profession and of people without one a random sample of `images_per_noun`; of every
    thing as many as the training grid asks for. Nouns that the grid does not know are passed over.

    Parameters
    ----------
    folder : pathlib.Path
        See `parquet.files`; labels are text, or integers with names in the file's
        Hugging Face metadata.
    grid : pandas.DataFrame
        The training grid.
    images_per_noun, seed : int
        How many, and the study seed.
    attributes : sequence of str
        The study's.

    Returns
    -------
    pandas.DataFrame
        `real.columns`; the index is the photograph's position in the folder.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence, if there are no files, a column is missing or of a wrong type, a label
        contradicts the grid, or none shows a profession of the grid.
    """
    labels = pd.concat(
        [parquet.labels(path, attributes) for path in parquet.files(folder)], ignore_index=True
    )
    known = nouns_of(grid)
    labels = labels[labels["noun"].isin(list(known))]
    wrong = labels[labels["kind"] != labels["noun"].map(known)]
    if len(wrong):
        row = wrong.iloc[0]
        raise ValueError(
            f"{show(folder)} calls {row['noun']!r} a {row['kind']!r}, the training grid a "
            f"{known[row['noun']]!r}: mend the column kind"
        )
    if not (labels["kind"] == "profession").any():
        raise ValueError(f"{show(folder)} shows no profession of the training grid: look at noun")
    labels.loc[labels["kind"] == "general", list(attributes)] = ""
    things = grid[grid["kind"] == "general"].groupby("noun")["images"].sum()
    chosen: list[int] = []
    for noun, rows in labels.groupby("noun", sort=False):
        order = keyed_rng(seed, "real", "photographs", str(noun)).permutation(len(rows))
        chosen += rows.index[order[: int(things.get(noun, images_per_noun))]].tolist()
    labels = labels.loc[sorted(chosen)]
    parts = []
    for name, rows in labels.groupby(labels["kind"] == "general"):
        of = "general" if name else "corpus"
        parts.append(caption(rows, grid, of, attributes).set_index(rows.index))
    return pd.concat(parts).sort_index()


def photographs(
    folder: Path, records: pd.DataFrame, shard_size: int
) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
    """Yield the chosen photographs (see `choose`), cut at the centre to squares.

    Files are read a few rows at a time, and a batch holds at most `shard_size` pictures and a
    quarter of a gigabyte of pixels, so memory stays bounded whatever is handed over.

    Raises
    ------
    ValueError
        With one sentence that names file and row: a picture that cannot be opened, is not the one
        its sha256 names, or differs in size from the others.
    """
    start, batch, rows = 0, [], []
    first: tuple[str, int] | None = None
    animated: list[str] = []
    for path in parquet.files(folder):
        count = shards.count(path)
        here = records.index[(records.index >= start) & (records.index < start + count)]
        for row, data, given in parquet.rows(path, set((here - start).tolist())):
            place = f"{show(path)}, row {row}: the picture"
            pixels, frames = _opened(data, given, place)
            animated += [place] if frames > 1 else []
            first = first or (place, len(pixels))
            if len(pixels) != first[1]:
                raise ValueError(
                    f"{place} is {len(pixels)} pixels high and wide after cutting, but that of "
                    f"{first[0].removesuffix(': the picture')} {first[1]}: the pictures are of "
                    "several sizes; make them one, best the one that the model draws"
                )
            batch.append(pixels)
            rows.append(start + row)
            if len(batch) == shard_size or sum(p.nbytes for p in batch) >= MOST_BYTES:
                yield np.stack(batch), records.loc[rows]
                batch, rows = [], []
        start += count
    if batch:
        yield np.stack(batch), records.loc[rows]
    if animated:
        log.warning("%s is animated, and %d more: the first frame is taken", animated[0],
                    len(animated) - 1)  # fmt: skip


def _opened(data: bytes | None, given: Any, place: str) -> tuple[np.ndarray, int]:
    if data is None:
        raise ValueError(
            f"{place} is not in the file (no bytes; a path or URL is not enough): put the bytes "
            "of its file there, or leave the row out"
        )
    try:
        pixels, frames = open_picture(data)
    except ValueError as error:
        remedy = "mend it in its source, or leave the row out"
        raise ValueError(f"{place} {error}; {remedy}") from error
    if given is not None:
        digest = given.hex() if isinstance(given, bytes) else str(given).strip().lower()
        if digest not in (sha256(data).hexdigest(), shards.sha256_of(pixels)):
            raise ValueError(
                f"{place} is not the one that its sha256 names (neither the file's bytes nor its "
                "RGB pixels have it): fetch it again, or leave the row out"
            )
    return np.ascontiguousarray(square(pixels)), frames
