"""Representation of a data set against a target, before and after screening and weighting."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dft_lib.fairness.shares import distance
from dft_lib.image_sets.screening import KEPT
from dft_lib.study.attributes import NO_PERSON, UNCLEAR, UNSAFE


def representation(index: pd.DataFrame, target: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Count each group in each set as requested, as drawn, as kept and as weighted.

    Parameters
    ----------
    index : pandas.DataFrame
        One row per image: ``set``, of every attribute the group requested (``gender``) and what
        the steering raters see (``rated_gender``), ``verdict, weight``.
    target : dict
        attribute -> {group: share}.

    Returns
    -------
    pandas.DataFrame
        Columns ``set, stage, attribute, group, images, share, target``. From "drawn" on, groups
        are what the steering raters answered, and `unclear` is a row of its own with target 0;
        shares sum to 1 per set, stage and attribute.
    """
    people = index[index["kind"] != "general"]
    rows = []
    for name, part in people.groupby("set", sort=False):
        used = part["verdict"] == KEPT
        for attribute, wanted in target.items():
            asked, rated = part[attribute], part[f"rated_{attribute}"]
            stages = {
                "requested": (asked, pd.Series(1.0, index=part.index)),
                "drawn": (rated, pd.Series(1.0, index=part.index)),
                "kept": (rated[used], pd.Series(1.0, index=part.index[used])),
                "weighted": (rated[used], part["weight"][used]),
            }
            for stage, (values, weights) in stages.items():
                if stage == "requested" and (values == "").all():
                    continue
                total = weights.sum()
                for group in (*wanted, UNCLEAR, NO_PERSON):
                    hit = values == group
                    if not hit.any() and group not in wanted:
                        continue
                    rows.append(
                        (name, stage, attribute, group, int(hit.sum()),
                         float(weights[hit].sum() / total) if total else float("nan"),
                         wanted.get(group, 0.0))
                    )  # fmt: skip
    columns = ["set", "stage", "attribute", "group", "images", "share", "target"]
    return pd.DataFrame(rows, columns=columns)


def flagged(index: pd.DataFrame, target: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Count what the filter of unsafe pictures rejected, group by group: filters skew too.

    Parameters
    ----------
    index : pandas.DataFrame
        As for `representation`, with ``rated_unsafe`` if the study names a filter.
    target : dict
        attribute -> {group: share}.

    Returns
    -------
    pandas.DataFrame
        Columns ``set, attribute, group, images, unsafe, share`` (unsafe / images, 0 to 1). Groups
        are those requested, and where none was requested what the steering raters answered.
        Empty where there is no filter.
    """
    rows = []
    people = index[index["kind"] != "general"] if f"rated_{UNSAFE}" in index else index.head(0)
    for name, part in people.groupby("set", sort=False):
        for attribute, wanted in target.items():
            asked = part[attribute].where(part[attribute] != "", part[f"rated_{attribute}"])
            for group in (*wanted, "unclear", "no_person"):
                mine = part[asked == group]
                if mine.empty and group not in wanted:
                    continue
                found = int((mine["verdict"] == UNSAFE).sum())
                share = found / len(mine) if len(mine) else float("nan")
                rows.append((name, attribute, group, len(mine), found, share))
    return pd.DataFrame(rows, columns=["set", "attribute", "group", "images", "unsafe", "share"])


def summary(
    table: pd.DataFrame, index: pd.DataFrame, unsafe: pd.DataFrame | None = None
) -> dict[str, object]:
    """Condense a representation table, and one of `flagged`, for ``results/audit.json``.

    Returns
    -------
    dict
        Per set: images drawn and used, verdict counts, and per attribute and stage the total
        variation distance to the target (null where no image is left); with a filter of unsafe
        pictures also ``unsafe``: how many of each group's ``images`` it rejected.
    """
    out: dict[str, object] = {}
    for name, part in index.groupby("set", sort=False):
        entry: dict[str, object] = {
            "drawn": len(part),
            "used": int((part["weight"] > 0).sum()),
            "verdicts": {
                k: int(v) for k, v in part["verdict"].value_counts().sort_index().items()
            },
        }
        distances: dict[str, dict[str, float | None]] = {}
        rows = table[table["set"] == name]
        for (attribute, stage), group in rows.groupby(["attribute", "stage"], sort=False):
            far = float(distance(group["share"], group["target"]))
            known = None if np.isnan(far) else round(far, 6)
            distances.setdefault(str(attribute), {})[str(stage)] = known
        entry["total_variation"] = distances
        if unsafe is not None and len(unsafe):
            counts: dict[str, dict[str, dict[str, int]]] = {}
            for row in unsafe[unsafe["set"] == name].itertuples():
                groups = counts.setdefault(str(row.attribute), {})
                groups[str(row.group)] = {"images": int(row.images), "unsafe": int(row.unsafe)}
            entry["unsafe"] = counts
        out[str(name)] = entry
    return out
