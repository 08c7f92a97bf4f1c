"""The study's parameters: one typed place, checked before any work starts.

``params.yaml`` has one group per stage (= notebook), a group ``base`` that all stages share, and
the dictionary ``arms`` (`dft_lib.study.arms`). Every value has a type; an unknown key, a mistyped
value or a target that does not sum to 1 stops with one sentence naming file, field and remedy.

The file is read as YAML 1.2, as DVC reads it, so ``1e-4`` is a number (PyYAML would make it text).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from dft_lib.repro.paths import ROOT, show
from dft_lib.study import profiles
from dft_lib.study.arms import Arm, require_fit
from dft_lib.study.base import Base
from dft_lib.study.params.evaluate import Evaluate
from dft_lib.study.params.figures import Figures
from dft_lib.study.params.measure import Measure
from dft_lib.study.params.real import Real
from dft_lib.study.params.synthesis import Synthesis
from dft_lib.study.prompts import Prompts
from dft_lib.study.schema import (
    Group,
    first_problem,
    read_values,
    suggestion,
)
from dft_lib.study.training import Finetune
from dft_lib.study.wall import RATERS

Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


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
