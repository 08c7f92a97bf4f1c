"""Run the study at another size: ``python -m dft_lib.runner.profiles smoke``.

The work tree is cloned to ``scratch/<profile>/``, ``params.yaml`` with the profile's differences
(`dft_lib.study.profiles`) becomes the clone's ``params.yaml``, and ``dvc repro`` runs there on the
same DVC cache, so a look at another size never touches the default study's lock, results or
figures. ``--show`` prints the merged file instead.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from dft_lib.repro.paths import ROOT, SCRATCH, enter, show
from dft_lib.study import profiles
from dft_lib.study.params import whole

CLONED = ".dft-cloned"  # in a clone: the files that came from the work tree
PUBLISHED = ".dft-published"  # in results/<profile>/: the files that came from a clone


def place_of(profile: Path) -> Path:
    """Return the folder of a profile's clone; one given by its path never shares a named one's."""
    return SCRATCH / (profile.stem if profiles.is_named(profile) else f"path-{profile.stem}")


def clone(text: str, target: Path) -> None:
    """Bring `target` up to date with the work tree, with `text` as its ``params.yaml``.

    The clone keeps what its own earlier runs made (lock, outputs), so an unchanged profile has
    nothing to do.

    Raises
    ------
    ValueError
        If this is no git work tree, or `target` holds something else than a clone.
    """
    if target.exists() and any(target.iterdir()) and not (target / CLONED).exists():
        raise ValueError(
            f"{show(target)} is no clone of a profile: move it away, or give the profile another "
            "name"
        )
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
    before = target / CLONED
    for gone in set(before.read_text("utf-8").split("\n") if before.exists() else []) - {*names}:
        (target / gone).unlink(missing_ok=True)
    before.parent.mkdir(parents=True, exist_ok=True)
    before.touch()
    for name in names:
        source, copy = ROOT / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            shutil.copy2(source, copy)
    before.write_text("\n".join(names), encoding="utf-8")
    chosen = target / "params.yaml"
    if not chosen.exists() or chosen.read_text(encoding="utf-8") != text:
        chosen.write_text(text, encoding="utf-8")
    top = ["git", "rev-parse", "--show-cdup"]
    found = subprocess.run(top, cwd=target, capture_output=True, text=True)
    if found.returncode or found.stdout.strip():  # none, or half of one
        shutil.rmtree(target / ".git", ignore_errors=True)
        subprocess.run(["git", "init", "-q"], cwd=target, check=True)
    cache = subprocess.run(
        ["dvc", "cache", "dir"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    # Relative, so that the whole may move, and no `#` or comma of its path means anything here.
    kept, store = (os.path.relpath(p, target / ".dvc") for p in (cache, ROOT / "store"))
    config = f'[cache]\n    dir = "{kept}"\n[\'remote "store"\']\n    url = "{store}"\n'
    (target / ".dvc" / "config.local").write_text(config, encoding="utf-8")


def run(target: Path) -> None:
    """Run the study in a clone; end this process as a command that fails does."""
    # The clone's own source wins over the installed package.
    environment = {**os.environ, "PYTHONPATH": str(target / "src")}
    pull = ["dvc", "pull", "-r", "store", "data.dvc"]
    if subprocess.run(pull, cwd=target, env=environment).returncode:
        sys.exit(
            f"see above: where {show(target / 'data')} was changed, delete it; where store/ is "
            "damaged, `git checkout store` mends it"
        )
    done = subprocess.run(["dvc", "repro"], cwd=target, env=environment)
    if done.returncode:
        sys.exit(done.returncode)


def publish(target: Path, name: str) -> Path:
    """Copy a clone's results, figures, params and lock to ``results/<name>/``, to be committed.

    Of what is there, only files that were published before are replaced or removed.

    Raises
    ------
    ValueError
        If a file of another origin stands in the way.
    """
    out, listed = ROOT / "results" / name, ROOT / "results" / name / PUBLISHED
    before = set(listed.read_text(encoding="utf-8").splitlines()) if listed.exists() else set()
    files = _results(target)
    foreign = sorted(f for f in files if (out / f).exists() and f not in before)
    if foreign:
        raise ValueError(
            f"{show(out / foreign[0])} was not published by this command: move {show(out)} away "
            "(`git rm -r`, `git mv`), then publish again"
        )
    out.mkdir(parents=True, exist_ok=True)
    listed.write_text("\n".join(sorted(before | set(files))) + "\n", encoding="utf-8")
    for gone in before - set(files):
        if not Path(gone).is_absolute() and ".." not in Path(gone).parts:
            (out / gone).unlink(missing_ok=True)
    for file, source in files.items():
        (out / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(source, out / file)
    listed.write_text("\n".join(sorted(files)) + "\n", encoding="utf-8")
    return out


def _results(target: Path) -> dict[str, Path]:
    """Return what a clone's study made, by its name in ``results/<profile>/``."""
    chosen = whole.load(target / "params.yaml")
    names = [f"{arm}.{kind}" for arm in chosen.arms for kind in ("csv", "json")]
    names += ["metrics.json", "table.csv", "table.md"]
    found = {name: target / chosen.measure.results / name for name in names}
    found["audit.json"] = target / chosen.synthesis.audit_file
    for figure in sorted((target / chosen.figures.out).glob("[!.]*")):
        found[f"figures/{figure.name}"] = figure
    return found | {name: target / name for name in ("params.yaml", "dvc.lock")}


def main() -> None:
    """Clone and run ``dvc repro`` in the clone."""
    enter()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", help="name of a file in profiles/, or the path of another one")
    parser.add_argument("--show", action="store_true", help="print the merged params and stop")
    parser.add_argument(
        "--publish", action="store_true", help="copy results and figures to results/<profile>/"
    )
    arguments = parser.parse_args()
    try:
        profile = profiles.find(arguments.profile)
        values = profiles.merged(profile)
        whole.check(values, profile)
        text = profiles.as_text(values, profile)
        if arguments.show:
            print(text, end="")
            return
        if arguments.publish and not profiles.is_named(profile):
            raise ValueError("only profiles of profiles/ are published: move the file there")
        from dft_lib.runner import checks  # loads PyTorch, which --show does without

        if found := checks.problems(values, profile):
            raise ValueError(checks.listed(found))
        target = place_of(profile)
        clone(text, target)
        run(target)
        if arguments.publish:
            print(f"copied to {show(publish(target, profile.stem))}")
    except (ValueError, FileNotFoundError) as error:
        sys.exit(str(error))
    print(
        f"results are in {show(target / 'results')}, figures in {show(target / 'paper/figures')}"
    )


if __name__ == "__main__":
    main()
