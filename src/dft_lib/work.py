"""Work in progress: a folder per stage and parameters, under a lock, that survives `kill -9`.

``kill -9`` of `dvc` or of the runner leaves the notebook's kernel running. So every workspace
names its owner (the process that works, and those that wait for it); whoever comes next and
finds the lock held by a kernel that nobody waits for ends that kernel and goes on from its files.
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


Identity = list[float]  # [pid, start time]: a pid alone may since belong to another process


def _identity(process: psutil.Process) -> Identity:
    return [process.pid, process.create_time()]


def identity() -> str:
    """Return the identities of this runner and of its ancestors up to `dvc`, as JSON.

    If any of them is gone, nobody waits for the kernel's work any more.
    """
    me = psutil.Process()
    parents = me.parents()
    is_dvc = [any(Path(part).name == "dvc" for part in p.cmdline()[:2]) for p in parents]
    above = parents[: is_dvc.index(True) + 1] if any(is_dvc) else []
    return json.dumps([_identity(p) for p in (me, *above)])


def _alive(identity: Identity) -> bool:
    try:
        process = psutil.Process(int(identity[0]))
        same = abs(process.create_time() - identity[1]) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end_stale(owner: Path) -> bool:
    """End the owner, and its runner, if whoever started them is gone; say whether so."""
    try:
        names = json.loads(owner.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if all(_alive(runner) for runner in names["runners"]):
        return False
    for one in (names["runners"][0], names["worker"]):
        if _alive(one):
            process = psutil.Process(int(one[0]))
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
        me = _identity(psutil.Process())
        runners = json.loads(os.environ.get(RUNNER_VARIABLE, "null")) or [me]
        owner.write_text(json.dumps({"worker": me, "runners": runners}), encoding="utf-8")
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
