"""Notebook 04b: from ratings to results; seconds, without PyTorch, and no picture is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from dft_lib.evaluation import comparison, results_table, tables
from dft_lib.evaluation.arm import read_about, read_arm, read_ratings
from dft_lib.evaluation.calibration import Calibration
from dft_lib.evaluation.headline import METRICS, read_results
from dft_lib.repro.files import write_json, write_table, write_text
from dft_lib.repro.paths import resolve
from dft_lib.repro.places import require_writable
from dft_lib.study.arms import ArmShown, references
from dft_lib.study.base import Base
from dft_lib.study.params.measure import Measure


class Measured(NamedTuple):
    """The content of ``metrics.json``, ``table.csv`` and ``table.md``."""

    metrics: dict[str, Any]
    table: pd.DataFrame
    text: str


def measure(base: Base, settings: Measure, arms: Mapping[str, ArmShown]) -> Measured:
    """04b: measure every arm and compare them; return what is written about all.

    Writes to ``results``: ``<arm>.csv`` (per prompt) and ``<arm>.json`` of every arm;
    ``metrics.json`` (intervals, floors, tests), ``table.csv`` and ``table.md`` of all.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence, if an arm was not evaluated, or a file does not fit the others.
    """
    folder, results = resolve(settings.ratings), resolve(settings.results)
    written = [f"{name}.{kind}" for name in arms for kind in ("csv", "json")]
    for file in (*written, METRICS, "table.csv", "table.md"):
        require_writable(results / file, "measure")
    for name, arm in arms.items():
        about, ratings = read_about(folder / name), read_ratings(folder / name)
        table = tables.per_prompt(ratings, base.target, base.training_seeds, base.held_out)
        summary = tables.summarise(table, ratings, base.target)
        write_table(results / f"{name}.csv", table.assign(arm=name))
        write_json(results / f"{name}.json", about | {"label": arm.label} | summary)
    # Read back: what is compared is what stands in the files, rounded.
    table, summaries = read_results(results, list(arms))
    errors = Calibration.read(resolve(settings.calibration), base.judge)
    metrics = comparison.compare(
        {name: read_arm(name, summaries[name], table, folder) for name in arms}, base.target,
        summaries[next(iter(arms))]["features"], references=references(arms), calibration=errors,
    )  # fmt: skip
    comparison.write(results / METRICS, metrics)
    minutes = results_table.read_minutes(resolve(settings.minutes))
    whole = results_table.results_table(metrics, summaries, minutes)
    text = results_table.as_markdown(whole, minutes)
    write_table(results / "table.csv", whole)
    write_text(results / "table.md", text)
    return Measured(metrics, whole, text)
