"""Rater `ita`: perceived skin tone of a photographed face by individual typology angle."""

from __future__ import annotations

from dft_lib.raters.photographs.skin import SkinToneRater


def open_rater(path: object = None) -> SkinToneRater:
    """Return the rater; the face detector's weights come from a package, not from `path`."""
    return SkinToneRater("ita")
