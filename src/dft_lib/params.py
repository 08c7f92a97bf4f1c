"""The study's parameters: one typed place, checked before any work starts.

``params.yaml`` has one group per stage (= notebook), a group ``base`` that all stages share, and
the dictionary ``arms``. Every value has a type here; an unknown key, a mistyped value or a target
that does not sum to 1 stops with one sentence naming file, field and remedy.

The file is read as YAML 1.2, as DVC reads it, so ``1e-4`` is a number (PyYAML would make it text).
"""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML, YAMLError

from dft_lib.paths import ROOT, show
from dft_lib.raters.wall import require_apart

GroupType = TypeVar("GroupType", bound="Group")
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class Group(BaseModel):
    """A group of parameters: strict types, no unknown keys, not changed after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Base(Group):
    """What all stages share: the model, how it samples, who rates, and the target."""

    study_seed: int
    held_out: Literal["folds", "validation"]
    model: str
    revision: str | None
    device: Literal["auto", "cpu", "cuda"]
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    batch_size: Positive
    threads: Positive
    num_inference_steps: Positive
    guidance_scale: Annotated[float, Field(ge=0)]
    scheduler: Literal["ddim", "dpmsolver++"]
    steer: dict[str, str]
    judge: dict[str, str]
    target: dict[str, dict[str, Share]]

    @model_validator(mode="after")
    def _raters_and_target_fit(self) -> Base:
        require_apart(self.steer, self.judge)
        for attribute, shares in self.target.items():
            if attribute not in self.steer or attribute not in self.judge:
                raise ValueError(
                    f"target.{attribute} has no rater: name one in steer and in judge"
                )
            if not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
                raise ValueError(
                    f"target.{attribute} sums to {sum(shares.values()):g}: "
                    "make its shares sum to 1"
                )
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
    teacher: str | None
    teacher_revision: str | None
    shard_size: Positive
    forbidden_terms: list[str]
    minimum_per_cell: Annotated[int, Field(ge=0)]
    out: str
    audit_file: str


class Training(Group):
    """How one model is fine-tuned. An arm's ``train`` may change any of these."""

    images: Literal["balanced", "unbalanced"]
    captions: Literal["dropped", "kept", "mixed"]
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

    @model_validator(mode="after")
    def _trains_something(self) -> Training:
        if self.method == "lora" and not self.lora_targets and not self.text_encoder_lora:
            raise ValueError("lora_targets is empty and text_encoder_lora is off: name a target")
        if self.preservation_share + self.person_share >= 1:
            raise ValueError("preservation_share and person_share leave nothing for professions")
        return self


class Finetune(Training):
    """03: defaults of the training, and where things are."""

    training_seeds: Seeds
    synthetic: str
    checkpoint_every: Positive
    out: str


class Arm(Group):
    """One treatment: what it changes of the training, or ``train: null`` for none."""

    label: str
    train: dict[str, Any] | None


class Evaluate(Group):
    """04: where the models are and where ratings and results go."""

    training_seeds: Seeds
    prompts: str
    models: str
    features: str
    shard_size: Positive
    out: str
    results: str


class Figures(Group):
    """05: what is drawn."""

    arms: Annotated[list[str], Field(min_length=1)]
    ratings: str
    results: str
    metrics_file: str
    calibration: str | None
    references: list[str]
    sheet_professions: Positive
    sheet_images: Positive
    out: str


class Params(Group):
    """The whole of ``params.yaml``."""

    base: Base
    prompts: Prompts
    synthesis: Synthesis
    finetune: Finetune
    evaluate: Evaluate
    figures: Figures
    arms: Annotated[dict[str, Arm], Field(min_length=1)]

    @model_validator(mode="after")
    def _arms_fit(self) -> Params:
        for name, arm in self.arms.items():
            try:
                training(self.finetune, arm)
            except ValidationError as error:
                raise ValueError(f"arms.{name}.train.{_first(error)}") from error
        judges = sorted(set(self.base.judge.values()))
        if self.evaluate.features not in judges:
            raise ValueError(
                f"evaluate.features names {self.evaluate.features!r}, which is no judge: use one "
                f"of {', '.join(judges)}"
            )
        for field in ("arms", "references"):
            missing = sorted(set(getattr(self.figures, field)) - set(self.arms))
            if missing:
                raise ValueError(f"figures.{field} names {missing[0]!r}, which is not under arms")
        if len(set(self.finetune.training_seeds)) != len(self.finetune.training_seeds):
            raise ValueError("finetune.training_seeds names a seed twice: remove one")
        if self.finetune.training_seeds != self.evaluate.training_seeds:
            raise ValueError("finetune.training_seeds and evaluate.training_seeds must be equal")
        return self


def training(finetune: Finetune, arm: Arm) -> Training | None:
    """Return the training of one arm: the defaults with the arm's changes, or None."""
    if arm.train is None:
        return None
    defaults = {name: getattr(finetune, name) for name in Training.model_fields}
    return Training.model_validate(defaults | arm.train)


def _gravest(error: ValidationError) -> Any:
    """Return the problem to report: a misspelt name explains the one that is then missing."""
    problems = error.errors(include_url=False)
    return min(problems, key=lambda p: p["type"] != "extra_forbidden")


def _first(error: ValidationError) -> str:
    """Say the first thing that is wrong: field, what was expected, what was found, a remedy."""
    problem = _gravest(error)
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{field} is no parameter; remove it or mend its spelling"
    if problem["type"] == "missing":
        return f"{field} is missing; add it (params.yaml in the repository shows every field)"
    if problem["type"] == "value_error":
        text = str(problem["ctx"]["error"])
        return (
            f"{field}.{text}"
            if field and not text.startswith(("arms.", "figures.", "evaluate."))
            else text
        )
    found = problem["input"]
    return f"{field}: {problem['msg'][0].lower()}{problem['msg'][1:]}, found {found!r}"


def _suggest(values: Any, error: ValidationError) -> str:
    problem = _gravest(error)
    if problem["type"] != "extra_forbidden":
        return ""
    known: list[str] = []
    model: Any = Params
    for part in problem["loc"][:-1]:
        fields = getattr(model, "model_fields", {})
        model = fields[str(part)].annotation if str(part) in fields else None
    known = list(getattr(model, "model_fields", {}))
    close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def read_yaml(path: Path) -> Any:
    """Read a YAML 1.2 file into plain Python values.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence, if the file is missing or is not YAML.
    """
    if not path.exists():
        raise FileNotFoundError(f"{show(path)} is missing: restore it with `git checkout`")
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1
        raise ValueError(f"{show(path)}, line {line}: not valid YAML; mend that line") from error


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
        raise ValueError(f"{show(path)}: {_first(error)}{_suggest(values, error)}") from None


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
        raise ValueError(f"the parameters cell: {_first(error)}") from None


def smoke_base() -> dict[str, Any]:
    """Return the ``base`` group of ``profiles/smoke.yaml``, for opening a notebook by hand."""
    return load(ROOT / "profiles" / "smoke.yaml").base.model_dump()
