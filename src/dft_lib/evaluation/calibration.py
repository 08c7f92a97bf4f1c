"""Judges' errors on labelled images, carried into the shares of an arm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dft_lib.fairness.rater_error import corrected_prevalence
from dft_lib.fairness.report import plain
from dft_lib.raters.base import NO_PERSON, UNCLEAR
from dft_lib.repro.paths import show

COLUMNS = ("rater", "attribute", "pictures", "skin_tone", "truth", "answer", "n")


class Calibration:
    """Counts of answers per truth for the judges of one study.

    Parameters
    ----------
    table : pandas.DataFrame
        `COLUMNS`; for the emoji world ``world/results/rater_confusion.csv``.
    judges : mapping
        attribute -> rater.
    pictures : str
        Which labelled pictures; those most like generated ones.
    """

    def __init__(
        self, table: pd.DataFrame, judges: Mapping[str, str], pictures: str = "reconstructed"
    ) -> None:
        self.table = table[table["pictures"] == pictures]
        self.judges = judges

    @classmethod
    def read(cls, path: Path, judges: Mapping[str, str]) -> Calibration | None:
        """Read a table; None if it has no rows: nobody has labelled such pictures yet.

        Raises
        ------
        FileNotFoundError, ValueError
            If it is missing or lacks a column.
        """
        if not path.exists():
            raise FileNotFoundError(
                f"{show(path)} is missing: restore it, or name "
                "benchmarks/none/rater_confusion.csv: no errors are known"
            )
        table = pd.read_csv(path)
        missing = sorted(set(COLUMNS) - set(table.columns))
        if missing:
            raise ValueError(f"{show(path)} has no column {missing[0]!r}")
        return None if table.empty else cls(table, judges)

    def matrix(
        self, attribute: str, groups: list[str], tones: list[str]
    ) -> tuple[np.ndarray, list[str]]:
        """Return counts of answers per truth, one matrix per skin tone, and the truths.

        Returns
        -------
        numpy.ndarray, list of str
            int64 (T, K, J): answers are the groups, `unclear` and `no_person`; truths are the
            groups, and `unclear` where pictures without a group were labelled too: a generated
            picture may show no group either. For skin tone itself, and where some tone lacks
            labelled pictures, there is one matrix.
        """
        mine = self.table[
            (self.table["attribute"] == attribute)
            & (self.table["rater"] == self.judges.get(attribute))
        ]
        truths = [*groups] + ([UNCLEAR] if (mine["truth"] == UNCLEAR).any() else [])
        parts = [mine[mine["skin_tone"] == tone] for tone in tones]
        if attribute == "skin_tone" or any(set(truths) - set(part["truth"]) for part in parts):
            parts = [mine]
        answers = [*groups, UNCLEAR, NO_PERSON]
        counts = [
            part.pivot_table(
                index="truth", columns="answer", values="n", aggfunc="sum", fill_value=0
            ).reindex(index=truths, columns=answers, fill_value=0)
            for part in parts
        ]
        return np.stack([c.to_numpy(np.int64) for c in counts]), truths

    def corrected(
        self, ratings: pd.DataFrame, attribute: str, groups: list[str], tones: list[str]
    ) -> dict[str, Any]:
        """Correct the shares of plain prompts for the judge's errors.

        Errors that differ by skin tone are mixed as the tones occur among the images. Prompts are
        resampled for the interval; training seeds are not.

        Parameters
        ----------
        ratings : pandas.DataFrame
            One row per image of plain prompts; every prompt weighs alike.
        attribute, groups : str, list of str
            What to correct.
        tones : list of str
            Perceived skin tones.

        Returns
        -------
        dict
            group -> value, low, high, of the images that show a group (``unclear``: the share
            that shows none); or a sentence under ``refused`` where the labelled images do not
            allow it.
        """
        answers = [*groups, UNCLEAR, NO_PERSON]
        counts = pd.crosstab(ratings["prompt_id"], ratings[f"rated_{attribute}"])
        reported = counts.reindex(columns=answers, fill_value=0).to_numpy()
        if not reported.sum():
            return {"refused": "no image"}
        matrix, truths = self.matrix(attribute, groups, tones)
        seen = ratings.get("rated_skin_tone", pd.Series(dtype=object))
        strata = [1.0] if len(matrix) == 1 else [float((seen == t).sum()) + 1e-9 for t in tones]
        try:
            found = corrected_prevalence(reported, matrix, strata=strata, groups=len(groups))
        except ValueError as error:
            return {"refused": str(error)}
        return {
            g: {"value": plain(v), "low": plain(lo), "high": plain(hi)}
            for g, v, lo, hi in zip(truths, found.shares, found.low, found.high, strict=True)
        }
