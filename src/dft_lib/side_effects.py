"""What a treatment changes besides the gaps: prompts, roles, drop-outs, diversity, drift."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dft_lib import features
from dft_lib.evaluated import Arm, as_entry, cells
from dft_lib.evaluation import Target
from dft_lib.fairness import floors, uncertainty
from dft_lib.fairness.rates import rates_by_group
from dft_lib.fairness.report import plain
from dft_lib.raters.base import NO_PERSON, UNCLEAR


def side_effects(arm: Arm, base: Arm, target: Target) -> dict[str, Any]:
    """Measure explicit and general prompts, roles, drop-outs, diversity and drift."""
    explicit = {
        a: as_entry(
            uncertainty.bootstrap_interval(cells(arm, "explicit", f"{a}:as_asked", "noun"))
        )
        for a in target
    }
    general = uncertainty.bootstrap_interval(cells(arm, "general", "role_accuracy", "noun"))
    return {
        "explicit": explicit,
        "general": as_entry(general),
        "role_accuracy": {a: _roles(arm.ratings, a, list(groups)) for a, groups in target.items()},
        "drop_out": {a: _drop_out(arm.ratings, a, list(groups)) for a, groups in target.items()},
        "diversity": {a: {g: plain(v) for g, v in
                          features.diversity_within(arm.features, arm.ratings, a).items()
                          if g in target[a]} for a in target},
        "drift": {kind: _drift(arm, base, kind) for kind in ("explicit", "general")},
    }  # fmt: skip


def _people(ratings: pd.DataFrame) -> pd.DataFrame:
    return ratings[ratings["kind"].isin(["neutral", "explicit"]) & (ratings["fold"] != "")]


def _roles(ratings: pd.DataFrame, attribute: str, groups: list[str]) -> dict[str, Any]:
    """Is a profession drawn as well for every perceived group? Equal accuracy of the generator."""
    people = _people(ratings)
    right = (people["rated_role"] == people["noun"]).to_numpy()
    rated = people[f"rated_{attribute}"].to_numpy()
    successes = [int(right[rated == g].sum()) for g in groups]
    totals = [int((rated == g).sum()) for g in groups]
    found = rates_by_group(successes, totals)
    spans = floors.wilson(successes, totals)
    return {
        "groups": {g: {"value": plain(r), "low": plain(lo), "high": plain(hi), "images": n}
                   for g, r, (lo, hi), n in zip(groups, np.atleast_1d(found["rates"]), spans,
                                                totals, strict=True)},
        "difference": plain(float(found["difference"])),
        "ratio": plain(float(found["ratio"])),
    }  # fmt: skip


def _drop_out(ratings: pd.DataFrame, attribute: str, groups: list[str]) -> dict[str, Any]:
    """Share of images without a person or a clear answer, by the group that the prompt asked for.

    Plain prompts ask for none: their row is "". The bounds say what the first group's share of
    plain prompts would be if all images without an answer were of the other groups, or of it.
    """
    people = _people(ratings)
    found: dict[str, Any] = {}
    for asked in ("", *groups):
        rated = people.loc[people[attribute] == asked, f"rated_{attribute}"]
        nobody, unclear = (rated == NO_PERSON).mean(), (rated == UNCLEAR).mean()
        found[asked] = {"images": len(rated), "no_person": plain(float(nobody)),
                        "unclear": plain(float(unclear))}  # fmt: skip
        if not asked and len(rated):
            first = float((rated == groups[0]).mean())
            missing = float(rated.isin([NO_PERSON, UNCLEAR]).mean())
            found[asked]["bounds"] = {groups[0]: [plain(first), plain(first + missing)]}
    return found


def _drift(arm: Arm, base: Arm, kind: str) -> dict[str, Any]:
    """How far an arm's images of prompts that name everything lie from the base model's."""
    theirs = base.features[(base.ratings["kind"] == kind).to_numpy()]
    distances, kernels, number = [], [], 0
    for seed in sorted(set(arm.ratings["seed"])):
        mine = arm.features[((arm.ratings["kind"] == kind) & (arm.ratings["seed"] == seed))]
        distances.append(features.frechet_distance(mine, theirs))
        kernels.append(features.kernel_distance(mine, theirs))
        number = len(mine)
    return {"frechet_distance": plain(float(np.mean(distances))),
            "kernel_distance": plain(float(np.mean(kernels))), "images": number}  # fmt: skip


def table_of(measured: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return the side effects of ``metrics.json``, one column of numbers per arm."""
    found: dict[str, dict[str, float | None]] = {}
    for arm in measured["arms"].values():
        effects = arm["side_effects"]
        column = {f"explicit {a} as asked": e["value"] for a, e in effects["explicit"].items()}
        column["general"] = effects["general"]["value"]
        for attribute, entry in effects["role_accuracy"].items():
            column[f"role accuracy, difference by {attribute}"] = entry["difference"]
        for attribute, groups in effects["diversity"].items():
            known = [v for v in groups.values() if v is not None]
            mean = sum(known) / len(known) if known else None
            column[f"diversity within {attribute}"] = mean
        for kind, entry in effects["drift"].items():
            column[f"Frechet distance, {kind} (n = {entry['images']})"] = entry["frechet_distance"]
        found[arm["label"]] = column
    return found
