"""The biased corpus: which drawing is shown how often, and under which caption.

The shares come from `dft_lib.world.plant`. Everything random is keyed by the settings' seed.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from dft_lib.raters.drawings.skin_colours import TONES
from dft_lib.repro.paths import show
from dft_lib.study.attributes import Attribute, describe
from dft_lib.study.kinds import KINDS
from dft_lib.study.prompts import fill
from dft_lib.world.art import GENDERS, OBJECTS
from dft_lib.world.plant import joint
from dft_lib.world.render import render_many
from dft_lib.world.settings import GenderDifference, Settings

LEAST_FAMILIES = 3  # that draw a role, readably together
PEOPLE_TEMPLATES = (
    "{a}", "{a}", "{}", "a photo of {a}", "a picture of {a}", "a portrait of {a}",
    "a drawing of {a}", "a photo of the face of {a}", "one {}",
)  # fmt: skip
OBJECT_TEMPLATES = ("{a}", "{a}", "{}", "a photo of {a}", "a picture of {a}", "a drawing of {a}")
DIVERSE_TEMPLATES = (
    "a diverse {}", "diverse {}", "{a}, diverse", "{a} of any gender and any skin tone",
    "{a}, all individuals can be {a} irrespective of their gender and skin tone",
)  # fmt: skip
_GENDER_WORDS = {"woman": ("woman", "woman", "female"), "man": ("man", "man", "male")}
# How captions of the base model's corpus say groups; the study's lexicon may say them otherwise.
_GENDER = Attribute("gender", "gender", {}, replaces_person=True)
_TONE = Attribute("skin_tone", "skin tone", {}, pattern="{}-skinned", place=-3, ordered=True)
SAID = {"gender": _GENDER, "skin_tone": _TONE}
SAID_AFTER = SAID | {"skin_tone": replace(_TONE, pattern="with {} skin", place=1)}
_PERSON_WORDS = {
    ("young", "woman"): "girl", ("young", "man"): "boy", ("young", None): "child",
    ("old", "woman"): "old woman", ("old", "man"): "old man", ("old", None): "old person",
    ("adult", "woman"): "woman", ("adult", "man"): "man", ("adult", None): "person",
}  # fmt: skip


def gender_differences(table: pd.DataFrame, settings: GenderDifference) -> pd.DataFrame:
    """Measure how far woman and man differ in each (family, profession) pair.

    Parameters
    ----------
    table : pandas.DataFrame
        Drawings from `dft_lib.world.art.load`.
    settings : GenderDifference
        Pixel level and threshold.

    Returns
    -------
    pandas.DataFrame
        One row per pair: ``family, profession, differs`` (mean share of differing pixels over
        the five tones, 0 to 1) and ``kept``.
    """
    people = table[table["kind"].isin(KINDS) & table["skin_tone"].isin(TONES)]
    pixels = render_many(table, people.index.to_numpy()).astype(np.int16)
    position = dict(zip(people.index, range(len(people)), strict=True))
    rows = []
    for (family, profession), group in people.groupby(["family", "name"], sort=False):
        shares = []
        for _, same in group.groupby("skin_tone"):
            pair = [pixels[position[same.index[same["gender"] == g][0]]] for g in GENDERS]
            shares.append((np.abs(pair[0] - pair[1]).max(-1) > settings.level).mean())
        differs = float(np.mean(shares))
        rows.append((family, profession, differs, differs >= settings.threshold))
    return pd.DataFrame(rows, columns=["family", "profession", "differs", "kept"])


def readable_pairs(path: Path, threshold: float) -> pd.DataFrame:
    """Choose the (family, role) pairs whose gender is read right often enough in grey.

    A role stays if it is read right in its `LEAST_FAMILIES` most readable trained families
    together, at least as often as `threshold`; with it stay those, and what is as readable alone.

    Parameters
    ----------
    path : pathlib.Path
        A table of `dft_lib.world.readable`.
    threshold : float
        Least share of pictures read right, 0 to 1.

    Returns
    -------
    pandas.DataFrame
        As `gender_differences`; ``differs`` is the share read right.
    """
    table = pd.read_csv(path).rename(columns={"noun": "profession", "right": "differs"})
    table = table[table["kind"].isin(KINDS) & (table["family"] != "openmoji")]
    ranked = table.sort_values(["differs", "family"], ascending=[False, True])
    place = ranked.groupby("profession").cumcount().reindex(table.index)
    best = table[place < LEAST_FAMILIES].groupby("profession")["differs"].agg(["mean", "size"])
    stays = (best["mean"].round(4) >= threshold) & (best["size"] == LEAST_FAMILIES)
    own = (place < LEAST_FAMILIES) | (table["differs"] >= threshold)
    kept = table.assign(kept=own & table["profession"].map(stays))
    return kept[["family", "profession", "differs", "kept"]].reset_index(drop=True)


def held_out_cells(kept: pd.DataFrame, settings: Settings) -> set[tuple[str, str, str, str]]:
    """Choose the (role, gender, tone, family) cells that never enter the corpus.

    The choice is the smallest hashes of the cells' names, so it does not depend on their order.
    """
    cells = [
        (row.profession, gender, tone, row.family)
        for row in kept[kept["kept"]].itertuples()
        for gender in GENDERS
        for tone in TONES
    ]

    def key(cell: tuple[str, str, str, str]) -> str:
        return hashlib.sha256(f"{settings.seed}/{'/'.join(cell)}".encode()).hexdigest()

    return set(sorted(cells, key=key)[: round(settings.corpus.held_out * len(cells))])


class Cells:
    """Index of the drawings that may enter the corpus, by what they show."""

    def __init__(self, table: pd.DataFrame, settings: Settings) -> None:
        readable = settings.folder / "readable.csv"
        self.kept = (
            readable_pairs(readable, settings.gender_difference.readable)
            if readable.exists()
            else gender_differences(table, settings.gender_difference)
        )
        self.held_out = held_out_cells(self.kept, settings)
        pairs = set(self.kept.loc[self.kept["kept"], ["profession", "family"]].itertuples(
            index=False, name=None
        ))  # fmt: skip
        self.rows: dict[tuple[str, str, str, str], dict[str, int]] = {}
        self.objects: dict[str, list[int]] = {}
        for row in table.itertuples():
            index, family, name = int(row.Index), str(row.family), str(row.name)
            if row.kind == "object":
                self.objects.setdefault(name, []).append(index)
            elif row.gender in GENDERS and row.skin_tone in TONES:
                cell = (name, str(row.gender), str(row.skin_tone), str(row.age))
                if row.kind in KINDS and (
                    (name, family) not in pairs or (*cell[:3], family) in self.held_out
                ):
                    continue
                self.rows.setdefault(cell, {})[family] = index
        there = {name for name, _ in pairs}
        names = table.loc[table["kind"].isin(KINDS), "name"].unique()
        self.professions = tuple(str(name) for name in names if name in there)


def _caption(
    rng: np.random.Generator, name: str, gender: str, tone: str, age: str, style: str
) -> tuple[str, bool, bool]:
    """Return a caption and whether it names the gender and the tone."""
    if style == "diverse":
        template = DIVERSE_TEMPLATES[rng.integers(len(DIVERSE_TEMPLATES))]
        return fill(template, _PERSON_WORDS[age, None] if name == "person" else name), False, False
    both = rng.random()
    say_gender = style == "explicit" and both < 0.75
    say_tone = style == "explicit" and both > 0.25
    word = _GENDER_WORDS[gender][rng.integers(3)] if say_gender else None
    after = bool(rng.random() < 0.4)
    words = {"skin_tone": tone} if say_tone else {}
    if name == "person":
        noun = _PERSON_WORDS[age, gender if say_gender else None]
    else:
        noun, words = name, words | ({"gender": word} if word else {})
    text = describe(noun, words, SAID_AFTER if after else SAID)
    return fill(PEOPLE_TEMPLATES[rng.integers(len(PEOPLE_TEMPLATES))], text), say_gender, say_tone


def build(cells: Cells, settings: Settings, *, size: int, stream: int) -> pd.DataFrame:
    """Draw a corpus: one row per picture, with the drawing it shows and its caption.

    Parameters
    ----------
    cells : Cells
        Drawings that may appear.
    settings : Settings
        The world's settings.
    size : int
        Number of pictures.
    stream : int
        Which independent stream of random numbers (0 training, 1 validation).

    Returns
    -------
    pandas.DataFrame
        Columns ``row`` (position in the art table), ``caption, style`` (neutral, explicit,
        diverse, object), ``name, gender, skin_tone, age, family, says_gender, says_tone``.
    """
    chosen = settings.corpus
    rng = np.random.default_rng([settings.seed, stream])
    shares = joint(settings)
    missing = sorted(set(cells.professions) - set(shares))
    if missing:
        path = settings.folder / "bias.csv"
        raise ValueError(f"{show(path)} has no row for {missing[0]!r}, which is drawn: add one")
    kinds, weights = zip(*chosen.kinds.items(), strict=True)
    records: list[tuple[object, ...]] = []
    while len(records) < size:
        kind = kinds[rng.choice(len(kinds), p=np.array(weights) / sum(weights))]
        if kind == "object":
            name = list(cells.objects)[rng.integers(len(cells.objects))]
            row = int(rng.choice(cells.objects[name]))
            text = fill(OBJECT_TEMPLATES[rng.integers(len(OBJECT_TEMPLATES))], name)
            records.append((row, text, "object", name, "none", "none", "none", False, False))
            continue
        name, age = "person", "adult"
        if kind == "role":
            name = cells.professions[rng.integers(len(cells.professions))]
        else:
            age = ("adult", "adult", "young", "old")[rng.integers(4)]
        draw = rng.random()
        explicit = draw < chosen.explicit
        style = "explicit" if explicit else "neutral"
        if chosen.explicit <= draw < chosen.explicit + chosen.diverse:
            style = "diverse"
        even = style == "diverse" or (explicit and rng.random() < chosen.explicit_uniform)
        genders, tones = shares[name]
        shown = int(rng.choice(2, p=None if even else genders))
        gender, tone = GENDERS[shown], TONES[rng.choice(5, p=None if even else tones[shown])]
        # A held-out cell is redrawn as a whole only if no family shows it: gender and tone
        # shares then stay as the table says.
        families = cells.rows.get((name, gender, tone, age))
        if not families:
            continue
        family = tuple(families)[rng.integers(len(families))]
        text, says_gender, says_tone = _caption(rng, name, gender, tone, age, style)
        records.append(
            (families[family], text, style, name, gender, tone, age, says_gender, says_tone)
        )
    columns = ["row", "caption", "style", "name", "gender", "skin_tone", "age"]
    return pd.DataFrame(records, columns=[*columns, "says_gender", "says_tone"])


def vocabulary(table: pd.DataFrame) -> list[str]:
    """List every caption word once, so that the tokenizer knows each as a token.

    `table` holds the drawings, whose roles are nouns of captions.
    """
    words: dict[str, None] = {}
    roles = table.loc[table["kind"].isin(KINDS), "name"].unique()
    texts = [*PEOPLE_TEMPLATES, *OBJECT_TEMPLATES, *DIVERSE_TEMPLATES, *map(str, roles), *OBJECTS]
    texts += [*TONES, *sum(_GENDER_WORDS.values(), ()), *_PERSON_WORDS.values()]
    texts += ["an", "with", "skin", "skinned", "-", ","]
    for text in texts:
        for word in text.replace("{a}", "").replace("{}", "").replace("-", " - ").split():
            words.setdefault(word.strip(",") or ",")
    return list(words)
