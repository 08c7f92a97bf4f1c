"""What the attacks of `attacks.py` share: how one is told, and what counts as a right outcome."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

Outcome = tuple[str, bool]


class Attack(NamedTuple):
    """An attack: the fault's number, what it does, what came of it before, and the function."""

    fault: int
    name: str
    before: str
    run: Callable[[Path], Iterator[Outcome]]


ATTACKS: list[Attack] = []


def attack(fault: int, name: str, before: str) -> Callable[[Any], Any]:
    """Register an attack."""

    def take(run: Callable[[Path], Iterator[Outcome]]) -> Callable[[Path], Iterator[Outcome]]:
        ATTACKS.append(Attack(fault, name, before, run))
        return run

    return take


def refused(call: Callable[[], Any]) -> bool:
    """Say whether a call ends in one sentence."""
    try:
        call()
    except (ValueError, OSError, FloatingPointError, RuntimeError, SystemExit) as error:
        text = str(error)
        return bool(text.strip()) and "\n" not in text.strip() and "Traceback" not in text
    return False


def flip(path: Path, rng: random.Random) -> None:
    """Change one bit, as a disk does: size and times stay."""
    about, data = path.stat(), bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.chmod(0o644)
    path.write_bytes(data)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def command(*line: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a clone."""
    environment = {**os.environ, "PYTHONPATH": str(cwd / "src")} | more
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True)


def values() -> dict[str, Any]:
    """Return the values of params.yaml."""
    from dft_lib.study.schema import read_yaml

    return read_yaml(Path("params.yaml"))


def check(held: dict[str, Any]) -> Any:
    """Check changed parameters, as every stage does before it works."""
    from dft_lib.study.params import whole

    return whole.check(held, Path("params.yaml"))
