"""Work in progress: a folder per stage and parameters, under a lock, that survives `kill -9`.

``kill -9`` of `dvc` or of the runner leaves the notebook's kernel running. So every workspace
names its owner (the process that works, and the runner that started it); whoever comes next and
finds the lock held by a kernel whose runner is gone ends that kernel and goes on from its files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from dft_lib.paths import SCRATCH, show

RUNNER_VARIABLE = "DFT_RUNNER"  # set by dft_lib.notebook for the kernel it starts


def _identity(pid: int) -> list[float]:
    """Return [pid, start time]: a pid alone may have been given to another process since."""
    return [pid, psutil.Process(pid).create_time()]


def identity() -> str:
    """Return this process's identity for `RUNNER_VARIABLE`."""
    return json.dumps(_identity(os.getpid()))


def _alive(identity: list[float]) -> bool:
    try:
        process = psutil.Process(int(identity[0]))
        same = abs(process.create_time() - identity[1]) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end_stale(owner: Path) -> bool:
    """End the owner if the runner that started it is gone; say whether it was ended."""
    try:
        names = json.loads(owner.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if _alive(names["runner"]) or not _alive(names["worker"]):
        return False
    process = psutil.Process(int(names["worker"][0]))
    process.kill()
    process.wait(30)
    return True


@contextmanager
def workspace(stage: str, key: Any) -> Iterator[Path]:
    """Hold the folder ``scratch/<stage>-<hash of key>/`` for this process.

    Parameters
    ----------
    stage : str
        Name of the stage (and arm).
    key : JSON value
        Everything the stage's result depends on. Other values get another folder, so work under
        old parameters is never mixed with work under new ones.

    Raises
    ------
    RuntimeError
        If a living run holds the same workspace.
    """
    text = json.dumps(key, sort_keys=True, default=str)
    folder = SCRATCH / f"{stage}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder / "owner.json"
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        if not _end_stale(owner):
            raise RuntimeError(
                f"another run is working in {show(folder)}: wait for it, or end it, then run again"
            ) from None
        lock.acquire(timeout=30)
    try:
        me = _identity(os.getpid())
        runner = json.loads(os.environ.get(RUNNER_VARIABLE, "null")) or me
        owner.write_text(json.dumps({"worker": me, "runner": runner}), encoding="utf-8")
        yield folder
    finally:
        lock.release()


def publish(source: Path, target: Path) -> None:
    """Replace the folder `target` by `source` (a finished piece of a workspace).

    The target appears complete or not at all: the copy is made beside it, then renamed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        shutil.copytree(source, part)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(part, target)
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write {show(target)}: {error.strerror or error}; free some disk space, "
            "then run again (finished work is kept)",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def hash_of(*paths: Path) -> str:
    """Return one SHA-256 over the names and contents of files and folders, in a fixed order."""
    digest = hashlib.sha256()
    for path in paths:
        entries = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for entry in entries:
            digest.update(entry.relative_to(path.parent).as_posix().encode())
            digest.update(hashlib.sha256(entry.read_bytes()).digest())
    return digest.hexdigest()
