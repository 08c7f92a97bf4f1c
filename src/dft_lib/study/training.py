"""How a model is fine-tuned: the parameters that all recipes share, and what an arm changes."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, model_validator

from dft_lib.study.schema import Group, Positive, Share, require_sum

TrainingType = TypeVar("TrainingType", bound="Training")


class Training(Group):
    """How one model is fine-tuned. An arm's ``train`` may change any of these."""

    images: str
    data_share: Annotated[float, Field(gt=0, le=1)]
    target: dict[str, dict[str, Share]] | None
    captions: Literal["dropped", "kept", "mixed", "shuffled"]
    method: Literal["lora", "full"]
    rank: Positive
    lora_targets: list[str]
    text_encoder_lora: bool
    learning_rate: Annotated[float, Field(gt=0)]
    steps: Annotated[int, Field(ge=0)]
    train_batch_size: Positive
    warmup_steps: Annotated[int, Field(ge=0)]
    max_grad_norm: Annotated[float, Field(gt=0)]
    preservation_share: Share
    person_share: Share
    caption_dropout: Share
    caption_mixup: Share
    lowest_timestep: Annotated[int, Field(ge=0, lt=1000)]
    min_snr_gamma: Annotated[float, Field(gt=0)] | None
    gradient_checkpointing: bool

    @model_validator(mode="after")
    def _trains_something(self) -> Training:
        if self.method == "lora" and not self.lora_targets and not self.text_encoder_lora:
            raise ValueError("lora_targets is empty and text_encoder_lora is off: name a target")
        if self.preservation_share + self.person_share >= 1:
            raise ValueError("preservation_share and person_share leave nothing for professions")
        for attribute, shares in (self.target or {}).items():
            require_sum(f"target.{attribute}", shares)
        return self


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
