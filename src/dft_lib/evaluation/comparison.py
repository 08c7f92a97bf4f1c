"""Arms against each other: intervals, noise floors, tests and side effects for ``metrics.json``.

``docs/measurement.md`` documents the file. Clusters are prompts (professions) and training seeds;
arms share prompts and initial noise, so they are compared by differences per prompt and seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dft_lib.evaluation.arm import EvaluatedArm, as_entry, cells, plain_part
from dft_lib.evaluation.calibration import STRATUM, Calibration
from dft_lib.evaluation.side_effects import side_effects
from dft_lib.evaluation.tables import all_attributes
from dft_lib.fairness import uncertainty
from dft_lib.fairness.counts import Counts
from dft_lib.fairness.intersections import mutual_information
from dft_lib.fairness.metrics import METRICS
from dft_lib.fairness.report import fairness_report, plain
from dft_lib.fairness.unbiased import squared_gap
from dft_lib.repro.files import write_text
from dft_lib.study.attributes import Target, pairs

SCHEMA = 2
PARTS = ("seen", "held_out", "person")
_KEPT = ("prompts", "prompts_without_images", "seeds", "images", "shares", "notes")


def counts_of(arm: EvaluatedArm, part: str, attribute: str, groups: list[str]) -> Counts:
    """Return an arm's counts per prompt and seed; an untrained arm's once per prompt."""
    rows = plain_part(arm, part)
    if not arm.trained:
        rows = rows.drop_duplicates("prompt_id")
    seeds = list(dict.fromkeys(rows["seed"])) if arm.trained else [rows["seed"].min()]
    prompts = sorted(set(rows["prompt_id"]))
    values = np.full((len(prompts), len(seeds), len(groups)), np.nan)
    columns = [f"{attribute}:{group}" for group in groups]
    for row in rows.to_dict("records"):
        column = seeds.index(row["seed"]) if arm.trained else 0
        values[prompts.index(row["prompt_id"]), column] = [row[c] for c in columns]
    names = tuple(str(s) for s in seeds)
    return Counts(tuple(groups), tuple(prompts), names, values, len(rows), True)


def _per_cell(
    arm: EvaluatedArm, part: str, attribute: str, wanted: Mapping[str, float]
) -> pd.DataFrame:
    """Return the unbiased squared gap as prompts x seeds: mean 0 for a fair model, at any N."""
    rows = plain_part(arm, part)
    counts = rows[[f"{attribute}:{g}" for g in wanted]].to_numpy()
    squares = squared_gap(counts, list(wanted.values()))
    return rows.assign(square=squares).pivot_table(
        index="prompt_id", columns="seed", values="square", aggfunc="mean"
    )


def _difference(one: pd.DataFrame, other: pd.DataFrame) -> dict[str, Any]:
    """One arm minus another, prompts x seeds: mean with interval, and each seed's own mean."""
    difference = one.sub(other)
    found: dict[str, Any] = as_entry(uncertainty.bootstrap_interval(difference.to_numpy()))
    return found | {"per_seed": [plain(float(v)) for v in difference.mean(axis=0)]}


def _tested(one: pd.DataFrame, other: pd.DataFrame) -> dict[str, Any]:
    """Return `_difference` with the sign-flip p over prompts, for these trained models."""
    per_prompt = one.sub(other).mean(axis=1).to_numpy()
    moved = int((np.nan_to_num(per_prompt) != 0).sum())
    return _difference(one, other) | {
        "prompts": int((~np.isnan(per_prompt)).sum()),
        "p": plain(uncertainty.sign_flip_test(per_prompt)),
        "smallest_possible_p": uncertainty.smallest_p(moved),
    }


def _holm(entries: dict[str, dict[str, Any]]) -> None:
    """Add Holm-corrected p values over arms, in place; the smallest possible one grows too."""
    adjusted = uncertainty.holm({name: entry["p"] for name, entry in entries.items()})
    for name, p in adjusted.items():
        entry = entries[name]
        entry["p_holm"] = plain(p)
        least = min(1.0, entry["smallest_possible_p"] * len(entries))
        entry["smallest_possible_p"] = plain(least)


def _against(
    arms: dict[str, EvaluatedArm], others: list[str], reference: EvaluatedArm, target: Target
) -> dict[str, dict[str, Any]]:
    """Compare arms with a reference: gaps on each part, and explicit prompts."""
    found: dict[str, dict[str, Any]] = {name: {} for name in others}
    for part in PARTS:
        if plain_part(reference, part)["prompt_id"].nunique() < 2:
            continue  # nothing generalises over one prompt
        for attribute, wanted in all_attributes(target).items():
            theirs = _per_cell(reference, part, attribute, wanted)
            tests = {
                n: _tested(_per_cell(arms[n], part, attribute, wanted), theirs) for n in others
            }
            _holm(tests)
            raw = cells(reference, part, f"{attribute}:gap")
            for name, test in tests.items():
                mine = cells(arms[name], part, f"{attribute}:gap")
                entry = {"gap": _difference(mine, raw), "squared_gap": test}
                found[name].setdefault(part, {})[attribute] = entry
    for attribute in target:
        column = f"{attribute}:as_asked"
        theirs = cells(reference, "explicit", column, "noun")
        if theirs.empty:
            continue
        tests = {n: _tested(cells(arms[n], "explicit", column, "noun"), theirs) for n in others}
        _holm(tests)
        for name, test in tests.items():
            found[name].setdefault("explicit", {})[attribute] = {"as_asked": test}
    return found


def gaps(arm: EvaluatedArm, target: Target) -> dict[str, Any]:
    """Every metric of every attribute (and of every two) on each part of the plain prompts."""
    found: dict[str, Any] = {}
    for part in PARTS:
        if plain_part(arm, part).empty:
            continue
        found[part] = {}
        everything = all_attributes(target)
        for attribute, wanted in everything.items():
            counts = counts_of(arm, part, attribute, list(wanted))
            report = fairness_report(counts, list(wanted.values()), shared_noise=True)
            found[part][attribute] = _kept(report, few=part == "person" or attribute not in target)
        for name, both in pairs(target).items():
            counts = counts_of(arm, part, name, list(everything[name]))
            pair = [len(target[attribute]) for attribute in both]
            found[part][name]["mutual_information"] = _information(counts, pair)
    return found


def _kept(report: dict[str, Any], *, few: bool) -> dict[str, Any]:
    """Return what of a report stands in ``metrics.json``.

    Left out are multiples of other metrics (with `few`, all that are not `brief`), and pooled
    metrics (all but the gap, which is to be seen beside the mean): ``dft fairness`` computes them
    from ``results/<arm>.csv``.
    """
    found: dict[str, Any] = {key: report[key] for key in _KEPT}
    shown = {n for n, m in METRICS.items() if (m.brief if few else m.multiple_of is None)}
    for key, entries in (("per_prompt", report["per_prompt"]),
                         ("null_band", report["null_band"]["per_prompt"])):  # fmt: skip
        found[key] = {name: entry for name, entry in entries.items() if name in shown}
    found["null_band"] = {"per_prompt": found["null_band"]}
    found["pooled"] = {"parity_gap": report["pooled"]["parity_gap"]}
    return found


def _information(counts: Counts, pair: list[int], draws: int = 300) -> dict[str, Any]:
    """Mean over prompts of the mutual information of two attributes, and its floor.

    Per prompt: pooled, professions that differ in both attributes would look dependent. The floor
    is the mean when both attributes are drawn independently from each prompt's own margins.
    """
    table = np.nansum(counts.values, axis=1).reshape(-1, *pair)
    table = table[table.sum((1, 2)) > 0]
    if not len(table):
        return {"value": None, "noise_floor": None}
    total = table.sum((1, 2))
    margins = table.sum(2)[:, :, None] * table.sum(1)[:, None, :] / total[:, None, None] ** 2
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(
        total.astype(int), margins.reshape(len(table), -1), size=(draws, len(table))
    ).reshape(draws, -1, *pair)
    return {
        "value": plain(float(mutual_information(table).mean())),
        "noise_floor": plain(float(mutual_information(drawn).mean())),
    }


def tests_table(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tests of ``metrics.json`` as rows: difference, interval, corrected p."""
    rows = []
    for name, arm in measured["arms"].items():
        for key in (k for k in arm if k.startswith("against_")):
            for part, entries in arm[key].items():
                for attribute, entry in entries.items():
                    shown = entry.get("gap") or entry["as_asked"]
                    test = entry.get("squared_gap") or entry["as_asked"]
                    seeds = [s for s in shown["per_seed"] if s is not None]
                    about = {"arm": name, "against": key.removeprefix("against_"), "part": part}
                    rows.append(
                        about | {"attribute": attribute, "difference": shown["value"],
                                 "low": shown["low"], "high": shown["high"],
                                 "least of the seeds": min(seeds, default=None),
                                 "most": max(seeds, default=None),
                                 "p (Holm)": test["p_holm"],
                                 "smallest possible p": test["smallest_possible_p"]}
                    )  # fmt: skip
    return rows


def calibrated_shares(
    arm: EvaluatedArm, target: Target, calibration: Calibration
) -> dict[str, Any]:
    """Return shares over all plain profession prompts, corrected for the judges' errors."""
    people = arm.ratings[arm.ratings["kind"] == "neutral"]
    strata = list(target.get(STRATUM, {}))
    return {a: calibration.calibrated(people, a, list(g), strata) for a, g in target.items()}


def compare(
    arms: dict[str, EvaluatedArm],
    target: Target,
    space: str,
    *,
    references: Sequence[str] = ("base",),
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """Measure all arms and test them against the references that are among them.

    Parameters
    ----------
    arms : dict
        Name -> arm, the base model among them under "base".
    target : dict
        attribute -> {group: share}.
    space : str
        Name of the feature space.
    references : sequence of str
        Arms that the others are tested against.
    calibration : Calibration, optional
        The judges' errors on labelled images, if there are any.

    Returns
    -------
    dict
        The content of ``metrics.json``.
    """
    found: dict[str, Any] = {
        name: {
            "label": arm.label,
            "trained": arm.trained,
            "neutral": gaps(arm, target),
            "side_effects": side_effects(arm, arms.get("base"), target),
            "corrected_shares": calibrated_shares(arm, target, calibration)
            if calibration
            else None,
        }
        for name, arm in arms.items()
    }
    for reference in references:
        if reference in arms:
            others = [name for name in arms if name not in ("base", reference)]
            for name, entry in _against(arms, others, arms[reference], target).items():
                found[name][f"against_{reference}"] = entry
    return {"schema": SCHEMA, "target": target, "feature_space": space, "arms": found}


def write(path: Path, measured: dict[str, Any], width: int = 120) -> None:
    """Write ``metrics.json``: sorted, and on one line what fits there (25 arms are long)."""

    def text(value: Any, depth: int) -> str:
        flat = json.dumps(
            value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        if not isinstance(value, dict) or depth + len(flat) <= width:
            return flat
        inside = (f"{json.dumps(k, ensure_ascii=False)}:{text(value[k], depth + 1)}"
                  for k in sorted(value))  # fmt: skip
        pad = "\n" + " " * (depth + 1)
        return "{" + pad + ("," + pad).join(inside) + pad[:-1] + "}"

    write_text(path, text(measured, 0) + "\n")
