"""Iterated DFT: fine-tune, measure the plain prompts, synthesise what is missing, go on.

A feedback loop of a few rounds. The steering raters count who appears for each profession that
trains; the teacher draws more of the groups that are missing, and the weights of a profession's
cells move the same way. The total number of steps is that of one DFT training.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from safetensors.torch import load_file

from dft_lib.image_sets import latents, screening
from dft_lib.raters.panel import Panel
from dft_lib.repro import seals
from dft_lib.repro.tensors import save_tensors
from dft_lib.sampling.sampler import Sampler, SamplingSettings
from dft_lib.study.prompts import Request
from dft_lib.study.training import Training
from dft_lib.training.job import Fitted, Job, learned, require_groups, steps_cost
from dft_lib.training.loop import attach

Multipliers = dict[tuple[str, str, str], float]  # (noun, attribute, group) -> factor


class Settings(Training):
    """The common settings (`steps` in all rounds together), and the loop's own.

    Attributes
    ----------
    rounds : int
        Trainings, with a measurement between each two.
    measured_images : int
        Images per profession and measurement.
    added_images : int
        Images per profession that the teacher adds after each measurement.
    strength : float
        A group's weight is multiplied by (target / measured) to this power.
    """

    rounds: Annotated[int, Field(gt=1)]
    measured_images: Annotated[int, Field(gt=0)]
    added_images: Annotated[int, Field(ge=0)]
    strength: Annotated[float, Field(gt=0)]


def adjust(
    factors: Multipliers, noun: str, rated: pd.DataFrame, target: Any, strength: float
) -> None:
    """Multiply one noun's factors by (target / measured) ** strength, in place.

    Shares are smoothed by one image per group; factors stay within 1/4 and 4.
    """
    for attribute, shares in target.items():
        counts = {g: int((rated[attribute] == g).sum()) + 1 for g in shares}
        total = sum(counts.values())
        for group, share in shares.items():
            step = (share * total / counts[group]) ** strength
            key = (noun, attribute, group)
            factors[key] = float(np.clip(factors.get(key, 1.0) * step, 0.25, 4))


def cell_shares(factors: Multipliers, noun: str, target: Any) -> dict[tuple[str, ...], float]:
    """Return the shares of a noun's cells, the target times its factors; they sum to 1."""
    cells = list(product(*[[(a, g) for g in shares] for a, shares in target.items()]))
    weight = np.array(
        [np.prod([target[a][g] * factors.get((noun, a, g), 1.0) for a, g in c]) for c in cells]
    )
    return {
        tuple(g for _, g in c): float(w) for c, w in zip(cells, weight / weight.sum(), strict=True)
    }


def allotted(wanted: np.ndarray, even: np.ndarray, images: int) -> np.ndarray:
    """Share out a number of images over cells by how much more each should weigh.

    Returns
    -------
    numpy.ndarray
        int64, the shape of `wanted`; sums to `images`, or is 0 where nothing is missing.
    """
    lack = np.maximum(wanted - even, 0)
    if lack.sum() < 1e-9:
        return np.zeros(len(lack), np.int64)
    exact = images * lack / lack.sum()
    whole = np.floor(exact).astype(np.int64)
    rest = np.argsort(whole - exact, kind="stable")[: images - whole.sum()]
    whole[rest] += 1
    return whole


class Loop:
    """State of the feedback loop: the growing set and its weights."""

    def __init__(self, job: Job, rows: pd.DataFrame) -> None:
        self.job, self.rows, self.moments = job, rows, job.moments
        self.target, self.factors, self.drawn = job.base.target, Multipliers(), 0
        self.panel = Panel(job.base.steer, groups=job.base.target)
        self.teacher = job.fresh()
        people = rows[rows["kind"] != "general"]
        self.nouns = list(dict.fromkeys(people["noun"]))

    def measure(self, pipeline: Any, number: int) -> dict[str, float]:
        """Draw every noun's plain prompt, update the factors; return mean distances."""
        sampler = Sampler(pipeline, SamplingSettings.of(self.job.base))
        gaps: dict[str, list[float]] = {a: [] for a in self.target}
        for noun in self.nouns:
            caption = self.rows.loc[self.rows["noun"] == noun, "caption"].iloc[0]
            rated = self.panel.rate(self._draw(sampler, f"measure/{noun}/{number}", caption,
                                               self.job.settings.measured_images))  # fmt: skip
            adjust(self.factors, noun, rated, self.target, self.job.settings.strength)
            for attribute, shares in self.target.items():
                found = np.array([(rated[attribute] == g).mean() for g in shares])
                gaps[attribute].append(0.5 * np.abs(found - list(shares.values())).sum())
        return {a: float(np.mean(v)) for a, v in gaps.items()}

    def _draw(self, sampler: Sampler, key: str, prompt: str, images: int) -> np.ndarray:
        name = f"{self.job.name}/{self.job.seed}/{key}"
        requests = [Request(name, prompt, i) for i in range(images)]
        self.drawn += images
        return np.concatenate([p for _, p in sampler.draw(requests)])

    def synthesise(self, number: int) -> None:
        """Let the teacher add what is missing; screen it as the first set was screened."""
        sampler = Sampler(self.teacher, SamplingSettings.of(self.job.base))
        added, pictures = [], []
        attributes = list(self.target)
        for noun in self.nouns:
            mine = self.rows[(self.rows["noun"] == noun) & (self.rows["set"] != "general")]
            shares = cell_shares(self.factors, noun, self.target)
            even = np.array(list(cell_shares({}, noun, self.target).values()))
            images = self.job.settings.added_images
            counts = allotted(np.array(list(shares.values())), even, images)
            listed, records = [], []
            for cell, count in zip(shares, counts, strict=True):
                same = mine[(mine[attributes] == list(cell)).all(axis=1)]
                if same.empty:
                    continue
                name = f"{self.job.name}/{self.job.seed}/add/{noun}/{'/'.join(cell)}/{number}"
                for i in range(count):
                    like = same.iloc[i % len(same)]  # its templates take turns
                    listed.append(Request(name, like["prompt"], i))
                    records.append(like)
            if not listed:
                continue
            drawn = np.concatenate([p for _, p in sampler.draw(listed)])
            self.drawn += len(drawn)
            table = pd.DataFrame(records).reset_index(drop=True)
            rated = self.panel.rate(drawn)
            kept = screening.screen(table, rated, attributes) == screening.KEPT
            if kept.any():
                added.append(table[kept])
                pictures.append(drawn[kept.to_numpy()])
        if added:
            extra = pd.concat(added, ignore_index=True)
            extra.index = range(self.moments.shape[1], self.moments.shape[1] + len(extra))
            moments = latents.encode(self.teacher, np.concatenate(pictures))
            self.moments = torch.cat([self.moments, moments], 1)
            self.rows = pd.concat([self.rows, extra])

    def weigh(self) -> None:
        """Give every cell of a noun its share by the factors; nouns weigh alike."""
        people = self.rows[self.rows["kind"] != "general"]
        for noun, mine in people.groupby("noun", sort=False):
            shares = cell_shares(self.factors, str(noun), self.target)
            cell = mine[list(self.target)].apply(tuple, axis=1)
            weight = cell.map(shares) / cell.map(cell.value_counts())
            self.rows.loc[mine.index, "weight"] = weight / weight.sum()


def fit(job: Job) -> Fitted:
    """Run the loop."""
    pipeline, chosen = job.fresh(), job.settings
    require_groups(job.rows(chosen), list(job.base.target), "iterated")
    feedback = Loop(job, job.rows(chosen))
    steps = chosen.steps // chosen.rounds
    short = chosen.model_copy(update={"steps": steps})
    trained = attach(pipeline, chosen, job.base.study_seed, job.seed)
    logs, about = [], {}
    for number in range(chosen.rounds):
        done = job.scratch / f"round-{number}.safetensors"
        log = job.scratch / f"round-{number}.parquet"
        sealed = job.scratch / f"round-{number}.sha256"
        if not seals.intact(sealed, done, log):
            table = job.train(
                pipeline, short, feedback.rows, moments=feedback.moments,
                part=f"round-{number}-part",
                trained=trained, offset=number * steps,
            )  # fmt: skip
            table.assign(step=table["step"] + number * steps).to_parquet(log)
            save_tensors(done, {k: p.data for k, p in trained.items()})
            seals.seal(sealed, done, log)
        with torch.no_grad():
            for name, value in load_file(done).items():
                trained[name].copy_(value)
        logs.append(pd.read_parquet(log))
        pipeline.unet.eval()
        if number < chosen.rounds - 1:
            # cheap, and keyed: a resumed run measures and adds the same again
            about[f"measured_{number}"] = feedback.measure(pipeline, number)
            feedback.synthesise(number)
            feedback.weigh()
    whole = chosen.model_copy(update={"steps": steps * chosen.rounds})
    cost = steps_cost(job, whole, feedback.rows, learned(pipeline))
    first = len(job.rows(chosen))
    cost = replace(
        cost, images_drawn=first + feedback.drawn,
        forward=(first + feedback.drawn) * job.base.num_inference_steps,
    )  # fmt: skip
    raters = tuple(sorted(set(job.base.steer.values())))
    return Fitted(pipeline, pd.concat(logs), cost, chosen.method == "full", raters, about)
