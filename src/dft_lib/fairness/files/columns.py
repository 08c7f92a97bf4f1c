"""Files with a column for each group: what their numbers are, row by row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dft_lib.fairness.files.names import NUMBERS, SUMS, drop_out_columns, squash
from dft_lib.fairness.files.notation import Cell, numbers_of
from dft_lib.fairness.files.reading import Table
from dft_lib.fairness.files.scale import Row, Scale, as_counts, scale_of

_NUMBER = re.compile(r"[\d.,'\u2019 ]*%?", re.ASCII)
Line = tuple[int, list[str]]  # its number in the file, and its cells


@dataclass(frozen=True)
class Columns:
    """The numbers of the groups' columns.

    Attributes
    ----------
    values : list of list of float
        Per row, in the order of the groups, with the rest last: counts or shares.
    counts : bool
        Which of the two.
    ignored : dict
        Images without an answer, by column: their number, or their mean share.
    notes : tuple of str
        What a reader should be told.
    """

    values: list[list[float]]
    counts: bool
    ignored: dict[str, float]
    notes: tuple[str, ...]


def read_columns(
    table: Table,
    lines: Sequence[Line],
    groups: Sequence[str],
    taken: Sequence[str],
    *,
    rest: str | None,
    images: int | None,
) -> Columns:
    """Read the numbers of the groups in the given lines.

    Parameters
    ----------
    table : Table
        The file.
    lines : sequence of (int, list of str)
        At least one.
    groups, taken : sequence of str
        The groups' columns, and those of prompt, seed and filters.
    rest, images
        As in `dft_lib.fairness.counts.read_counts`.

    Raises
    ------
    ValueError
        With one sentence naming file, line and column.
    """
    unnamed = [h for h in table.header if h not in (*groups, *taken) and _numeric(table, h, lines)]
    beside = [h for h in drop_out_columns(table.header, groups) if h in unnamed]
    texts = [_cells(table, line, groups) for line in lines]
    others = [_cells(table, line, beside, empty="0") for line in lines]
    numbers = numbers_of(cell for row in [*texts, *others] for cell in row)
    rows = [
        Row(n, [numbers.read(c) for c in mine], [numbers.read(c) for c in dropped])
        for (n, _), mine, dropped in zip(lines, texts, others, strict=True)
    ]
    if numbers.words:
        scale = _one_image_each(table, rows)
    elif rest:
        scale = _with_rest(table, rows, groups)
    else:
        found = scale_of(
            rows, fractions=numbers.fractions, percent=numbers.percent, images=images
        )  # fmt: skip
        scale = found or _refuse(table, rows, groups, numbers.percent)
    _check_total_group(table, rows, groups)
    if scale.counts and images is not None and any(sum(r.values) for r in rows):
        raise ValueError("--images turns shares into counts, and these are counts already")
    kept = [_scaled(row, scale, rest is not None, images) for row in rows]
    ignored = {name: sum(row.dropped[i] for row in kept) for i, name in enumerate(beside)}
    counts = scale.counts or images is not None
    if not counts:
        ignored = {name: x / len(kept) for name, x in ignored.items()}
    elif scale.counts:
        ignored |= {f"{name!r} beyond the groups": _beyond(table, lines, name, kept)
                    for name in unnamed if squash(name) in NUMBERS}  # fmt: skip
    return Columns([row.values for row in kept], counts, ignored, (scale.note,) * bool(scale.note))


def _beyond(table: Table, lines: Sequence[Line], name: str, rows: Sequence[Row]) -> float:
    """Return how many images a column of all images has beyond those that others count.

    0 if it is no such column: in some row it has fewer.
    """
    cells = [_cells(table, line, [name], empty="0")[0] for line in lines]
    try:
        numbers = numbers_of(cells)
        more = [numbers.read(cell) - sum(row.values) - sum(row.dropped)
                for cell, row in zip(cells, rows, strict=True)]  # fmt: skip
    except ValueError:  # of a column that nobody asked for
        return 0.0
    return sum(more) if min(more) >= 0 else 0.0


def _cells(table: Table, line: Line, names: Sequence[str], empty: str = "") -> list[Cell]:
    number, cells = line
    return [
        Cell(f"{table.path}, line {number}, column {n!r}", cells[table.header.index(n)] or empty)
        for n in names
    ]


def _numeric(table: Table, name: str, lines: Sequence[Line]) -> bool:
    """Say whether a column holds numbers (and blanks) only, and has its name to itself."""
    place = table.header.index(name)
    return table.header.count(name) == 1 and all(_NUMBER.fullmatch(c[place]) for _, c in lines)


def _scaled(row: Row, scale: Scale, rest: bool, images: int | None) -> Row:
    """Return a row as counts, or as shares that sum to 1; with the rest, if there is one."""
    values, dropped = ([x / scale.whole for x in xs] for xs in (row.values, row.dropped))
    if rest:
        left = 1 - sum(values) - (sum(dropped) if scale.dropped else 0)
        values.append(max(0.0, left))
    if images is None or scale.counts:
        return Row(row.line, values, dropped)
    both = as_counts([*values, *(dropped if scale.dropped else [])], images)
    return Row(row.line, both[: len(values)], both[len(values) :] or [0.0] * len(dropped))


def _one_image_each(table: Table, rows: Sequence[Row]) -> Scale:
    """Take true and false for one image a row."""
    for row in rows:
        if sum(row.values) > 1:
            raise ValueError(
                f"{table.path}, line {row.line}: an image that shows two groups (true twice): "
                "count each image once"
            )
    return Scale(True, note="true and false: read as one image in every row")


def _with_rest(table: Table, rows: Sequence[Row], groups: Sequence[str]) -> Scale:
    for row in rows:
        if sum(row.values) > 1.01:
            raise ValueError(
                f"{table.path}, line {row.line}: --rest needs shares, but {', '.join(groups)} sum "
                f"to {sum(row.values):g}, more than 1 (write percentages with a percent sign)"
            )
    return Scale(False, dropped=all(sum(row.values) + sum(row.dropped) <= 1.01 for row in rows))


def _refuse(table: Table, rows: Sequence[Row], groups: Sequence[str], percent: bool) -> Scale:
    """Say which row is neither counts nor shares."""
    for row in rows:
        total = sum(row.values)
        odd = [i for i, v in enumerate(row.values) if percent or not v.is_integer()]
        if odd and abs(total - 1) > 0.01:
            where = f"{table.path}, line {row.line}, column {groups[odd[0]]!r}"
            if percent:
                raise ValueError(f"{where}: the percentages of this row sum to {100 * total:g}")
            raise ValueError(
                f"{where}: {row.values[odd[0]]:g} is neither a whole count nor a share of a row "
                "that sums to 1 (or, in all rows, to 100 per cent)"
            )
    row = next(r for r in rows if sum(r.values) and abs(sum(r.values) - 1) > 0.01)
    raise ValueError(
        f"{table.path}, line {row.line}: its groups sum to {sum(row.values):g}, in a file of "
        "shares, whose rows sum to 1: write counts or shares in all rows"
    )


def _check_total_group(table: Table, rows: Sequence[Row], groups: Sequence[str]) -> None:
    """Refuse a column of totals among the groups."""
    for place, name in enumerate(groups):
        if len(groups) > 2 and squash(name) in SUMS:
            others = [sum(r.values) - r.values[place] for r in rows]
            if all(abs(r.values[place] - x) <= 1e-6 * max(x, 1)
                   for r, x in zip(rows, others, strict=True)):  # fmt: skip
                raise ValueError(
                    f"{table.path}: column {name!r} is the sum of the other groups in every row: "
                    "leave it out of --groups"
                )
