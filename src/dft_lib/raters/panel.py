"""Panels: which rater answers for which attribute, and the wall between steering and judging."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from dft_lib.paths import DATA
from dft_lib.raters import convnet, histogram, hog, palette
from dft_lib.raters.base import ATTRIBUTES, NO_PERSON, Answer, Rater

_MODULES = {m.NAME: m for m in (convnet, hog, histogram, palette)}


def require_known(members: Mapping[str, str]) -> None:
    """Refuse attributes nobody answers for, and raters that do not exist or do not answer.

    Raises
    ------
    ValueError
        With one sentence naming attribute, rater and what there is.
    """
    for attribute, name in members.items():
        if attribute not in ATTRIBUTES:
            raise ValueError(
                f"raters: unknown attribute {attribute!r}; use {', '.join(ATTRIBUTES)}"
            )
        if name not in _MODULES:
            raise ValueError(f"no rater {name!r}; there are: {', '.join(sorted(_MODULES))}")
        if attribute not in _MODULES[name].ATTRIBUTES:
            raise ValueError(
                f"rater {name!r} does not answer for {attribute!r}, only for "
                f"{', '.join(_MODULES[name].ATTRIBUTES)}"
            )


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
            name: _MODULES[name].open_rater(where / f"{name}.safetensors")
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


def require_apart(
    steering: Mapping[str, str], judging: Mapping[str, str], used: Iterable[str] = ()
) -> None:
    """Refuse a judge that steers, filters or trains, or that sees the same evidence as one.

    Parameters
    ----------
    steering, judging : mapping
        attribute -> rater name, as in params.
    used : iterable of str
        Names of raters that an artefact's manifest says took part in making it.

    Raises
    ------
    ValueError
        If any judge is among the steering or used raters, or shares its kind with the steering
        rater of the same attribute.
    """
    require_known(steering)
    require_known(judging)
    both = sorted(set(judging.values()) & (set(steering.values()) | set(used)))
    if both:
        raise ValueError(
            f"rater {both[0]!r} steers or filters and may not judge: name another one under "
            "base.judge"
        )
    for attribute in sorted(set(steering) & set(judging)):
        one, other = (_MODULES[members[attribute]].KIND for members in (steering, judging))
        if one == other:
            raise ValueError(
                f"base.steer and base.judge look at {attribute} in the same way ({one}): choose "
                "raters of different kinds"
            )
