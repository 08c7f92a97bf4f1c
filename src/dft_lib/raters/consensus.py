"""Several raters of one attribute: their agreement, and a majority that may abstain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from dft_lib.fairness.rater_error import cohen_kappa, confusion, krippendorff_alpha
from dft_lib.raters.base import NO_PERSON, UNCLEAR

# Scales of skin tone on one coarse scale, so that raters of different scales can be compared.
COARSE_TONES = ("light", "medium", "dark")
_COARSE = {
    "light": ("light", "medium-light", "very light", *(f"monk-{i}" for i in (1, 2, 3, 4))),
    "medium": ("medium", "intermediate", "tan", *(f"monk-{i}" for i in (5, 6, 7))),
    "dark": ("dark", "medium-dark", "brown", *(f"monk-{i}" for i in (8, 9, 10))),
}
_TO_COARSE = {tone: coarse for coarse, tones in _COARSE.items() for tone in tones}


def coarse_tone(labels: np.ndarray) -> np.ndarray:
    """Return skin tones of any scale as light, medium or dark; other answers stay.

    Monk 1-4, 5-7, 8-10; ITA very light and light, intermediate and tan, brown and dark; the five
    tones of the drawings with the middle one alone. A convention: the scales do not nest exactly.
    """
    return np.array([_TO_COARSE.get(label, label) for label in labels], dtype=object)


def majority(answers: Sequence[np.ndarray], *, needed: int | None = None) -> np.ndarray:
    """Return the answer that most raters gave, or `unclear`.

    Parameters
    ----------
    answers : sequence of numpy.ndarray
        One array of labels per rater, all of shape (n,).
    needed : int, optional
        Votes that an answer needs; more than half of the raters unless given. `unclear` is an
        abstention: it never wins a vote, and is the result where no answer has enough.

    Returns
    -------
    numpy.ndarray
        str (object), shape (n,). Ties are `unclear`.

    Raises
    ------
    ValueError
        If the raters rated different numbers of images, or `needed` cannot be reached.
    """
    if len({len(a) for a in answers}) != 1:
        raise ValueError("majority needs one answer per image from every rater")
    least = len(answers) // 2 + 1 if needed is None else needed
    if not 1 <= least <= len(answers):
        raise ValueError(f"needed must lie between 1 and the {len(answers)} raters")
    out = np.full(len(answers[0]), UNCLEAR, dtype=object)
    for i, said in enumerate(zip(*answers, strict=True)):
        votes = [a for a in said if a != UNCLEAR]
        counts = {a: votes.count(a) for a in dict.fromkeys(votes)}
        most = max(counts.values(), default=0)
        winners = [a for a, n in counts.items() if n == most]
        if most >= least and len(winners) == 1:
            out[i] = winners[0]
    return out


def agreement(
    answers: Mapping[str, np.ndarray], groups: Sequence[str]
) -> dict[str, float | dict[str, float]]:
    """Return Krippendorff's alpha of all raters and Cohen's kappa of every pair.

    `unclear` and `no_person` are missing answers for alpha, and categories of their own for kappa.

    Parameters
    ----------
    answers : mapping
        rater -> labels, shape (n,).
    groups : sequence of str
        The attribute's groups.
    """
    if not all(len(row) for row in answers.values()):
        raise ValueError("agreement needs at least one image")
    categories = [*groups, UNCLEAR, NO_PERSON]
    known = [[a if a in groups else None for a in row] for row in answers.values()]
    return {
        "alpha": krippendorff_alpha(known),
        "kappa": {
            f"{one} / {other}": cohen_kappa(
                confusion(list(answers[one]), list(answers[other]), categories, categories)
            )
            for one, other in combinations(answers, 2)
        },
    }
