"""The interface of recipes: what one gets, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError

from dft_lib.image_sets import examples
from dft_lib.study.arms import ArmTraining
from dft_lib.study.attributes import Attribute
from dft_lib.study.base import Base
from dft_lib.study.schema import first_problem
from dft_lib.study.training import Finetune, Training, training
from dft_lib.training import loop
from dft_lib.training.objectives import Denoising, Objective


@dataclass(frozen=True)
class Job:
    """One model to make: an arm and a training seed.

    Attributes
    ----------
    base : Base
        The study: model, sampling, steering raters, target.
    settings : Training
        The recipe's own settings.
    name : str
        The arm.
    seed : int
        Training seed; decides which professions are held out.
    data : pathlib.Path
        The set of pictures (``shards/``, ``index.parquet``).
    moments : torch.Tensor
        Latent moments of `index`'s pictures, (2, n, c, h, w).
    index : pandas.DataFrame
        The pictures that the arm may use, numbered from 0, of all folds.
    scratch : pathlib.Path
        Folder for unfinished work; what is found there is gone on from.
    checkpoint_every : int
        Steps between checkpoints.
    fresh : callable
        Loads the base model.
    attributes : dict
        The study's attributes: how prompts name their groups.
    """

    base: Base
    settings: Any
    name: str
    seed: int
    data: Path
    moments: torch.Tensor
    index: pd.DataFrame
    scratch: Path
    checkpoint_every: int
    fresh: Callable[[], Any]
    attributes: Mapping[str, Attribute]

    def rows(self, chosen: Training) -> pd.DataFrame:
        """Return what this seed may train on: nothing of the held-out professions."""
        return examples.select(
            self.index, chosen, self.seed, self.base.held_out, list(self.base.target)
        )

    def train(
        self,
        pipeline: Any,
        chosen: Training,
        rows: pd.DataFrame,
        *,
        objective: Callable[[Any], Objective] = Denoising,
        moments: torch.Tensor | None = None,
        part: str = "",
        trained: dict[str, torch.nn.Parameter] | None = None,
        offset: int = 0,
    ) -> pd.DataFrame:
        """Run the common training loop on `rows`; see `dft_lib.training.loop.train`."""
        return loop.train(
            pipeline,
            examples.examples(self.moments if moments is None else moments, rows),
            chosen,
            study_seed=self.base.study_seed,
            seed=self.seed,
            state=self.scratch / f"{part or 'training'}.state.safetensors",
            checkpoint_every=self.checkpoint_every,
            label=f"{self.name}, seed {self.seed}" + (f", {part}" if part else ""),
            objective=objective,
            trained=trained,
            offset=offset,
        )


@dataclass(frozen=True)
class Cost:
    """What one model cost, in units that do not depend on the machine.

    Attributes
    ----------
    images_drawn : int
        Images that a model drew for this one: its training set, or what steered it.
    images_trained : int
        Different pictures it was trained on.
    forward, backward : int
        U-Net evaluations of one image, without and with gradient; drawing included.
    parameters : int
        Numbers that were learned or edited.
    """

    images_drawn: int = 0
    images_trained: int = 0
    forward: int = 0
    backward: int = 0
    parameters: int = 0


@dataclass(frozen=True)
class Fitted:
    """A model that was made.

    Attributes
    ----------
    pipeline : diffusers.DiffusionPipeline
        With its adapters, not merged.
    log : pandas.DataFrame
        ``step, loss`` and the recipe's other columns.
    cost : Cost
        What it took.
    whole_unet : bool
        The U-Net was changed as a whole.
    raters : tuple of str
        Raters that took part beside those that screened the data.
    about : dict
        What the manifest should say besides.
    """

    pipeline: Any
    log: pd.DataFrame
    cost: Cost
    whole_unet: bool = False
    raters: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)


def require_groups(rows: pd.DataFrame, columns: list[str], recipe: str) -> None:
    """Refuse a set whose pictures of people do not say their groups.

    Raises
    ------
    ValueError
        If a column is missing or empty.
    """
    for column in columns:
        if column not in rows or (rows[column] == "").all():
            raise ValueError(
                f"recipe {recipe} needs pictures with {column}, which this set lacks: choose "
                "another set under images or data"
            )


def steps_cost(job: Job, chosen: Training, rows: pd.DataFrame, trained: int) -> Cost:
    """Return the cost of plain training: pictures drawn for the set, and its steps."""
    drawn = 0 if "drawn_prompt" not in rows else len(rows)
    return Cost(
        images_drawn=drawn,
        images_trained=len(rows),
        forward=drawn * job.base.num_inference_steps,
        backward=chosen.steps * chosen.train_batch_size,
        parameters=trained,
    )


def learned(pipeline: Any) -> int:
    """Count the numbers of a pipeline that are trainable."""
    parts = [v for v in pipeline.components.values() if isinstance(v, torch.nn.Module)]
    return sum(p.numel() for part in parts for p in part.parameters() if p.requires_grad)


def find(name: str) -> ModuleType:
    """Return a recipe's module.

    Raises
    ------
    ValueError
        If there is none.
    """
    path = f"dft_lib.recipes.{name}"
    try:
        module = import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:  # something that the recipe needs
            raise
        raise ValueError(
            f"recipe {name!r} has no file src/dft_lib/recipes/{name}.py: mend the arm's recipe"
        ) from error
    if not hasattr(module, "Settings") or not hasattr(module, "fit"):
        raise ValueError(
            f"src/dft_lib/recipes/{name}.py is no recipe, it lacks Settings or fit: mend the name"
        )
    return module


def shares_batches(name: str) -> bool:
    """Say whether a recipe's training can share every batch among processes (`SHARES_BATCHES`).

    A recipe whose loss is about a whole batch cannot; it trains in one process.
    """
    return bool(getattr(find(name), "SHARES_BATCHES", False))


def settings_of(arm: ArmTraining, defaults: Finetune) -> Any:
    """Return the checked settings of an arm's recipe, None for recipe "none".

    Raises
    ------
    ValueError
        With one sentence: no such recipe, or a setting missing, unknown or mistyped.
    """
    if arm.recipe == "none":
        return None
    try:
        return training(defaults, arm.train, find(arm.recipe).Settings)
    except ValidationError as error:
        raise ValueError(f"the arm's train ({arm.recipe}): {first_problem(error)}") from None


def total(costs: list[Mapping[str, int]]) -> dict[str, int]:
    """Return the mean cost of one model, rounded."""
    return {k: round(float(np.mean([c[k] for c in costs]))) for k in costs[0]} if costs else {}
