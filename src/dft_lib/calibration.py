"""Judges' errors on labelled images, carried into the shares of an arm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dft_lib.fairness.rater_error import corrected_prevalence
from dft_lib.fairness.report import plain
from dft_lib.paths import show
from dft_lib.raters.base import NO_PERSON, UNCLEAR

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
    def read(cls, path: Path, judges: Mapping[str, str]) -> Calibration:
        """Read a table.

        Raises
        ------
        FileNotFoundError, ValueError
            If it is missing or lacks a column.
        """
        if not path.exists():
            raise FileNotFoundError(
                f"{show(path)} is missing: restore it, or set figures.calibration to null"
            )
        table = pd.read_csv(path)
        missing = sorted(set(COLUMNS) - set(table.columns))
        if missing:
            raise ValueError(f"{show(path)} has no column {missing[0]!r}")
        return cls(table, judges)

    def matrix(self, attribute: str, groups: list[str], tone: str | None = None) -> np.ndarray:
        """Return counts, int64 (K, K + 2): truth x (groups, unclear, no_person)."""
        mine = (self.table["attribute"] == attribute) & (
            self.table["rater"] == self.judges.get(attribute)
        )
        if tone is not None:
            mine &= self.table["skin_tone"] == tone
        counts = self.table[mine].pivot_table(
            index="truth", columns="answer", values="n", aggfunc="sum", fill_value=0
        )
        answers = [*groups, UNCLEAR, NO_PERSON]
        return counts.reindex(index=groups, columns=answers, fill_value=0).to_numpy(np.int64)

    def corrected(
        self, ratings: pd.DataFrame, attribute: str, groups: list[str], tones: list[str]
    ) -> dict[str, Any]:
        """Correct the shares of plain prompts, overall and, but for tone itself, per tone.

        Parameters
        ----------
        ratings : pandas.DataFrame
            One row per image of plain prompts; every prompt weighs alike.
        attribute, groups : str, list of str
            What to correct.
        tones : list of str
            Perceived skin tones; the judge's errors differ between them.

        Returns
        -------
        dict
            ``overall`` and ``by_skin_tone``: group -> value, low, high; a sentence under
            ``refused`` where the labelled images do not allow it.
        """
        found: dict[str, Any] = {"overall": self._one(ratings, attribute, groups, None)}
        if attribute != "skin_tone" and "rated_skin_tone" in ratings:
            found["by_skin_tone"] = {
                tone: self._one(
                    ratings[ratings["rated_skin_tone"] == tone], attribute, groups, tone
                )
                for tone in tones
            }
        return found

    def _one(
        self, ratings: pd.DataFrame, attribute: str, groups: list[str], tone: str | None
    ) -> dict[str, Any]:
        answers = [*groups, UNCLEAR, NO_PERSON]
        counts = pd.crosstab(ratings["prompt_id"], ratings[f"rated_{attribute}"])
        reported = counts.reindex(columns=answers, fill_value=0).to_numpy()
        if not reported.sum():
            return {"refused": "no image"}
        try:
            found = corrected_prevalence(reported, self.matrix(attribute, groups, tone))
        except ValueError as error:
            return {"refused": str(error)}
        return {
            g: {"value": plain(v), "low": plain(lo), "high": plain(hi)}
            for g, v, lo, hi in zip(groups, found.shares, found.low, found.high, strict=True)
        }
