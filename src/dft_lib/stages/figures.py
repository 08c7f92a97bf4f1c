"""Notebook 05: the figures, from what 04b measured and 04 drew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dft_lib.evaluation.headline import headline, read_metrics, read_results
from dft_lib.figures import gaps, pareto, shares, sheets, style
from dft_lib.repro.files import write_table
from dft_lib.repro.paths import resolve
from dft_lib.repro.places import require_writable
from dft_lib.study import lexicon
from dft_lib.study.arms import ArmShown, dose, families, labels_of, shown
from dft_lib.study.base import Base
from dft_lib.study.params.figures import Figures

NAMES = ("pareto", "dose", "gaps", "corrected", "sheet")  # and one of every attribute


def draw_figures(base: Base, settings: Figures, arms: Mapping[str, ArmShown]) -> dict[str, Figure]:
    """05: draw every figure of the study and write the headline; return the figures by name.

    Writes ``<name>.pdf`` and ``<name>.png`` of every figure, and ``headline.csv``, to ``out``.
    ``dose`` is there only if two arms or more differ in the number of pictures alone.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence, if an arm was not measured, or a file is not the stage's to write.
    """
    results, out = resolve(settings.results), resolve(settings.out)
    names = (*NAMES, *(f"shares_{attribute}" for attribute in base.target))
    for file in ("headline.csv", *(f"{name}.{kind}" for name in names for kind in ("pdf", "png"))):
        require_writable(out / file, "figures")
    table, summaries = read_results(results, list(arms))
    measured = read_metrics(results, base.target)
    write_table(out / "headline.csv", headline(summaries))
    attributes = lexicon.load(base.lexicon_folder).chosen(base.target)
    labels, few, coloured = labels_of(arms), shown(arms), families(arms)
    style.use_style()
    pictures = _first_pictures(table, few, resolve(settings.ratings), settings)
    drawn = {
        "pareto": pareto.pareto(measured, labels, coloured, attributes),
        "dose": gaps.dose(measured, summaries, dose(arms), attributes),
        "gaps": gaps.gaps(measured, table, few, attributes),
        "corrected": gaps.corrected(measured, labels, coloured, attributes),
        **{f"shares_{a}": shares.attribute_shares(table, labels, few, about)
           for a, about in attributes.items()},
        "sheet": sheets.sheet(pictures),
    }  # fmt: skip
    found = {name: figure for name, figure in drawn.items() if figure is not None}
    for name, figure in found.items():
        style.save(figure, out, name)
        plt.close(figure)  # shown by whoever asks for it
    return found


def _first_pictures(
    table: pd.DataFrame, few: dict[str, str], ratings: Path, settings: Figures
) -> dict[str, dict[str, np.ndarray]]:
    """Return the first images of the first professions, of the first and last arm shown.

    Seen ones before held-out ones.
    """
    first = table[(table["kind"] == "neutral") & (table["seed"] == table["seed"].min())]
    first = first.sort_values("split", ascending=False, kind="stable")
    nouns = list(dict.fromkeys(first["noun"]))
    names = list(few)
    folders = {few[arm]: ratings / arm for arm in (names[0], names[-1])}
    return {
        noun: {label: sheets.first_images(folder, noun, settings.sheet_images)
               for label, folder in folders.items()}
        for noun in nouns[: settings.sheet_professions]
    }  # fmt: skip
