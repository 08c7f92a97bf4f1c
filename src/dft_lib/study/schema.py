"""What all parameter groups share: strict types, and one sentence for what is wrong."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dft_lib.repro.paths import show
from dft_lib.repro.yaml_files import read_yaml

GroupType = TypeVar("GroupType", bound="Group")
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Group(BaseModel):
    """A group of parameters: strict types, no unknown keys, not changed after reading."""

    model_config = ConfigDict(allow_inf_nan=False, extra="forbid", strict=True, frozen=True)


def require_sum(field: str, shares: dict[str, float]) -> None:
    """Refuse shares that do not sum to 1."""
    if not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise ValueError(f"{field} sums to {sum(shares.values()):g}: make its shares sum to 1")


def gravest(error: ValidationError) -> Any:
    """Return the problem to report: a misspelt name explains the one that is then missing."""
    problems = error.errors(include_url=False)
    return min(problems, key=lambda p: p["type"] != "extra_forbidden")


def first_problem(error: ValidationError) -> str:
    """Say the first thing that is wrong: field, what was expected, what was found, a remedy."""
    return _said(gravest(error))


def problems_of(error: ValidationError, model: Any) -> list[str]:
    """Say everything that is wrong with a `model`, one sentence each.

    A misspelt name explains the one that is then missing beside it.
    """
    found = error.errors(include_url=False)
    misspelt = {p["loc"][:-1] for p in found if p["type"] == "extra_forbidden"}
    told = [p for p in found if p["type"] != "missing" or p["loc"][:-1] not in misspelt]
    return [_said(problem) + _suggested(model, problem) for problem in told]


def _said(problem: Any) -> str:
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{field} is no parameter; remove it or mend its spelling"
    if problem["type"] == "missing":
        return f"{field} is missing; add it (params.yaml in the repository shows every field)"
    if problem["type"] == "value_error":
        text = str(problem["ctx"]["error"])
        return f"{field}.{text}" if field and not text.startswith(("arms.", "evaluate.")) else text
    found = problem["input"]
    return f"{field}: {problem['msg'][0].lower()}{problem['msg'][1:]}, found {found!r}"


def read_values(path: Path) -> dict[str, Any]:
    """Read a YAML file that maps names to values.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence, if the file is missing, is not YAML, or holds something else.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ValueError(f"{show(path)} holds no parameters; restore it with `git checkout`")
    return values


def suggestion(model: Any, error: ValidationError) -> str:
    """Return " (did you mean ...?)" for a misspelt field of `model`, or nothing."""
    return _suggested(model, gravest(error))


def _suggested(model: Any, problem: Any) -> str:
    if problem["type"] != "extra_forbidden":
        return ""
    for part in problem["loc"][:-1]:
        fields = getattr(model, "model_fields", {})
        model = fields[str(part)].annotation if str(part) in fields else None
    known = list(getattr(model, "model_fields", {}))
    close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


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
