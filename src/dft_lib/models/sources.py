"""Where a model is: what ``base.model`` and ``synthesis.teacher`` name is always a path.

The path is a folder that diffusers' ``save_pretrained`` wrote, or a small tracked file
``hub/<name>.yaml`` with the ``id`` and the ``revision`` of a model on the hub. So a stage can
depend on what the parameter names, wherever it lies.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, ValidationError

from dft_lib.repro.paths import resolve, show
from dft_lib.repro.seals import hash_of
from dft_lib.repro.yaml_files import read_yaml
from dft_lib.study.schema import Group, first_problem

INDEX = "model_index.json"


class HubModel(Group):
    """Content of a ``hub/<name>.yaml``."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]+/[A-Za-z0-9_.\-]+$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class Source(NamedTuple):
    """What ``from_pretrained`` takes: a folder, or a hub id with its pinned revision."""

    name: str
    revision: str | None

    @property
    def keywords(self) -> dict[str, str]:
        """Return the revision as a keyword of ``from_pretrained``, if there is one."""
        return {} if self.revision is None else {"revision": self.revision}


def find(model: str) -> Source:
    """Return the source of a model.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If the folder is no pipeline, or the file does not pin a hub model. One sentence each.
    """
    path = resolve(model)
    if path.is_dir():
        if not (path / INDEX).exists():
            raise ValueError(
                f"{show(path)} is not a diffusers pipeline (no {INDEX}): name a folder written by "
                "save_pretrained"
            )
        return Source(os.fspath(path), None)
    if not path.exists():
        raise FileNotFoundError(
            f"model {show(path)} is missing: run `dvc pull data.dvc`, or mend base.model (a "
            "folder, or hub/<name>.yaml for a model of the hub)"
        )
    if path.suffix != ".yaml":
        raise ValueError(
            f"{show(path)} is neither a folder nor a .yaml file: name a folder written by "
            "save_pretrained, or hub/<name>.yaml"
        )
    try:
        pinned = HubModel.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ValueError(
            f"{show(path)}: {first_problem(error)}; it needs the hub's id, owner/name, and its "
            "40-digit commit as revision, so that the model stays put"
        ) from None
    return Source(pinned.id, pinned.revision)


def record(model: str) -> dict[str, str]:
    """Return the fields that say in a record which model drew an image: name and weights.

    ``model`` is the folder, or ``id@revision``; ``model_hash`` what `fingerprint` returns.
    """
    source = find(model)
    name = show(Path(source.name)) if source.revision is None else fingerprint(model)
    return {"model": name, "model_hash": fingerprint(model)}


def fingerprint(model: str) -> str:
    """Return what identifies a model's weights: the folder's hash, or hub id and revision."""
    source = find(model)
    if source.revision is None:
        return hash_of(Path(source.name))
    return f"{source.name}@{source.revision}"
