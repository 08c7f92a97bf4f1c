"""Which drawn images may train a model: exclusion filters, then equal weight for every cell.

Screening itself skews: a rater that misses women under hats removes them. So what is kept is
weighted back to the target, and `dft_lib.image_sets.audit` reports the balance before and after.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from dft_lib.study.attributes import SAFE, UNSAFE, cells

KEPT = "kept"
REASONS = ("no person", "unexpected person", "wrong subject")
WRONG = "wrong "  # then the attribute


def forbidden(texts: pd.Series, terms: list[str]) -> pd.Series:
    """Say which texts contain a forbidden term as a whole word, whatever its case."""
    if not terms:
        return pd.Series(False, index=texts.index)
    pattern = r"\b(?:" + "|".join(re.escape(t) for t in terms) + r")\b"
    return texts.str.contains(pattern, case=False, regex=True)


def rejected(verdicts: pd.Series) -> pd.Series:
    """Say which images screening rejected for what they show."""
    return verdicts.isin(REASONS) | verdicts.str.startswith(WRONG)


def screen(records: pd.DataFrame, ratings: pd.DataFrame, attributes: Sequence[str]) -> pd.Series:
    """Give every image a verdict: `kept`, or why it is not.

    An image with a person is kept if the steering raters see the person and the profession asked
    for and, where groups were asked for, exactly those (an `unclear` answer is not enough). An
    image without a person is kept if they see the thing and nobody.

    Parameters
    ----------
    records : pandas.DataFrame
        Records with ``kind, noun`` and the groups as requested ("" where not).
    ratings : pandas.DataFrame
        The steering panel's answers, same rows: ``person``, the attributes, and ``role`` and
        ``unsafe`` if somebody answers for them; otherwise nobody checks the profession or thing,
        or whether a picture is safe.
    attributes : sequence of str
        The study's; of several that are wrong the first one is named.

    Returns
    -------
    pandas.Series
        str: `KEPT`, one of `REASONS` or `WRONG` and an attribute (figures show those), or `UNSAFE`
        (no figure does).
    """
    verdict = pd.Series(KEPT, index=records.index)
    wants_person = records["kind"] != "general"
    # Later rules overwrite earlier ones, so the gravest reason stands.
    for attribute in reversed(attributes):
        asked = records[attribute] != ""
        wrong = asked & (ratings[attribute] != records[attribute])
        verdict[wrong] = WRONG + attribute
    if "role" in ratings:
        verdict[ratings["role"] != records["noun"]] = "wrong subject"
    verdict[~wants_person & (ratings["person"] == "person")] = "unexpected person"
    verdict[wants_person & (ratings["person"] != "person")] = "no person"
    if UNSAFE in ratings:
        verdict[ratings[UNSAFE] != SAFE] = UNSAFE
    return verdict


def weigh(
    index: pd.DataFrame, target: dict[str, dict[str, float]], minimum_per_cell: int
) -> pd.Series:
    """Weight kept images so that every noun counts once and, inside it, every cell as the target.

    Parameters
    ----------
    index : pandas.DataFrame
        Columns ``set, noun, verdict`` and the target's attributes (groups as requested).
    target : dict
        attribute -> {group: share}; the cells' target is the product over attributes.
    minimum_per_cell : int
        A balanced cell with fewer kept images stops the study.

    Returns
    -------
    pandas.Series
        float64; 0 for images that are not used. Weights of a noun in a set sum to 1.

    Raises
    ------
    ValueError
        If a balanced cell has too few images.
    """
    weight = pd.Series(0.0, index=index.index)
    shares = cells(target)
    kept = index[index["verdict"] == KEPT]
    for (group, _), rows in kept.groupby(["set", "noun"], sort=False):
        weight[rows.index] = 1 / len(rows)
        if group != "balanced":
            continue
        for groups, cell in rows.groupby(list(target), sort=False):
            weight[cell.index] = shares[groups] / len(cell)
        weight[rows.index] /= weight[rows.index].sum()
    balanced = index[index["set"] == "balanced"]
    counts = (balanced["verdict"] == KEPT).groupby(
        [balanced["noun"], *(balanced[a] for a in target)], sort=False
    ).sum()  # fmt: skip
    # every cell of the target, so that one whose prompts were all forbidden counts as empty
    wanted = [(noun, *groups) for noun in balanced["noun"].unique() for groups in shares]
    counts = counts.reindex(pd.MultiIndex.from_tuples(wanted), fill_value=0)
    if counts.min() < minimum_per_cell:
        cell = " ".join([*counts.idxmin()[:0:-1], counts.idxmin()[0]])
        raise ValueError(
            f"screening left {counts.min()} images of {cell}, fewer than "
            f"synthesis.minimum_per_cell {minimum_per_cell}: raise prompts.images_per_cell, "
            "shorten forbidden_terms, or look at the rejected images"
        )
    return weight


def match_size(index: pd.DataFrame) -> pd.Series:
    """Return verdicts with the unbalanced set cut to the balanced set's size, caption by caption.

    The control must differ from the treatment in balance alone, not in the number of images or in
    the templates of their captions; the first images in grid order stay. Where screening left the
    balanced set larger, it stays so, and the audit shows both counts.
    """
    verdict = index["verdict"].copy()
    kept = index[verdict == KEPT]
    sizes = kept[kept["set"] == "balanced"].groupby("caption").size()
    for caption, rows in kept[kept["set"] == "unbalanced"].groupby("caption"):
        spare = rows.index[int(sizes.get(caption, 0)) :]
        verdict[spare] = "beyond the balanced set's size"
    return verdict
