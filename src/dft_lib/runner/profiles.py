"""Run the study at another size: ``python -m dft_lib.runner.profiles smoke``.

The work tree is cloned to ``scratch/<profile>/``, the profile becomes the clone's ``params.yaml``,
and ``dvc repro`` runs there on the same DVC cache, so a look at another size never touches the
default study's lock, results or figures.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from dft_lib.repro.paths import ROOT, SCRATCH, enter, show
from dft_lib.study import params


def clone(profile: Path, target: Path) -> None:
    """Bring `target` up to date with the work tree, with `profile` as its ``params.yaml``.

    The clone keeps what its own earlier runs made (lock, outputs), so an unchanged profile has
    nothing to do.
    """
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout.split("\0")  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(
            f"{show(ROOT)} is no git work tree, which a profile's clone is made from: use "
            "`git clone` instead of an archive"
        ) from error
    own = ("params.yaml", "dvc.lock", "results/", "paper/figures/", "store/")
    names = [n for n in listed if n and not n.startswith(own) and (ROOT / n).is_file()]
    before = target / ".dft-cloned"
    for gone in set(before.read_text("utf-8").split("\n") if before.exists() else []) - {*names}:
        (target / gone).unlink(missing_ok=True)
    for name in names:
        source, copy = ROOT / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            shutil.copy2(source, copy)
    before.write_text("\n".join(names), encoding="utf-8")
    text = profile.read_bytes()
    if not (target / "params.yaml").exists() or (target / "params.yaml").read_bytes() != text:
        (target / "params.yaml").write_bytes(text)
    if not (target / ".git").exists():
        subprocess.run(["git", "init", "-q"], cwd=target, check=True)
    cache = subprocess.run(
        ["dvc", "cache", "dir"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    config = f"[cache]\n    dir = {cache}\n['remote \"store\"']\n    url = {ROOT / 'store'}\n"
    (target / ".dvc" / "config.local").write_text(config, encoding="utf-8")


def publish(target: Path, name: str) -> Path:
    """Copy a clone's results, figures, params and lock to ``results/<name>/``, to be committed."""
    out = ROOT / "results" / name
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(target / "results", out, ignore=shutil.ignore_patterns(".gitignore"))
    shutil.copytree(target / "paper" / "figures", out / "figures",
                    ignore=shutil.ignore_patterns(".gitignore"))  # fmt: skip
    for name in ("params.yaml", "dvc.lock"):
        shutil.copy2(target / name, out / name)
    return out


def main() -> None:
    """Clone and run ``dvc repro`` in the clone."""
    enter()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", help="name of a file in profiles/, without .yaml")
    parser.add_argument(
        "--publish", action="store_true", help="copy results and figures to results/<profile>/"
    )
    arguments = parser.parse_args()
    name = arguments.profile
    profile = ROOT / "profiles" / f"{name}.yaml"
    if not profile.exists():
        there = ", ".join(sorted(p.stem for p in (ROOT / "profiles").glob("*.yaml")))
        sys.exit(f"there is no {show(profile)}; profiles are: {there}")
    try:
        params.load(profile)
    except ValueError as error:
        sys.exit(str(error))
    target = SCRATCH / name
    try:
        clone(profile, target)
    except ValueError as error:
        sys.exit(str(error))
    # The clone's own source wins over the installed package.
    environment = {**os.environ, "PYTHONPATH": str(target / "src")}
    for command in (["dvc", "pull", "-q", "-r", "store", "data.dvc"], ["dvc", "repro"]):
        done = subprocess.run(command, cwd=target, env=environment)
        if done.returncode:
            sys.exit(done.returncode)
    if arguments.publish:
        print(f"copied to {show(publish(target, name))}")
    print(
        f"results are in {show(target / 'results')}, figures in {show(target / 'paper/figures')}"
    )


if __name__ == "__main__":
    main()
