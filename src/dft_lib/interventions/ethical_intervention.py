"""Ethical intervention (EntiGen): one fixed sentence that asks for any group.

Bansal et al. 2022, "How well can text-to-image generative models understand ethical natural
language interventions?", EMNLP, arXiv 2210.15230. Nothing is drawn: the model must know what the
sentence means. The sentence goes to every prompt with a person, those that name a group included;
what that does to them is part of the method.
"""

from __future__ import annotations

import re

from pydantic import field_validator

from dft_lib.interventions import base
from dft_lib.interventions.people import People
from dft_lib.study.prompts import Request, fill
from dft_lib.study.schema import Group

PLACEHOLDERS = ("{prompt}", "{a}", "{}")


class Settings(Group):
    """The sentence.

    Attributes
    ----------
    sentence : str
        What is asked instead of the prompt: "{prompt}" is the prompt, "{a}" its person's noun with
        an article, "{}" the noun alone. A sentence without "{prompt}" asks for the noun only and
        drops the rest. A sentence that the text encoder cannot read to its end stops.
    """

    sentence: str

    @field_validator("sentence")
    @classmethod
    def _has_placeholder(cls, sentence: str) -> str:
        found = re.findall(r"\{[^{}]*\}", sentence)
        odd = [text for text in found if text not in PLACEHOLDERS]
        if odd or not found:
            what = f"names {odd[0]}" if odd else "has no placeholder"
            raise ValueError(f"{what}: use {', '.join(PLACEHOLDERS[:-1])} or {PLACEHOLDERS[-1]}")
        return sentence


class Intervention(base.Intervention):
    """Puts the prompt of every person into the sentence."""

    def __init__(self, settings: Settings, setting: base.Setting) -> None:
        super().__init__(settings, setting)
        self.people = People(setting)

    def plan(self, request: Request) -> base.Plan:
        """Return the sentence for a person, the prompt itself for anything else."""
        person = self.people.find(request.prompt)
        if person is None:
            return base.Plan(request, request.prompt)
        asked = fill(self.settings.sentence, person.noun)
        return base.Plan(request, asked.replace("{prompt}", request.prompt))
