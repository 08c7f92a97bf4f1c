"""Attacks on a study, in a throw-away clone of this commit: how many got through.

    python benchmarks/attacks.py [--only 1,8] [--list]

An attack is a function that yields what it tried and whether the outcome was right: one sentence
and nothing harmed, or the result that an undisturbed run gives. A traceback, a wrong result and
silence are wrong. Their numbers are those of a review of an earlier version, whose outcomes stand
beside; interruptions are `kills.py`. No network is used; 5 to 15 minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import attacks_input  # noqa: F401 (they register themselves)
import attacks_stored  # noqa: F401
from attacking import ATTACKS, Outcome

HERE = Path(__file__).resolve().parents[1]


def inside(only: set[int]) -> None:
    """Run the attacks in the clone that this process stands in; print the table."""
    root, wrong = Path.cwd(), 0
    print("| fault | attack | tried | wrong or silent | before |\n|---|---|---|---|---|")
    for one in sorted(ATTACKS):
        if only and one.fault not in only:
            continue
        outcomes: list[Outcome] = []
        try:
            outcomes += one.run(root)
        except Exception:
            traceback.print_exc()
            outcomes.append(("the attack itself ended in a traceback", False))
        bad = [what for what, right in outcomes if not right]
        wrong += len(bad)
        print(f"| {one.fault} | {one.name} | {len(outcomes)} | {len(bad)} | {one.before} |",
              flush=True)  # fmt: skip
        for what in bad:
            print(f"  wrong: {what}", flush=True)
    sys.exit(1 if wrong else 0)


def main() -> None:
    """Make the clone and go into it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="numbers of faults, e.g. 1,8")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.list:
        print("\n".join(f"{a.fault:3d} {a.name}" for a in sorted(ATTACKS)))
    elif chosen.inside:
        inside({int(n) for n in chosen.only.split(",") if n})
    else:
        with tempfile.TemporaryDirectory(prefix="attacks-") as top:
            clone = Path(top) / "study"
            subprocess.run(["git", "clone", "-q", str(HERE), str(clone)], check=True)
            shutil.copytree(HERE / "data", clone / "data")
            script = clone / "benchmarks" / "attacks.py"
            line = [sys.executable, str(script), "--inside", f"--only={chosen.only}"]
            environment = {**os.environ, "PYTHONPATH": str(clone / "src")}
            sys.exit(subprocess.run(line, cwd=clone, env=environment).returncode)


if __name__ == "__main__":
    main()
