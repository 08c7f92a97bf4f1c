"""What one stage writes and another reads: groups of params and dvc.yaml must say the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dft_lib.image_sets import real
from dft_lib.repro import shards
from dft_lib.repro.paths import ROOT, resolve, show
from dft_lib.repro.yaml_files import read_yaml
from dft_lib.study.params.whole import Params

WORLD_FILES = {"params.yaml", "bias.csv"}  # a folder with both describes a world of drawings
# written by one stage -> where others read it
SAME = {
    "prompts.out": ("synthesis.prompts", "real.prompts", "evaluate.prompts"),
    "finetune.out": ("evaluate.models",),
    "evaluate.out": ("measure.ratings", "figures.ratings"),
    "measure.results": ("figures.results",),
}
# what the stages of dvc.yaml must have as outputs
MADE = {"prompts.out": "{}", "synthesis.out": "{}", "synthesis.audit_file": "{}", "real.out": "{}",
        "finetune.out": "{}/${{key}}", "evaluate.out": "{}/${{key}}",
        "measure.results": "{}/table.md", "figures.out": "{}"}  # fmt: skip


def differences(chosen: Params) -> Iterator[tuple[str, str]]:
    """Yield (field, what is wrong with it) where params contradict themselves or dvc.yaml."""
    groups = chosen.model_dump(exclude={"arms"})
    of = {f"{g}.{name}": value for g, fields in groups.items() for name, value in fields.items()}
    for written, readers in SAME.items():
        for reader in readers:
            if of[reader] != of[written]:
                yield reader, f"is {of[reader]!r}, but {written} is {of[written]!r}: mend one"
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    for field, pattern in MADE.items():
        stage = stages[field.partition(".")[0]]
        made = outputs(stage.get("do", stage))
        if pattern.format(of[field]) not in made:
            listed = ", ".join(path for path in made if not path.startswith("runs/"))
            yield field, f"is {of[field]!r}, but that stage makes {listed} in dvc.yaml: mend one"


def outputs(stage: dict[str, Any]) -> list[str]:
    """Return what a stage of dvc.yaml writes."""
    listed = [o for kind in ("outs", "metrics", "plots") for o in stage.get(kind, [])]
    return [next(iter(o)) if isinstance(o, dict) else o for o in listed]


def written(chosen: Params) -> dict[str, str]:
    """Return every folder that a stage publishes -> the stage's name in the folder's marker."""
    folders = {chosen.prompts.out: "prompts", chosen.synthesis.out: "synthesis",
               chosen.real.out: "real"}  # fmt: skip
    for arm in chosen.arms:
        folders[f"{chosen.finetune.out}/{arm}"] = f"finetune-{arm}"
        folders[f"{chosen.evaluate.out}/{arm}"] = f"evaluate-{arm}"
    return folders


def sets_of(source: Path) -> tuple[str, ...]:
    """Return the sets that notebook 02b makes of a source of pictures.

    Raises
    ------
    FileNotFoundError
        If it is no folder.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{show(source)} is no folder: mend real.source")
    names = {path.name for path in source.iterdir()}
    if names >= WORLD_FILES:
        return real.SETS
    return () if names == {"README.md"} else real.OF_PHOTOGRAPHS


def sets_at(data: str, made: Mapping[str, set[str]]) -> set[str]:
    """Return the names of the sets of pictures in a folder that an arm's ``data`` names.

    Parameters
    ----------
    data : str
        A folder that a stage makes, or that holds an index of its own already.
    made : mapping
        What stages make: folder -> names of its sets.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if data in made:
        return made[data]
    index = resolve(data) / shards.INDEX
    if not index.exists():
        raise ValueError(
            f"data names {data!r}, which no stage makes: name synthesis.out or real.out "
            f"({', '.join(made)})"
        )
    return set(pd.read_parquet(index, columns=["set"])["set"])
