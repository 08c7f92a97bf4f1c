"""The study's parameters: one typed place, checked before any work starts.

``params.yaml`` has one group per stage (= notebook), a group ``base`` that all stages share, and
the dictionary ``arms`` (`dft_lib.study.arms`). Every value has a type; an unknown key, a mistyped
value or a target that does not sum to 1 stops with one sentence naming file, field and remedy.

The file is read as YAML 1.2, as DVC reads it, so ``1e-4`` is a number (PyYAML would make it text).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from dft_lib.repro.paths import ROOT, show
from dft_lib.study import profiles, wordlist
from dft_lib.study.arms import Arm, ArmShown, require_fit
from dft_lib.study.attributes import QUESTIONS
from dft_lib.study.schema import (
    Group,
    Positive,
    Share,
    first_problem,
    read_values,
    require_sum,
    suggestion,
)
from dft_lib.study.training import Finetune
from dft_lib.study.wall import RATERS, require_apart, require_groups

GroupType = TypeVar("GroupType", bound="Group")
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


class Prompts(Group):
    """01: which prompts are drawn, how often."""

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

    @model_validator(mode="after")
    def _templates_hold_their_place(self) -> Prompts:
        for field in ("train_templates", "evaluation_templates"):
            templates = getattr(self, field)
            for template in templates:
                rest = template.replace("{a}", "{}")
                if rest.count("{}") != 1 or set("{}") & set(rest.replace("{}", "")):
                    raise ValueError(
                        f"{field} holds {template!r}: write the place of the noun exactly once, "
                        "as {a} (with an article) or {} (without)"
                    )
            keys = [wordlist.key(template) for template in templates]
            if len(set(keys)) < len(keys):
                raise ValueError(f"{field} holds the same template twice: remove one")
        return self


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
    of labelled photographs in Parquet files, or one that holds only a ``README.md``: no pictures.
    """

    prompts: str
    source: str
    images_per_profession: Positive
    shard_size: Positive
    out: str


class Evaluate(Group):
    """04: where the models are and where images and ratings go."""

    prompts: str
    models: str
    features: str
    shard_size: Positive
    out: str


class Measure(Group):
    """04b: where ratings are and results go; measured minutes, and the judges' known errors."""

    ratings: str
    minutes: str
    calibration: str
    results: str


class Figures(Group):
    """05: where ratings and results are, how large the sheet of pictures is."""

    ratings: str
    results: str
    sheet_professions: Positive
    sheet_images: Positive
    out: str


class Params(Group):
    """The whole of ``params.yaml``."""

    base: Base
    prompts: Prompts
    synthesis: Synthesis
    real: Real
    finetune: Finetune
    evaluate: Evaluate
    measure: Measure
    figures: Figures
    arms: Annotated[dict[str, Arm], Field(min_length=1)]

    @model_validator(mode="after")
    def _outputs_lie_below_the_root(self) -> Params:
        for name in type(self).model_fields:
            group = getattr(self, name)
            for field in ("out", "results", "audit_file"):
                place = Path(getattr(group, field, "a/file"))
                if place.is_absolute() or ".." in place.parts or not place.parts:
                    raise ValueError(
                        f"{name}.{field} is {str(getattr(group, field))!r}: name a place below "
                        "the root, such as results or models"
                    )
        return self

    @model_validator(mode="after")
    def _arms_fit(self) -> Params:
        require_fit(self.arms)
        for name, arm in self.arms.items():
            for field, module in (("train", arm.recipe), ("draw", arm.intervention)):
                if module == "none" and getattr(arm, field):
                    raise ValueError(
                        f"arms.{name}.{field} has settings, but nothing takes them: name a module "
                        "or make it {}"
                    )
        sizes = [arm.train.get("train_batch_size") for arm in self.arms.values()]
        known = [n for n in sizes if isinstance(n, int)] + [self.finetune.train_batch_size]
        if self.finetune.processes > min(known):
            raise ValueError("finetune.processes is more than train_batch_size: use fewer")
        judges = sorted(set(self.base.judge.values()))
        free = [n for n, about in RATERS.items() if not about.attributes and not about.any]
        if self.evaluate.features not in [*judges, *free]:
            raise ValueError(
                f"evaluate.features names {self.evaluate.features!r}, which is no judge: use one "
                f"of {', '.join(judges)}, or {', '.join(free)}"
            )
        return self


def load(path: Path = ROOT / "params.yaml") -> Params:
    """Read and check the parameters of a complete file.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence naming file, field and remedy.
    """
    return check(read_values(path), path)


def load_profile(profile: str) -> Params:
    """Return the checked parameters of a profile (`dft_lib.study.profiles`), merged.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence naming file, field and remedy.
    """
    path = profiles.find(profile)
    return check(profiles.merged(path), path)


def check(values: dict[str, Any], path: Path) -> Params:
    """Check parameters that were read from `path`.

    Raises
    ------
    ValueError
        With one sentence naming file, field and remedy.
    """
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


def gather_arms(values: dict[str, Any]) -> dict[str, ArmShown]:
    """Build what is shown of every arm from a notebook's variable ``arms``.

    Raises
    ------
    ValueError
        With one sentence naming the arm, the field and the remedy.
    """
    arms = {}
    for name, value in values.items():
        try:
            arms[name] = ArmShown.model_validate(value)
        except ValidationError as error:
            raise ValueError(f"the parameters cell: arms.{name}.{first_problem(error)}") from None
    return arms


def smoke_base() -> dict[str, Any]:
    """Return the ``base`` group of the profile smoke, for opening a notebook by hand.

    That group alone: in a profile's clone, ``params.yaml`` has other arms than smoke changes.
    """
    differences = read_values(profiles.find("smoke"))["base"]
    values = read_values(ROOT / "params.yaml")["base"] | differences
    return Base.model_validate(values).model_dump()
