"""The group ``base``: the model, how it samples, who rates, and the target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from dft_lib.repro.paths import ROOT, show
from dft_lib.study import profiles
from dft_lib.study.attributes import QUESTIONS
from dft_lib.study.schema import Group, Positive, Share, first_problem, read_values, require_sum
from dft_lib.study.wall import require_apart, require_groups

Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class Base(Group):
    """What all stages share: the model, how it samples, who rates, and the target."""

    study_seed: int
    held_out: Literal["folds", "validation"]
    training_seeds: Seeds
    model: str
    device: Literal["auto", "cpu", "cuda"]
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    batch_size: Positive
    threads: Positive
    engine: Literal["process", "ray"]
    workers: Positive
    compile_above: Positive | None
    channels_last: bool
    num_inference_steps: Positive
    guidance_scale: Annotated[float, Field(ge=0)]
    scheduler: Literal["ddim", "dpmsolver++"]
    steer: dict[str, str]
    judge: dict[str, str]
    lexicon_folder: str
    target: Annotated[dict[str, dict[str, Share]], Field(min_length=1)]

    @model_validator(mode="after")
    def _raters_and_target_fit(self) -> Base:
        if self.engine == "process" and self.workers > 1:
            raise ValueError("workers is more than 1, but engine is process: make engine ray")
        if len(set(self.training_seeds)) != len(self.training_seeds):
            raise ValueError("training_seeds names a seed twice: remove one")
        require_apart(self.steer, self.judge)
        for attribute, shares in self.target.items():
            if attribute in QUESTIONS:
                raise ValueError(f"target.{attribute} is no attribute: remove it")
            if len(shares) < 2:
                raise ValueError(f"target.{attribute} needs two groups at least: add one")
            require_sum(f"target.{attribute}", shares)
            none = [group for group, share in shares.items() if share == 0]
            if none:
                raise ValueError(
                    f"target.{attribute}.{none[0]} is 0, and metrics are not defined for a "
                    "group never to be shown: give it a small share, or leave it out here and in "
                    "groups.csv"
                )
        require_groups(self.steer, self.target, "steer")
        require_groups(self.judge, self.target, "judge")
        return self


def load_base(path: Path = ROOT / "params.yaml") -> Base:
    """Read and check the group ``base`` alone, for what is no stage of the study.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence naming file, field and remedy.
    """
    try:
        return Base.model_validate(read_values(path).get("base"))
    except ValidationError as error:
        raise ValueError(f"{show(path)}: base.{first_problem(error)}") from None


def smoke_base() -> dict[str, Any]:
    """Return the ``base`` group of the profile smoke, for opening a notebook by hand.

    That group alone: in a profile's clone, ``params.yaml`` has other arms than smoke changes.
    """
    differences = read_values(profiles.find("smoke"))["base"]
    values = read_values(ROOT / "params.yaml")["base"] | differences
    return Base.model_validate(values).model_dump()
