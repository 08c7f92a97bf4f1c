"""The group of 02b."""

from __future__ import annotations

from dft_lib.study.schema import Group, Positive


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
