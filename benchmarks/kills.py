"""``kill -9`` in many places of a small study; what is left at the end must be the same bytes.

    python benchmarks/kills.py [--kills 30] [--seed 0] [--arms base,dft]

The smoke profile runs twice in clones of this work tree in a temporary folder: once undisturbed,
once with SIGKILLs at moments drawn evenly over the study's time (so long stages are hit more
often), of one of: the kernel, the runner, dvc, or the whole process group; `dvc repro` is then
started anew. At the end nothing may still run, no half file may lie about, and every output must
be the undisturbed run's, byte for byte. 20 to 30 minutes on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from dft_lib.repro.paths import ROOT
from dft_lib.study import profiles

LOG = "scratch-log"
VICTIMS = ("kernel", "runner", "dvc", "group")
OUTPUTS = ("synthetic", "real", "models", "evaluation", "runs", "results", "paper/figures")


def make_clone(folder: Path, arms: list[str]) -> Path:
    """Clone this commit with smoke values and some arms; its cache is its own."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    shutil.copytree(ROOT / "data", folder / "data")
    whole = profiles.merged(profiles.find("smoke"))
    whole["arms"] = {name: arm for name, arm in whole["arms"].items() if name in arms}
    text = json.dumps(whole, indent=2)  # which is YAML too
    (folder / "params.yaml").write_text(text + "\n", encoding="utf-8")
    (folder / "dvc.lock").unlink(missing_ok=True)
    return folder


def environment(clone: Path) -> dict[str, str]:
    """Return the environment of a clone's own code."""
    return {**os.environ, "PYTHONPATH": str(clone / "src"), "DVC_NO_ANALYTICS": "1"}


def start(clone: Path) -> subprocess.Popen[bytes]:
    """Start `dvc repro` in a process group of its own."""
    log = (clone / LOG).open("ab")
    return subprocess.Popen(
        ["dvc", "repro"], cwd=clone, env=environment(clone), stdout=log, stderr=log,
        start_new_session=True,
    )  # fmt: skip


def of_clone(clone: Path) -> list[psutil.Process]:
    """List the living processes that work for a clone."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(clone) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return found


def choose(clone: Path, dvc: subprocess.Popen[bytes], victim: str) -> int | None:
    """Return the process to kill, None if it does not run just now."""
    if victim in ("dvc", "group"):
        return dvc.pid
    wanted = "ipykernel_launcher" if victim == "kernel" else "dft_lib.runner.notebook"
    for process in of_clone(clone):
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        if any(wanted in part for part in line) and line[0].endswith(("python", "python3.11")):
            return process.pid
    return None


def running(clone: Path, since: int = 0) -> list[str]:
    """Return the stages that `dvc` said it runs, after so many bytes of its log."""
    said = (clone / LOG).read_bytes()[since:].decode(errors="replace")
    return re.findall(r"Running stage '(.+?)'", said)


def watch(clone: Path, dvc: subprocess.Popen[bytes]) -> dict[str, float]:
    """Wait until `dvc` ends; return the seconds of every stage."""
    began: dict[str, float] = {}
    while dvc.poll() is None:
        for name in running(clone):
            began.setdefault(name, time.monotonic())
        time.sleep(0.1)
    ends = [*list(began.values())[1:], time.monotonic()]
    return {name: end - began[name] for name, end in zip(began, ends, strict=True)}


def places(seconds: dict[str, float], kills: int, rng: random.Random) -> list[tuple[str, float]]:
    """Spread kills over the study: stages and seconds into them, in the order of the study."""
    ends = np.cumsum(list(seconds.values()))
    found = []
    for at in sorted(rng.uniform(0, ends[-1]) for _ in range(kills)):
        stage = int(np.searchsorted(ends, at))
        found.append((list(seconds)[stage], at - (ends[stage - 1] if stage else 0)))
    return found


def disturb(clone: Path, planned: list[tuple[str, float]], order: list[str]) -> list[str]:
    """Kill at every planned place and start again, then let the study end; say what was hit.

    Unfinished work is taken up again, so a stage may be over before its moment comes: then the
    process is killed where the study is by then.
    """
    done: list[str] = []
    for number, (stage, delay) in enumerate(planned):
        since = (clone / LOG).stat().st_size if (clone / LOG).exists() else 0
        dvc, wait = start(clone), None
        while dvc.poll() is None:
            now = running(clone, since)
            if wait is None and now and order.index(now[-1]) >= order.index(stage):
                wait = time.monotonic() + (delay if now[-1] == stage else 0.5)
            if wait is not None and time.monotonic() >= wait:
                break
            time.sleep(0.05)
        if dvc.poll() is not None:
            if dvc.returncode:
                raise SystemExit(f"dvc repro failed: see {clone / LOG}")
            break  # the study ended before its last planned places
        victim = VICTIMS[number % len(VICTIMS)]
        pid = choose(clone, dvc, victim)
        if pid is None:  # it is between two processes
            victim, pid = "group", dvc.pid
        if victim == "group":
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
        dvc.wait()
        done.append(f"{victim} in {now[-1] if now else 'the start'}")
        print(f"{len(done):3d} {done[-1]}, {delay:.0f} s into it", flush=True)
    if start(clone).wait():
        raise SystemExit(f"dvc repro failed: see {clone / LOG}")
    return done


def bytes_of(clone: Path) -> dict[str, str]:
    """Return the hash of every output by its path; parts left of a kill are listed too."""
    files = [p for top in OUTPUTS for p in sorted((clone / top).rglob("*")) if p.is_file()]
    return {p.relative_to(clone).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in files}  # fmt: skip


def main() -> None:
    """Run both, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arms", default="base,dft")
    chosen = parser.parse_args()
    rng = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as top:
        clones = [make_clone(Path(top) / name / "study", chosen.arms.split(","))
                  for name in ("whole", "killed")]  # fmt: skip
        whole_run = start(clones[0])
        seconds = watch(clones[0], whole_run)
        if whole_run.returncode:
            print((clones[0] / LOG).read_text(encoding="utf-8")[-3000:])
            raise SystemExit("the undisturbed study failed")
        print(f"undisturbed: {sum(seconds.values()):.0f} s", flush=True)
        done = disturb(clones[1], places(seconds, chosen.kills, rng), list(seconds))
        time.sleep(5)
        stray = of_clone(clones[1])
        whole, killed = (bytes_of(clone) for clone in clones)
        differ = sorted(k for k in whole | killed if whole.get(k) != killed.get(k))
        parts = [k for k in killed if ".part" in k or ".old" in k]
        hit = {v: sum(d.startswith(v) for d in done) for v in VICTIMS}
        print(f"{len(done)} kills: " + ", ".join(f"{n} of the {v}" for v, n in hit.items()))
        print(f"{len(whole)} files compared, {len(differ)} differ, {len(parts)} half files, "
              f"{len(stray)} processes left")  # fmt: skip
        for name in differ:
            print(f"  {name}")
        if differ or parts or stray:
            sys.exit(1)


if __name__ == "__main__":
    main()
