"""Panels: which rater answers for which attribute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd

from dft_lib.raters.base import Answer, HasFeatures, HasWeights, Rater, check_pixels
from dft_lib.repro.paths import DATA
from dft_lib.study.attributes import NO_PERSON, PERSON, QUESTIONS
from dft_lib.study.wall import RATERS, require_known


class Panel:
    """Raters that answer together: one per attribute.

    Parameters
    ----------
    members : mapping
        attribute -> name of the rater that answers for it.
    folder : pathlib.Path, optional
        Where weight files are.
    others : iterable of str
        Raters that answer nothing here, opened for their features.
    groups : mapping
        Attribute -> its groups, as in ``base.target``: what raters of any attribute answer with.
    """

    def __init__(
        self,
        members: Mapping[str, str],
        folder: Path | None = None,
        others: Iterable[str] = (),
        groups: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        require_known(members)
        self.members = dict(members)
        where = folder or DATA / "raters"
        self.where = where
        target = {a: tuple(g) for a, g in (groups or {}).items()}
        self.raters: dict[str, Rater] = {}
        for name in sorted({*members.values(), *others}):
            module = import_module(f"dft_lib.raters.{RATERS[name].module}")
            known = {"groups": target} if RATERS[name].any else {}
            self.raters[name] = module.open_rater(where / f"{name}.safetensors", **known)

    def about(self) -> dict[str, dict[str, str | None]]:
        """Return version, kind and SHA-256 of the weights (None without any) of every rater."""
        found: dict[str, dict[str, str | None]] = {}
        for name, rater in self.raters.items():
            own = [self.where / f"{name}.safetensors"]
            files = rater.weights() if isinstance(rater, HasWeights) else own
            whole = sha256()
            for path in (p for p in files if p.exists()):
                with open(path, "rb") as stream:
                    while block := stream.read(1 << 20):
                        whole.update(block)
            digest = whole.hexdigest() if any(p.exists() for p in files) else None
            known = RATERS[name]
            found[name] = {"kind": known.kind, "version": known.version, "weights": digest}
        return found

    def features_of(self, name: str, pixels: np.ndarray) -> np.ndarray:
        """Return one rater's last hidden layer, float32 (n, width).

        Raises
        ------
        ValueError
            If that rater is not in the panel or has no features.
        """
        rater = self.raters.get(name)
        if not isinstance(rater, HasFeatures):
            raise ValueError(
                f"evaluate.features: no rater {name!r} with features judges; use one of "
                f"{', '.join(n for n, r in self.raters.items() if isinstance(r, HasFeatures))}"
            )
        return rater.features_of(pixels)

    def answers(self, pixels: np.ndarray) -> dict[str, Answer]:
        """Return each attribute's answer as its rater gave it."""
        check_pixels(pixels)
        used = set(self.members.values())
        given = {name: r.rate(pixels) for name, r in self.raters.items() if name in used}
        return {attribute: given[name][attribute] for attribute, name in self.members.items()}

    def rate(self, pixels: np.ndarray) -> pd.DataFrame:
        """Rate pictures: one column per attribute.

        Attributes read `no_person` where the person rater sees none (not where it
        is unsure); role stays, since it also names what else is drawn ("dog").

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
        if PERSON in table:
            nobody = table[PERSON] == NO_PERSON
            for attribute in table.columns.difference(QUESTIONS):
                table.loc[nobody, attribute] = NO_PERSON
        return table
