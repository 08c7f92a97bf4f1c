"""Work in progress: one lock per stage and output, a folder per parameters, safe to `kill -9`.

``kill -9`` of `dvc` or of the runner leaves the notebook's kernel running. So every workspace
names its owner (the process that works, and those that wait for it); whoever comes next and
finds the lock held by a kernel that nobody waits for ends that kernel and goes on from its files.

::

    scratch/<stage>-<hash of its output path>/lock, owner.json
                                             /<hash of parameters, inputs and code>/...

The lock belongs to the output, because two runs with different parameters write the same output.
The inner folder holds finished shards, checkpoints and ``publish/`` while a run is unfinished, and
goes once its result is published: a forced run does its work again. ``publish/`` carries the
stage's marker from the start (`dft_lib.repro.places`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from dft_lib.repro import digests
from dft_lib.repro.files import write_json
from dft_lib.repro.paths import SCRATCH, show
from dft_lib.repro.places import MARKER, made_by, require_publishable

RUNNER_VARIABLE = "DFT_RUNNER"  # set by dft_lib.runner.notebook for the kernel it starts


Identity = list[float]  # [pid, start time]: a pid alone may since belong to another process


def _identity(process: psutil.Process) -> Identity:
    return [process.pid, process.create_time()]


def identity() -> str:
    """Return the identities of this runner and of its ancestors up to `dvc`, as JSON.

    If any of them is gone, nobody waits for the kernel's work any more.
    """
    runner = psutil.Process()
    parents = runner.parents()
    dvc = next((i for i, p in enumerate(parents) if _is_dvc(p)), -1)
    return json.dumps([_identity(p) for p in (runner, *parents[: dvc + 1])])


def me() -> Identity:
    """Return this process's identity."""
    return _identity(psutil.Process())


@contextmanager
def ends_with(owner: Identity, seconds: float = 2.0) -> Iterator[None]:
    """End this process when its owner, or its parent, is gone: nobody will collect its work.

    Whoever starts the work again finds the last checkpoint, and must not find two writers.
    """
    stop, parent = threading.Event(), os.getppid()

    def watch() -> None:
        while not stop.wait(seconds):
            if os.getppid() != parent or not _alive(owner):
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        stop.set()


def _is_dvc(process: psutil.Process) -> bool:
    try:
        return any(Path(part).name == "dvc" for part in process.cmdline()[:2])
    except (psutil.AccessDenied, psutil.NoSuchProcess):  # root's processes, on macOS
        return False


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
        runners, worker = list(names["runners"]), names["worker"]
        if all(_alive(runner) for runner in runners):
            return False
    except (OSError, ValueError, KeyError, TypeError, IndexError):  # damaged: nobody is known
        return False
    for one in (runners[0], worker):
        if _alive(one):
            process = psutil.Process(int(one[0]))
            process.kill()
            process.wait(30)
    return True


@contextmanager
def hold(stage: str, out: Path, key: Any) -> Iterator[Path]:
    """Hold a stage's folder for unfinished work; remove it when the block ends without error.

    What is to be published goes to its folder ``publish``.

    Parameters
    ----------
    stage : str
        Name of the stage (and arm).
    out : pathlib.Path
        Where the stage's result goes; at most one process at a time works for it.
    key : JSON value
        Every parameter and input the result depends on; the library's code is added. Other values
        get another folder, so work under old parameters is never mixed with work under new ones.

    Raises
    ------
    ValueError
        If `out` is not this stage's to replace (`require_publishable`).
    RuntimeError
        If a living run works for the same output.
    """
    require_publishable(out, stage)
    top = SCRATCH / f"{stage}-{_digest(str(out))[:8]}"
    top.mkdir(parents=True, exist_ok=True)
    folder = top / digest_of([key, digests.library().digest()])[:16]
    owner = top / "owner.json"
    lock = FileLock(top / "lock")
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        if not _end_stale(owner):
            raise RuntimeError(
                f"another run is writing {show(out)}: wait for it, or end it, then run again"
            ) from None
        lock.acquire(timeout=30)
    try:
        worker = me()
        runners = json.loads(os.environ.get(RUNNER_VARIABLE, "null")) or [worker]
        owner.write_text(json.dumps({"worker": worker, "runners": runners}), encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for part in folder.rglob(".*.part"):  # half-written files of a killed run
            part.unlink()
        write_json(folder / "publish" / MARKER, {"stage": stage})
        yield folder
        shutil.rmtree(folder)
    finally:
        lock.release()


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value."""
    return _digest(json.dumps(value, sort_keys=True, default=str))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def publish(source: Path, target: Path) -> None:
    """Replace the folder `target` by ``publish`` of a held workspace.

    Raises
    ------
    ValueError
        If `target` is not the stage's to replace, or `source` is no finished piece of a stage.
    OSError
        If it cannot be written.
    """
    stage = made_by(source)
    if stage is None:
        raise ValueError(f"{show(source)} has no {MARKER}: only what a stage made is published")
    require_publishable(target, stage)
    replace(source, target)


def replace(source: Path, target: Path) -> None:
    """Replace the folder `target` by a copy of `source`, whatever `target` holds.

    The target appears complete or not at all: the copy is made beside it, then renamed. The old
    one is moved aside before it is removed, so that a kill leaves it whole or gone.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    left = re.compile(rf"\.{re.escape(target.name)}\.\d+\.(part|old)")
    for entry in target.parent.iterdir():  # of a killed run
        if left.fullmatch(entry.name):
            shutil.rmtree(entry, ignore_errors=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    old = part.with_suffix(".old")
    try:
        shutil.copytree(source, part, copy_function=_copy)
        if target.exists():
            os.replace(target, old)
        os.replace(part, target)
    except OSError as error:
        # copytree collects (source, target, reason) triples; the first one says enough
        collected = error.args[0] if isinstance(error, shutil.Error) else None
        reason = collected[0][2] if collected else error.strerror or error
        raise OSError(
            error.errno or 0,
            f"could not write {show(target)}: {reason}; free some disk space, then run again "
            "(finished work is kept)",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _copy(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    with open(target, "rb") as stream:
        os.fsync(stream.fileno())
