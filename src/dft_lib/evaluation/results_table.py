"""The results as one table: an arm per row, its outcomes with intervals and tests, and its cost.

Nothing is computed here but seconds: every number stands in ``metrics.json``,
``results/<arm>.json`` or ``benchmarks/minutes.csv``. ``docs/measurement.md`` names the columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dft_lib.evaluation.scales import normalised
from dft_lib.repro.paths import show

SPLITS = ("seen", "held_out")
COUNTS = ("seeds", "images_drawn", "images_trained", "forward", "backward", "parameters")
MINUTES = ("stage", "minutes", "profile", "machine", "date")
LEVEL = 0.05


def read_minutes(path: Path) -> pd.DataFrame:
    """Read minutes per stage as ``benchmarks/minutes.py`` writes them; no file, no rows.

    Raises
    ------
    ValueError
        If a column is missing or a stage stands there twice.
    """
    if not path.exists():
        return pd.DataFrame(columns=list(MINUTES))
    found = pd.read_csv(path)
    missing = [name for name in MINUTES if name not in found]
    if missing:
        raise ValueError(f"{show(path)} has no column {missing[0]!r}: run benchmarks/minutes.py")
    if found["stage"].duplicated().any():
        twice = found.loc[found["stage"].duplicated(), "stage"].iloc[0]
        raise ValueError(f"{show(path)} names stage {twice!r} twice: remove one line")
    return found


def results_table(
    measured: dict[str, Any],
    summaries: dict[str, Any],
    minutes: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the table; its arms and their order are those of `summaries`.

    Parameters
    ----------
    measured : dict
        Content of ``metrics.json``, from `dft_lib.evaluation.comparison.compare`.
    summaries : dict
        Arm -> content of ``results/<arm>.json``.
    minutes : pandas.DataFrame, optional
        From `read_minutes`. Seconds of stages that are not in it stay empty.

    Returns
    -------
    pandas.DataFrame
        Empty where not measured or not defined. An untrained arm made nothing: its cost is 0.
    """
    known = {} if minutes is None else dict(zip(minutes["stage"], minutes["minutes"], strict=True))
    rows = [
        _about(arm, summary, known) | _outcomes(measured, arm) | _differences(measured, arm)
        for arm, summary in summaries.items()
    ]
    table = pd.DataFrame(rows)
    for name in COUNTS:
        table[name] = table[name].astype("Int64")
    labels = {"arm", "label", "intervention", "trained", *COUNTS}
    numbers = {name: float for name in table if name not in labels}
    return table.astype(numbers)


def _about(arm: str, summary: dict[str, Any], minutes: dict[str, float]) -> dict[str, Any]:
    """Return what the arm is and what it cost, per model."""
    trained = bool(summary["trained"])
    seeds = len(summary["explicit"][next(iter(summary["explicit"]))]["per_seed"]) if trained else 0
    made, drawn = minutes.get(f"finetune@{arm}"), minutes.get(f"evaluate@{arm}")
    row: dict[str, Any] = {
        "arm": arm,
        "label": summary["label"],
        "intervention": summary.get("intervention"),
        "trained": trained,
        "seeds": seeds,
    }
    cost = summary.get("cost", {})
    for name in COUNTS[1:]:
        value = cost.get(name, pd.NA if trained else 0)
        row[name] = value if value is pd.NA else round(value)
    row["evaluations_per_step"] = summary.get("evaluations_per_step")
    row["seconds_per_model"] = None if made is None else 60 * made / seeds if seeds else 0.0
    images = summary["answers"]["images"]
    row["seconds_per_image"] = None if drawn is None else 60 * drawn / images
    return row


def _outcomes(measured: dict[str, Any], arm: str) -> dict[str, Any]:
    entry = measured["arms"][arm]
    row: dict[str, Any] = {}
    for attribute in measured["target"]:
        for part in (p for p in SPLITS if p in entry["neutral"]):
            raw = normalised(measured, arm, part, attribute)
            free = normalised(measured, arm, part, attribute, corrected=True)
            row |= _spread(f"{attribute}_gap_{part}", raw)
            row[f"{attribute}_gap_{part}_fair_model"] = raw["noise_floor"]
            row |= _spread(f"{attribute}_corrected_{part}", free)
            row[f"{attribute}_corrected_{part}_fair_high"] = free["null_high"]
    effects = entry["side_effects"]
    for attribute, asked in effects["explicit"].items():
        row |= _spread(f"explicit_{attribute}", asked)
    row |= _spread("explicit_loss", effects["explicit_loss"] or {})
    row |= _spread("general", effects["general"])
    for attribute, roles in effects["role_accuracy"].items():
        known = roles["difference"] is not None
        above = roles["difference"] - roles["noise_floor"] if known else None
        row[f"role_difference_{attribute}_above_floor"] = above
    for kind, drift in (effects["drift"] or {}).items():
        row[f"drift_{kind}_frechet"] = drift["frechet_distance"]
        row[f"drift_{kind}_kernel"] = drift["kernel_distance"]
    for attribute, asked in effects["drop_out"].items():
        row[f"unclear_{attribute}"] = asked[""]["unclear"]
        row["no_person"] = asked[""]["no_person"]
    return row


def _differences(measured: dict[str, Any], arm: str) -> dict[str, Any]:
    """Return differences from every reference, with p after Holm's correction over arms."""
    entry = measured["arms"][arm]
    row: dict[str, Any] = {}
    for key in (k for k in entry if k.startswith("against_")):
        reference = key.removeprefix("against_")
        for attribute in measured["target"]:
            for part in (p for p in SPLITS if attribute in entry[key].get(p, {})):
                found = entry[key][part][attribute]
                name = f"{attribute}_gap_{part}_minus_{reference}"
                row |= _spread(name, found["gap"]) | _tested(name, found["squared_gap"])
            asked = entry[key].get("explicit", {}).get(attribute)
            if asked:
                name = f"explicit_{attribute}_minus_{reference}"
                row |= _spread(name, asked["as_asked"]) | _tested(name, asked["as_asked"])
    return row


def _spread(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    return {name: entry.get("value"), f"{name}_low": entry.get("low"),
            f"{name}_high": entry.get("high")}  # fmt: skip


def _tested(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}_p_holm": entry["p_holm"], f"{name}_least_p": entry["smallest_possible_p"]}


def as_markdown(
    table: pd.DataFrame, minutes: pd.DataFrame | None = None, *, reference: str = "base"
) -> str:
    """Return the table for people: two decimals, intervals in brackets, a star where p < .05.

    Parameters
    ----------
    table : pandas.DataFrame
        From `results_table`.
    minutes : pandas.DataFrame, optional
        From `read_minutes`; says when and where the seconds were measured.
    reference : str
        The arm that stars refer to.
    """
    outcomes: dict[str, Any] = {}
    tests = []
    attributes = [
        c.removesuffix("_gap_seen").removesuffix("_gap_held_out") for c in table
        if c.endswith(("_gap_seen", "_gap_held_out"))
    ]  # fmt: skip
    for attribute in dict.fromkeys(attributes):
        for part in SPLITS:
            if f"{attribute}_gap_{part}" in table:
                test = f"{attribute}_gap_{part}_minus_{reference}"
                title = f"{attribute} gap, {part}".replace("_", " ")
                outcomes[title] = _cells(table, f"{attribute}_corrected_{part}", test)
                outcomes[title] += table[f"{attribute}_gap_{part}"].map(
                    lambda x: "" if pd.isna(x) else f"; {x:.2f}"
                )
                tests.append(test)
    for attribute in dict.fromkeys(attributes):
        test = f"explicit_{attribute}_minus_{reference}"
        title = f"explicit {attribute}".replace("_", " ")
        outcomes[title] = _cells(table, f"explicit_{attribute}", test)
        tests.append(test)
    outcomes["general"] = _cells(table, "general", "")
    unclear = [f"unclear_{attribute}" for attribute in dict.fromkeys(attributes)]
    outcomes["unclear"] = table[unclear].mean(axis=1).map(_short)
    outcomes["drift"] = table.get("drift_explicit_frechet", pd.Series(index=table.index)).map(
        _short
    )
    cost = {
        "models": table["seeds"].map(_whole),
        "images drawn": table["images_drawn"].map(_whole),
        "pictures trained on": table["images_trained"].map(_whole),
        "U-Net, forward": table["forward"].map(_whole),
        "U-Net, with gradient": table["backward"].map(_whole),
        "parameters": table["parameters"].map(_whole),
        "U-Net per step drawn": table["evaluations_per_step"].map(lambda x: _short(x, "g")),
        "s per model": table["seconds_per_model"].map(lambda x: _short(x, ".0f")),
        "s per image": table["seconds_per_image"].map(lambda x: _short(x, ".3f")),
    }
    return "\n".join(
        ["# Results", "", *_grid(table["label"], outcomes), "", *_notes(table, tests, reference),
         "", "# Cost of one model, and of drawing", "", *_grid(table["label"], cost), "",
         *_cost_notes(minutes), ""]
    )  # fmt: skip


def _cells(table: pd.DataFrame, name: str, test: str) -> pd.Series:
    p = table[f"{test}_p_holm"] if f"{test}_p_holm" in table else pd.Series(1.0, table.index)
    parts = zip(table[name], table[f"{name}_low"], table[f"{name}_high"], p, strict=True)
    return pd.Series([_cell(*part) for part in parts], index=table.index)


def _cell(value: float, low: float, high: float, p: float) -> str:
    if pd.isna(value):
        return "–"
    span = "" if pd.isna(low) else f" [{low + 0.0:.2f}, {high + 0.0:.2f}]"
    return f"{value + 0.0:.2f}{span}" + ("*" if p < LEVEL else "")


def _short(value: float, form: str = ".2f") -> str:
    return "–" if pd.isna(value) else f"{value + 0.0:{form}}"


def _whole(value: Any) -> str:
    return "–" if pd.isna(value) else f"{int(value):,}"


def _grid(labels: pd.Series, columns: dict[str, pd.Series]) -> list[str]:
    lines = ["| arm | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for place, label in zip(labels.index, labels, strict=True):
        cells = [column[place] for column in columns.values()]
        lines.append(f"| {label} | " + " | ".join(cells).replace("*", r"\*") + " |")
    return lines


def _notes(table: pd.DataFrame, tests: Sequence[str], reference: str) -> list[str]:
    number = max((int(table[f"{t}_p_holm"].notna().sum()) for t in tests
                  if f"{t}_p_holm" in table), default=0)  # fmt: skip
    lines = [
        "Gaps: corrected gap with 95 % interval; raw gap. 0 is fair, 1 one group only; the root "
        "mean square lies above the mean where professions differ. Explicit: share of prompts "
        "that name a group and are read as asked. Unclear: share of plain prompts' images "
        "without a clear answer, mean of attributes. Drift: Frechet distance of explicit "
        "prompts' images to the base model's, in the judges' features (not FID).",
    ]
    if number:
        star = rf"\* differs from {reference}: p < .05 (sign-flip over professions), "
        lines += [
            "",
            star + f"Holm-corrected over the {number} arms of a column, not over columns.",
        ]
        least = [table[f"{t}_least_p"].min() for t in tests if f"{t}_least_p" in table]
        if min(least) >= LEVEL:
            lines[-1] += " With so few professions no difference, however large, gets a star."
    fair = [c for c in table if c.endswith("_fair_high")]
    if fair:
        worst = table[fair].max().max()
        if pd.isna(worst):
            lines[0] += " No score of fair models is known: no profession has two usable images."
        else:
            lines[0] += f" Fair models score up to {worst:.2f} (corrected, 97.5 %)."
    return lines


def _cost_notes(minutes: pd.DataFrame | None) -> list[str]:
    lines = ["Images drawn for one model (its training set, or what steered it), and U-Net "
             "evaluations of one image, count alike on every machine."]  # fmt: skip
    if minutes is None or minutes.empty:
        return [*lines, "Seconds were not measured."]
    places = "; ".join(
        f"{machine}, {date}"
        for machine, date in dict.fromkeys(zip(minutes["machine"], minutes["date"], strict=True))
    )
    lines.append(f"Seconds: measured ({places}); a model's with the start of its notebook, an "
                 "image's with judging.")  # fmt: skip
    shared = minutes.loc[minutes["stage"] == "synthesis", "minutes"]
    if len(shared):
        lines.append(f"The training set, drawn once for all arms, took {60 * shared.iloc[0]:.0f} "
                     "s more.")  # fmt: skip
    return lines
