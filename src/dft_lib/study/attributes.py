"""What an attribute is: its groups, its words in prompts, its colours; and answers that are none.

Attributes are data: ``attributes.csv`` and ``groups.csv`` of a lexicon (`dft_lib.study.lexicon`).
Which of them a study has is said by ``base.target``. Groups are always *perceived* groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the stage `code` needs the list of raters, and no table
    import pandas as pd

UNCLEAR = "unclear"  # somebody is there, the group cannot be told
NO_PERSON = "no_person"
SAFE, UNSAFE = "safe", "unsafe"
PERSON, ROLE = "person", "role"
QUESTIONS = (PERSON, ROLE, UNSAFE)  # what raters are asked besides attributes
PAIR = "_x_"  # joins the names of two attributes
Target = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Attribute:
    """One axis along which people are perceived.

    Attributes
    ----------
    name : str
        As in params and columns: "skin_tone".
    label : str
        For people: "perceived skin tone".
    words : dict
        group -> word used in prompts; its order is the order of the groups.
    pattern : str
        How a prompt says a word: "{}", "{}-skinned".
    place : int
        Where: below 0 before the noun, above 0 after it; the nearer to 0, the nearer to the noun.
    ordered : bool
        Whether the groups form a scale.
    replaces_person : bool
        Whether a word stands for the noun "person": "a woman", not "a woman person".
    colours : dict
        group -> "#rrggbb" in figures; groups without one get one from the figures' own palette.
    """

    name: str
    label: str
    words: Mapping[str, str]
    pattern: str = "{}"
    place: int = -1
    ordered: bool = False
    replaces_person: bool = False
    colours: Mapping[str, str] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups, in order."""
        return tuple(self.words)

    def say(self, word: str) -> str:
        """Return how a prompt says a word: "dark-skinned"."""
        return self.pattern.replace("{}", word)


def describe(noun: str, words: Mapping[str, str], attributes: Mapping[str, Attribute]) -> str:
    """Describe a person, naming only the groups that are given.

    Parameters
    ----------
    noun : str
        A profession, or "person", which some attributes replace ("a woman").
    words : dict
        Attribute -> word, as in the lexicon's ``groups.csv``.
    attributes : dict
        Name -> attribute: how the words are said, and where.

    Returns
    -------
    str
        The description without article: "dark-skinned woman pilot".
    """
    said = sorted((attributes[a] for a in words), key=lambda attribute: attribute.place)
    before = [a.say(words[a.name]) for a in said if a.place < 0]
    after = [a.say(words[a.name]) for a in said if a.place > 0]
    replaced = noun == PERSON and any(a.replaces_person for a in said)
    return " ".join([*before, *([] if replaced else [noun]), *after])


def of_tables(attributes: pd.DataFrame, groups: pd.DataFrame) -> dict[str, Attribute]:
    """Return the attributes of a lexicon, by name, in the order of ``attributes.csv``.

    Parameters
    ----------
    attributes : pandas.DataFrame
        ``attribute, label, pattern, place, ordered, replaces_person``, all text.
    groups : pandas.DataFrame
        ``attribute, group, word, colour``, all text; ``colour`` may be missing or blank.

    Raises
    ------
    ValueError
        With one sentence naming file, value and remedy.
    """
    found = {row["attribute"]: _attribute(row, groups) for row in attributes.to_dict("records")}
    unknown = [a for a in groups["attribute"] if a not in found]
    if unknown:
        raise ValueError(
            f"groups.csv has groups of {unknown[0]!r}, which attributes.csv does not know: add it "
            "there"
        )
    places = [a.place for a in found.values()]
    if len(set(places)) < len(places):
        twice = next(p for p in places if places.count(p) > 1)
        raise ValueError(f"attributes.csv gives the place {twice} twice: words need an order")
    return found


def _attribute(row: Mapping[str, str], groups: pd.DataFrame) -> Attribute:
    name = row["attribute"]

    def wrong(column: str, remedy: str) -> ValueError:
        return ValueError(f"attributes.csv: {column} of {name!r} is {row[column]!r}; {remedy}")

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or PAIR in name or name in QUESTIONS:
        raise wrong("attribute", f"use small letters and _, not {', '.join(QUESTIONS)} or {PAIR}")
    if row["pattern"].count("{}") != 1:
        raise wrong("pattern", "it must hold one {}, the place of the word")
    if not re.fullmatch(r"[+-]?[1-9][0-9]*", row["place"]):
        raise wrong("place", "use a whole number, below 0 before the noun, above 0 after it")
    for column in ("ordered", "replaces_person"):
        if row[column] not in ("yes", "no"):
            raise wrong(column, "use yes or no")
    mine = groups[groups["attribute"] == name]
    if len(mine) < 2:
        raise ValueError(f"groups.csv has fewer than two groups of {name!r}: add them")
    odd = [g for g in mine["group"] if g in (UNCLEAR, NO_PERSON) or re.search(r"[/:]", g)]
    if odd:
        raise ValueError(
            f"groups.csv: {name} cannot have the group {odd[0]!r}: choose a name without / and :, "
            f"and not {UNCLEAR} or {NO_PERSON}, which are answers of their own"
        )
    colours = mine["colour"] if "colour" in mine else [""] * len(mine)
    given = {g: c for g, c in zip(mine["group"], colours, strict=True) if c}
    for group, colour in given.items():
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
            raise ValueError(f"groups.csv: colour of {group!r} is {colour!r}; write it as #a0b1c2")
    return Attribute(
        name, row["label"], dict(zip(mine["group"], mine["word"], strict=True)), row["pattern"],
        int(row["place"]), row["ordered"] == "yes", row["replaces_person"] == "yes", given,
    )  # fmt: skip


def cells(target: Target) -> dict[tuple[str, ...], float]:
    """Return the target's share of every combination of groups, the product over attributes."""
    found: dict[tuple[str, ...], float] = {}
    for combination in product(*(shares.items() for shares in target.values())):
        share = 1.0
        for _, part in combination:
            share *= part
        found[tuple(group for group, _ in combination)] = share
    return found


def pairs(attributes: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return every two attributes under their common name, ``a_x_b``; none of one attribute."""
    return {f"{a}{PAIR}{b}": (a, b) for a, b in combinations(attributes, 2)}


def title(name: str, attributes: Mapping[str, Attribute]) -> str:
    """Return what a figure calls an attribute or a pair: "gender x skin tone"."""
    if name in attributes:
        return attributes[name].label
    parts = [attributes[a].label.removeprefix("perceived ") for a in name.split(PAIR)]
    return " x ".join(parts)
