"""Read counts (or shares) of groups from a CSV of any origin, and say exactly what is wrong."""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


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
        Sums of columns that hold images without an answer (`DROP_OUT`) and were not named.
    whole : bool
        Whether all values are whole numbers: then they are counts, with a noise floor. Otherwise
        they are shares of an unknown number of images.
    """

    groups: tuple[str, ...]
    prompts: tuple[str, ...]
    seeds: tuple[str, ...]
    values: np.ndarray
    rows: int
    whole: bool
    ignored: dict[str, float] = field(default_factory=dict)


# How files call images without a face or a clear answer.
DROP_OUT = ("unclear", "no_person", "no_face", "undecided", "unknown", "unsure")


def _table(path: Path, needed: Sequence[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return header and (line number, cells) of every row that is not blank."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a CSV file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: save it as CSV with UTF-8 encoding") from error
    if not text.strip():
        raise ValueError(f"{path} is empty: it needs a header row and a row per prompt")
    first = text.lstrip().splitlines()[0]
    # the separator that gives most of the wanted columns; a comma if none does
    found = {s: sum(n.strip() in needed for n in next(csv.reader([first], delimiter=s)))
             for s in (",", ";", "\t")}  # fmt: skip
    separator = max(found, key=lambda s: found[s])
    try:
        reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
        lines = [(reader.line_num, [c.strip() for c in cells]) for cells in reader]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}: mend the quotes") from error
    lines = [(number, cells) for number, cells in lines if any(cells)]
    return lines[0][1], lines[1:]


def _column(path: Path, header: list[str], name: str) -> int:
    if header.count(name) > 1:
        raise ValueError(f"{path}: the header names column {name!r} twice: rename one")
    if name not in header:
        close = difflib.get_close_matches(name, header, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        there = ", ".join(h for h in header if h)
        raise ValueError(f"{path} has no column {name!r}{hint}; its columns are: {there}")
    return header.index(name)


def _number(path: Path, line: int, name: str, text: str) -> float:
    where = f"{path}, line {line}, column {name!r}"
    if not text:
        raise ValueError(f"{where} is empty: write 0 if no image showed this group")
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{where}: {text!r} is no number") from None
    if not math.isfinite(value):
        raise ValueError(f"{where}: {text!r} is no count: write 0 or leave the row out")
    if value < 0:
        raise ValueError(f"{where}: {text} is negative; counts and shares are not")
    if value > 1e12 or "_" in text or not text.isascii():
        raise ValueError(f"{where}: {text!r} is no count: write plain digits, 1e12 at most")
    return value


def read_counts(
    path: Path,
    groups: Sequence[str],
    by: str,
    *,
    seeds: str | None = None,
    where: Mapping[str, str] | None = None,
    rest: str | None = None,
    images: int | None = None,
) -> Counts:
    """Read a CSV with one row per prompt (and seed), one column per group.

    Parameters
    ----------
    path : pathlib.Path
        UTF-8; comma, semicolon or tab between columns; columns that are not named are ignored.
    groups : sequence of str
        Columns of the groups, all of the schema: also those that were never shown.
    by : str
        Column of the prompt. Rows of one prompt (and seed) are added up.
    seeds : str, optional
        Column of the training seed.
    where : mapping, optional
        column -> value: only rows with that value are read.
    rest : str, optional
        Name of one more group, which gets what the shares leave to 1.
    images : int, optional
        Turn shares of this many images into counts.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence naming file, line and column.
    """
    names = [*groups] + ([rest] if rest else [])
    if len(set(names)) < len(names):
        raise ValueError(f"a group is named twice in {', '.join(names)}: every group once")
    if len(names) < 2:
        raise ValueError(
            f"one group ({', '.join(names) or 'none'}) cannot be compared with itself: name every "
            "group of the schema, or the group of all others with --rest"
        )
    if by in groups:
        raise ValueError(f"column {by!r} cannot be the prompt and a group at once")
    if seeds is not None and seeds in (*groups, by):
        raise ValueError(f"column {seeds!r} cannot be the seed and a group or the prompt at once")
    wanted = dict(where or {})
    header, lines = _table(path, [*groups, by])
    place = {name: _column(path, header, name)
             for name in (*groups, by, *wanted, *([seeds] if seeds else []))}  # fmt: skip
    rows: list[tuple[str, str, list[float]]] = []
    numbers = []
    ignored = {h: 0.0 for h in header if h in DROP_OUT and h not in (*groups, *wanted, by, seeds)}
    for number, cells in lines:
        if any(cells[len(header) :]):
            raise ValueError(
                f"{path}, line {number}: {len(cells)} cells for {len(header)} columns: quote "
                "texts and numbers that contain the separator"
            )
        cells = cells + [""] * (len(header) - len(cells))
        if any(cells[place[column]] != value for column, value in wanted.items()):
            continue
        prompt = cells[place[by]]
        if seeds and not cells[place[seeds]]:
            raise ValueError(f"{path}, line {number}, column {seeds!r} is empty: name the seed")
        if not prompt:
            raise ValueError(f"{path}, line {number}, column {by!r} is empty: name the prompt")
        values = [_number(path, number, name, cells[place[name]]) for name in groups]
        if rest:
            if sum(values) > 1.01:
                raise ValueError(
                    f"{path}, line {number}: --rest needs shares, but {', '.join(groups)} sum to "
                    f"{sum(values):g}, more than 1"
                )
            values.append(max(0.0, 1 - sum(values)))
        rows.append((prompt, cells[place[seeds]] if seeds else "", values))
        numbers.append(number)
        for name in ignored:
            ignored[name] += _number(path, number, name, cells[header.index(name)] or "0")
    if not rows:
        why = "no row has " + ", ".join(f"{k}={v}" for k, v in wanted.items()) if wanted else (
            "it has a header and no rows"
        )  # fmt: skip
        raise ValueError(f"{path}: {why}")
    whole = not rest and all(v.is_integer() for _, _, values in rows for v in values)
    if not whole or images is not None:
        for number, (_, _, values) in zip(numbers, rows, strict=True):
            odd = [i for i, v in enumerate(values) if not v.is_integer()]
            if odd and abs(sum(values) - 1) > 0.01:
                raise ValueError(
                    f"{path}, line {number}, column {names[odd[0]]!r}: {values[odd[0]]:g} is "
                    "neither a whole count nor a share of a row that sums to 1 (write thousands "
                    "without a separator)"
                )
    if images is not None:
        if whole and any(sum(values) > 1 for _, _, values in rows):
            raise ValueError("--images turns shares into counts, and these are counts already")
        rows = [(p, s, _as_counts(values, images)) for p, s, values in rows]
    prompts = list(dict.fromkeys(p for p, _, _ in rows))
    labels = list(dict.fromkeys(s for _, s, _ in rows))
    out = np.full((len(prompts), len(labels), len(names)), np.nan)
    prompt_at = {p: i for i, p in enumerate(prompts)}
    label_at = {s: i for i, s in enumerate(labels)}
    for prompt, label, values in rows:
        cell = out[prompt_at[prompt], label_at[label]]
        cell[:] = np.nan_to_num(cell) + values
    return Counts(
        tuple(names), tuple(prompts), tuple(labels), out, len(rows), whole or images is not None,
        ignored,
    )  # fmt: skip


def _as_counts(values: list[float], images: int) -> list[float]:
    """Return whole numbers in proportion to the shares that sum to `images`."""
    if not sum(values):
        return values
    exact = [v / sum(values) * images for v in values]
    counts = [math.floor(x) for x in exact]
    left = images - sum(counts)  # to the largest remainders, so that the number stays right
    for i in sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])[:left]:
        counts[i] += 1
    return [float(n) for n in counts]


def parse_target(text: str | None, groups: Sequence[str]) -> np.ndarray | None:
    """Read ``0.5,0.5`` or ``woman=0.5,man=0.5`` in the order of `groups`.

    Raises
    ------
    ValueError
        If a group is missing or unknown, a share is not above 0, or they do not sum to 1.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    pairs = [part.rpartition("=") for part in parts if "=" in part]
    named = {name.strip(): share.strip() for name, _, share in pairs}
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
