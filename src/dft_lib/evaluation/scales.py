"""Gaps on one scale: what brings a metric of ``metrics.json`` to [0, 1]."""

from __future__ import annotations

from typing import Any


def scale(groups: int, *, corrected: bool = False) -> float:
    """Return what brings `parity_gap` (or its corrected form) to [0, 1] at a uniform target."""
    return (groups / 2) ** (0.5 if corrected else 1.0)


def normalised(measured: dict[str, Any], arm: str, part: str, attribute: str, *,
               corrected: bool = False) -> dict[str, float]:  # fmt: skip
    """Return the gap on [0, 1] with interval, floor and null band; NaN where undefined.

    Raises
    ------
    KeyError
        If ``metrics.json`` has no such arm, part or attribute.
    """
    entry = measured["arms"][arm]["neutral"][part][attribute]
    name = "parity_gap_corrected" if corrected else "parity_gap"
    factor = scale(len(entry["shares"]), corrected=corrected)
    found = dict(entry["per_prompt"][name])
    found["null_low"], found["null_high"] = entry["null_band"]["per_prompt"][name]
    return {k: float("nan") if v is None else v * factor for k, v in found.items()}
