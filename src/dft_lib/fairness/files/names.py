"""What names of columns and rows give away: images without an answer, totals and means."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

# How files call images without a face or a clear answer, as `squash` writes it.
DROP_OUT = frozenset((
    "ambiguous", "can t tell", "cannot tell", "discarded", "dropped", "error", "errors",
    "except", "exception", "exceptions", "excluded", "failed", "failure", "indeterminate",
    "invalid", "missing", "multiple faces", "n a", "na", "nan", "no answer", "no detection",
    "no face", "no faces", "no label", "no person", "nobody", "noface", "none", "not detected",
    "not sure", "null", "other", "others", "refused", "rejected", "skipped", "uncertain",
    "unclassified", "unclear", "undecided", "undetected", "undetermined", "unidentified",
    "unknown", "unlabeled", "unlabelled", "unsure", "without face",
))  # fmt: skip
# Rows and columns that add others up: English, German, French, Spanish, Italian, Portuguese.
SUMS = frozenset((
    "all", "ensemble", "gesamt", "gesamtsumme", "grand total", "insgesamt", "overall", "somme",
    "sous total", "sub total", "subtotal", "suma", "sum", "sums", "summe", "total",
    "total general", "total général", "totale", "totales", "totals", "totaux", "zwischensumme",
    "σ", "∑",
))  # fmt: skip
# Columns of all images of a row, in or beside the groups.
NUMBERS = SUMS | {"images", "n", "n images", "num images", "number of images"}
MEANS = frozenset((
    "average", "avg", "durchschnitt", "mean", "mittel", "mittelwert", "moyenne", "promedio",
))  # fmt: skip


def squash(name: str) -> str:
    """Return a name in small letters, with one space for whatever is no letter or digit."""
    return re.sub(r"(?:[^\w∑]|_)+", " ", name.casefold()).strip()


def drop_out_columns(header: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Return the columns, not named as groups, that count images without an answer.

    Of groups that share a prefix (``gender:woman``) also ``gender:unclear``, not another
    attribute's.
    """
    prefixes = {g.rpartition(":")[0] for g in groups}
    prefix = prefixes.pop() + ":" if len(prefixes) == 1 else ""
    return [h for h in header if h not in groups and squash(h.removeprefix(prefix)) in DROP_OUT]


def total_among(names: Sequence[str], *, means: bool = False) -> str | None:
    """Return a name, of several, that calls itself the sum (or mean) of the others.

    Without `means` a mean is no total: a prompt may be "mean".
    """
    words = SUMS | MEANS if means else SUMS
    return next((n for n in names if squash(n) in words), None) if len(names) > 1 else None


def mean_among(names: Sequence[str], values: np.ndarray, error: float) -> str | None:
    """Return a name that calls itself the mean of the others, and is within `error`.

    `values` has shape (names, S, K), NaN where there are none.
    """
    for i, name in enumerate(names):
        if len(names) > 2 and squash(name) in MEANS:
            others = np.delete(values, i, axis=0)
            known = ~np.isnan(others).any(-1)
            total = np.where(known[..., None], others, 0).sum(0)
            mean = total / np.maximum(known.sum(0), 1)[:, None]
            if np.nanmax(np.abs(values[i] - mean), initial=0) <= error:
                return name
    return None


def unnamed_total(values: np.ndarray) -> int | None:
    """Return the position of a row of (names, S, K) that is the sum of all others, if any.

    In every seed, over three names or more: by chance only where counts are tiny.
    """
    if len(values) < 3:
        return None
    total = np.nansum(values, axis=0)
    same = np.where(np.isnan(values), total == 0, 2 * values == total).all((1, 2))
    return int(same.argmax()) if same.any() and total.any() else None
