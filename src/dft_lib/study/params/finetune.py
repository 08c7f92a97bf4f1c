"""The group of 03, and the training of one arm that it and the arm make."""

from __future__ import annotations

from typing import Any, TypeVar

from dft_lib.study.schema import Positive
from dft_lib.study.training import Training

TrainingType = TypeVar("TrainingType", bound=Training)


class Finetune(Training):
    """03: defaults of the training, and where things are."""

    checkpoint_every: Positive
    processes: Positive
    out: str


def training(
    finetune: Finetune, train: dict[str, Any], settings: type[TrainingType]
) -> TrainingType:
    """Return the training of one arm: the defaults with the arm's changes.

    Parameters
    ----------
    finetune : Finetune
        The defaults.
    train : dict
        The arm's ``train``.
    settings : type
        `Training`, or a recipe's own settings, which add to the common ones.
    """
    defaults = {name: getattr(finetune, name) for name in Training.model_fields}
    return settings.model_validate(defaults | train)
