"""Checksums beside unfinished work: what a disk changed is made again, never gone on from.

A seal is a small file that holds one SHA-256 over the names and contents of some files. It is
written after them, so what a killed run left unsealed counts as not made.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from dft_lib.repro.files import write_text
from dft_lib.repro.paths import show

log = logging.getLogger(__name__)


def hash_of(*paths: Path) -> str:
    """Return one SHA-256 over the names and contents of files and folders, in a fixed order."""
    digest = hashlib.sha256()
    for path in paths:
        entries = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for entry in entries:
            digest.update(entry.relative_to(path.parent).as_posix().encode())
            with entry.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def seal(path: Path, *made: Path) -> None:
    """Write to `path` what identifies the finished files or folders `made`."""
    write_text(path, hash_of(*made) + "\n")


def intact(path: Path, *made: Path) -> bool:
    """Say whether `made` is there and what was sealed at `path`.

    If there is something else, a warning says in one sentence that it is made again.
    """
    there = [entry for entry in made if entry.exists()]
    if not there:
        return False
    try:
        if len(there) == len(made) and path.read_text(encoding="utf-8").strip() == hash_of(*made):
            return True
    except (OSError, ValueError):  # no seal, or a damaged one
        pass
    log.warning(
        "%s is unfinished or damaged (its checksum differs): it is made again", show(there[0])
    )
    return False
