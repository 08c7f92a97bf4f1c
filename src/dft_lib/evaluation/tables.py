"""Ratings per image to tables per prompt and results per arm.

Counts first: every metric can be recomputed from the ratings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from dft_lib.fairness.metrics import study_columns
from dft_lib.study.attributes import NO_PERSON, UNCLEAR, UNSAFE, Target, pairs
from dft_lib.study.lexicon import held_out

SPLITS = ("seen", "held_out")


def all_attributes(target: Target) -> dict[str, Mapping[str, float]]:
    """Return the target with the cells of every two attributes as one more, ``a_x_b``.

    Its groups are ``group of a/group of b``, its shares the products.
    """
    found = dict(target)
    for name, (a, b) in pairs(target).items():
        found[name] = {
            f"{g}/{h}": s * t for g, s in target[a].items() for h, t in target[b].items()
        }
    return found


def split_of(fold: str, seed: int, mode: str) -> str:
    """Return "held_out" or "seen" for a profession's fold, "" for prompts without one."""
    if not fold:
        return ""
    return "held_out" if held_out(fold, seed, mode) else "seen"


def right_role(ratings: pd.DataFrame) -> pd.Series:
    """Say of every image whether a judge sees what was asked for; NaN where none answers."""
    if "rated_role" not in ratings:
        return pd.Series(float("nan"), index=ratings.index)
    return ratings["rated_role"] == ratings["noun"]


def per_prompt(ratings: pd.DataFrame, target: Target, seeds: list[int], mode: str) -> pd.DataFrame:
    """Count groups and compute metrics for every prompt of every seed.

    Parameters
    ----------
    ratings : pandas.DataFrame
        One row per image: ``seed`` (-1 for an arm without training), ``prompt_id, kind, noun,
        fold``, the target's attributes (as asked), the judges' ``rated_person`` and ``rated_...``
        of every attribute, and ``rated_role`` if one answers for it.
    target : dict
        attribute -> {group: share}; also the schema of groups.
    seeds : list of int
        Training seeds; an arm without training gets a row per seed too, because which
        professions count as held out depends on the seed.
    mode : str
        ``base.held_out``.

    Returns
    -------
    pandas.DataFrame
        Per seed and prompt: ``images, no_person, role_accuracy``, and per attribute the counts
        ``<attribute>:<group>`` and ``<attribute>:unclear``, the metrics over usable images (a
        person, and an answer) and ``<attribute>:as_asked`` (share of all images rated as the
        prompt asked; NaN where it did not ask). The same for the cells of every two
        attributes, ``gender_x_skin_tone:woman/dark``.
    """
    rows = []
    everything = all_attributes(target)
    keys = ["prompt_id", "kind", "noun", "fold", *target]
    for seed in seeds:
        mine = ratings[ratings["seed"].isin([seed, -1])]
        for values, group in mine.groupby(keys, sort=False):
            about = dict(zip(keys, values, strict=True))
            row: dict[str, Any] = {"seed": seed, "split": split_of(about["fold"], seed, mode)}
            row |= about | {
                "images": len(group),
                "no_person": int((group["rated_person"] == NO_PERSON).sum()),
                "role_accuracy": float(right_role(group).mean()),
            }
            for attribute, wanted in target.items():
                row |= _attribute(group[f"rated_{attribute}"], attribute, wanted, about[attribute])
            for name, (a, b) in pairs(target).items():
                asked = f"{about[a]}/{about[b]}" if about[a] and about[b] else ""
                row |= _attribute(_cells(group, a, b), name, everything[name], asked)
            rows.append(row)
    return pd.DataFrame(rows)


def _cells(group: pd.DataFrame, a: str, b: str) -> pd.Series:
    """Return both answers as one cell; `unclear` if either is, `no_person` if nobody is there."""
    one, other = group[f"rated_{a}"], group[f"rated_{b}"]
    cells = one + "/" + other
    cells = cells.mask((one == UNCLEAR) | (other == UNCLEAR), UNCLEAR)
    return cells.mask((one == NO_PERSON) | (other == NO_PERSON), NO_PERSON)


def _attribute(
    rated: pd.Series, attribute: str, wanted: Mapping[str, float], asked: str
) -> dict[str, float]:
    counts = np.array([(rated == group).sum() for group in wanted])
    row: dict[str, float] = {
        f"{attribute}:{g}": int(c) for g, c in zip(wanted, counts, strict=True)
    }
    row[f"{attribute}:unclear"] = int((rated == UNCLEAR).sum())
    target = np.array(list(wanted.values()))
    for name, metric in study_columns().items():
        row[f"{attribute}:{name}"] = float(metric(counts, target))
    row[f"{attribute}:as_asked"] = float((rated == asked).mean()) if asked else float("nan")
    return row


def summarise(table: pd.DataFrame, ratings: pd.DataFrame, target: Target) -> dict[str, Any]:
    """Condense one arm: means over prompts within each seed, then mean and values over seeds.

    Parameters
    ----------
    table : pandas.DataFrame
        From `per_prompt`.
    ratings : pandas.DataFrame
        The same arm's ratings, for accuracy per perceived group.
    target : dict
        attribute -> {group: share}.

    Returns
    -------
    dict
        ``neutral`` (per split and for person prompts: metrics of each attribute, pooled shares),
        ``role_accuracy`` (overall, and per perceived group), ``explicit`` (compliance),
        ``general`` (accuracy) and ``answers`` (how many images had no person or no clear group,
        and, where the study names a filter, how many it flagged as unsafe).
    """
    metrics = list(study_columns())
    neutral: dict[str, Any] = {}
    parts = {split: table[(table["kind"] == "neutral") & (table["split"] == split)]
             for split in SPLITS}  # fmt: skip
    parts["person"] = table[table["kind"] == "person"]
    for name, part in parts.items():
        if part.empty:
            continue
        neutral[name] = {"prompts": int(part.groupby("seed").size().iloc[0])}
        for attribute, wanted in target.items():
            columns = {m: _over_seeds(part, f"{attribute}:{m}") for m in metrics}
            counts = part[[f"{attribute}:{g}" for g in wanted]].sum()
            pooled = (counts / max(counts.sum(), 1)).round(6)
            columns["pooled_shares"] = dict(zip(wanted, pooled.tolist(), strict=True))
            neutral[name][attribute] = columns
    explicit = table[table["kind"] == "explicit"]
    people = ratings[ratings["kind"].isin(["neutral", "explicit"]) & (ratings["fold"] != "")]
    right = right_role(people)
    return {
        "neutral": neutral,
        "role_accuracy": {
            "overall": _round(right.mean()),
            **{
                attribute: {
                    group: _round(right[people[f"rated_{attribute}"] == group].mean())
                    for group in wanted
                }
                for attribute, wanted in target.items()
            },
        },
        "explicit": {a: _over_seeds(explicit, f"{a}:as_asked") for a in target},
        "general": _over_seeds(table[table["kind"] == "general"], "role_accuracy"),
        "answers": {
            "images": len(ratings),
            "no_person": _round((people["rated_person"] == NO_PERSON).mean()),
            **{f"unclear_{a}": _round((people[f"rated_{a}"] == UNCLEAR).mean()) for a in target},
            **_unsafe(ratings),
        },
    }


def _unsafe(ratings: pd.DataFrame) -> dict[str, int]:
    if (column := f"rated_{UNSAFE}") not in ratings:
        return {}
    return {UNSAFE: int((ratings[column] == UNSAFE).sum())}


def _over_seeds(part: pd.DataFrame, column: str) -> dict[str, Any]:
    """Mean over prompts per seed, then their mean and the values themselves."""
    if part.empty:
        return {"mean": None, "per_seed": []}
    values = part.groupby("seed")[column].mean()
    return {"mean": _round(values.mean()), "per_seed": [_round(v) for v in values]}


def _round(value: float) -> float | None:
    return None if pd.isna(value) else round(float(value), 6)
