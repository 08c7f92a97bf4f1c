"""Minutes per stage of the study: ``python benchmarks/minutes.py [--force]``.

Runs every stage on its own, in pipeline order, and prints a Markdown table.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

from dft_lib.paths import ROOT


def stages() -> list[str]:
    listed = subprocess.run(
        ["dvc", "stage", "list", "--name-only"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    order = ("prompts", "synthesis", "finetune", "evaluate", "figures")
    return sorted(listed, key=lambda name: order.index(name.partition("@")[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--force", action="store_true", help="run stages that are up to date too")
    force = ["--force"] if parser.parse_args().force else []
    total = 0.0
    print("| stage | minutes |\n|---|---|")
    for name in stages():
        start = time.perf_counter()
        done = subprocess.run(["dvc", "repro", "-q", "-s", *force, name], cwd=ROOT)
        if done.returncode:
            sys.exit(done.returncode)
        minutes = (time.perf_counter() - start) / 60
        total += minutes
        print(f"| {name} | {minutes:.1f} |", flush=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"| **all** | **{total:.1f}** |\n\nlargest process: {peak:.1f} GiB")


if __name__ == "__main__":
    main()
