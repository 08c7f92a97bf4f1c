"""The group of 05."""

from __future__ import annotations

from dft_lib.study.schema import Group, Positive


class Figures(Group):
    """05: where ratings and results are, how large the sheet of pictures is."""

    ratings: str
    results: str
    sheet_professions: Positive
    sheet_images: Positive
    out: str
