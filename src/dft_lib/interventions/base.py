"""The interface of interventions, and the draws that several of them make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from pydantic import ValidationError

from dft_lib.repro.noise import keyed_rng
from dft_lib.sampling.plan import Guide, Plan
from dft_lib.study.attributes import Attribute
from dft_lib.study.base import Base
from dft_lib.study.lexicon import Lexicon
from dft_lib.study.prompts import Request
from dft_lib.study.schema import Group, first_problem


@dataclass(frozen=True)
class Setting:
    """What an intervention may know: words and target, never a grid's columns or a judge.

    Attributes
    ----------
    study_seed : int
        Key of its draws.
    target : dict
        attribute -> {group: share}.
    attributes : dict
        Name -> attribute: its words and how prompts say them.
    nouns : tuple of str
        Nouns of people: professions, and "person" and its kin.
    """

    study_seed: int
    target: Mapping[str, Mapping[str, float]]
    attributes: Mapping[str, Attribute]
    nouns: tuple[str, ...]

    @classmethod
    def of(cls, base: Base, words: Lexicon) -> Setting:
        """Return the setting of a study and its lexicon.

        Raises
        ------
        ValueError
            If they do not have the same attributes and groups.
        """
        nouns = (*words.professions["profession"], *words.people["noun"])
        return cls(base.study_seed, base.target, words.chosen(base.target), nouns)


class Intervention:
    """Plain sampling; interventions override what they change."""

    evaluations = 1.0  # U-Net evaluations per image and step, without classifier-free guidance

    def __init__(self, settings: Any, setting: Setting) -> None:
        self.settings, self.setting = settings, setting

    def plan(self, request: Request) -> Plan:
        """Say how a request is drawn; depends on the request alone."""
        return Plan(request, request.prompt)

    def guide(self, sampler: Any, plans: Sequence[Plan]) -> Guide | None:
        """Return what changes the predictions of this batch, if anything does."""
        return None


def draw_group(setting: Setting, attribute: str, request: Request) -> str:
    """Draw a group of an attribute from the target, keyed by the image's noise key.

    Never redrawn to force equal halves (a defect of published code): the draws of N images are
    as uneven as N draws are.
    """
    groups = setting.target[attribute]
    rng = keyed_rng(
        setting.study_seed, "intervention", attribute, request.prompt_id, request.replicate
    )
    shares = np.array(list(groups.values()))
    return list(groups)[rng.choice(len(groups), p=shares / shares.sum())]


def open_intervention(name: str, draw: Mapping[str, Any], setting: Setting) -> Intervention:
    """Open the intervention of an arm.

    Raises
    ------
    ValueError
        If there is no such module, or a setting is missing, unknown or mistyped.
    """
    path = f"dft_lib.interventions.{name}"
    try:
        module = import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:  # something that the module needs
            raise
        raise ValueError(
            f"intervention {name!r} has no file src/dft_lib/interventions/{name}.py: mend the name"
        ) from error
    if not hasattr(module, "Settings"):  # base, people
        raise ValueError(f"src/dft_lib/interventions/{name}.py is no intervention: mend the name")
    try:
        settings: Group = module.Settings.model_validate(dict(draw))
    except ValidationError as error:
        raise ValueError(f"the arm's draw ({name}): {first_problem(error)}") from None
    return module.Intervention(settings, setting)
