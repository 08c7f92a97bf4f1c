"""Fair Diffusion: push every image towards a group drawn for it, by semantic guidance (SEGA).

Friedrich et al. 2023, arXiv 2302.10893 (drawing a direction per image), on Brack et al. 2023,
arXiv 2301.12247, section 3 (the guidance). The prompt stays as it is.

Two choices of ours. The published study draws between two groups and pushes away from the other
one; with more groups the other one is drawn too, evenly, so that on average over images an image
is pushed away from the mean of the other groups, at the cost of two concepts. And the threshold is
the quantile over all elements of an image, as in the paper; diffusers takes it per channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field

from dft_lib.interventions import base
from dft_lib.interventions.people import People
from dft_lib.models.conditioning import Conditioning
from dft_lib.repro.noise import keyed_rng
from dft_lib.study.attributes import PERSON, describe
from dft_lib.study.prompts import Request, article
from dft_lib.study.schema import Group, Share

Predict = Callable[[torch.Tensor, torch.Tensor, Conditioning], torch.Tensor]


class Settings(Group):
    """Settings of semantic guidance, in the words of its paper.

    Attributes
    ----------
    attributes : list of str
        One or more of the study's.
    warmup : float
        Share of the steps without guidance, 0 to 1; the momentum builds up meanwhile.
    scale : float
        Factor on every concept's direction; 0 is plain sampling.
    threshold : float
        Quantile lambda, 0 to 1: smaller elements of a direction are set to 0. 0 keeps all.
    momentum_scale : float
        Share m of the momentum that is added to the guidance, 0 to 1.
    momentum : float
        Share beta of the momentum that is kept from step to step, 0 to 1.
    """

    attributes: Annotated[list[str], Field(min_length=1)]
    warmup: Share
    scale: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    threshold: Share
    momentum_scale: Share
    momentum: Share


@dataclass(frozen=True)
class Edit:
    """One concept per image, and in which direction it pushes.

    Attributes
    ----------
    sign : int
        1 towards the concept, -1 away from it.
    concept : Conditioning
        The concepts of the batch.
    acts : torch.Tensor
        Which images have one, bool (n, 1, 1, 1).
    """

    sign: int
    concept: Conditioning
    acts: torch.Tensor


class Guidance:
    """Semantic guidance of one batch: Brack et al. 2023, section 3.

    The U-Net sees one concept of all images at a time, always a full batch: as much memory as
    plain sampling, and an image's numbers do not depend on its neighbours in the batch.

    Parameters
    ----------
    predict : callable
        The sampler's: predicts noise or velocity; guidance acts on what it predicts, as
        classifier-free guidance does.
    settings : Settings
        Scale, threshold and momentum.
    first_step : int
        The step from which the guidance is applied.
    empty : Conditioning
        The empty prompt, once per image.
    edits : sequence of Edit
        The concepts.
    """

    def __init__(
        self, predict: Predict, settings: Settings, first_step: int, empty: Conditioning,
        edits: Sequence[Edit],
    ) -> None:  # fmt: skip
        self.predict, self.settings, self.first_step = predict, settings, first_step
        self.empty, self.edits = empty, edits
        self.nu = torch.zeros(())

    def __call__(
        self, step: int, latents: torch.Tensor, timestep: torch.Tensor, output: torch.Tensor
    ) -> torch.Tensor:
        """Return ``output + gamma``, and `output` itself while the momentum warms up."""
        chosen = self.settings
        without = self._predict(latents, timestep, self.empty)
        gamma = chosen.momentum_scale * self.nu
        for edit in self.edits:
            psi = edit.sign * (self._predict(latents, timestep, edit.concept) - without)
            psi = chosen.scale * keep_largest(psi, chosen.threshold)
            gamma = gamma + torch.where(edit.acts, psi, 0)  # exactly 0 where nothing was drawn
        self.nu = chosen.momentum * self.nu + (1 - chosen.momentum) * gamma
        return output if step < self.first_step else output + gamma.to(output.dtype)

    def _predict(
        self, latents: torch.Tensor, timestep: torch.Tensor, given: Conditioning
    ) -> torch.Tensor:
        """Return the prediction in float32: differences of half-precision numbers add up."""
        return self.predict(latents, timestep, given).float()


def keep_largest(psi: torch.Tensor, threshold: float) -> torch.Tensor:
    """Set the elements of each image below the quantile `threshold` of its magnitudes to 0.

    Parameters
    ----------
    psi : torch.Tensor
        (n, c, h, w), float32.
    threshold : float
        Quantile, 0 (keep all) to 1 (keep the largest).
    """
    size = psi.abs()
    least = size.flatten(1).quantile(threshold, dim=1).reshape(-1, 1, 1, 1)
    return torch.where(size >= least, psi, 0)


class Intervention(base.Intervention):
    """Draws the groups that a prompt leaves open and guides the image towards them.

    Raises
    ------
    ValueError
        If an attribute cannot be drawn or has one group only: there is none to push away from.
    """

    def __init__(self, settings: Settings, setting: base.Setting) -> None:
        super().__init__(settings, setting)
        self.people = People(setting, settings.attributes)
        for attribute in settings.attributes:
            if len(setting.target[attribute]) < 2:
                raise ValueError(
                    f"draw.attributes: the target of {attribute!r} has one group only; "
                    "guidance needs another to push away from"
                )
        if settings.scale > 0:  # the prompt, the empty prompt, and two concepts per attribute
            self.evaluations = 2.0 + 2 * len(settings.attributes)

    def plan(self, request: Request) -> base.Plan:
        """Draw groups; the prompt stays."""
        return base.Plan(request, request.prompt, self.people.draw(request))

    def guide(self, sampler: Any, plans: Sequence[base.Plan]) -> base.Guide | None:
        """Return the guidance of a batch; None if it would change nothing."""
        if self.settings.scale == 0 or not any(plan.drawn for plan in plans):
            return None
        pairs = [(a, sign) for a in self.settings.attributes for sign in (1, -1)]
        return Guidance(
            sampler.predict,
            self.settings,
            round(self.settings.warmup * sampler.settings.num_inference_steps),
            sampler.encode_all([""] * len(plans)),
            [self._edit(sampler, plans, attribute, sign) for attribute, sign in pairs],
        )

    def _edit(self, sampler: Any, plans: Sequence[base.Plan], attribute: str, sign: int) -> Edit:
        """Encode one concept per image; images without one get the empty prompt."""
        concepts = [self._concept(plan, attribute, sign) for plan in plans]
        acts = torch.tensor([attribute in plan.drawn for plan in plans])
        return Edit(
            sign,
            sampler.encode_all(concepts),
            acts.reshape(-1, 1, 1, 1).to(sampler.pipeline.device),
        )

    def _concept(self, plan: base.Plan, attribute: str, sign: int) -> str:
        """Say what an image is pushed towards (sign 1) or away from: "a woman"."""
        if attribute not in plan.drawn:
            return ""
        group = plan.drawn[attribute]
        if sign < 0:
            group = other_group(self.setting, attribute, group, plan.request)
        known = self.setting.attributes
        word = known[attribute].words[group]
        return article(describe(PERSON, {attribute: word}, known))


def other_group(setting: base.Setting, attribute: str, group: str, request: Request) -> str:
    """Draw one of the target's other groups evenly, keyed by the image; of two, the other one."""
    others = [g for g in setting.target[attribute] if g != group]
    rng = keyed_rng(
        setting.study_seed, "opposite", attribute, request.prompt_id, request.replicate
    )
    return others[rng.integers(len(others))]
