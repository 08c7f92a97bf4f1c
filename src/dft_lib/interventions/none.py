"""No intervention: the prompt as it is, the prediction as it is."""

from __future__ import annotations

from dft_lib.interventions import base
from dft_lib.study.schema import Group


class Settings(Group):
    """Nothing to set."""


class Intervention(base.Intervention):
    """Plain sampling."""
