"""Panels: which rater answers for which attribute, and the wall between steering and judging."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from dft_lib.paths import DATA
from dft_lib.raters import convnet, histogram, hog, palette
from dft_lib.raters.base import ATTRIBUTES, NO_PERSON, Answer, Rater

_OPENERS: dict[str, Callable[[Path], Rater]] = {
    m.NAME: m.open_rater for m in (convnet, hog, histogram, palette)
}


def open_rater(name: str, folder: Path | None = None) -> Rater:
    """Open a rater by name; weights come from ``data/raters/``.

    Raises
    ------
    ValueError
        If there is no rater of that name.
    """
    if name not in _OPENERS:
        raise ValueError(f"no rater {name!r}; there are: {', '.join(sorted(_OPENERS))}")
    return _OPENERS[name]((folder or DATA / "raters") / f"{name}.safetensors")


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
        unknown = sorted(set(members) - set(ATTRIBUTES))
        if unknown:
            raise ValueError(f"raters: unknown attribute {unknown[0]!r}; use {ATTRIBUTES}")
        self.members = dict(members)
        self.raters = {name: open_rater(name, folder) for name in set(members.values())}
        for attribute, name in members.items():
            if attribute not in self.raters[name].attributes:
                raise ValueError(
                    f"rater {name!r} does not answer for {attribute!r}, only for "
                    f"{', '.join(self.raters[name].attributes)}"
                )

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
    both = sorted(set(judging.values()) & (set(steering.values()) | set(used)))
    if both:
        raise ValueError(
            f"rater {both[0]!r} steers or filters and may not judge: name another one under "
            "raters.judge"
        )
    kinds = {m.NAME: m.KIND for m in (convnet, hog, histogram, palette)}
    for attribute in set(steering) & set(judging):
        if kinds.get(steering[attribute]) == kinds.get(judging[attribute]):
            raise ValueError(
                f"raters.steer and raters.judge look at {attribute} in the same way "
                f"({kinds.get(steering[attribute])}): choose raters of different kinds"
            )
