"""Results of arms as ``results/`` holds them, and the shortest table of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from dft_lib.evaluation.tables import Target, all_attributes
from dft_lib.repro.paths import show

METRICS = "metrics.json"


def read_results(folder: Path, arms: list[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read the tables and summaries of the named arms.

    Raises
    ------
    FileNotFoundError, ValueError
        If an arm has not been measured, or on other prompts than the first one.
    """
    tables, summaries = [], {}
    for arm in arms:
        path = folder / f"{arm}.json"
        if not path.exists():
            raise FileNotFoundError(f"{show(path)} is missing: run notebook 04b_measure")
        summaries[arm] = json.loads(path.read_text(encoding="utf-8"))
        tables.append(pd.read_csv(folder / f"{arm}.csv", keep_default_na=True))
        if set(tables[-1]["prompt_id"]) != set(tables[0]["prompt_id"]):
            raise ValueError(
                f"{show(folder)} has results of {arms[0]} and {arm} on different prompts: run "
                "notebook 04_evaluate for both again"
            )
    table = pd.concat(tables, ignore_index=True)
    table["split"] = table["split"].fillna("")
    return table, summaries


def read_metrics(folder: Path, target: Target) -> dict[str, Any]:
    """Read ``metrics.json``, with attributes in the study's order (the file is sorted).

    Raises
    ------
    FileNotFoundError
        If nothing has been measured.
    """
    path = folder / METRICS
    if not path.exists():
        raise FileNotFoundError(f"{show(path)} is missing: run notebook 04b_measure")
    measured: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    order = list(all_attributes(target))
    for arm in measured["arms"].values():
        for part, entries in arm["neutral"].items():
            arm["neutral"][part] = {a: entries[a] for a in order if a in entries}
    return measured | {"target": target}


def headline(summaries: dict[str, Any]) -> pd.DataFrame:
    """Condense the arms into one table: gaps (mean and range over seeds) and side effects."""
    rows = []
    for arm, summary in summaries.items():
        row: dict[str, Any] = {"arm": arm, "label": summary["label"]}
        for split in ("seen", "held_out", "person"):
            if split not in summary["neutral"]:
                continue
            part = summary["neutral"][split]
            for attribute in summary["explicit"]:
                for metric in ("gap", "min_max_ratio", "entropy"):
                    values = part[attribute][metric]["per_seed"]
                    row[f"{attribute}_{metric}_{split}"] = part[attribute][metric]["mean"]
                    if metric == "gap":
                        known = [value for value in values if value is not None]
                        row[f"{attribute}_gap_{split}_min"] = min(known, default=None)
                        row[f"{attribute}_gap_{split}_max"] = max(known, default=None)
        row["role_accuracy"] = summary["role_accuracy"]["overall"]
        for attribute, asked in summary["explicit"].items():
            row[f"explicit_{attribute}"] = asked["mean"]
        row["general"] = summary["general"]["mean"]
        row["seeds"] = len(next(iter(summary["explicit"].values()))["per_seed"])
        row["images"] = summary["answers"]["images"]
        rows.append(row)
    return pd.DataFrame(rows)
