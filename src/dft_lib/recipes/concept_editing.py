"""Closed-form editing of cross-attention (UCE, Gandikota et al. 2024, arXiv 2308.14761).

For every concept i that is edited (a profession that trains) and every concept j that must stay
(held-out professions, things) the new key and value matrices solve a least-squares problem:

    W' = argmin  sum_i |W' c_i - v_i|^2 + sum_j |W' c_j - W c_j|^2 + lam |W' - W|^2,
    v_i = W c_i + sum_k alpha_ik W a_k,

with text embeddings c of the concepts and a of the attributes' groups. alpha grows in a loop:
draw images, let the *steering* raters count groups, add `step_size` times what is missing.

What published code gets wrong and this does not: the step size is applied; everything is keyed;
the loop ends at the noise of n >= 64 images instead of chasing exact halves of ten; who steers
does not judge.

As v_i - W c_i = W sum_k alpha_ik a_k, the change is W' - W = W D C^T M^-1 with M = C C^T + P P^T +
lam I: one low-rank factor for all layers, saved as an ordinary LoRA.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from dft_lib.models.adapters import lora_config
from dft_lib.models.conditioning import encode, text_encoders, tokenize
from dft_lib.raters.panel import Panel
from dft_lib.repro import seals
from dft_lib.repro.files import write_json
from dft_lib.sampling.sampler import Sampler, SamplingSettings
from dft_lib.study.attributes import PERSON, Attribute, describe
from dft_lib.study.prompts import Request, article
from dft_lib.study.training import Training
from dft_lib.training.job import Cost, Fitted, Job

TARGETS = ["attn2.to_k", "attn2.to_v"]


class Settings(Training):
    """The common settings (of which only the data's are used), and the edit's own.

    Attributes
    ----------
    regularisation : float
        lam, the pull towards the old weights.
    edit_scale, preserve_scale : float
        Weights of the two sums.
    step_size : float
        Part of the missing share that is added to alpha in each round.
    rounds : int
        Rounds at most.
    images_per_concept : int
        n, images per concept and round.
    whole_tail : bool
        Edit the embeddings of the last subject token and of all after it (end and padding, which
        carry the prompt's meaning too), not of that token alone.
    """

    regularisation: Annotated[float, Field(gt=0)]
    edit_scale: Annotated[float, Field(gt=0)]
    preserve_scale: Annotated[float, Field(ge=0)]
    step_size: Annotated[float, Field(gt=0, le=1)]
    rounds: Annotated[int, Field(gt=0)]
    images_per_concept: Annotated[int, Field(ge=64)]
    whole_tail: bool


def solve(
    edited: torch.Tensor, added: torch.Tensor, kept: torch.Tensor, chosen: Settings
) -> torch.Tensor:
    """Return X with W' = W (I + X), the solution of the least-squares problem.

    Parameters
    ----------
    edited, added : torch.Tensor
        Embeddings of the edited concepts and what is added to each, float64 (n, width).
    kept : torch.Tensor
        Embeddings of the preserved concepts, float64 (m, width).
    chosen : Settings
        Scales and regularisation.

    Returns
    -------
    torch.Tensor
        float64 (width, width).
    """
    width = edited.shape[1]
    gram = chosen.edit_scale * edited.T @ edited + chosen.preserve_scale * kept.T @ kept
    gram += chosen.regularisation * torch.eye(width, dtype=edited.dtype)
    return torch.linalg.solve(gram, chosen.edit_scale * edited.T @ added).T


@torch.no_grad()
def embeddings(pipeline: Any, prompt: str, whole_tail: bool) -> torch.Tensor:
    """Return the embeddings of a prompt's last subject token (and all after), float64 (t, width).

    The prompt must end with its subject.
    """
    tokens = tokenize(pipeline, [prompt])
    tokenizer = text_encoders(pipeline)["text_encoder"][0]
    last = int((tokens[0, 0] == tokenizer.eos_token_id).int().argmax()) - 1
    hidden = encode(pipeline, tokens).hidden[0].double().cpu()
    return hidden[last:] if whole_tail else hidden[last : last + 1]


class Editor:
    """The concepts, their embeddings, and the LoRA layers that carry the edit."""

    def __init__(self, pipeline: Any, job: Job, rows: pd.DataFrame) -> None:
        self.pipeline, self.chosen, self.target = pipeline, job.settings, job.base.target
        tail = self.chosen.whole_tail
        people = rows[rows["kind"] != "general"]
        self.captions = {n: list(dict.fromkeys(g["caption"])) for n, g in people.groupby("noun")}
        self.edited = {
            noun: [embeddings(pipeline, c, tail) for c in captions]
            for noun, captions in self.captions.items()
        }
        others = job.index[~job.index["noun"].isin(list(self.captions))]
        kept = [embeddings(pipeline, c, tail) for c in dict.fromkeys(others["caption"])]
        self.preserved = sorted(set(others["noun"]))
        width = next(iter(self.edited.values()))[0].shape[1]
        self.kept = torch.cat([torch.zeros(0, width, dtype=torch.float64), *kept])
        self.groups = {
            (a, g): embeddings(pipeline, _person({a: g}, job.attributes), tail)
            for a, shares in self.target.items()
            for g in shares
        }
        self.alpha = {noun: dict.fromkeys(self.groups, 0.0) for noun in self.captions}
        self.x = torch.zeros(0)
        rank = min(sum(len(e) for v in self.edited.values() for e in v), self.kept.shape[1])
        for part in (pipeline.unet, *(e for _, e in text_encoders(pipeline).values())):
            part.requires_grad_(False)
        pipeline.unet.add_adapter(lora_config(rank, TARGETS))
        self.rank = rank
        self.write()

    def write(self) -> None:
        """Solve for the present alpha and put the solution into the LoRA layers."""
        edited, added = [], []
        for noun, parts in self.edited.items():
            for c in parts:
                change = torch.zeros_like(c)
                for key, alpha in self.alpha[noun].items():
                    a = self.groups[key]
                    at = torch.arange(len(c)).clamp(max=len(a) - 1)  # tails differ in length
                    change += alpha * a[at]
                edited.append(c)
                added.append(change)
        c, d = torch.cat(edited), torch.cat(added)
        self.x = solve(c, d, self.kept, self.chosen)
        left, values, right = torch.linalg.svd(self.x)
        left, right = left[:, : self.rank] * values[: self.rank], right[: self.rank]
        with torch.no_grad():
            for layer in self.layers():
                weight = layer.base_layer.weight
                layer.lora_A["default"].weight.copy_(right)
                layer.lora_B["default"].weight.copy_(weight.double().cpu() @ left)

    def layers(self) -> list[Any]:
        """Return the edited layers."""
        named = self.pipeline.unet.named_modules()
        return [m for name, m in named if name.endswith(tuple(TARGETS))]


def _person(groups: Mapping[str, str], attributes: Mapping[str, Attribute]) -> str:
    """Return "a woman", "a dark-skinned person"."""
    words = {a: attributes[a].words[group] for a, group in groups.items()}
    return article(describe(PERSON, words, attributes))


def missing(rated: pd.Series, shares: dict[str, float]) -> tuple[dict[str, float], bool]:
    """Return target minus found share per group, and whether that is no more than chance.

    Chance: every group's count within its 95 % binomial band around the target.
    """
    counts = np.array([(rated == g).sum() for g in shares], float)
    wanted, n = np.array(list(shares.values())), max(counts.sum(), 1.0)
    gap = wanted - counts / n
    even = bool(
        counts.sum() > 0 and (np.abs(gap) <= 1.96 * np.sqrt(wanted * (1 - wanted) / n)).all()
    )
    return dict(zip(shares, gap.tolist(), strict=True)), even


def fit(job: Job) -> Fitted:
    """Edit, measure, and edit again until nothing but chance is left."""
    pipeline, chosen = job.fresh(), job.settings
    editor = Editor(pipeline, job, job.rows(chosen))
    panel = Panel(job.base.steer, groups=job.base.target)
    # the edit changes the U-Net, not the text: prompts stay encoded
    sampler = Sampler(pipeline, SamplingSettings.of(job.base))
    pipeline.unet.eval()
    log, drawn, start = [], 0, 0
    progress = job.scratch / "rounds.json"
    sealed = progress.with_suffix(".sha256")
    if seals.intact(sealed, progress):
        state = json.loads(progress.read_text(encoding="utf-8"))
        log, drawn, start = state["log"], state["drawn"], len(state["log"])
        for noun, values in state["alpha"].items():
            editor.alpha[noun] = dict(zip(editor.groups, values, strict=True))
        editor.write()
    done = bool(log) and log[-1]["edited"] == 0
    for number in range(start, chosen.rounds + 1):
        if done:
            break
        gaps: dict[str, list[float]] = {a: [] for a in job.base.target}
        edited = 0
        for noun, captions in editor.captions.items():
            requests = [
                Request(f"steer/{job.name}/{job.seed}/{noun}/{number}", captions[0], i)
                for i in range(chosen.images_per_concept)
            ]
            pictures = np.concatenate([p for _, p in sampler.draw(requests)])
            drawn += len(pictures)
            rated = panel.rate(pictures)
            for attribute, shares in job.base.target.items():
                lack, even = missing(rated[attribute], shares)
                gaps[attribute].append(0.5 * sum(abs(v) for v in lack.values()))
                if even or number == chosen.rounds:
                    continue
                edited += 1
                for group, value in lack.items():
                    editor.alpha[noun][attribute, group] += chosen.step_size * value
        means = {a: float(np.mean(v)) for a, v in gaps.items()}
        log.append({"step": number, "loss": float(np.mean(list(means.values()))),
                    "edited": edited, **means})  # fmt: skip
        done = edited == 0
        editor.write()
        alpha = {noun: list(v.values()) for noun, v in editor.alpha.items()}
        write_json(progress, {"log": log, "drawn": drawn, "alpha": alpha})
        seals.seal(sealed, progress)
    cost = Cost(
        images_drawn=drawn, forward=drawn * job.base.num_inference_steps,
        parameters=sum(layer.base_layer.weight.numel() for layer in editor.layers()),
    )  # fmt: skip
    about = {"edited": sorted(editor.captions), "preserved": editor.preserved}
    raters = tuple(sorted(set(job.base.steer.values())))
    columns = ["step", "loss", "edited", *job.base.target]
    return Fitted(pipeline, pd.DataFrame(log)[columns], cost, raters=raters, about=about)
