"""Prompt randomisation: say in every prompt which groups to draw, as deployed systems do.

The oracle among the interventions: a model that does as it is told reaches the target, so what is
missing is the model's compliance. It works only where the prompt is ours to rewrite.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dft_lib.interventions import base
from dft_lib.interventions.people import People
from dft_lib.study.prompts import Request
from dft_lib.study.schema import Group


class Settings(Group):
    """Which attributes are drawn.

    Attributes
    ----------
    attributes : list of str
        One or more of the study's.
    """

    attributes: Annotated[list[str], Field(min_length=1)]


class Intervention(base.Intervention):
    """Draws the groups that a prompt leaves open from the target and writes them into it."""

    def __init__(self, settings: Settings, setting: base.Setting) -> None:
        super().__init__(settings, setting)
        self.people = People(setting, settings.attributes)

    def plan(self, request: Request) -> base.Plan:
        """Rewrite the prompt; what it states, and a prompt without a person, stay as they are."""
        person, drawn = self.people.find(request.prompt), self.people.draw(request)
        if person is None:
            return base.Plan(request, request.prompt)
        words = {a: self.setting.attributes[a].words[group] for a, group in drawn.items()}
        return base.Plan(request, person.rewrite(words), drawn)
