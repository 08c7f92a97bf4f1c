"""The group of 04."""

from __future__ import annotations

from dft_lib.study.schema import Group, Positive


class Evaluate(Group):
    """04: where the models are and where images and ratings go."""

    prompts: str
    models: str
    features: str
    shard_size: Positive
    out: str
