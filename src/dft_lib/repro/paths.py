"""Where things are. Everything hangs off the repository root, never off the working directory.

Jupyter, papermill and pytest start in different folders; a path relative to any of them would
work for one and break for the others.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "data"
LEXICON = ROOT / "lexicon"
NOTEBOOKS = ROOT / "notebooks"
SCRATCH = ROOT / "scratch"
WORLD = ROOT / "world"


def require_own_tree() -> None:
    """Stop where the working directory lies in another copy of the study than this code.

    A second clone or work tree, or ``dvc exp run --temp``, with the environment of the first
    would run the first one's code on the first one's parameters, and write there.

    Raises
    ------
    ValueError
        If the nearest folder upwards that holds ``src/dft_lib`` is not `ROOT`.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "src" / "dft_lib").is_dir():
            if not folder.samefile(ROOT):
                raise ValueError(
                    f"this is {folder}, but the code that Python imports is that of {ROOT}: run "
                    "`make`, which uses the code beside it, or set "
                    f"PYTHONPATH={shlex.quote(str(folder / 'src'))}"
                )
            return


def enter() -> None:
    """Begin a program: end in one sentence if it is not this work tree's own."""
    try:
        require_own_tree()
    except ValueError as error:
        sys.exit(str(error))


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
