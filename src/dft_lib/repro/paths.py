"""Where things are. Everything hangs off the repository root, never off the working directory.

Jupyter, papermill and pytest start in different folders; a path relative to any of them would
work for one and break for the others.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "data"
LEXICON = ROOT / "lexicon"
NOTEBOOKS = ROOT / "notebooks"
SCRATCH = ROOT / "scratch"
WORLD = ROOT / "world"


def resolve(path: str | Path) -> Path:
    """Return `path` as it is when absolute, else below the repository root."""
    path = Path(path)
    return path if path.is_absolute() else ROOT / path


def show(path: str | Path) -> str:
    """Return `path` relative to the repository root where it lies below it (for messages)."""
    path = Path(path)
    try:
        return path.resolve().relative_to(ROOT).as_posix()
    except (ValueError, OSError, RuntimeError):  # elsewhere, or a loop of symbolic links
        return os.fspath(path)
