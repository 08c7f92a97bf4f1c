"""Arms against each other: intervals, noise floors, tests and side effects for ``metrics.json``.

``docs/measurement.md`` documents the file. Clusters are prompts (professions) and training seeds;
arms share prompts and initial noise, so they are compared by differences per prompt and seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dft_lib.calibration import Calibration
from dft_lib.evaluated import Arm, as_entry, cells, plain_part
from dft_lib.evaluation import Target, all_attributes
from dft_lib.fairness import metrics, uncertainty
from dft_lib.fairness.counts import Counts
from dft_lib.fairness.report import fairness_report, plain
from dft_lib.side_effects import side_effects

SCHEMA = 1
PARTS = ("seen", "held_out", "person")
REFERENCES = ("base", "unbalanced")
_KEPT = ("prompts", "prompts_without_images", "seeds", "images", "shares", "per_prompt",
         "pooled", "null_band", "notes")  # fmt: skip


def counts_of(arm: Arm, part: str, attribute: str, groups: list[str]) -> Counts:
    """Return an arm's counts per prompt and seed; an untrained arm's once per prompt."""
    rows = plain_part(arm, part)
    if not arm.trained:
        rows = rows.drop_duplicates("prompt_id")
    seeds = list(dict.fromkeys(rows["seed"])) if arm.trained else [rows["seed"].min()]
    prompts = list(dict.fromkeys(rows["prompt_id"]))
    values = np.full((len(prompts), len(seeds), len(groups)), np.nan)
    columns = [f"{attribute}:{group}" for group in groups]
    for row in rows.to_dict("records"):
        column = seeds.index(row["seed"]) if arm.trained else 0
        values[prompts.index(row["prompt_id"]), column] = [row[c] for c in columns]
    names = tuple(str(s) for s in seeds)
    return Counts(tuple(groups), tuple(prompts), names, values, len(rows), True)


def _difference(arm: Arm, other: Arm, part: str, column: str, by: str) -> dict[str, Any] | None:
    """Arm minus other: mean with interval, and the sign-flip p over prompts."""
    one, two = (cells(a, part, column, by) for a in (arm, other))
    if one.empty or two.empty:
        return None
    difference = one.sub(two)
    found = as_entry(uncertainty.bootstrap_interval(difference.to_numpy()))
    per_prompt = difference.mean(axis=1).to_numpy()
    number = int((~np.isnan(per_prompt)).sum())
    smallest = uncertainty.smallest_p(number)
    return found | {
        "prompts": number,
        "p": round(uncertainty.sign_flip_test(per_prompt), 6),
        "smallest_possible_p": round(smallest, 6),
    }


def _holm(entries: dict[str, dict[str, Any] | None]) -> None:
    """Add Holm-corrected p values over arms, in place."""
    known = {name: e["p"] for name, e in entries.items() if e is not None}
    for name, p in uncertainty.holm(known).items():
        entry = entries[name]
        assert entry is not None
        entry["p_holm"] = round(p, 6)


def gaps(arm: Arm, target: Target) -> dict[str, Any]:
    """Every metric of every attribute (and of gender x tone) on each part of the plain prompts."""
    found: dict[str, Any] = {}
    for part in PARTS:
        if plain_part(arm, part).empty:
            continue
        found[part] = {}
        everything = all_attributes(target)
        for attribute, wanted in everything.items():
            counts = counts_of(arm, part, attribute, list(wanted))
            report = fairness_report(counts, list(wanted.values()), draws=4000)
            found[part][attribute] = {key: report[key] for key in _KEPT}
        pair = [len(groups) for groups in target.values()]
        for name in set(everything) - set(target):
            counts = counts_of(arm, part, name, list(everything[name]))
            cells = np.nansum(counts.values, (0, 1))
            information = float(metrics.mutual_information(cells.reshape(pair)))
            floor = (pair[0] - 1) * (pair[1] - 1) / (2 * max(cells.sum(), 1))
            found[part][name]["mutual_information"] = {
                "value": plain(information), "noise_floor": plain(floor)
            }  # fmt: skip
    return found


def tests_table(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tests of ``metrics.json`` as rows: difference, interval, corrected p."""
    rows = []
    for name, arm in measured["arms"].items():
        for reference in REFERENCES:
            for part, entries in arm.get(f"against_{reference}", {}).items():
                for attribute, entry in entries.items():
                    if entry is None or entry["p"] is None:
                        continue
                    about = {"arm": name, "against": reference, "part": part}
                    rows.append(
                        about | {"attribute": attribute, "difference": entry["value"],
                                 "low": entry["low"], "high": entry["high"],
                                 "p (Holm)": entry["p_holm"],
                                 "smallest possible p": entry["smallest_possible_p"]}
                    )  # fmt: skip
    return rows


def corrected(arm: Arm, target: Target, calibration: Calibration) -> dict[str, Any]:
    """Shares over all plain profession prompts, corrected for the judges' errors."""
    people = arm.ratings[arm.ratings["kind"] == "neutral"]
    tones = list(target.get("skin_tone", {}))
    return {a: calibration.corrected(people, a, list(g), tones) for a, g in target.items()}


def compare(
    arms: dict[str, Arm], target: Target, space: str, calibration: Calibration | None = None
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
            "side_effects": side_effects(arm, arms.get("base", arm), target),
            "corrected_shares": corrected(arm, target, calibration) if calibration else None,
        }
        for name, arm in arms.items()
    }
    for reference in REFERENCES:
        if reference not in arms:
            continue
        others = [name for name in arms if name not in ("base", reference)]
        entries: dict[str, dict[str, Any]] = {name: {} for name in others}
        for part in PARTS:
            for attribute in all_attributes(target):
                tested = {
                    name: _difference(
                        arms[name], arms[reference], part, f"{attribute}:gap", "prompt_id"
                    )
                    for name in others
                }
                _holm(tested)
                for name, entry in tested.items():
                    entries[name].setdefault(part, {})[attribute] = entry
        for attribute in target:
            tested = {
                name: _difference(
                    arms[name], arms[reference], "explicit", f"{attribute}:as_asked", "noun"
                )
                for name in others
            }
            _holm(tested)
            for name, entry in tested.items():
                entries[name].setdefault("explicit", {})[attribute] = entry
        for name in others:
            found[name][f"against_{reference}"] = entries[name]
    return {
        "schema": SCHEMA,
        "target": target,
        "feature_space": space,
        "arms": found,
    }
