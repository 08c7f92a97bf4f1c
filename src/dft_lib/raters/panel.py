"""Panels: which rater answers for which attribute."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd

from dft_lib.paths import DATA
from dft_lib.raters.base import NO_PERSON, Answer, Rater
from dft_lib.raters.wall import require_known


class Panel:
    """Raters that answer together: one per attribute.

    Parameters
    ----------
    members : mapping
        attribute -> name of the rater that answers for it.
    folder : pathlib.Path, optional
        Where weight files are.
    """

    def __init__(self, members: Mapping[str, str], folder: Path | None = None) -> None:
        require_known(members)
        self.members = dict(members)
        where = folder or DATA / "raters"
        self.raters: dict[str, Rater] = {
            name: import_module(f"dft_lib.raters.{name}").open_rater(where / f"{name}.safetensors")
            for name in sorted(set(members.values()))
        }

    def answers(self, pixels: np.ndarray) -> dict[str, Answer]:
        """Return each attribute's answer as its rater gave it."""
        given = {name: rater.rate(pixels) for name, rater in self.raters.items()}
        return {attribute: given[name][attribute] for attribute, name in self.members.items()}

    def rate(self, pixels: np.ndarray) -> pd.DataFrame:
        """Rate pictures: one column per attribute.

        Gender and skin tone read `no_person` where the person rater sees none; role stays, since
        it also names what else is drawn ("dog").

        Parameters
        ----------
        pixels : numpy.ndarray
            uint8, shape (n, height, width, 3), RGB.

        Returns
        -------
        pandas.DataFrame
            n rows; one column of labels per attribute of the panel.
        """
        table = pd.DataFrame({k: a.labels for k, a in self.answers(pixels).items()})
        if "person" in table:
            nobody = table["person"] != "person"
            for attribute in table.columns.intersection(["gender", "skin_tone"]):
                table.loc[nobody, attribute] = NO_PERSON
        return table
