"""The group of 04b."""

from __future__ import annotations

from dft_lib.study.schema import Group


class Measure(Group):
    """04b: where ratings are and results go; measured minutes, and the judges' known errors."""

    ratings: str
    minutes: str
    calibration: str
    results: str
