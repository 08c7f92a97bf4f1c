"""``kill -9`` in many places of a small study; what is left at the end must be the same bytes.

    python benchmarks/kills.py [--kills 30] [--seed 0] [--arms base,dft]

The smoke profile runs twice in clones of this work tree in a temporary folder: once undisturbed,
once with a SIGKILL again and again, after a random time, of one of: the kernel, the runner, dvc,
or the whole process group; `dvc repro` is then started anew. At the end nothing may still run, no
half file may lie about, and every output must be the undisturbed run's, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from dft_lib.repro.paths import ROOT
from dft_lib.study import profiles

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
    log = (clone / "scratch-log").open("ab")
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


def disturb(clone: Path, kills: int, seconds: float, rng: random.Random) -> list[str]:
    """Kill and start again until `kills` are done, then let the study end; say what was hit."""
    done: list[str] = []
    for restart in range(10 * kills + 1):
        dvc = start(clone)
        if len(done) < kills:
            wait = rng.uniform(0.5, seconds / max(kills, 1) * 1.5 + 8)
            deadline = time.monotonic() + wait
            while time.monotonic() < deadline and dvc.poll() is None:
                time.sleep(0.05)
            victim = VICTIMS[(len(done) + restart) % len(VICTIMS)]
            pid = choose(clone, dvc, victim) if dvc.poll() is None else None
            if pid is not None:
                if victim == "group":
                    os.killpg(pid, signal.SIGKILL)
                else:
                    os.kill(pid, signal.SIGKILL)
                done.append(f"{victim} after {wait:.0f} s")
                print(f"{len(done):3d} {done[-1]}", flush=True)
            elif dvc.poll() is None:
                os.killpg(dvc.pid, signal.SIGKILL)  # it was between two processes
            if dvc.wait() == 0:
                return done  # the study ended before it was hit often enough
            continue
        if dvc.wait():
            raise SystemExit(f"dvc repro failed: see {clone}/scratch-log")
        return done
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
        began = time.monotonic()
        if start(clones[0]).wait():
            print((clones[0] / "scratch-log").read_text(encoding="utf-8")[-3000:])
            raise SystemExit("the undisturbed study failed")
        seconds = time.monotonic() - began
        print(f"undisturbed: {seconds:.0f} s", flush=True)
        done = disturb(clones[1], chosen.kills, seconds, rng)
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
