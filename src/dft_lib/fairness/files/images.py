"""Files with a row for each image: which column names its group, and how many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from dft_lib.fairness.files.names import squash
from dft_lib.fairness.files.reading import Table, shorten

# Columns that tell that a row stands for several images.
_MULTIPLE = frozenset((
    "amount", "count", "counts", "freq", "frequency", "images", "n", "n images", "num images",
    "number", "number of images", "percent", "percentage", "prop", "proportion", "share",
    "shares", "total", "weight",
))  # fmt: skip


def answer_column(
    table: Table, groups: Sequence[str], taken: Sequence[str], answer: str | None
) -> str | None:
    """Return the column that names each image's group; None if groups have columns of their own.

    Parameters
    ----------
    table : Table
        The file.
    groups : sequence of str
        The groups.
    taken : sequence of str
        Columns of prompt, seed and filters, which it cannot be.
    answer : str, optional
        The column that the user named.

    Raises
    ------
    ValueError
        If several columns might be meant, or none names a group.
    """
    if answer is None and any(g in table.header for g in groups):
        return None
    names = [answer] if answer is not None else [h for h in table.header if h and h not in taken]
    values = {n: {cells[table.header.index(n)] for _, cells in table.rows} for n in names
              if answer is None or table.place(n) >= 0}  # fmt: skip
    found = [n for n, there in values.items() if there & set(groups)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{table.path} has no columns {', '.join(groups)}; if every row is one image, several "
            f"columns may name its group ({', '.join(found)}): choose with --answer COLUMN"
        )
    small = {g.casefold(): g for g in groups}
    for name, there in values.items():
        for value in sorted(there):
            if value.casefold() in small:
                raise ValueError(
                    f"{table.path} has no column {small[value.casefold()]!r}, and column {name!r} "
                    f"writes {shorten(value)!r}: name the groups letter by letter as the file does"
                )
    if answer is not None:
        raise ValueError(f"{table.path}: column {answer!r} holds none of {', '.join(groups)}")
    return None


def count_images(
    table: Table,
    rows: Iterable[tuple[str, str, str]],
    groups: Sequence[str],
    answer: str,
    *,
    named: bool,
) -> tuple[dict[tuple[str, str], list[float]], dict[str, float]]:
    """Count images per prompt and seed, and those whose answer is no group.

    Parameters
    ----------
    table : Table
        The file.
    rows : iterable of (prompt, seed, answer)
        One per image.
    groups : sequence of str
        The groups.
    answer : str
        The column of the answers.
    named : bool
        Whether the user named that column, and so says that every row is one image.

    Raises
    ------
    ValueError
        If rows seem to stand for several images, or an answer and a group differ in capitals.
    """  # fmt: skip
    number = Counter(rows)
    _check_single(table, number, groups, answer, named)
    place = {g: i for i, g in enumerate(groups)}
    counts: dict[tuple[str, str], list[float]] = {}
    others: dict[str, float] = {}
    for (prompt, seed, given), n in number.items():
        cell = counts.setdefault((prompt, seed), [0.0] * len(groups))
        if given in place:
            cell[place[given]] += n
        else:
            others[given or "(empty)"] = others.get(given or "(empty)", 0) + n
    for given in others:
        for group in groups:
            if given.casefold() == group.casefold():
                raise ValueError(
                    f"{table.path}, column {answer!r} has {given!r} beside {group!r}: write a "
                    "group always alike"
                )
    return counts, others


def _check_single(
    table: Table, number: Counter[tuple[str, str, str]], groups: Sequence[str], answer: str,
    named: bool,
) -> None:  # fmt: skip
    """Refuse rows that stand for a prompt and group, with the number of images beside them."""
    numeric = {}
    for place, name in enumerate(table.header):
        values = {cells[place] for _, cells in table.rows}
        if name and name != answer and values and all(_is_number(v) for v in values):
            numeric[name] = values
    several = [n for n, v in numeric.items() if squash(n) in _MULTIPLE and v != {"1"}]
    once = all(n == 1 for key, n in number.items() if key[2] in groups)
    if several or (numeric and once and not named):
        which = (several or [*numeric])[0]
        raise ValueError(
            f"{table.path} seems to have a row for each prompt and group, with their number in "
            f"{which!r}: give every group a column of its own (pivot the table)"
            + ("" if several else "; if every row is one image, say so with --answer COLUMN")
        )


def _is_number(text: str) -> bool:
    try:
        float(text.rstrip("%").replace(",", "."))
    except ValueError:
        return False
    return True
