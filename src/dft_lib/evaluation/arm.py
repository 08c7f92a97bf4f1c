"""An evaluated arm: its table, ratings and features, and the views of them that are compared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dft_lib.evaluation import distances
from dft_lib.fairness.report import plain
from dft_lib.fairness.uncertainty import Interval
from dft_lib.repro.paths import show


@dataclass(frozen=True)
class EvaluatedArm:
    """One evaluated arm.

    Attributes
    ----------
    name, label : str
        As in params.
    trained : bool
        False for the base model: one set of images, counted under every seed.
    table : pandas.DataFrame
        ``results/<arm>.csv``.
    ratings : pandas.DataFrame
        One row per image.
    features : numpy.ndarray
        Shape (images, d), same rows.
    """

    name: str
    label: str
    trained: bool
    table: pd.DataFrame
    ratings: pd.DataFrame
    features: np.ndarray


def read_about(folder: Path) -> dict[str, Any]:
    """Read what notebook 04 says about an arm: judges, intervention, cost, feature space.

    Raises
    ------
    FileNotFoundError
        If the arm has not been evaluated.
    """
    return dict(json.loads(_found(folder / "about.json").read_text(encoding="utf-8")))


def read_ratings(folder: Path) -> pd.DataFrame:
    """Read an arm's ratings, one row per image.

    Raises
    ------
    FileNotFoundError
        If the arm has not been evaluated.
    """
    return pd.read_parquet(_found(folder / "ratings.parquet"))


def _found(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(
            f"{show(path)} is missing: run notebook 04_evaluate for {path.parent.name}"
        )
    return path


def read_arm(
    name: str, summary: dict[str, Any], table: pd.DataFrame, folder: Path
) -> EvaluatedArm:
    """Bring together an arm's summary, table, ratings and features."""
    ratings = read_ratings(folder / name)
    return EvaluatedArm(
        name, summary["label"], bool(summary["trained"]), table[table["arm"] == name], ratings,
        distances.read_features(folder / name, ratings),
    )  # fmt: skip


def plain_part(arm: EvaluatedArm, part: str) -> pd.DataFrame:
    """Return the rows of plain prompts of a part: "seen", "held_out", or "person"."""
    if part == "person":
        return arm.table[arm.table["kind"] == "person"]
    return arm.table[(arm.table["kind"] == "neutral") & (arm.table["split"] == part)]


def cells(arm: EvaluatedArm, part: str, column: str, by: str = "prompt_id") -> pd.DataFrame:
    """Return a column as prompts x seeds, NaN where not measured."""
    rows = arm.table[arm.table["kind"] == part] if part in ("explicit", "general") else (
        plain_part(arm, part)
    )  # fmt: skip
    return rows.pivot_table(index=by, columns="seed", values=column, aggfunc="mean")


def as_entry(interval: Interval) -> dict[str, float | None]:
    """Return an interval as it stands in ``metrics.json``."""
    return {"value": plain(interval.value), "low": plain(interval.low),
            "high": plain(interval.high)}  # fmt: skip
