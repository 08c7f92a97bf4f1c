"""The drawings' own skin colours: what `palette` matches, and what the world paints with."""

from __future__ import annotations

TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
# Families that the raters and the base model were trained on; OpenMoji is a style nobody was.
TRAINED_FAMILIES = ("noto", "fluent", "twemoji")

# Main skin colour per family, light to dark; read off the drawings (see tests/test_world.py).
SKIN: dict[str, tuple[str, ...]] = {
    "noto": ("#f9ddbd", "#e0bb95", "#ba8d68", "#a56c43", "#70534a"),
    "fluent": ("#ffd7c2", "#eebfaa", "#c68d7b", "#966661", "#573739"),
    "twemoji": ("#f7dece", "#f3d2a2", "#d5ab88", "#af7e57", "#7c533e"),
    "openmoji": ("#fadcbc", "#debb90", "#c19a65", "#a57939", "#6a462f"),
}
