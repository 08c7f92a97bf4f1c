"""Rater `monk`: perceived skin tone of a photographed face on Monk's ten-point scale."""

from __future__ import annotations

from dft_lib.raters.photographs.skin import SkinToneRater


def open_rater(path: object = None) -> SkinToneRater:
    """Return the rater; the face detector's weights come from a package, not from `path`."""
    return SkinToneRater("monk")
