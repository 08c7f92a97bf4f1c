"""Words to prompts: how a person is described, and the grids of prompts that are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from dft_lib.lexicon import VALIDATION, Lexicon
from dft_lib.paths import show

if TYPE_CHECKING:
    from dft_lib.params import Prompts


@dataclass(frozen=True)
class Request:
    """One image to draw: its noise belongs to (prompt_id, replicate)."""

    prompt_id: str
    prompt: str
    replicate: int


_VOWEL_SOUND = ("honest", "honour", "honor", "hour", "heir")
_CONSONANT_SOUND = ("uni", "eu", "one", "use", "usu", "uti")


def article(phrase: str) -> str:
    """Return `phrase` with its indefinite article ("an artist", "a university lecturer").

    By spelling, with the commonest exceptions; English has more ("an unidentified person").
    """
    low = phrase.lower()
    vowel = low.startswith(_VOWEL_SOUND) or (
        low[:1] in "aeiou" and not low.startswith(_CONSONANT_SOUND)
    )
    return f"{'an' if vowel else 'a'} {phrase}"


def describe(
    noun: str,
    *,
    gender: str | None = None,
    skin_tone: str | None = None,
    age: str | None = None,
    tone_after: bool = False,
) -> str:
    """Describe a person, naming only the groups that are given.

    Parameters
    ----------
    noun : str
        A profession, or "person", which a named gender replaces ("a woman").
    gender, skin_tone, age : str, optional
        Group words as they stand in ``lexicon/groups.csv``.
    tone_after : bool
        "woman pilot with dark skin" instead of "dark-skinned woman pilot".

    Returns
    -------
    str
        The description without article.
    """
    words = [age] if age else []
    if skin_tone and not tone_after:
        words.append(f"{skin_tone}-skinned")
    if gender:
        words.append(gender)
    if not (gender and noun == "person"):
        words.append(noun)
    if skin_tone and tone_after:
        words.append(f"with {skin_tone} skin")
    return " ".join(words)


def fill(template: str, description: str) -> str:
    """Put a description into a template: "{a}" takes an article, "{}" none."""
    return template.replace("{a}", article(description)).replace("{}", description)


def training_grid(lexicon: Lexicon, settings: Prompts) -> pd.DataFrame:
    """List the prompts whose images may train a model.

    Three sets: ``balanced`` (every gender x tone of every profession, and of people without one,
    equally often), ``unbalanced`` (as many images of the same nouns from prompts that name no
    group: the model's own distribution) and ``general`` (no person, for preservation).

    Returns
    -------
    pandas.DataFrame
        One row per prompt: ``prompt_id, prompt, caption`` (the prompt without attributes),
        ``set, kind, noun, fold, gender, skin_tone, images``; groups that are not asked for are "".
    """
    rows: list[dict[str, str | int]] = []
    genders, tones = lexicon.words("gender"), lexicon.words("skin_tone")
    templates = settings.train_templates
    for kind, noun, fold, per_cell in _nouns(lexicon, settings):
        for (g, gender), (t, tone) in product(genders.items(), tones.items()):
            text = describe(noun, gender=gender, skin_tone=tone)
            for i, (template, images) in enumerate(_share(templates, per_cell)):
                rows.append(
                    _row(
                        f"train/balanced/{noun}/{g}/{t}/{i}", fill(template, text),
                        fill(template, noun), "balanced", kind, noun, fold, g, t, images,
                    )
                )  # fmt: skip
        cells = len(genders) * len(tones)
        for i, (template, per_template) in enumerate(_share(templates, per_cell)):
            text, images = fill(template, noun), per_template * cells  # the balanced set's mix
            rows.append(
                _row(
                    f"train/unbalanced/{noun}/{i}", text, text, "unbalanced", kind, noun, fold,
                    "", "", images,
                )
            )  # fmt: skip
    for noun in lexicon.general["noun"]:
        for i, (template, images) in enumerate(_share(templates, settings.general_images)):
            text = fill(template, noun)
            rows.append(
                _row(f"train/general/{noun}/{i}", text, text, "general", "general", noun, "", "",
                     "", images)
            )  # fmt: skip
    return _table(rows)


def evaluation_grid(lexicon: Lexicon, settings: Prompts, mode: str) -> pd.DataFrame:
    """List the prompts that every arm is evaluated on.

    Kinds: ``neutral`` (a profession, no group), ``person`` (no profession, no group),
    ``explicit`` (gender and tone named: must stay as asked) and ``general`` (no person).
    With ``mode`` "folds" the validation professions, on which choices were tuned, are left out.

    Returns
    -------
    pandas.DataFrame
        Columns as in `training_grid`.
    """
    rows: list[dict[str, str | int]] = []
    genders, tones = lexicon.words("gender"), lexicon.words("skin_tone")
    for kind, noun, fold, _ in _nouns(lexicon, settings):
        if mode == "folds" and fold == VALIDATION:
            continue
        for i, template in enumerate(settings.evaluation_templates):
            text = fill(template, noun)
            rows.append(
                _row(f"eval/neutral/{noun}/{i}", text, text, "evaluation",
                     "neutral" if kind == "profession" else "person", noun, fold, "", "",
                     settings.evaluation_images)
            )  # fmt: skip
        for (g, gender), (t, tone) in product(genders.items(), tones.items()):
            text = describe(noun, gender=gender, skin_tone=tone)
            template = settings.evaluation_templates[0]
            rows.append(
                _row(f"eval/explicit/{noun}/{g}/{t}", fill(template, text), fill(template, noun),
                     "evaluation", "explicit", noun, fold, g, t, settings.explicit_images)
            )  # fmt: skip
    for noun in lexicon.general["noun"]:
        text = fill(settings.evaluation_templates[0], noun)
        rows.append(
            _row(f"eval/general/{noun}", text, text, "evaluation", "general", noun, "", "", "",
                 settings.evaluation_general_images)
        )  # fmt: skip
    return _table(rows)


def requests(grid: pd.DataFrame) -> tuple[list[Request], pd.DataFrame]:
    """Expand a grid into one request, and one row of its record, per image.

    Returns
    -------
    tuple
        Requests in grid order, and the grid's rows repeated with a column ``replicate``.
    """
    rows = grid.loc[grid.index.repeat(grid["images"])].drop(columns="images")
    rows = rows.reset_index(drop=True)
    rows["replicate"] = rows.groupby("prompt_id", sort=False).cumcount()
    listed = [
        Request(str(r.prompt_id), str(r.prompt), int(r.replicate))
        for r in rows[["prompt_id", "prompt", "replicate"]].itertuples()
    ]
    return listed, rows


def _nouns(lexicon: Lexicon, settings: Prompts) -> Iterator[tuple[str, str, str, int]]:
    """Yield (kind, noun, fold, images per cell) of professions, then of people without one."""
    professions = lexicon.professions
    if settings.professions:
        professions = professions.groupby("fold", sort=False).head(settings.professions)
    for row in professions.itertuples():
        yield "profession", str(row.profession), str(row.fold), settings.images_per_cell
    for noun in lexicon.people["noun"]:
        yield "person", str(noun), "", settings.person_images_per_cell


def _share(templates: list[str], images: int) -> list[tuple[str, int]]:
    """Split a number of images over templates, the first ones taking the remainder."""
    each, rest = divmod(images, len(templates))
    split = [(template, each + (i < rest)) for i, template in enumerate(templates)]
    return [(template, n) for template, n in split if n]


def _row(
    prompt_id: str, prompt: str, caption: str, group: str, kind: str, noun: str, fold: str,
    gender: str, skin_tone: str, images: int,
) -> dict[str, str | int]:  # fmt: skip
    return {
        "prompt_id": prompt_id, "prompt": prompt, "caption": caption, "set": group, "kind": kind,
        "noun": noun, "fold": fold, "gender": gender, "skin_tone": skin_tone, "images": images,
    }  # fmt: skip


def _table(rows: list[dict[str, str | int]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    if table["prompt_id"].duplicated().any():
        twice = table.loc[table["prompt_id"].duplicated(), "prompt_id"].iloc[0]
        raise ValueError(f"prompt {twice!r} is listed twice: a term stands in two lexicon files")
    return table


def read_grid(path: Path) -> pd.DataFrame:
    """Read a grid written by notebook 01.

    Raises
    ------
    FileNotFoundError
        If it is missing.
    """
    if not path.exists():
        raise FileNotFoundError(f"{show(path)} is missing: run notebook 01_prompts first")
    return pd.read_csv(path, dtype={"images": int}, keep_default_na=False)
