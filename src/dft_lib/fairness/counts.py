"""Read counts (or shares) of groups from a CSV of any origin, and say exactly what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dft_lib.fairness.files import images as per_image
from dft_lib.fairness.files.columns import read_columns
from dft_lib.fairness.files.names import mean_among, total_among, unnamed_total
from dft_lib.fairness.files.reading import Table, clean, read_table, shorten, split_names

_NONE = np.zeros((0, 0, 2))


@dataclass(frozen=True)
class Counts:
    """Counts per prompt and group.

    Attributes
    ----------
    groups : tuple of str
        The K groups.
    prompts : tuple of str
        The P distinct values of the ``by`` column, in the file's order.
    seeds : tuple of str
        The S distinct values of the seeds' column; one empty name without it.
    values : numpy.ndarray
        float64, shape (P, S, K); NaN where a prompt has no row under a seed.
    rows : int
        Rows read.
    ignored : dict
        Images without an answer that the file counts beside the groups, by their columns (or
        answers); of shares, their mean share.
    whole : bool
        Whether the values are counts, which have a noise floor. Otherwise they are shares of an
        unknown number of images.
    notes : tuple of str
        What a reader should be told of how the file was read.
    """

    groups: tuple[str, ...]
    prompts: tuple[str, ...]
    seeds: tuple[str, ...]
    values: np.ndarray
    rows: int
    whole: bool
    ignored: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_counts(
    path: Path,
    groups: Sequence[str],
    by: str,
    *,
    seeds: str | None = None,
    where: Mapping[str, str] | None = None,
    rest: str | None = None,
    images: int | None = None,
    answer: str | None = None,
) -> Counts:
    """Read a CSV with a row per prompt (and seed) and a column per group, or a row per image.

    Parameters
    ----------
    path : pathlib.Path
        As `read_table` takes it; columns that are not named are ignored.
    groups : sequence of str
        Columns of the groups, all of the schema: also those that were never shown. If there is no
        such column, their names in the column of answers.
    by : str
        Column of the prompt. Rows of one prompt (and seed) are added up.
    seeds : str, optional
        Column of the training seed.
    where : mapping, optional
        column -> value: only rows with that value are read.
    rest : str, optional
        Name of one more group, which gets what the shares leave to 1.
    images : int, optional
        Turn shares (or percentages) of this many images into counts.
    answer : str, optional
        The column that names each image's group, in a file with a row per image; found if only
        one does.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence naming file, line and column.
    """
    groups, by = [clean(g) for g in groups], clean(by)
    wanted = {clean(k): clean(v) for k, v in (where or {}).items()}
    seeds, rest, answer = (clean(n) if n is not None else None for n in (seeds, rest, answer))
    names = [*groups] + ([rest] if rest else [])
    if len(set(names)) < len(names):
        raise ValueError(
            f"a group is named twice in {', '.join(names)}: every group once, and in quotes if it "
            "holds a comma"
        )
    if len(names) < 2:
        raise ValueError(
            f"one group ({', '.join(names) or 'none'}) cannot be compared with itself: name every "
            "group of the schema, or the group of all others with --rest"
        )
    if by in groups:
        raise ValueError(f"column {by!r} cannot be the prompt and a group at once")
    if seeds is not None and seeds in (*groups, by):
        raise ValueError(f"column {seeds!r} cannot be the seed and a group or the prompt at once")
    table = read_table(path, [*groups, by])
    taken = [by, *wanted, *([seeds] if seeds else [])]
    column = per_image.answer_column(table, groups, taken, answer)
    for name in ([column] if column else groups) + taken:
        table.place(name)
    rows = _rows(table, by, seeds, wanted)
    if column is None:
        lines = [(row.line, row.cells) for row in rows]
        found = read_columns(table, lines, groups, taken, rest=rest, images=images)
        entries = [(r.prompt, r.seed, v) for r, v in zip(rows, found.values, strict=True)]
        about = Counts(tuple(names), (), (), _NONE, len(rows), found.counts, found.ignored,
                       found.notes)  # fmt: skip
        return _added_up(about, entries, table, seeds)
    if rest or images is not None:
        raise ValueError(f"{path} has a row for each image: --rest and --images are for shares")
    given = [(r.prompt, r.seed, r.cells[table.place(column)]) for r in rows]
    counted, others = per_image.count_images(
        table, given, groups, column, named=answer is not None
    )  # fmt: skip
    note = f"one row for each image: the groups were counted in column {column!r}"
    about = Counts(tuple(names), (), (), _NONE, len(rows), True, others, (note,))
    entries = [(p, s, values) for (p, s), values in counted.items()]
    return _added_up(about, entries, table, seeds)


@dataclass(frozen=True)
class _Row:
    line: int
    prompt: str
    seed: str
    cells: list[str]


def _rows(table: Table, by: str, seeds: str | None, wanted: Mapping[str, str]) -> list[_Row]:
    """Return the rows that were asked for; all name their prompt and seed, and none is a total."""
    filters = {table.header.index(name): value for name, value in wanted.items()}
    about = {"prompt": by} | ({"seed": seeds} if seeds else {})
    rows = []
    for line, cells in table.rows:
        if any(cells[place] != value for place, value in filters.items()):
            continue
        found = {what: cells[table.header.index(name)] for what, name in about.items()}
        for what, value in found.items():
            if not value:
                raise ValueError(
                    f"{table.path}, line {line}, column {about[what]!r} is empty: name the {what}"
                )
        rows.append(_Row(line, found["prompt"], found.get("seed", ""), cells))
    if not rows:
        why = "no row has " + ", ".join(f"{k}={v}" for k, v in wanted.items()) if wanted else (
            "it has a header and no rows"
        )  # fmt: skip
        raise ValueError(f"{table.path}: {why}")
    for what, name in about.items():
        there = list(dict.fromkeys(getattr(row, what) for row in rows))
        total = total_among(there, means=what == "seed")
        if total is not None:
            line = next(row.line for row in rows if getattr(row, what) == total)
            raise ValueError(
                f"{table.path}, line {line}, column {name!r}: {shorten(total)!r} looks like a "
                f"total of the others: delete the row, or rename it if it is a {what}"
            )
    return rows


def _added_up(
    about: Counts, entries: Sequence[tuple[str, str, list[float]]], table: Table, seeds: str | None
) -> Counts:
    """Add the rows of each prompt and seed up; say or refuse what looks like a sum or mean."""
    prompts = list(dict.fromkeys(p for p, _, _ in entries))
    labels = list(dict.fromkeys(s for _, s, _ in entries))
    size = len(prompts) * len(labels) * len(about.groups)
    if size > max(10_000_000, 20 * len(entries) * len(about.groups)):
        raise ValueError(
            f"{table.path}: {len(labels)} values of {seeds!r} for {len(prompts)} prompts, and "
            "most pairs have no row: is that the training seed? leave out --seeds"
        )
    out = np.full((len(prompts), len(labels), len(about.groups)), np.nan)
    prompt_at = {p: i for i, p in enumerate(prompts)}
    label_at = {s: i for i, s in enumerate(labels)}
    for prompt, label, values in entries:
        cell = out[prompt_at[prompt], label_at[label]]
        cell[:] = np.nan_to_num(cell) + values
    mean = mean_among(prompts, out, 0.51 if about.whole else 0.011)
    if mean is not None:
        raise ValueError(
            f"{table.path}: {shorten(mean)!r} is the mean of the other prompts: delete the row"
        )
    notes = about.notes
    total = unnamed_total(out) if about.whole else None
    if total is not None:
        notes += (f"{prompts[total]!r} is the sum of all other prompts: if a total, delete it",)
    return replace(about, prompts=tuple(prompts), seeds=tuple(labels), values=out, notes=notes)


def parse_target(text: str | None, groups: Sequence[str]) -> np.ndarray | None:
    """Read ``0.5,0.5`` or ``woman=0.5,"man, old"=0.5`` in the order of `groups`.

    Raises
    ------
    ValueError
        If a group is missing or unknown, a share is not above 0, or they do not sum to 1.
    """
    if text is None:
        return None
    parts = split_names(text)
    pairs = [part.rpartition("=") for part in parts if "=" in part]
    named = {clean(name): share for name, _, share in pairs}
    if named and (len(named) < len(parts) or set(named) != set(groups)):
        raise ValueError(f"--target names {text!r}: give every group of {', '.join(groups)} once")
    shares = [named[g] for g in groups] if named else parts
    try:
        values = np.array([float(s) for s in shares])
    except ValueError:
        raise ValueError(f"--target {text!r}: {shares} are not all numbers") from None
    if len(values) != len(groups):
        raise ValueError(f"--target has {len(values)} shares for {len(groups)} groups")
    if not (np.isfinite(values).all() and (values >= 1e-6).all()):
        raise ValueError("--target: every share must be above 0; leave out groups nobody expects")
    if abs(values.sum() - 1) > 1e-3:
        raise ValueError(f"--target sums to {values.sum():.6g}: make its shares sum to 1")
    return values / values.sum()
