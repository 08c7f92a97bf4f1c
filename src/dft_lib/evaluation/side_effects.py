"""What a treatment changes besides the gaps: prompts, roles, drop-outs, diversity, drift."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dft_lib.evaluation import distances
from dft_lib.evaluation.arm import EvaluatedArm, as_entry, cells
from dft_lib.evaluation.tables import right_role
from dft_lib.fairness import uncertainty
from dft_lib.fairness.rates import rates_by_group
from dft_lib.fairness.report import plain
from dft_lib.study.attributes import NO_PERSON, UNCLEAR, Target


def side_effects(arm: EvaluatedArm, base: EvaluatedArm | None, target: Target) -> dict[str, Any]:
    """Measure explicit and general prompts, roles, drop-outs, diversity and drift.

    Diversity and drift compare with the base model, and are None without it.
    """
    explicit = {
        a: as_entry(
            uncertainty.bootstrap_interval(cells(arm, "explicit", f"{a}:as_asked", "noun"))
        )
        for a in target
    }
    things = cells(arm, "general", "role_accuracy", "noun")
    nothing = {"value": None, "low": None, "high": None}
    kinds = ("explicit", "general")
    return {
        "explicit": explicit,
        "explicit_loss": _explicit_loss(arm, base, list(target)) if base else None,
        "general": nothing if things.empty else as_entry(uncertainty.bootstrap_interval(things)),
        "role_accuracy": {a: _roles(arm.ratings, a, list(g)) for a, g in target.items()},
        "drop_out": {a: _drop_out(arm.ratings, a, list(g)) for a, g in target.items()},
        "diversity": {a: _diversity(arm, base, a, list(g)) for a, g in target.items()}
        if base
        else None,
        "drift": {kind: _drift(arm, base, kind) for kind in kinds} if base else None,
    }


def _explicit_loss(
    arm: EvaluatedArm, base: EvaluatedArm, attributes: list[str]
) -> dict[str, float | None]:
    """How much less often explicit prompts are followed than by the base model (mean).

    Paired by prompt and seed: 0 is no loss, positive is worse, 1 is the most possible.
    """
    means = []
    for one in (base, arm):
        tables = [cells(one, "explicit", f"{a}:as_asked", "noun") for a in attributes]
        means.append(sum(tables[1:], tables[0]) / len(tables))
    return as_entry(uncertainty.bootstrap_interval(means[0].sub(means[1]).to_numpy()))


def _people(ratings: pd.DataFrame) -> pd.DataFrame:
    return ratings[ratings["kind"].isin(["neutral", "explicit"]) & (ratings["fold"] != "")]


def _roles(
    ratings: pd.DataFrame, attribute: str, groups: list[str], draws: int = 500
) -> dict[str, Any]:
    """Is a profession drawn as well for every perceived group? Equal accuracy of the generator.

    Standardised: accuracies are means over the professions that show every group, each weighing
    alike; otherwise a group drawn mostly in an easy profession would look well drawn. The floor
    of the difference is its mean when groups are exchanged at random within each profession.
    """
    people = _people(ratings)
    people = people.assign(right=right_role(people)).dropna(subset="right")
    table = people.groupby(["noun", f"rated_{attribute}"])["right"].agg(["sum", "count"])
    totals = table["count"].unstack(fill_value=0).reindex(columns=groups, fill_value=0)
    right = table["sum"].unstack(fill_value=0).reindex(columns=groups, fill_value=0)
    whole = (totals > 0).all(axis=1)
    n, r = totals[whole].to_numpy(int), right[whole].to_numpy(int)
    about = {"professions": len(n), "images": dict(zip(groups, map(int, n.sum(0)), strict=True))}
    if not len(n):
        return about | {"groups": None, "difference": None, "ratio": None, "noise_floor": None}
    mean = (r / n).mean(0)
    rng = np.random.default_rng(0)
    shuffled = np.stack(
        [rng.multivariate_hypergeometric(row, done.sum(), size=draws) / row
         for row, done in zip(n, r, strict=True)]
    ).mean(0)  # fmt: skip
    found = rates_by_group(mean, np.ones(len(groups)))
    return about | {
        "groups": {g: plain(float(m)) for g, m in zip(groups, mean, strict=True)},
        "difference": plain(float(found["difference"])),
        "ratio": plain(float(found["ratio"])),
        "noise_floor": plain(float(np.ptp(shuffled, axis=1).mean())),
    }


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


def _diversity(
    arm: EvaluatedArm, base: EvaluatedArm, attribute: str, groups: list[str]
) -> dict[str, Any]:
    """Compare diversity within prompt and group with the base model's, over cells both have."""
    mine, theirs = (distances.diversity_cells(a.features, a.ratings, attribute)
                    for a in (arm, base))  # fmt: skip
    found: dict[str, Any] = {}
    for group in groups:
        both = pd.concat([mine, theirs], axis=1, join="inner", keys=["arm", "base"])
        both = both[both.index.get_level_values("group") == group]
        change = uncertainty.bootstrap_interval((both["arm"] - both["base"]).to_numpy())
        means = [plain(float(both[c].mean())) if len(both) else None for c in ("arm", "base")]
        found[group] = {"prompts": len(both), "value": means[0], "base": means[1],
                        "difference": as_entry(change)}  # fmt: skip
    return found


def _drift(arm: EvaluatedArm, base: EvaluatedArm, kind: str) -> dict[str, Any]:
    """How far an arm's images of prompts that name everything lie from the base model's.

    Images are paired: same prompt, same noise. ``other_noise`` is the base model's own distance
    between its first and second images of every prompt: what the kernel distance is without any
    drift. (No such scale exists for the Frechet distance: it needs the same n and pairing.)
    """
    theirs = _of_kind(base, kind, base.ratings["seed"].min())
    frechet, kernels, number = [], [], 0
    for seed in sorted(set(arm.ratings["seed"])):
        mine = _of_kind(arm, kind, seed)
        frechet.append(distances.frechet_distance(mine, theirs))
        kernels.append(distances.kernel_distance(mine, theirs))
        number = len(mine)
    rows = base.ratings[base.ratings["kind"] == kind].sort_values(["prompt_id", "replicate"])
    halves = [theirs[(rows["replicate"] == k).to_numpy()] for k in (0, 1)]
    return {
        "frechet_distance": plain(float(np.mean(frechet))),
        "kernel_distance": plain(float(np.mean(kernels))),
        "images": number,
        "other_noise": {
            "kernel_distance": plain(distances.kernel_distance(halves[0], halves[1])),
            "images": len(halves[0]),
        }
        if len(halves[0]) == len(halves[1])
        else None,
    }


def _of_kind(arm: EvaluatedArm, kind: str, seed: int) -> np.ndarray:
    """Return the features of one kind of prompt and seed, in an order that all arms share."""
    rows = arm.ratings[(arm.ratings["kind"] == kind) & (arm.ratings["seed"] == seed)]
    order = rows.sort_values(["prompt_id", "replicate"]).index
    return arm.features[order.to_numpy()]


def table_of(measured: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return the side effects of ``metrics.json``, one column of numbers per arm."""
    found: dict[str, dict[str, float | None]] = {}
    for arm in measured["arms"].values():
        effects = arm["side_effects"]
        column = {f"explicit {a} as asked": e["value"] for a, e in effects["explicit"].items()}
        column["general"] = effects["general"]["value"]
        for attribute, entry in effects["role_accuracy"].items():
            column[f"role accuracy, difference by {attribute}"] = entry["difference"]
            column[f"  (its floor, {attribute})"] = entry["noise_floor"]
        for attribute, groups in (effects["diversity"] or {}).items():
            for group, entry in groups.items():
                name = f"diversity within {attribute} {group}, change"
                column[name] = entry["difference"]["value"]
        for kind, entry in (effects["drift"] or {}).items():
            name = f"Frechet distance to base, {kind} (n = {entry['images']})"
            column[name] = entry["frechet_distance"]
        found[arm["label"]] = column
    return found
