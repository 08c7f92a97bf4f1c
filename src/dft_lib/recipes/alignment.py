"""Distributional alignment (Shen et al. 2024, arXiv 2311.07604), truncated: "Shen-style".

Per step, N images of one plain profession prompt are drawn by the model as it is. A classifier
says what each shows; optimal transport to i.i.d. draws from the target decides what each should
show; the cross-entropy to that, together with terms that keep the images what they were, goes
back to the weights through a truncated gradient.

What differs from the paper: the classifier reads latents instead of faces; similarity to the
frozen model's image is the cosine of latents instead of CLIP and DINO; instead of a term for real
faces, explicit captions and things are kept by the denoising loss on the model's own images.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from scipy.optimize import linear_sum_assignment

from dft_lib.models.conditioning import encode, tokenize
from dft_lib.study.training import Training
from dft_lib.training.job import Fitted, Job, learned, require_groups, steps_cost
from dft_lib.training.objectives import Denoising, Step
from dft_lib.training.rollout import (
    CLASSIFIER,
    LatentClassifier,
    OnPolicy,
    Target,
    fit_classifier,
    roll,
)


class Settings(Training):
    """The common settings, and the alignment's own.

    Attributes
    ----------
    images_per_prompt : int
        N, images drawn per step.
    gradient_steps : int
        Sampling steps that get a gradient.
    transports : int
        Draws from the target that the assignment is averaged over.
    uncertainty : float
        Images whose assigned group is less certain than 1 minus this are left alone.
    alignment_weight, image_weight : float
        Of the cross-entropy and of the similarity to the frozen model's image; the denoising
        loss has weight 1.
    """

    images_per_prompt: Annotated[int, Field(gt=1)]
    gradient_steps: Annotated[int, Field(gt=0)]
    transports: Annotated[int, Field(gt=0)]
    uncertainty: Annotated[float, Field(ge=0, le=1)]
    alignment_weight: Annotated[float, Field(ge=0)]
    image_weight: Annotated[float, Field(ge=0)]


def transport_targets(
    probabilities: np.ndarray, shares: np.ndarray, rng: np.random.Generator, draws: int
) -> np.ndarray:
    """Assign groups to images by optimal transport to i.i.d. draws from the target.

    Each draw is one group per image from `shares`; the assignment minimises the total squared
    distance between the images' probabilities and the groups' corners (Shen et al. 2024,
    equations 3-5). For two groups it ranks the images.

    Parameters
    ----------
    probabilities : numpy.ndarray
        Float (n, K), rows sum to 1.
    shares : numpy.ndarray
        Float (K,), the target.
    rng : numpy.random.Generator
        Source of the draws.
    draws : int
        Assignments to average.

    Returns
    -------
    numpy.ndarray
        Float (n, K): how often each image got each group; rows sum to 1, and the mean of the rows
        is exactly the mean share of the drawn groups.
    """
    n, k = probabilities.shape
    corners = np.eye(k)
    total = np.zeros((n, k))
    for _ in range(draws):
        drawn = np.asarray(rng.choice(k, size=n, p=shares))
        cost = ((probabilities[:, None] - corners[drawn][None]) ** 2).sum(-1)
        images, places = linear_sum_assignment(cost)
        total[images, drawn[places]] += 1
    return total / draws


class Alignment(Denoising):
    """The denoising loss on explicit captions and things, and alignment on plain prompts."""

    splits = False  # groups are assigned to a whole batch of rollouts
    columns: tuple[str, ...] = ("loss", "denoising", "alignment", "image", "assigned")

    def __init__(
        self,
        pipeline: Any,
        *,
        job: Job,
        captions: list[str],
        classifier: LatentClassifier,
        frozen: Any,
    ) -> None:
        super().__init__(pipeline)
        self.chosen, self.base, self.frozen = job.settings, job.base, frozen
        self.classifier = classifier.to(pipeline.device)
        self.target: Target = job.base.target
        self.policy = OnPolicy(
            pipeline, job.base, captions, self.chosen.images_per_prompt, self.chosen.gradient_steps
        )
        with torch.no_grad():
            self.before = encode(frozen, tokenize(frozen, captions))

    def alignment(
        self, latents: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, float]:
        """Return the cross-entropy to the assigned groups, and the share of images assigned."""
        loss, assigned = torch.zeros((), device=latents.device), []
        for attribute, logits in self.classifier(latents).items():
            shares = np.array(list(self.target[attribute].values()))
            given = logits.detach().softmax(1).cpu().double().numpy()
            wanted = transport_targets(given, shares, rng, self.chosen.transports)
            sure = torch.from_numpy(wanted.max(1) >= 1 - self.chosen.uncertainty).to(
                latents.device
            )
            group = torch.from_numpy(wanted.argmax(1)).to(latents.device)
            each = F.cross_entropy(logits, group, reduction="none")
            loss = loss + (each * sure).mean()
            assigned.append(float(sure.float().mean()))
        return loss, float(np.mean(assigned))

    def __call__(self, step: Step) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss of one step."""
        kept = self.denoising(step)
        caption, noise, given, rollout = self.policy.draw(step.rng)
        latents = rollout.final.float().requires_grad_()
        aligned, assigned = self.alignment(latents, step.rng)
        image = torch.zeros(())
        if self.chosen.image_weight:
            asked = self.before[[caption] * len(noise)]
            before = roll(self.frozen, self.base, noise, asked).final
            likeness = F.cosine_similarity(latents.flatten(1), before.float().flatten(1))
            image = 1 - likeness.mean()
        whole = self.chosen.alignment_weight * aligned + self.chosen.image_weight * image
        (gradient,) = torch.autograd.grad(whole, latents)
        loss = kept + self.policy.carry_back(rollout, given, gradient, step.rng)
        return loss, {
            "denoising": float(kept.detach()), "alignment": float(aligned.detach()),
            "image": float(image.detach()), "assigned": assigned,
        }  # fmt: skip


def fit(job: Job) -> Fitted:
    """Align the model with the target."""
    pipeline, chosen = job.fresh(), job.settings
    rows = job.rows(chosen)
    people = rows[rows["kind"] != "general"]
    require_groups(people, list(job.base.target), "alignment")
    classifier, accuracy = fit_classifier(
        job.moments, people, job.base.target, key=[job.base.study_seed, job.name, job.seed]
    )
    captions = list(dict.fromkeys(rows.loc[rows["kind"] == "profession", "caption"]))
    frozen = job.fresh()
    objective = partial(
        Alignment, job=job, captions=captions, classifier=classifier, frozen=frozen
    )
    log = job.train(pipeline, chosen, rows, objective=objective)
    cost = steps_cost(job, chosen, rows, learned(pipeline))
    drawn = chosen.steps * chosen.images_per_prompt
    again = 2 if chosen.image_weight else 1
    cost = replace(
        cost,
        images_drawn=cost.images_drawn + again * drawn,
        forward=cost.forward + again * drawn * job.base.num_inference_steps,
        backward=cost.backward + drawn * chosen.gradient_steps,
    )
    about = {"classifier_accuracy": {k: round(v, 4) for k, v in accuracy.items()}}
    return Fitted(pipeline, log, cost, chosen.method == "full", (CLASSIFIER,), about)
