"""Adversarial fine-tuning: features that do not tell the group, and batches that meet the target.

A small second network reads perceived groups off the U-Net's mid-block while the model trains on
what it draws for plain prompts; a gradient reversal layer (Ganin et al. 2016, JMLR 17:59) makes
the model mislead it. Whether the features hide the group, or only from this one network, is for a
fresh probe to say, fitted after training: its accuracy stands in the manifest. Features without
information do not make shares even anyway: a model that draws men alone has nothing to hide. So a
moment term, the squared distance of a batch's mean predicted shares from the target, is added on
images drawn by the model as it is.

Stable by: a reversal that grows from 0 (Ganin et al., section 5.2.2), spectral norm on the second
network (Miyato et al. 2018), and a higher learning rate for it than for the model (Heusel et al.
2017).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from pydantic import Field
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from dft_lib.image_sets import examples, latents
from dft_lib.models.conditioning import encode, predict, tokenize
from dft_lib.repro.noise import keyed_rng
from dft_lib.study.training import Training
from dft_lib.training.job import Fitted, Job, learned, require_groups, steps_cost
from dft_lib.training.objectives import Denoising, Step
from dft_lib.training.rollout import CLASSIFIER, LatentClassifier, OnPolicy, Target, fit_classifier


class Settings(Training):
    """The common settings, and the adversary's own.

    Attributes
    ----------
    adversary_weight : float
        beta, the final factor of the reversed gradient.
    adversary_rate : float
        The adversary's learning rate, times the model's.
    adversary_from : int
        The adversary reads features at this noise level and above: at lower ones the picture
        itself shows the group, and hiding it would mean to blur people.
    moment_weight : float
        Of the moment term; 0 leaves it out.
    images_per_prompt, gradient_steps : int
        Images drawn per step for the moment term, and sampling steps that get its gradient.
    """

    adversary_weight: Annotated[float, Field(ge=0)]
    adversary_rate: Annotated[float, Field(gt=0)]
    adversary_from: Annotated[int, Field(ge=0, lt=1000)]
    moment_weight: Annotated[float, Field(ge=0)]
    images_per_prompt: Annotated[int, Field(gt=1)]
    gradient_steps: Annotated[int, Field(gt=0)]


class Reverse(torch.autograd.Function):
    """The identity, whose gradient is multiplied by -factor."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, factor: float) -> torch.Tensor:
        """Return `x`."""
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the reversed gradient."""
        return -ctx.factor * gradients[0], None


class Adversary(nn.Module):
    """Reads groups off mid-block features, (n, c, h, w)."""

    def __init__(self, channels: int, groups: dict[str, list[str]], width: int = 128) -> None:
        super().__init__()
        self.body = spectral_norm(nn.Linear(channels, width))
        self.heads = nn.ModuleDict({a: nn.Linear(width, len(g)) for a, g in groups.items()})

    def forward(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return logits per attribute, (n, K)."""
        seen = F.silu(self.body(F.layer_norm(features.mean((2, 3)), features.shape[1:2])))
        return {a: head(seen) for a, head in self.heads.items()}


def reversal(share: float, weight: float) -> float:
    """Return beta after a share of the training: 0, then towards `weight`."""
    return weight * float(2 / (1 + np.exp(-10 * share)) - 1)


def moment_loss(logits: dict[str, torch.Tensor], target: Target) -> torch.Tensor:
    """Return the squared distance of the mean predicted shares from the target, summed.

    0 where a batch's mean prediction is the target; at most 2 per attribute.
    """
    loss = torch.zeros(())
    for attribute, given in logits.items():
        wanted = torch.tensor(list(target[attribute].values()), device=given.device)
        loss = loss.to(given.device) + ((given.softmax(1).mean(0) - wanted) ** 2).sum()
    return loss


class Adversarial(Denoising):
    """Denoising, the adversary behind a reversed gradient, and the moment term."""

    splits = False  # the moment term is about a whole batch

    def __init__(
        self,
        pipeline: Any,
        *,
        job: Job,
        rows: pd.DataFrame,
        captions: list[str],
        classifier: LatentClassifier | None,
    ) -> None:
        super().__init__(pipeline)
        self.chosen, self.target = job.settings, job.base.target
        self.rate = job.settings.adversary_rate
        groups = {a: list(g) for a, g in self.target.items()}
        self.labels = {
            a: rows[f"rated_{a}"].map({g: i for i, g in enumerate(names)}).fillna(-1)
            .to_numpy(np.int64).copy()
            for a, names in groups.items()
        }  # fmt: skip
        people = (rows["kind"] != "general").to_numpy()
        for labels in self.labels.values():
            labels[~people] = -1
        self.adversary = Adversary(pipeline.unet.config.block_out_channels[-1], groups)
        self.adversary.to(pipeline.device)
        self.columns = ("loss", "denoising", "adversary", "moment") + tuple(
            f"adversary_{a}" for a in groups
        )
        self.features = torch.zeros(0)
        pipeline.unet.mid_block.register_forward_hook(self._remember)
        self.classifier = classifier
        if classifier is not None:
            classifier.to(pipeline.device)
            self.policy = OnPolicy(
                pipeline, job.base, captions, self.chosen.images_per_prompt,
                self.chosen.gradient_steps,
            )  # fmt: skip

    def _remember(self, _module: nn.Module, _given: Any, output: torch.Tensor) -> None:
        self.features = output

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Return the adversary's parameters."""
        return dict(self.adversary.named_parameters())

    def state(self) -> dict[str, torch.Tensor]:
        """Return the adversary's parameters and the vectors of its spectral norm."""
        return dict(self.adversary.state_dict(keep_vars=True))

    def __call__(self, step: Step) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss of one step."""
        denoised = self.denoising(step)
        high = (step.timestep >= self.chosen.adversary_from).cpu().numpy() & step.plain
        beta = reversal(step.share, self.chosen.adversary_weight)
        logits = self.adversary(Reverse.apply(self.features.float(), beta))
        told = torch.zeros((), device=denoised.device)
        logged = {}
        for attribute, given in logits.items():
            labels = self.labels[attribute][step.rows]
            used = np.flatnonzero(high & (labels >= 0))
            right = float("nan")
            if len(used):
                truth = torch.from_numpy(labels[used]).to(given.device)
                told = told + F.cross_entropy(given[used], truth)
                right = float((given[used].argmax(1) == truth).float().mean())
            logged[f"adversary_{attribute}"] = right
        moment, carried = torch.zeros(()), torch.zeros((), device=denoised.device)
        if self.classifier is not None:
            _, _, asked, rollout = self.policy.draw(step.rng)
            latents = rollout.final.float().requires_grad_()
            moment = moment_loss(self.classifier(latents), self.target)
            (gradient,) = torch.autograd.grad(self.chosen.moment_weight * moment, latents)
            carried = self.policy.carry_back(rollout, asked, gradient, step.rng)
        logged |= {"denoising": float(denoised.detach()), "adversary": float(told.detach()),
                   "moment": float(moment.detach())}  # fmt: skip
        return denoised + told + carried, logged


@torch.no_grad()
def features_of(pipeline: Any, job: Job, rows: pd.DataFrame, batch: int = 64) -> torch.Tensor:
    """Return mid-block features of noised pictures under their captions, (n, c).

    Noise and timesteps are keyed by the job, so that two models see the same.
    """
    seen: list[torch.Tensor] = []
    hook = pipeline.unet.mid_block.register_forward_hook(
        lambda _m, _g, output: seen.append(output.float().mean((2, 3)).cpu())
    )
    rng = keyed_rng(job.base.study_seed, "probe", job.seed)
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    device, dtype = pipeline.device, pipeline.unet.dtype
    for start in range(0, len(rows), batch):
        part = rows.iloc[start : start + batch]
        clean = job.moments[0, torch.tensor(part.index.to_numpy())].float()
        noise = torch.from_numpy(rng.standard_normal(tuple(clean.shape), dtype=np.float32))
        low, high = job.settings.adversary_from, schedule.config.num_train_timesteps
        timestep = torch.from_numpy(rng.integers(low, high, size=len(part)))
        given = encode(pipeline, tokenize(pipeline, list(part["text"])))
        noisy = schedule.add_noise(clean, noise, timestep).to(device, dtype)
        predict(pipeline, noisy, timestep.to(device), given)
    hook.remove()
    return torch.cat(seen)


def probe(features: torch.Tensor, labels: np.ndarray, groups: int) -> tuple[float, float]:
    """Return a fresh linear probe's accuracy on the half it was not fitted on, and the majority's.

    Parameters
    ----------
    features : torch.Tensor
        (n, c).
    labels : numpy.ndarray
        int64 (n,); rows below 0 are left out.
    groups : int
        K.
    """
    use = torch.from_numpy(np.flatnonzero(labels >= 0))
    x, y = features[use].double(), torch.from_numpy(labels)[use]
    x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    fitted, aside = torch.arange(len(y)) % 2 == 0, torch.arange(len(y)) % 2 == 1
    wanted = F.one_hot(y[fitted], groups).double()
    ones = torch.ones(len(x), 1, dtype=x.dtype)
    x = torch.cat([x, ones], 1)
    gram = x[fitted].T @ x[fitted] + 10.0 * torch.eye(x.shape[1], dtype=x.dtype)
    found = (x[aside] @ torch.linalg.solve(gram, x[fitted].T @ wanted)).argmax(1)
    majority = torch.bincount(y[aside], minlength=groups).max() / aside.sum()
    return float((found == y[aside]).float().mean()), float(majority)


def probes(job: Job, rows: pd.DataFrame, pipeline: Any) -> dict[str, dict[str, float]]:
    """Probe the base model and the trained one for every attribute."""
    people = rows[rows["kind"] != "general"]
    seen = {"before": features_of(job.fresh(), job, people),
            "after": features_of(pipeline, job, people)}  # fmt: skip
    found: dict[str, dict[str, float]] = {}
    for attribute, shares in job.base.target.items():
        place = {g: i for i, g in enumerate(shares)}
        labels = np.array(people[f"rated_{attribute}"].map(place).fillna(-1), np.int64)
        results = {k: probe(x, labels, len(shares)) for k, x in seen.items()}
        found[attribute] = {k: round(v[0], 4) for k, v in results.items()}
        found[attribute]["majority"] = round(results["after"][1], 4)
    return found


def fit(job: Job) -> Fitted:
    """Train against the adversary."""
    pipeline, chosen = job.fresh(), job.settings
    rows = job.rows(chosen)
    require_groups(rows, [f"rated_{a}" for a in job.base.target], "adversarial")
    captions = list(dict.fromkeys(rows.loc[rows["kind"] == "profession", "caption"]))
    classifier, taught = None, 0
    about: dict[str, Any] = {}
    if chosen.moment_weight:
        # Only the classifier of the moment term sees the balanced set; the model never does.
        model = latents.identity(job.base)
        moments, index = latents.moments_of(job.data, "balanced", job.fresh, model)
        named = list(job.base.target)
        known = examples.select(index, chosen, job.seed, job.base.held_out, named)
        known = known[known["kind"] != "general"]
        classifier, accuracy = fit_classifier(
            moments, known, job.base.target, key=[job.base.study_seed, job.name, job.seed]
        )
        about["classifier_accuracy"] = {k: round(v, 4) for k, v in accuracy.items()}
        taught = len(known)
    objective = partial(Adversarial, job=job, rows=rows, captions=captions, classifier=classifier)
    log = job.train(pipeline, chosen, rows, objective=objective)
    pipeline.unet.eval()
    about["probe_accuracy"] = probes(job, rows, pipeline)
    cost = steps_cost(job, chosen, rows, learned(pipeline))
    drawn = chosen.steps * chosen.images_per_prompt if classifier is not None else 0
    steps = job.base.num_inference_steps
    cost = replace(
        cost,
        images_drawn=cost.images_drawn + drawn + taught,
        forward=cost.forward + (drawn + taught) * steps,
        backward=cost.backward + drawn * chosen.gradient_steps,
    )
    raters = (CLASSIFIER,) if classifier is not None else ()
    return Fitted(pipeline, log, cost, chosen.method == "full", raters, about)
