"""An arm, described in one place: how its model is made, how it draws, how it is shown.

Whoever needs a part of it takes that part's class: a changed label trains and draws nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError

from dft_lib.study.schema import Group, first_problem

NAME = r"[a-z][a-z0-9_]*"  # of arms, recipes, interventions, profiles: safe in paths and commands
TAKEN = ("audit", "metrics", "table")  # files of ``results/`` that are no arm's
Name = Annotated[str, Field(pattern=rf"^{NAME}$")]
Label = Annotated[str, Field(pattern=r"^[^|\n]+$")]  # it stands in a table
CONTROLS = "controls"  # the family that always has the first colour, as the base model is black


class ArmTraining(Group):
    """How an arm's model is made: a recipe (a module of `dft_lib.recipes`, or "none").

    ``train`` holds its settings, ``data`` is the set of pictures that it may train on.
    """

    recipe: Name
    data: str
    train: dict[str, Any]


class ArmSampling(Group):
    """What an arm does while it draws: a module of `dft_lib.interventions`, and its settings."""

    intervention: Name
    draw: dict[str, Any]


class ArmShown(Group):
    """How an arm stands in tables and figures.

    ``family`` gives its colour. ``shown`` is its place among the arms that are shown where there
    is no room for all, 0: not there. ``dose``: its gap is drawn over its number of pictures.
    ``reference``: the other arms are tested against it.
    """

    label: Label
    family: Label | None = None
    shown: Annotated[int, Field(ge=0)] = 0
    dose: bool = False
    reference: bool = False


class Arm(ArmTraining, ArmSampling, ArmShown):
    """One treatment: a training recipe or none, an intervention at sampling time or none."""


def require_fit(arms: Mapping[str, ArmShown]) -> None:
    """Refuse names that are no names, names of other files, one label twice, and none shown.

    Raises
    ------
    ValueError
        With one sentence.
    """
    for name in arms:
        if not re.fullmatch(NAME, name):
            raise ValueError(
                f"arms has the name {name!r}: use small letters, digits and _ only, because it "
                "becomes a file name"
            )
        if name in TAKEN:
            raise ValueError(
                f"arms has the name {name!r}, and results/{name} is another file: rename the arm"
            )
    labels = [arm.label for arm in arms.values()]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ValueError(f"arms has the label {twice!r} twice: change one")
    if not any(arm.shown for arm in arms.values()):
        raise ValueError("arms shows no arm where there is no room for all: give one `shown: 1`")


def part(arm: Group, kind: type[Group]) -> dict[str, Any]:
    """Return the values of one part of an arm, `ArmTraining`, `ArmSampling` or `ArmShown`."""
    return arm.model_dump(include=set(kind.model_fields))


def labels_of(arms: Mapping[str, ArmShown]) -> dict[str, str]:
    """Return name -> label of all arms, in the order of params."""
    return {name: arm.label for name, arm in arms.items()}


def shown(arms: Mapping[str, ArmShown]) -> dict[str, str]:
    """Return name -> label of the arms that are shown where there is no room for all."""
    chosen = sorted(
        (arm.shown, k, name) for k, (name, arm) in enumerate(arms.items()) if arm.shown
    )
    return {name: arms[name].label for _, _, name in chosen}


def families(arms: Mapping[str, ArmShown]) -> dict[str, list[str]]:
    """Return family -> its arms: controls first, the others as they first occur."""
    found: dict[str, list[str]] = {CONTROLS: []}
    for name, arm in arms.items():
        if arm.family is not None:
            found.setdefault(arm.family, []).append(name)
    return {family: members for family, members in found.items() if members}


def references(arms: Mapping[str, ArmShown]) -> list[str]:
    """Return the arms that the others are tested against."""
    return [name for name, arm in arms.items() if arm.reference]


def dose(arms: Mapping[str, ArmShown]) -> list[str]:
    """Return the arms that differ in the number of pictures only."""
    return [name for name, arm in arms.items() if arm.dose]


def gather_arms(values: dict[str, Any]) -> dict[str, ArmShown]:
    """Build what is shown of every arm from a notebook's variable ``arms``.

    Raises
    ------
    ValueError
        With one sentence naming the arm, the field and the remedy.
    """
    arms = {}
    for name, value in values.items():
        try:
            arms[name] = ArmShown.model_validate(value)
        except ValidationError as error:
            raise ValueError(f"the parameters cell: arms.{name}.{first_problem(error)}") from None
    return arms
