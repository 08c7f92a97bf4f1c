"""The group of 02."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dft_lib.study.schema import Group, Positive


class Synthesis(Group):
    """02: who draws the training pictures, and how they are screened."""

    prompts: str
    teacher: str
    shard_size: Positive
    forbidden_terms: list[str]
    minimum_per_cell: Annotated[int, Field(ge=0)]
    out: str
    audit_file: str
