"""Whether the numbers of a file are counts, shares or percentages: read off their sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

ONE_IMAGE = (
    "every row sums to 1: read as counts of one image; of shares, say of how many images with "
    "--images, or write 1.0 and 0.0"
)
HUNDRED = (
    "every row sums to about 100: read as counts; of percentages, say of how many images with "
    "--images, or write percent signs"
)
PERCENT = (
    "every row sums to about 100: read as percentages; of counts, write whole numbers, or say "
    "--images 100"
)


@dataclass(frozen=True)
class Scale:
    """What numbers are.

    Attributes
    ----------
    counts : bool
        Counts; otherwise shares (or percentages).
    whole : float
        What shares of a row sum to: 1, or 100 for percentages.
    dropped : bool
        Whether images without an answer are part of that sum.
    note : str
        What a reader should be told of it, if anything.
    """

    counts: bool
    whole: float = 1.0
    dropped: bool = False
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One row's numbers: of the groups, and of images without an answer."""

    line: int
    values: list[float]
    dropped: list[float]


def _sum_to(rows: Sequence[Row], whole: float, *, dropped: bool = False) -> bool:
    """Say whether all rows with images sum to `whole`, but for rounding to one in a hundred."""
    sums = [sum(r.values) + dropped * sum(r.dropped) for r in rows]
    error = max(0.01, 0.005 * len(rows[0].values)) + 1e-9
    return any(sums) and all(not s or abs(s / whole - 1) <= error for s in sums)


def scale_of(
    rows: Sequence[Row], *, fractions: bool, percent: bool, images: int | None
) -> Scale | None:
    """Decide what the numbers are; None if some rows are neither counts nor shares.

    Parameters
    ----------
    rows : sequence of Row
        At least one.
    fractions, percent : bool
        Whether any number is written with a decimal mark (``1.0``), or with a percent sign
        (then they have been read as shares already).
    images : int, optional
        What the user said: shares, of so many images.
    """
    whole_numbers = all(v.is_integer() for r in rows for v in r.values)
    for one in (1.0, 100.0) if not percent else (1.0,):
        for dropped in (False, True):
            if not _sum_to(rows, one, dropped=dropped):
                continue
            if whole_numbers and not fractions and not percent and images is None:
                if dropped:
                    continue
                return Scale(True, note=ONE_IMAGE if one == 1 else HUNDRED)
            return Scale(False, one, dropped, "" if one == 1 or images else PERCENT)
    return Scale(True) if whole_numbers and not percent else None


def as_counts(values: Sequence[float], images: int) -> list[float]:
    """Return whole numbers in proportion to the shares that sum to `images`."""
    if not sum(values):
        return list(values)
    exact = [v / sum(values) * images for v in values]
    counts = [math.floor(x) for x in exact]
    left = images - sum(counts)  # to the largest remainders, so that the number stays right
    for i in sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])[:left]:
        counts[i] += 1
    return [float(n) for n in counts]
