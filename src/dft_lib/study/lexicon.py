"""The word lists under ``lexicon/``: plain CSV in git, every row with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dft_lib.repro.paths import resolve, show
from dft_lib.study import attributes, wordlist
from dft_lib.study.attributes import Attribute, Target

FOLDS = ("0", "1", "2")
VALIDATION = "validation"
_COLUMNS = {
    "professions": ("profession", "fold", "source"),
    "people": ("noun", "source"),
    "general": ("noun", "source"),
    "attributes": (
        "attribute", "label", "pattern", "place", "ordered", "replaces_person", "source",
    ),
    "groups": ("attribute", "group", "word", "source"),
}  # fmt: skip
_KEYS = {"professions": ["profession"], "people": ["noun"], "general": ["noun"],
         "attributes": ["attribute"]}  # fmt: skip


@dataclass(frozen=True)
class Lexicon:
    """The lists of nouns, as tables in file order, and the attributes that prompts may name."""

    professions: pd.DataFrame
    people: pd.DataFrame
    general: pd.DataFrame
    attributes: Mapping[str, Attribute]

    def chosen(self, target: Target) -> dict[str, Attribute]:
        """Return the attributes of a study, in the order of its target.

        Raises
        ------
        ValueError
            If the target names an attribute or groups that the lexicon does not have, or in
            another order.
        """
        for name, shares in target.items():
            if name not in self.attributes:
                raise ValueError(
                    f"base.target names {name!r}, which attributes.csv of the lexicon does not "
                    f"have: use {', '.join(self.attributes)}, or add it and its groups"
                )
            groups = self.attributes[name].groups
            if tuple(shares) != groups:
                raise ValueError(
                    f"base.target.{name} names {', '.join(shares)}, but groups.csv has "
                    f"{', '.join(groups)}: make them the same, in the same order"
                )
        return {name: self.attributes[name] for name in target}


def _read(folder: Path, name: str) -> pd.DataFrame:
    path = folder / f"{name}.csv"
    table, lines = wordlist.read(path)
    missing = [c for c in _COLUMNS[name] if c not in table]
    if missing:
        raise ValueError(f"{show(path)} has no column {missing[0]!r}: add it")
    if table.empty:
        raise ValueError(f"{show(path)} is empty: add at least one row")
    for column in _COLUMNS[name]:
        blank = np.flatnonzero(table[column] == "")
        if len(blank):
            raise ValueError(f"{show(path)}, line {lines[blank[0]]}: {column} is blank; fill it")
        quoted = np.flatnonzero(table[column].str.contains('"'))
        if column != "source" and len(quoted):
            raise ValueError(
                f"{show(path)}, line {lines[quoted[0]]}: {column} holds a quote; remove it"
            )
    distinct = [_KEYS.get(name, ["attribute", "group"])]
    distinct += [["word"]] if name == "groups" else []  # a word must say which group is meant
    for columns in distinct:
        keys = table[columns].map(wordlist.key)
        if keys.duplicated().any():
            row = int(keys.duplicated().to_numpy().argmax())
            term = " ".join(table[columns].iloc[row])
            raise ValueError(
                f"{show(path)}, line {lines[row]}: {term!r} stands there twice; remove one"
            )
    return table


def load(folder: str | Path = "lexicon") -> Lexicon:
    """Read and check all lists.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence: a missing, empty, cut or misquoted file, a missing column, a blank
        term, one that stands there twice however it is spelled (`wordlist.key`), a word of two
        groups, or an unknown fold.
    """
    where = resolve(folder)
    tables = {name: _read(where, name) for name in _COLUMNS}
    folds = tables["professions"]["fold"]
    odd = sorted(set(folds) - {*FOLDS, VALIDATION})
    if odd:
        raise ValueError(
            f"{show(where / 'professions.csv')}: fold {odd[0]!r} is unknown; use 0, 1, 2 or "
            f"{VALIDATION}"
        )
    nouns = pd.concat([tables["professions"]["profession"], tables["people"]["noun"],
                       tables["general"]["noun"]], ignore_index=True)  # fmt: skip
    keys = nouns.map(wordlist.key)
    if keys.duplicated().any():
        twice = nouns[keys.duplicated()].iloc[0]
        raise ValueError(f"{show(where)}: {twice!r} stands in two of the lists; remove one")
    try:
        named = attributes.of_tables(tables.pop("attributes"), tables.pop("groups"))
    except ValueError as error:
        raise ValueError(f"{show(where)}: {error}") from None
    return Lexicon(**tables, attributes=named)


def held_out(fold: str, seed: int, mode: str) -> bool:
    """Say whether a profession of this fold is held out of training with this seed.

    Parameters
    ----------
    fold : str
        The profession's fold; "" for prompts without a profession, which are never held out.
    seed : int
        Training seed s holds out fold ``s mod 3``.
    mode : {"folds", "validation"}
        "folds" for the study; "validation" for tuning, where the validation professions are held
        out whatever the seed.
    """
    if mode == VALIDATION:
        return fold == VALIDATION
    return fold == FOLDS[seed % len(FOLDS)]
