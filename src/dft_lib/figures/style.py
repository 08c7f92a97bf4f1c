"""One look for all figures: the style file, colours of arms, labels, and how a figure is saved."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure

from dft_lib.repro.paths import ROOT

STYLE = ROOT / "paper" / "style.mplstyle"
SPLIT_NAMES = {"seen": "seen professions", "held_out": "held-out professions"}
# Of different lightness, each with its own mark: they stay apart without colour.
FAMILY_STYLES = (("#7a7a7a", "s"), ("#e08a00", "^"), ("#6fb2dc", "D"), ("#0b4f8a", "o"),
                 ("#b04a8f", "v"), ("#2f8f5b", "P"))  # fmt: skip


def use_style() -> None:
    """Apply the one style file."""
    plt.style.use(STYLE)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as vector PDF and PNG without time stamps; return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.pdf", folder / f"{name}.png"]
    figure.savefig(paths[0], metadata={"CreationDate": None, "ModDate": None})
    figure.savefig(paths[1], metadata={"Software": None})
    return paths


def palette(arms: list[str]) -> dict[str, Any]:
    """Return one colour per arm; the base model is always grey."""
    colours = iter(sns.color_palette("colorblind", len(arms)))
    return {arm: (0.55, 0.55, 0.55) if arm == "base" else next(colours) for arm in arms}


def family_styles(
    arms: list[str], families: dict[str, list[str]]
) -> dict[str, tuple[str, str, str]]:
    """Return each arm's family, colour and mark; arms of no family are "others"."""
    of = {arm: name for name, members in families.items() for arm in members}
    named = [name for name in families if any(arm in arms for arm in families[name])]
    if any(arm not in of and arm != "base" for arm in arms):
        named.append("others")
    looks = {name: FAMILY_STYLES[i % len(FAMILY_STYLES)] for i, name in enumerate(named)}
    return {
        arm: ("base model", "black", "X") if arm == "base"
        else (of.get(arm, "others"), *looks[of.get(arm, "others")])
        for arm in arms
    }  # fmt: skip


def wrapped(labels: dict[str, str], width: int = 22) -> list[str]:
    """Return labels on as many lines as they need, for the side of a plot."""
    return ["\n".join(textwrap.wrap(label, width)) or label for label in labels.values()]


def row_height(rows: int, most: float = 0.34, least: float = 0.25) -> float:
    """Return inches per row: fewer where there are many, and still room for small text."""
    return most if rows <= 8 else least
