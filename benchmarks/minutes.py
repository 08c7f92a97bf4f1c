"""Minutes per stage of the study: ``python benchmarks/minutes.py [--profile full] [--force]``.

Runs every stage on its own, in pipeline order, and prints a Markdown table. Stages that ran
replace their lines in ``benchmarks/minutes.csv``, which the results table takes its seconds from;
those that were up to date keep theirs. ``measure``, which reads it, and ``figures`` are only
printed.
"""

from __future__ import annotations

import argparse
import datetime
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from dft_lib.evaluation.results_table import MINUTES, read_minutes
from dft_lib.repro.files import write_table
from dft_lib.repro.paths import ROOT
from dft_lib.runner import profiles as clones
from dft_lib.study import profiles

FILE = "benchmarks/minutes.csv"


def stages(tree: Path) -> list[str]:
    listed = subprocess.run(
        ["dvc", "stage", "list", "--name-only"],
        cwd=tree,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    order = ("code", "check", "prompts", "synthesis", "real", "finetune", "evaluate", "measure",
             "figures")  # fmt: skip
    return sorted(listed, key=lambda name: order.index(name.partition("@")[0]))


def machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} CPUs, {names[0] if names else 'unknown'}"


def run(
    name: str, tree: Path, environment: dict[str, str], force: list[str]
) -> tuple[float, bool]:
    """Run one stage; return its minutes and whether it really ran (not skipped, not cached)."""
    start, ran = time.perf_counter(), False
    with subprocess.Popen(
        ["dvc", "repro", "-s", *force, name], cwd=tree, env=environment, text=True,
        stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            ran |= line.startswith("Running stage")
    if process.returncode:
        sys.exit(process.returncode)
    return (time.perf_counter() - start) / 60, ran


def record(path: Path, rows: list[dict[str, object]]) -> None:
    """Replace the lines of the measured stages."""
    new = pd.DataFrame(rows, columns=list(MINUTES))
    old = read_minutes(path)
    old = old[~old["stage"].isin(new["stage"])]
    write_table(path, pd.concat([old, new]) if len(old) else new)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--force", action="store_true", help="run stages that are up to date too")
    parser.add_argument("--profile", help="measure scratch/<profile>/, not the default")
    chosen = parser.parse_args()
    force = ["--force"] if chosen.force else []
    tree, environment = ROOT, dict(os.environ)
    if chosen.profile:
        profile = profiles.find(chosen.profile)
        tree = clones.place_of(profile)
        clones.clone(profiles.as_text(profiles.merged(profile), profile), tree)
        environment["PYTHONPATH"] = str(tree / "src")
        pull = ["dvc", "pull", "-q", "-r", "store", "data.dvc"]
        subprocess.run(pull, cwd=tree, env=environment, check=True)
    about = {"profile": chosen.profile or "default", "machine": machine(),
             "date": datetime.date.today().isoformat()}  # fmt: skip
    total, rows = 0.0, []
    print("| stage | minutes |\n|---|---|")
    for name in stages(tree):
        minutes, ran = run(name, tree, environment, force)
        total += minutes
        print(f"| {name} | {minutes:.1f} |" + ("" if ran else " (up to date)"), flush=True)
        if ran and name not in ("code", "check", "measure", "figures"):
            rows.append({"stage": name, "minutes": round(minutes, 3), **about})
            for root in {ROOT, tree}:
                record(root / FILE, rows)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"| **all** | **{total:.1f}** |\n\nlargest process: {peak:.1f} GiB")


if __name__ == "__main__":
    main()
