"""Where a stage may write: its own folders, and nobody else's.

A published folder carries a marker that names the stage that made it. Only such a folder is ever
replaced, and by that stage alone, so no value in params can make a stage delete what is not its.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import psutil

from dft_lib.repro.paths import ROOT, show

MARKER = ".dft-made"
RESULTS = ("results", "paper/figures")  # tracked, and yet written by stages
_KEPT = {  # what a clone holds beside outputs
    "benchmarks", "data", "docs", "hub", "lexicon", "lexicon_photos", "notebooks", "photographs",
    "profiles", "src", "store", "tests", "world",
}  # fmt: skip
_MEND = "give it a folder of its own below the root, e.g. {}/out"


def require_publishable(path: Path, stage: str) -> None:
    """Refuse a folder that a stage may not replace.

    Parameters
    ----------
    path : pathlib.Path
        Where the stage's result goes.
    stage : str
        Name of the stage (and arm), as its marker says it.

    Raises
    ------
    ValueError
        With one sentence, unless the folder lies below the root and does not exist, is empty, or
        was made by this very stage. Outside the root a new folder may be made (by hand, from
        Python), but none is replaced.
    """
    if why := _foreign(path) or _occupied(path, stage):
        raise ValueError(
            f"{stage} may not write to {show(path)}, {why}: "
            + _MEND.format(stage.partition("-")[0])
        )


def require_writable(path: Path, stage: str) -> None:
    """Refuse a single file (a table, a summary, a figure) that a stage may not replace.

    Raises
    ------
    ValueError
        With one sentence: if it lies outside the root (and exists), in a folder of the repository
        or of another stage, or is tracked by git and no result.
    """
    why = _foreign(path)
    if not why and path.is_dir():
        why = "which is a folder"
    if not why and not any(ROOT / r in path.resolve().parents for r in RESULTS):
        why = "which git tracks" if _tracked(path) else ""
    if why:
        raise ValueError(
            f"{stage} may not write {show(path)}, {why}: name a file of its own below the root, "
            "e.g. in results/"
        )


def made_by(folder: Path) -> str | None:
    """Return the stage that made a folder, None if none did."""
    try:
        return str(json.loads((folder / MARKER).read_text(encoding="utf-8"))["stage"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _below(path: Path) -> bool:
    return ROOT in path.resolve().parents


def _foreign(path: Path) -> str:
    """Say why a path is not a stage's to write, "" if it may be."""
    if path.is_symlink():
        return "which is a link"
    if not _below(path):
        inside = path.resolve() == ROOT or ROOT in path.absolute().parents
        return "which does not lie below the root" if inside or path.exists() else ""
    first = path.resolve().relative_to(ROOT).parts[0]
    if first in _KEPT or first.startswith("."):
        return f"and {first}/ belongs to the repository"
    for parent in path.resolve().parents:
        if parent == ROOT:
            break
        if maker := made_by(parent):
            return f"which lies in what stage {maker} makes"
    return ""


def _occupied(path: Path, stage: str) -> str:
    """Say why a folder may not be replaced, "" if it may be."""
    if not path.exists():
        return ""
    if not path.is_dir():
        return "which is a file"
    if os.path.ismount(path) or str(path.resolve()) in _mounts():
        return "where a disk is mounted"
    if _tracked(path):
        return "which holds files that git tracks"
    maker = made_by(path)
    if maker is None and any(path.iterdir()):
        return f"which no stage made (it holds files, and no {MARKER})"
    if maker is not None and maker != stage:
        return f"which stage {maker} made"
    return ""


def _mounts() -> set[str]:
    try:
        return {disk.mountpoint for disk in psutil.disk_partitions(all=True)}
    except OSError:  # no /proc
        return set()


def _tracked(path: Path) -> bool:
    """Say whether git tracks a path or something in it; without git nothing is known to be."""
    try:
        listed = subprocess.run(
            ["git", "--literal-pathspecs", "ls-files", "-z", "--", str(path.absolute())],
            cwd=ROOT, capture_output=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return False
    return bool(listed.stdout)
