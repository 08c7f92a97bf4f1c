"""Who changes how images are drawn gives the sampler a plan per image and a guide per batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from dft_lib.study.prompts import Request


@dataclass(frozen=True)
class Plan:
    """One image as it will be drawn: its prompt, and the groups drawn for it (maybe none)."""

    request: Request
    prompt: str
    drawn: Mapping[str, str] = field(default_factory=dict)


class Guide(Protocol):
    """Changes the noise prediction of a batch, step by step."""

    def __call__(
        self, step: int, latents: torch.Tensor, timestep: torch.Tensor, output: torch.Tensor
    ) -> torch.Tensor:
        """Return the prediction to use instead of `output`, (n, c, h, w).

        `latents` are scaled as the U-Net takes them; `step` counts from 0.
        """
        ...


class Planner(Protocol):
    """Decides how requests are drawn; interventions are the planners there are."""

    def plan(self, request: Request) -> Plan:
        """Say how a request is drawn; depends on the request alone."""
        ...

    def guide(self, sampler: Any, plans: Sequence[Plan]) -> Guide | None:
        """Return what changes the predictions of this batch, if anything does."""
        ...
