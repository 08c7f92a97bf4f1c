"""The study's parameters: one typed place, checked before any work starts.

``params.yaml`` has one group per stage (= notebook), a group ``base`` that all stages share, and
the dictionary ``arms``. Every value has a type here; an unknown key, a mistyped value or a target
that does not sum to 1 stops with one sentence naming file, field and remedy.

The file is read as YAML 1.2, as DVC reads it, so ``1e-4`` is a number (PyYAML would make it text).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from dft_lib.repro.paths import ROOT, show
from dft_lib.repro.yaml_files import read_yaml
from dft_lib.study.schema import Group, first_problem, suggestion
from dft_lib.study.wall import RATERS, require_apart

GroupType = TypeVar("GroupType", bound="Group")
TrainingType = TypeVar("TrainingType", bound="Training")
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z_0-9]+$")]
Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


def require_sum(field: str, shares: dict[str, float]) -> None:
    """Refuse shares that do not sum to 1."""
    if not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise ValueError(f"{field} sums to {sum(shares.values()):g}: make its shares sum to 1")


class Base(Group):
    """What all stages share: the model, how it samples, who rates, and the target."""

    study_seed: int
    held_out: Literal["folds", "validation"]
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
    target: dict[str, dict[str, Share]]

    @model_validator(mode="after")
    def _raters_and_target_fit(self) -> Base:
        if self.engine == "process" and self.workers > 1:
            raise ValueError("workers is more than 1, but engine is process: make engine ray")
        require_apart(self.steer, self.judge)
        for attribute, shares in self.target.items():
            if attribute not in self.steer or attribute not in self.judge:
                raise ValueError(
                    f"target.{attribute} has no rater: name one in steer and in judge"
                )
            require_sum(f"target.{attribute}", shares)
        return self


class Prompts(Group):
    """01: which prompts are drawn, how often."""

    lexicon_folder: str
    train_templates: Annotated[list[str], Field(min_length=1)]
    evaluation_templates: Annotated[list[str], Field(min_length=1)]
    images_per_cell: Positive
    person_images_per_cell: Annotated[int, Field(ge=0)]
    general_images: Annotated[int, Field(ge=0)]
    evaluation_images: Positive
    explicit_images: Positive
    evaluation_general_images: Positive
    professions: Annotated[int, Field(ge=0)]
    out: str


class Synthesis(Group):
    """02: who draws the training pictures, and how they are screened."""

    prompts: str
    teacher: str
    shard_size: Positive
    forbidden_terms: list[str]
    minimum_per_cell: Annotated[int, Field(ge=0)]
    out: str
    audit_file: str


class Real(Group):
    """02b: pictures that no model drew.

    ``source`` is a folder: one that describes an emoji world (``bias.csv``, ``params.yaml``), one
    of labelled photographs in Parquet shards, or one that holds only a ``README.md``: no pictures.
    """

    prompts: str
    source: str
    images_per_profession: Positive
    shard_size: Positive
    out: str


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

    training_seeds: Seeds
    checkpoint_every: Positive
    processes: Positive
    out: str


class Arm(Group):
    """One treatment: a training recipe or none, an intervention at sampling time or none.

    ``recipe`` and ``intervention`` name modules of `dft_lib.recipes` and
    `dft_lib.interventions`; ``train`` and ``draw`` are their settings, ``data`` is the set of
    pictures that the recipe may train on.
    """

    label: str
    recipe: Name
    data: str
    train: dict[str, Any]
    intervention: Name
    draw: dict[str, Any]


class Evaluate(Group):
    """04: where the models are and where ratings and results go."""

    training_seeds: Seeds
    lexicon_folder: str
    prompts: str
    models: str
    features: str
    shard_size: Positive
    out: str
    results: str


class Figures(Group):
    """05: what is drawn; `shown` where there is no room for all arms."""

    arms: Annotated[list[str], Field(min_length=1)]
    shown: Annotated[list[str], Field(min_length=1)]
    families: dict[str, list[str]]
    dose: list[str]
    ratings: str
    results: str
    metrics_file: str
    minutes: str
    calibration: str
    references: list[str]
    sheet_professions: Positive
    sheet_images: Positive
    out: str

    def named(self) -> dict[str, list[str]]:
        """Return every field that names arms."""
        families = [arm for family in self.families.values() for arm in family]
        return {"arms": self.arms, "shown": self.shown, "dose": self.dose,
                "references": self.references, "families": families}  # fmt: skip


class Params(Group):
    """The whole of ``params.yaml``."""

    base: Base
    prompts: Prompts
    synthesis: Synthesis
    real: Real
    finetune: Finetune
    evaluate: Evaluate
    figures: Figures
    arms: Annotated[dict[str, Arm], Field(min_length=1)]

    @model_validator(mode="after")
    def _arms_fit(self) -> Params:
        for name, arm in self.arms.items():
            for field, module in (("train", arm.recipe), ("draw", arm.intervention)):
                if module == "none" and getattr(arm, field):
                    raise ValueError(
                        f"arms.{name}.{field} has settings, but nothing takes them: name a module "
                        "or make it {}"
                    )
            if arm.recipe == "denoising":
                try:
                    training(self.finetune, arm.train, Training)
                except ValidationError as error:
                    raise ValueError(f"arms.{name}.train.{first_problem(error)}") from error
        sizes = [arm.train.get("train_batch_size") for arm in self.arms.values()]
        known = [n for n in sizes if isinstance(n, int)] + [self.finetune.train_batch_size]
        if self.finetune.processes > min(known):
            raise ValueError("finetune.processes is more than train_batch_size: use fewer")
        judges = sorted(set(self.base.judge.values()))
        free = [name for name, about in RATERS.items() if not about.attributes]
        if self.evaluate.features not in [*judges, *free]:
            raise ValueError(
                f"evaluate.features names {self.evaluate.features!r}, which is no judge: use one "
                f"of {', '.join(judges)}, or {', '.join(free)}"
            )
        for field, names in self.figures.named().items():
            missing = sorted(set(names) - set(self.arms))
            if missing:
                raise ValueError(f"figures.{field} names {missing[0]!r}, which is not under arms")
        if len(set(self.finetune.training_seeds)) != len(self.finetune.training_seeds):
            raise ValueError("finetune.training_seeds names a seed twice: remove one")
        if self.finetune.training_seeds != self.evaluate.training_seeds:
            raise ValueError("finetune.training_seeds and evaluate.training_seeds must be equal")
        return self


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


def load(path: Path = ROOT / "params.yaml") -> Params:
    """Read and check the parameters.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence naming file, field and remedy.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ValueError(f"{show(path)} holds no parameters; restore it with `git checkout`")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise ValueError(
            f"{show(path)}: {first_problem(error)}{suggestion(Params, error)}"
        ) from None


def gather(group: type[GroupType], values: dict[str, Any]) -> GroupType:
    """Build a group from a notebook's variables, taking just the group's own names.

    Raises
    ------
    ValueError
        With one sentence naming the variable and the remedy.
    """
    chosen = {name: values[name] for name in group.model_fields if name in values}
    try:
        return group.model_validate(chosen)
    except ValidationError as error:
        raise ValueError(f"the parameters cell: {first_problem(error)}") from None


def smoke_base() -> dict[str, Any]:
    """Return the ``base`` group of ``profiles/smoke.yaml``, for opening a notebook by hand."""
    return load(ROOT / "profiles" / "smoke.yaml").base.model_dump()
