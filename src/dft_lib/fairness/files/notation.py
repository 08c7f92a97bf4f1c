"""Numbers as people and spreadsheets write them: percentages, thousands, decimal commas."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
_SPACED = re.compile(r"(\d{1,3})((?:[ '\u2019]\d{3})+)((?:[.,]\d+)?)", re.ASCII)
_OPEN = re.compile(r"[1-9]\d{0,2}[.,]\d{3}", re.ASCII)
_GROUPED = re.compile(r"\d{1,3}([.,])\d{3}(?:\1\d{3})*(?:(?!\1)[.,]\d*)?", re.ASCII)


@dataclass(frozen=True)
class Cell:
    """A text that should be a number, and where it stands, for sentences."""

    where: str
    text: str


@dataclass(frozen=True)
class Numbers:
    """How the numbers of a file are written.

    Attributes
    ----------
    decimal, thousands : str
        The marks; thousands is empty if there are none.
    fractions : bool
        Whether any number has a decimal mark: ``1.0`` is written by who means shares.
    percent : bool
        Whether the numbers have a percent sign.
    words : bool
        Whether they are true and false, yes and no.
    """

    decimal: str = "."
    thousands: str = ""
    fractions: bool = False
    percent: bool = False
    words: bool = False

    def read(self, cell: Cell) -> float:
        """Return the number in a cell, percentages as shares.

        Raises
        ------
        ValueError
            If it is none, is negative or not finite.
        """
        if not cell.text:
            raise ValueError(f"{cell.where} is empty: write 0 if no image showed this group")
        if self.words:
            return WORDS[cell.text.casefold()]
        shown, plain = repr(cell.text), _plain(cell.text)
        if self.thousands and _GROUPED.fullmatch(plain):
            plain = plain.replace(self.thousands, "")
        plain = plain.replace(self.decimal, ".")
        try:
            value = float(plain)
        except ValueError:
            raise ValueError(
                f"{cell.where}: {shown} is no number (write 0 if no image showed this group)"
            ) from None
        if not math.isfinite(value):
            raise ValueError(f"{cell.where}: {shown} is no count: write 0 or leave the row out")
        if value < 0:
            raise ValueError(f"{cell.where}: {plain} is negative; counts and shares are not")
        if value > 1e12 or "_" in plain or not plain.isascii():
            raise ValueError(f"{cell.where}: {shown} is no count: write digits, 1e12 at most")
        return value / 100 if self.percent else value


def _plain(text: str) -> str:
    """Return a number without percent sign, and without spaces or apostrophes in thousands."""
    text = text.removesuffix("%").strip()
    spaced = _SPACED.fullmatch(text)
    return spaced[1] + re.sub(r"\D", "", spaced[2]) + spaced[3] if spaced else text


def numbers_of(cells: Iterable[Cell]) -> Numbers:
    """Find out how a file writes its numbers, from all of them together.

    ``4.000`` alone is 4 or 4000. Any ``0.5``, ``12.50`` or ``1234.5`` in the file says that the
    point is for decimals, any ``1.234.567`` or ``1.234,5`` that it is for thousands.

    Raises
    ------
    ValueError
        If nothing tells, if marks contradict each other, or if only some have a percent sign.
    """
    filled = [c for c in cells if c.text]
    if filled and all(c.text.casefold() in WORDS for c in filled):
        return Numbers(words=True)
    signed = [c.text.endswith("%") for c in filled]
    percent = any(signed)
    for cell, sign in zip(filled, signed, strict=True):
        if percent and not sign and _plain(cell.text).strip("0.,"):
            raise ValueError(
                f"{cell.where}: {cell.text!r} has no percent sign, others have: write all alike"
            )
    roles: dict[str, dict[str, Cell]] = {"decimal": {}, "thousands": {}, "open": {}}
    for cell in filled:
        for mark, role in _marks(_plain(cell.text)):
            roles[role].setdefault(mark, cell)
    decimal, thousands, unknown = roles["decimal"], roles["thousands"], roles["open"]
    for known in (decimal, thousands):
        if len(known) == 2:
            a, b = known.values()
            raise ValueError(f"{b.where}: {b.text!r} and {a.text!r} do not go together: write all "
                             "numbers alike, without marks between thousands")  # fmt: skip
    for mark in set(decimal) & set(thousands):
        a, b = decimal[mark], thousands[mark]
        raise ValueError(
            f"{b.where}: in {b.text!r} {mark!r} stands between thousands, in {a.text!r} "
            f"({a.where.rpartition(', ')[0]}) before decimals: write plain numbers"
        )
    for mark, cell in unknown.items():
        if mark in decimal or mark in thousands:
            continue
        if percent or _other(mark) in thousands:
            decimal.setdefault(mark, cell)
        elif _other(mark) in decimal:
            thousands.setdefault(mark, cell)
        else:
            high, low = cell.text.replace(mark, ""), f"{float(cell.text.replace(mark, '.')):g}"
            raise ValueError(
                f"{cell.where}: {cell.text!r} can be {high} (a mark between thousands) or {low}, "
                "and no other number tells: write all numbers without marks between thousands"
            )
    return Numbers(
        decimal=next(iter(decimal), "." if "." not in thousands else ","),
        thousands=next(iter(thousands), ""), fractions=bool(decimal), percent=percent,
    )  # fmt: skip


def _other(mark: str) -> str:
    return "," if mark == "." else "."


def _marks(text: str) -> list[tuple[str, str]]:
    """Return each mark of a number with what it is for: decimal, thousands or (either) open."""
    marks = [c for c in text if c in ".,"]
    if not marks:
        return []
    if len(marks) == 1:
        return [(marks[0], "open" if _OPEN.fullmatch(text) else "decimal")]
    if not _GROUPED.fullmatch(text):
        return []  # no number at all: reading it says so
    found = [(marks[0], "thousands")]
    return found + ([(marks[-1], "decimal")] if marks[-1] != marks[0] else [])
