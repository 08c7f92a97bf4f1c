"""A stranger's CSV file as rows of clean text, or one sentence on what is wrong with it."""

from __future__ import annotations

import csv
import difflib
import io
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEPARATORS = (",", ";", "\t", "|")
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode categories that draw nothing, or elsewhere
_JOINERS = "\u200c\u200d"  # but these two belong to words and emoji
_NO_TEXT = {
    b"\xff\xfe": "UTF-16 or UTF-32 text",
    b"\xfe\xff": "UTF-16 or UTF-32 text",
    b"PK\x03\x04": "a spreadsheet or another zip archive",
    b"\xd0\xcf\x11\xe0": "a spreadsheet",
    b"\x1f\x8b": "a gzip archive",
}


def visible(text: str) -> str:
    """Return text that a terminal only shows: control characters as Python writes them."""
    return "".join(
        c.encode("unicode_escape").decode()
        if unicodedata.category(c) in _UNSEEN and c not in _JOINERS
        else c
        for c in text
    )


def clean(text: str) -> str:
    """Return a name or number without blanks around it, every blank inside as one plain space.

    What looks alike is alike then: no-break and thin spaces, composed and decomposed accents.
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def split_names(text: str) -> list[str]:
    """Split ``a,"b, c"`` at commas, as CSV: a name that holds a comma is quoted.

    Raises
    ------
    ValueError
        If a quote is not closed.
    """
    if text.count('"') % 2:
        raise ValueError(f"{text}: a quote is not closed: mend the quotes")
    cells = next(csv.reader([" ".join(text.split())], skipinitialspace=True), [])
    return [clean(cell) for cell in cells]


@dataclass(frozen=True)
class Table:
    """A file: its header, and (line number, cells) of every row that is not blank.

    All rows have as many cells as the header.
    """

    path: Path
    header: list[str]
    rows: list[tuple[int, list[str]]]

    def place(self, name: str) -> int:
        """Return the position of a column.

        Raises
        ------
        ValueError
            If there is none of this name, or two.
        """
        if self.header.count(name) > 1:
            raise ValueError(f"{self.path}: the header names column {name!r} twice: rename one")
        if name in self.header:
            return self.header.index(name)
        raise ValueError(f"{self.path} has no column {name!r}{self._hint(name)}")

    def _hint(self, name: str) -> str:
        known = [h for h in self.header if h]
        close = difflib.get_close_matches(name, known[:1000], n=1)
        hint = f" (did you mean {shorten(close[0])!r}?)" if close else ""
        if any("," in h and name in split_names(h.replace('"', "")) for h in known):
            hint = """ (a name that holds a comma is quoted: '"a, b",c')"""
        there = ", ".join(shorten(h) for h in known[:20])
        more = f" and {len(known) - 20} more" if len(known) > 20 else ""
        one = " (columns are separated by comma, semicolon, tab, | or what a line sep=x says)"
        return f"{hint}; its columns are: {there}{more}{one if len(known) == 1 else ''}"


def shorten(text: str, most: int = 40) -> str:
    """Return at most so many characters of a name, for sentences."""
    return text if len(text) <= most else text[: most - 3] + "..."


def read_table(path: Path, needed: Sequence[str]) -> Table:
    """Read a CSV file.

    Parameters
    ----------
    path : pathlib.Path
        UTF-8; between columns what a first line ``sep=x`` (Excel) says, else whichever of comma,
        semicolon, tab and ``|`` gives most of the needed columns.
    needed : sequence of str
        Names of columns that should be there.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence naming file and line.
    """
    text = _text(path)
    if not text.strip():
        raise ValueError(f"{path} is empty: it needs a header row and a row per prompt")
    skipped = 0
    separators: Sequence[str] = SEPARATORS
    first, _, others = text.partition("\n")
    announced = first.strip('"')
    if announced.casefold().startswith("sep="):
        separators = [announced[4:]]
        if len(announced) != 5 or announced[4] == '"':
            raise ValueError(
                f"{path}, line 1: {shorten(first)!r} names no separator of one character: write "
                "sep=; (or the like), or delete the line"
            )
        text, skipped = others, 1
    with _cells_of_any_length(len(text)):
        found = {s: _first_rows(text, s) for s in separators}
        hits = {s: [sum(n in needed for n in row) for _, row in rows] for s, rows in found.items()}
        if not all(found.values()):
            raise ValueError(f"{path} is empty: it needs a header row and a row per prompt")
        separator = max(found, key=lambda s: (max(hits[s]), len(found[s][0][1])))
        best = hits[separator]
        if best[0] < max(best) == len(needed):
            line = found[separator][best.index(max(best))][0] + skipped
            raise ValueError(
                f"{path}, line {line} is the header, but not the first line: delete those above it"
            )
        return _table(path, text, separator, skipped)


def _text(path: Path) -> str:
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a CSV file")
    raw = path.read_bytes()
    for start, what in _NO_TEXT.items():
        if raw.startswith(start):
            raise ValueError(f"{path} is {what}: save it as CSV with UTF-8 encoding")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: save it as CSV with UTF-8 encoding") from error
    if "\0" in text:
        raise ValueError(f"{path} holds zero bytes, as UTF-16 does: save it as CSV with UTF-8")
    return text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


@contextmanager
def _cells_of_any_length(most: int) -> Iterator[None]:
    """Lift the csv module's limit of 131,072 characters a cell, which is one for all modules."""
    before = csv.field_size_limit(max(most, 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _reader(text: str, separator: str, *, strict: bool) -> Any:
    return csv.reader(
        io.StringIO(text), delimiter=separator, strict=strict, skipinitialspace=separator != " "
    )


def _first_rows(text: str, separator: str, most: int = 20) -> list[tuple[int, list[str]]]:
    """Return the first rows that are not blank, however they are quoted, with their lines."""
    reader = _reader(text, separator, strict=False)
    found = []
    for cells in reader:
        if any(map(str.strip, cells)):
            found.append((reader.line_num, [clean(c) for c in cells]))
        if len(found) == most:
            break
    return found


def _table(path: Path, text: str, separator: str, skipped: int) -> Table:
    reader = _reader(text, separator, strict=True)
    header: list[str] = []
    rows = []
    try:
        for cells in reader:
            line = reader.line_num + skipped
            if not any(map(str.strip, cells)):
                continue
            _check_quotes(f"{path}, line {line}", cells, separator, len(header) or len(cells))
            tidy = [clean(c) for c in cells]
            if not header:
                header = tidy
                continue
            if any(tidy[len(header) :]):
                raise ValueError(
                    f"{path}, line {line}: {len(cells)} cells for {len(header)} columns: quote "
                    "texts and numbers that contain the separator"
                )
            rows.append((line, (tidy + [""] * (len(header) - len(tidy)))[: len(header)]))
    except csv.Error as error:
        line = reader.line_num + skipped
        raise ValueError(f"{path}, line {line}: {error}: mend the quotes") from error
    return Table(path, header, rows)


def _check_quotes(where: str, cells: list[str], separator: str, columns: int) -> None:
    """Refuse a cell that may have swallowed rows, from one stray quote to the next.

    It then holds, for every line break, a whole row's separators (some may lie behind it).
    """
    behind = max(0, len(cells) - columns)
    for cell in cells:
        breaks = cell.count("\n")
        if breaks and cell.count(separator) + behind >= breaks * (columns - 1):
            start = shorten(cell.partition("\n")[0])
            raise ValueError(
                f"{where}: the cell that starts with {start!r} runs over {breaks + 1} lines and "
                "holds what may be rows: mend the quotes, or take line breaks out of texts"
            )
