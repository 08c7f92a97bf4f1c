"""Judges' errors on labelled images, carried into the shares of an arm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dft_lib.fairness.rater_error import calibrated_prevalence
from dft_lib.fairness.report import plain
from dft_lib.repro.paths import show
from dft_lib.study.attributes import NO_PERSON, UNCLEAR

STRATUM = "skin_tone"  # other attributes' errors depend on it, so pictures are counted by it
COLUMNS = ("rater", "attribute", "pictures", STRATUM, "truth", "answer", "n")


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
        self, attribute: str, groups: list[str], strata: list[str]
    ) -> tuple[np.ndarray, list[str]]:
        """Return counts of answers per truth, one matrix per stratum, and the truths.

        Returns
        -------
        numpy.ndarray, list of str
            int64 (T, K, J): answers are the groups, `unclear` and `no_person`; truths are the
            groups, and `unclear` where pictures without a group were labelled too: a generated
            picture may show no group either. For the stratum's own attribute, in a study
            without it, and where some stratum lacks labelled pictures, there is one matrix.
        """
        mine = self.table[
            (self.table["attribute"] == attribute)
            & (self.table["rater"] == self.judges.get(attribute))
        ]
        truths = [*groups] + ([UNCLEAR] if (mine["truth"] == UNCLEAR).any() else [])
        parts = [mine[mine[STRATUM] == stratum] for stratum in strata]
        short = not parts or any(set(truths) - set(part["truth"]) for part in parts)
        if attribute == STRATUM or short:
            parts = [mine]
        answers = [*groups, UNCLEAR, NO_PERSON]
        counts = [
            part.pivot_table(
                index="truth", columns="answer", values="n", aggfunc="sum", fill_value=0
            ).reindex(index=truths, columns=answers, fill_value=0)
            for part in parts
        ]
        return np.stack([c.to_numpy(np.int64) for c in counts]), truths

    def calibrated(
        self, ratings: pd.DataFrame, attribute: str, groups: list[str], strata: list[str]
    ) -> dict[str, Any]:
        """Correct the shares of plain prompts for the judge's errors.

        Errors that differ by stratum are mixed as its groups occur among the images. Prompts are
        resampled for the interval; training seeds are not.

        Parameters
        ----------
        ratings : pandas.DataFrame
            One row per image of plain prompts; every prompt weighs alike.
        attribute, groups : str, list of str
            What to correct.
        strata : list of str
            Groups of `STRATUM`, if the study has that attribute.

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
        matrix, truths = self.matrix(attribute, groups, strata)
        seen = ratings.get(f"rated_{STRATUM}", pd.Series(dtype=object))
        shares = [1.0] if len(matrix) == 1 else [float((seen == s).sum()) + 1e-9 for s in strata]
        try:
            found = calibrated_prevalence(reported, matrix, strata=shares, groups=len(groups))
        except ValueError as error:
            return {"refused": str(error)}
        return {
            g: {"value": plain(v), "low": plain(lo), "high": plain(hi)}
            for g, v, lo, hi in zip(truths, found.shares, found.low, found.high, strict=True)
        }
