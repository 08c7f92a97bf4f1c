"""Representation of a data set against a target, before and after screening and weighting."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dft_lib.fairness.metrics import distance
from dft_lib.image_sets.screening import KEPT
from dft_lib.study.attributes import NO_PERSON, UNCLEAR

STAGES = ("requested", "drawn", "kept", "weighted")


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


def summary(table: pd.DataFrame, index: pd.DataFrame) -> dict[str, object]:
    """Condense a representation table for ``results/audit.json``.

    Returns
    -------
    dict
        Per set: images drawn and used, verdict counts, and per attribute and stage the total
        variation distance to the target (null where no image is left).
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
        out[str(name)] = entry
    return out
