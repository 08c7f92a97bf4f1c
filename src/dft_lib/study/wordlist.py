"""CSV files that people edit: read strictly, so that no row is lost unseen, and tidied.

Spreadsheets, web pages and text editors leave traces that nobody sees: a byte-order mark, CRLF,
no-break spaces, soft hyphens, curly quotes, another Unicode form. They are taken away. What loses
rows or columns (a stray quote, a cut file, another separator) stops with file and line.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from pathlib import Path

import pandas as pd

from dft_lib.repro.paths import show

_QUOTES = str.maketrans("‘’‚‛′“”„‟″‐‑", "'''''\"\"\"\"\"--")  # noqa: RUF001
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")  # soft hyphen, zero-width space, joiner, BOM


def tidy(text: str) -> str:
    """Return text as it is meant: one space between words, straight quotes, Unicode form C."""
    text = _INVISIBLE.sub("", unicodedata.normalize("NFC", text)).translate(_QUOTES)
    return " ".join(text.split())


def key(text: str) -> str:
    """Return what two spellings of one term share: `tidy`, case and every invisible sign apart."""
    plain = unicodedata.normalize("NFKC", tidy(text)).casefold()
    return tidy("".join(c for c in plain if unicodedata.category(c) != "Cf"))


def read(path: Path) -> tuple[pd.DataFrame, list[int]]:
    """Read a CSV file of text: UTF-8, commas, a header, a line per row, a line break at the end.

    Returns
    -------
    pandas.DataFrame, list of int
        One column of `tidy` text per field of the header, blank lines passed over; and the line
        of the file in which each row stands.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence: file, line, what is wrong.
    """
    if not path.exists():
        raise FileNotFoundError(f"{show(path)} is missing: restore it with `git checkout`")
    try:
        text = path.read_bytes().decode("utf-8-sig") if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, ValueError) else error.strerror
        raise ValueError(f"{show(path)} cannot be read ({reason}): mend or restore it") from error
    if not text:
        reason = "it is empty" if text == "" else "it is no file"
        raise ValueError(f"{show(path)} cannot be read ({reason}): mend or restore it")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise ValueError(f"{show(path)} cannot be read (it holds zero bytes): restore it")
    if not text.endswith("\n"):
        raise ValueError(
            f"{show(path)} may be cut off: its last line does not end in a line break; add one if "
            "the line is whole, or restore the file"
        )
    header: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    for number, line in enumerate(text[:-1].split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = [tidy(field) for field in next(csv.reader([line], strict=True))]
        except csv.Error as error:
            raise ValueError(
                f"{show(path)}, line {number}: a quote opens or closes in the wrong place "
                f"({error}); mend it, or write a quote inside a quoted field twice"
            ) from error
        if not header:
            header = fields
        elif len(fields) != len(header):
            raise ValueError(
                f"{show(path)}, line {number} has {len(fields)} fields, the header "
                f"{len(header)}: mend the line (a field with a comma stands in quotes)"
            )
        else:
            rows.append(fields)
            lines.append(number)
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise ValueError(f"{show(path)} has two columns {twice!r}: rename or remove one")
    if len(header) == 1 and (odd := re.search("[;|\t]", text.split("\n", 1)[0])):
        raise ValueError(
            f"{show(path)} separates its fields by {odd[0]!r}: save it with commas instead"
        )
    return pd.DataFrame(rows, columns=pd.Index(header, dtype=str), dtype=str), lines
