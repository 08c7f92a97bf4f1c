"""Pictures themselves, never picked: sheets of first images, and of what screening rejected."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from dft_lib.image_sets.screening import rejected
from dft_lib.repro import shards
from dft_lib.study.attributes import UNSAFE


def first_images(arm: Path, noun: str, count: int) -> np.ndarray:
    """Return the first images of a profession's neutral prompt by an arm's first model.

    Not picked: replicates 0, 1, ... of the lowest training seed, or of the base model. Images that
    the study's filter flags as unsafe are left blank.
    """
    models = [p for p in arm.iterdir() if p.is_dir()]
    first = min(models, key=lambda p: int(p.name.rpartition("-")[2]) if "-" in p.name else -1)
    found: list[np.ndarray] = []
    hidden = unsafe(arm)
    for path in shards.files(first):
        pictures, records = shards.read(path, verify=False)
        rows = (records["kind"] == "neutral") & (records["noun"] == noun)
        pictures = pictures.copy()
        pictures[records["sha256"].isin(hidden).to_numpy()] = 255
        found += list(pictures[rows.to_numpy()])
        if len(found) >= count:
            break
    return np.stack(found[:count])


def unsafe(arm: Path) -> set[str]:
    """Return the sha256 of an arm's images that the study's filter flagged; none without one."""
    path, column = arm / "ratings.parquet", f"rated_{UNSAFE}"
    if not path.exists() or column not in pq.read_schema(path).names:
        return set()
    ratings = pd.read_parquet(path, columns=["sha256", column])
    return set(ratings.loc[ratings[column] == UNSAFE, "sha256"])


def first_rejected(folder: Path, index: pd.DataFrame, count: int) -> Figure:
    """Show the first images of a set that screening rejected; fewer leave white space.

    Unsafe ones are not shown.
    """
    rows = index.index[rejected(index["verdict"])][:count]
    pictures = shards.pick(folder, rows if len(rows) else [0])
    blank = np.full((count, *pictures.shape[1:]), 255, np.uint8)
    blank[: len(rows)] = pictures[: len(rows)]
    return sheet({"rejected": {"first rejected images": blank}})


def sheet(rows: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Show images side by side: ``{profession: {column label: (n, h, w, 3)}}``."""
    columns = list(next(iter(rows.values())))
    count = len(next(iter(next(iter(rows.values())).values())))
    figure, axes = plt.subplots(
        len(rows), len(columns), squeeze=False,
        figsize=(6.5, 0.25 + len(rows) * 6.5 / len(columns) / count * 1.12),
    )  # fmt: skip
    for r, (noun, cells) in enumerate(rows.items()):
        for c, (label, pictures) in enumerate(cells.items()):
            axis = axes[r][c]
            strip = np.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
            axis.imshow(np.concatenate(list(strip), axis=1), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.grid(visible=False)
            axis.spines[:].set_visible(False)
            if r == 0:
                axis.set_title(label)
            if c == 0:
                axis.set_ylabel(noun.replace(" ", "\n"), rotation=0, ha="right", va="center")
    figure.tight_layout(h_pad=0.1, w_pad=0.4)
    return figure
