"""Words to prompts: templates, the grids of prompts that are drawn, and the group of 01."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from dft_lib.repro.noise import keyed_rng
from dft_lib.repro.paths import show
from dft_lib.study import wordlist
from dft_lib.study.articles import article
from dft_lib.study.attributes import describe
from dft_lib.study.lexicon import VALIDATION, Lexicon
from dft_lib.study.schema import Group, Positive


class Prompts(Group):
    """01: which prompts are drawn, how often."""

    train_templates: Annotated[list[str], Field(min_length=1)]
    evaluation_templates: Annotated[list[str], Field(min_length=1)]
    images_per_cell: Positive
    person_images_per_cell: Annotated[int, Field(ge=0)]
    general_images: Annotated[int, Field(ge=0)]
    evaluation_images: Positive
    explicit_images: Positive
    evaluation_general_images: Positive
    professions: Annotated[int, Field(ge=0)]
    out: str

    @model_validator(mode="after")
    def _templates_hold_their_place(self) -> Prompts:
        for field in ("train_templates", "evaluation_templates"):
            templates = getattr(self, field)
            for template in templates:
                rest = template.replace("{a}", "{}")
                if rest.count("{}") != 1 or set("{}") & set(rest.replace("{}", "")):
                    raise ValueError(
                        f"{field} holds {template!r}: write the place of the noun exactly once, "
                        "as {a} (with an article) or {} (without)"
                    )
            keys = [wordlist.key(template) for template in templates]
            if len(set(keys)) < len(keys):
                raise ValueError(f"{field} holds the same template twice: remove one")
        return self


@dataclass(frozen=True)
class Request:
    """One image to draw: its noise belongs to (prompt_id, replicate)."""

    prompt_id: str
    prompt: str
    replicate: int


def fill(template: str, description: str) -> str:
    """Put a description into a template: "{a}" takes an article, "{}" none."""
    return template.replace("{a}", article(description)).replace("{}", description)


def training_grid(lexicon: Lexicon, settings: Prompts, attributes: Sequence[str]) -> pd.DataFrame:
    """List the prompts whose images may train a model.

    Three sets: ``balanced`` (every cell of the study's attributes, for every profession and for
    people without one, equally often), ``unbalanced`` (as many images of the same nouns from
    prompts that name no group: the model's own distribution) and ``general`` (no person, for
    preservation).

    Further attributes of the lexicon are multiplied out inside each cell. A smaller number of
    images per cell takes a part of that product in which every group occurs as often as any other,
    up to one; see `_variants`.

    Parameters
    ----------
    lexicon : Lexicon
        Nouns and attributes.
    settings : Prompts
        Templates, and how many images.
    attributes : sequence of str
        The study's attributes, as in ``base.target``: a cell is a group of each.

    Returns
    -------
    pandas.DataFrame
        One row per prompt: ``prompt_id, prompt, caption`` (the prompt without attributes),
        ``set, kind, noun, fold``, the study's attributes, ``images``, then the further
        attributes; groups that are not asked for are "".
    """
    rows: list[tuple[str | int, ...]] = []
    known = lexicon.attributes
    others = {a: about.words for a, about in known.items() if a not in attributes}
    templates = settings.train_templates
    combined = [dict(zip(others, groups, strict=True)) for groups in product(*others.values())]
    cells = list(product(*(known[a].words.items() for a in attributes)))
    nothing, none = ("",) * len(attributes), ("",) * len(others)
    for kind, noun, fold, per_cell in _nouns(lexicon, settings):
        captions = [fill(template, noun) for template in templates]
        for number, cell in enumerate(cells):
            groups = tuple(group for group, _ in cell)
            asked = {a: word for a, (_, word) in zip(attributes, cell, strict=True)}
            drawn = _variants(noun, [len(o) for o in others.values()], len(templates), number,
                              per_cell)  # fmt: skip
            for place, images in zip(*np.unique(drawn, return_counts=True), strict=True):
                combination, i = divmod(int(place), len(templates))
                named = combined[combination]
                words = asked | {a: others[a][group] for a, group in named.items()}
                text = describe(noun, words, known)
                identity = "/".join(("train/balanced", noun, *groups, *named.values(), str(i)))
                rows.append(
                    (identity, fill(templates[i], text), captions[i], "balanced", kind, noun,
                     fold, *groups, int(images), *named.values())
                )  # fmt: skip
        for i, (template, per_template) in enumerate(_share(templates, per_cell)):
            # the balanced set's mix of templates
            text, images = fill(template, noun), per_template * len(cells)
            rows.append(
                (f"train/unbalanced/{noun}/{i}", text, text, "unbalanced", kind, noun, fold,
                 *nothing, images, *none)
            )  # fmt: skip
    for noun in lexicon.general["noun"]:
        for i, (template, images) in enumerate(_share(templates, settings.general_images)):
            text = fill(template, noun)
            rows.append(
                (f"train/general/{noun}/{i}", text, text, "general", "general", noun, "",
                 *nothing, images, *none)
            )  # fmt: skip
    return _table(rows, attributes, list(others))


def _variants(noun: str, sizes: list[int], templates: int, cell: int, images: int) -> np.ndarray:
    """Choose which variants of a cell's prompt are drawn.

    A variant is a combination of the further attributes (of `sizes` groups each; the first
    varies slowest) and a template. Without further attributes the templates take turns. With
    some, the groups of the first attribute take turns in an order drawn for the noun, and so do
    the combinations of the rest; the noun's next cell goes on where the last one stopped. Each
    time the first attribute is through, the rest moves on by so much that every pair comes up
    before any comes again: a part of the product is spread as evenly as it can be, and the whole
    product is drawn when `images` is its size.

    Returns
    -------
    numpy.ndarray
        int64 (images,): numbers of variants.
    """
    first = sizes[0] if sizes else 1
    rest = int(np.prod(sizes[1:], dtype=int)) * templates
    order = keyed_rng("variants", noun).permutation(first) if first > 1 else np.zeros(1, int)
    turn = np.arange(images) + (cell * images if sizes else 0)
    shift = next(s for s in range(rest) if math.gcd(first + s, rest) == 1)
    return order[turn % first] * rest + (turn + shift * (turn // first)) % rest


def evaluation_grid(
    lexicon: Lexicon, settings: Prompts, attributes: Sequence[str], mode: str
) -> pd.DataFrame:
    """List the prompts that every arm is evaluated on.

    Kinds: ``neutral`` (a profession, no group), ``person`` (no profession, no group),
    ``explicit`` (a group of every one of the study's `attributes`: must stay as asked) and
    ``general`` (no person). With ``mode`` "folds" the validation professions, on which choices
    were tuned, are left out.

    Returns
    -------
    pandas.DataFrame
        Columns as in `training_grid`, without further attributes.
    """
    rows: list[tuple[str | int, ...]] = []
    cells = list(product(*(lexicon.attributes[a].words.items() for a in attributes)))
    nothing = ("",) * len(attributes)
    for kind, noun, fold, _ in _nouns(lexicon, settings):
        if mode == "folds" and fold == VALIDATION:
            continue
        for i, template in enumerate(settings.evaluation_templates):
            text = fill(template, noun)
            rows.append(
                (f"eval/neutral/{noun}/{i}", text, text, "evaluation",
                 "neutral" if kind == "profession" else "person", noun, fold, *nothing,
                 settings.evaluation_images)
            )  # fmt: skip
        for cell in cells:
            groups = tuple(group for group, _ in cell)
            words = {a: word for a, (_, word) in zip(attributes, cell, strict=True)}
            text = describe(noun, words, lexicon.attributes)
            template = settings.evaluation_templates[0]
            rows.append(
                ("/".join(("eval/explicit", noun, *groups)), fill(template, text),
                 fill(template, noun), "evaluation", "explicit", noun, fold, *groups,
                 settings.explicit_images)
            )  # fmt: skip
    for noun in lexicon.general["noun"]:
        text = fill(settings.evaluation_templates[0], noun)
        rows.append(
            (f"eval/general/{noun}", text, text, "evaluation", "general", noun, "", *nothing,
             settings.evaluation_general_images)
        )  # fmt: skip
    return _table(rows, attributes)


def requests(grid: pd.DataFrame, part: slice = slice(None)) -> tuple[list[Request], pd.DataFrame]:
    """Expand a grid into one request, and one row of its record, per image.

    Parameters
    ----------
    grid : pandas.DataFrame
        One row per prompt, with its number of ``images``.
    part : slice, optional
        Which images, counted in grid order; by default all. A grid of a million prompts is
        expanded shard by shard.

    Returns
    -------
    tuple
        Requests in grid order, and the grid's rows repeated with a column ``replicate``.
    """
    ends = grid["images"].to_numpy().cumsum()
    first, last, _ = part.indices(int(ends[-1]) if len(ends) else 0)
    place = np.arange(first, last)
    row = np.searchsorted(ends, place, side="right")
    rows = grid.iloc[row].drop(columns="images").reset_index(drop=True)
    rows["replicate"] = place - (ends - grid["images"].to_numpy())[row]
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


_COLUMNS = ("prompt_id", "prompt", "caption", "set", "kind", "noun", "fold")


def _table(
    rows: list[tuple[str | int, ...]], attributes: Sequence[str], others: Sequence[str] = ()
) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=[*_COLUMNS, *attributes, "images", *others])
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
    return pd.read_parquet(path)
