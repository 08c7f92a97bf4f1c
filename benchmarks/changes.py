"""What a change touches and what it makes run again, counted in a throw-away clone.

    python benchmarks/changes.py [--only comment,metric] [--list]

The smoke study of two arms runs once in a clone of this commit; then one change after the other is
made as CONTRIBUTING.md says, a change on top of those before. Counted are the files that differ
(`git status`) and the stages that `dvc repro` executes; a second `dvc repro` must execute none.
About 10 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from dft_lib.repro.paths import ROOT
from dft_lib.study import profiles

CHANGES: dict[str, Callable[[Path], None]] = {}
LIBRARY = "src/dft_lib"
METRIC = """\
        Metric(
            "largest_deviation",
            lambda counts, target=None: np.abs(difference(counts, target)).max(-1),
            0, "1 - 1/K", "the group that is furthest from its share", "an example",
        ),
"""
NOTEBOOK = """\
# %% [markdown]
# # 06 Counting
#
# **Question.** How many pictures are there?

# %%
from dft_lib.stages.counting import count
from dft_lib.study.base import smoke_base
from dft_lib.study.params.counting import Counting
from dft_lib.study.schema import gather

# %% tags=["parameters"]
base = smoke_base()
images = "notebooks/fixtures/synthetic/images"
out = "scratch/open/counted.json"

# %%
count(gather(Counting, globals()))
"""
VERB = '''\
"""06: count pictures."""

from dft_lib.repro import shards
from dft_lib.repro.files import write_json
from dft_lib.repro.paths import resolve
from dft_lib.study.params.counting import Counting


def count(settings: Counting) -> None:
    """Count the pictures of a set."""
    files = shards.files(resolve(settings.images))
    write_json(resolve(settings.out), {"images": sum(map(shards.count, files))})
'''
GROUP = '''\
"""The group of 06."""

from dft_lib.study.schema import Group


class Counting(Group):
    """06: what is counted."""

    images: str
    out: str
'''
SHOWN = """\
# %% [markdown]
# # 07 Words
#
# **Question.** How long are the nouns of the study?

# %%
from dft_lib.stages.words import longest
from dft_lib.study.base import Base, smoke_base

# %% tags=["parameters"]
base = smoke_base()

# %%
longest(Base.model_validate(base))
"""
SHOWN_VERB = '''\
"""07: how long the nouns are."""

from dft_lib.study import lexicon
from dft_lib.study.base import Base


def longest(base: Base) -> str:
    """Return the longest noun of the lexicon."""
    return max(lexicon.load(base.lexicon_folder).professions["profession"], key=len)
'''
SHOWN_STAGE = """
  words:
    cmd: python -m dft_lib.runner.notebook 07_words
    params:
      - base
    deps:
      - ${base.lexicon_folder}
      - code/stages/words.txt
    outs:
      - runs/07_words.ipynb
"""
STAGE = """
  counting:
    cmd: python -m dft_lib.runner.notebook 06_counting
    params:
      - base
      - counting
    deps:
      - code/stages/counting.txt
      - synthetic/images
    outs:
      - results/counted.json:
          cache: false
      - runs/06_counting.ipynb
"""


def change(make: Callable[[Path], None]) -> Callable[[Path], None]:
    """Register a change under its function's name."""
    CHANGES[make.__name__] = make
    return make


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text that stands in a file once."""
    text = path.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise SystemExit(f"{path} holds {old!r} {text.count(old)} times: mend this script")
    path.write_text(text.replace(old, new), encoding="utf-8")


def params(root: Path, make: Callable[[dict], None]) -> None:
    """Change the clone's params.yaml, which is JSON here."""
    path = root / "params.yaml"
    values = json.loads(path.read_text(encoding="utf-8"))
    make(values)
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


@change
def comment(root: Path) -> None:
    """Write a comment and a docstring into the module that everything uses."""
    path = root / LIBRARY / "repro" / "files.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n# nothing new\n", encoding="utf-8")


@change
def recipe(root: Path) -> None:
    """Fine-tune from weights that are moved a little: a module and an arm."""
    text = (root / LIBRARY / "recipes" / "denoising.py").read_text(encoding="utf-8")
    made = text.replace("pipeline, chosen = job.fresh(), job.settings",
                        "pipeline, chosen = job.fresh(), job.settings\n"
                        "    pipeline.unet.conv_in.bias.data += 0.001")  # fmt: skip
    (root / LIBRARY / "recipes" / "another.py").write_text(made, encoding="utf-8")

    def add(values: dict) -> None:
        values["arms"]["another"] = values["arms"]["dft"] | {
            "label": "another", "recipe": "another", "shown": 99,
        }  # fmt: skip

    params(root, add)


@change
def rater(root: Path) -> None:
    """Add a copy of a rater under another name: a module and an entry."""
    text = (root / LIBRARY / "raters" / "drawings" / "hog.py").read_text(encoding="utf-8")
    (root / LIBRARY / "raters" / "drawings" / "another.py").write_text(text, encoding="utf-8")
    path = root / LIBRARY / "study" / "raters.yaml"
    entry = "another:\n  kind: another look\n  answers: {gender: [woman, man]}\n"
    path.write_text(path.read_text(encoding="utf-8") + entry + "  module: drawings.another\n",
                    encoding="utf-8")  # fmt: skip


@change
def judge(root: Path) -> None:
    """Change what a judge does (its module)."""
    path = root / LIBRARY / "raters" / "drawings" / "palette.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n\nNOTHING_NEW = 1\n", encoding="utf-8")


@change
def metric(root: Path) -> None:
    """Add the largest deviation of a group: a record."""
    path = root / LIBRARY / "fairness" / "metrics.py"
    first = '        Metric(\n            "normalized_entropy"'
    edit(path, first, METRIC + first)


@change
def stage(root: Path) -> None:
    """Add a stage that counts the pictures of the set: notebook, verb, group of params."""
    (root / "notebooks" / "06_counting.py").write_text(NOTEBOOK, encoding="utf-8")
    (root / LIBRARY / "stages" / "counting.py").write_text(VERB, encoding="utf-8")
    (root / LIBRARY / "study" / "params" / "counting.py").write_text(GROUP, encoding="utf-8")
    whole = root / LIBRARY / "study" / "params" / "whole.py"
    edit(whole, "    figures: Figures\n", "    figures: Figures\n    counting: Counting\n")
    edit(whole, "from dft_lib.study.params.evaluate import Evaluate\n",
         "from dft_lib.study.params.counting import Counting\n"
         "from dft_lib.study.params.evaluate import Evaluate\n")  # fmt: skip
    group = {"images": "synthetic/images", "out": "results/counted.json"}
    params(root, lambda values: values.update(counting=group))
    with (root / "dvc.yaml").open("a", encoding="utf-8") as file:
        file.write(STAGE)


@change
def shown(root: Path) -> None:
    """Add a stage without parameters of its own, that shows a word: notebook, verb, entry."""
    (root / "notebooks" / "07_words.py").write_text(SHOWN, encoding="utf-8")
    (root / LIBRARY / "stages" / "words.py").write_text(SHOWN_VERB, encoding="utf-8")
    with (root / "dvc.yaml").open("a", encoding="utf-8") as file:
        file.write(SHOWN_STAGE)


@change
def age(root: Path) -> None:
    """Add perceived age, two groups: rows of the lexicon, target, raters (stand-ins).

    The emoji world shows no ages, so it cannot be the source of real pictures.
    """
    lexicon = root / "lexicon"
    for name, rows in {
        "attributes.csv": "age,perceived age,{},-4,yes,no,a trial\n",
        "groups.csv": "age,younger,young,,a trial\nage,older,old,,a trial\n",
    }.items():
        with (lexicon / name).open("a", encoding="utf-8") as file:
            file.write(rows)

    def name_it(values: dict) -> None:
        base = values["base"]
        base["target"]["age"] = {"younger": 0.5, "older": 0.5}
        base["steer"]["age"], base["judge"]["age"] = "stand_in_left", "stand_in_right"
        values["real"]["source"] = "photographs"

    params(root, name_it)


def repro(root: Path) -> list[str]:
    """Run `dvc repro`; return the stages that were executed."""
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(["dvc", "repro"], cwd=root, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout[-3000:])
    return re.findall(r"^Running stage '(.+)':", done.stdout, re.M)


def git(root: Path, *line: str) -> list[str]:
    """Run git in the clone; return the lines that it prints."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", *who, *line], cwd=root, check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


def main() -> None:
    """Make the clone, run it, make the changes; print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names of changes, e.g. comment,metric")
    parser.add_argument("--list", action="store_true")
    chosen = parser.parse_args()
    if chosen.list:
        print("\n".join(f"{name:8} {make.__doc__}" for name, make in CHANGES.items()))
        return
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="changes-") as top:
        root = Path(top) / "study"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(root)], check=True)
        shutil.copytree(ROOT / "data", root / "data")
        smoke = profiles.merged(profiles.find("smoke"))
        smoke["arms"] = {name: smoke["arms"][name] for name in ("base", "dft")}
        text = json.dumps(smoke, indent=2)
        (root / "params.yaml").write_text(text + "\n", encoding="utf-8")
        (root / "dvc.lock").unlink(missing_ok=True)
        print(f"undisturbed: {len(repro(root))} stages\n", flush=True)
        print("| change | files | stages run again | then |\n|---|---|---|---|", flush=True)
        for name, make in CHANGES.items():
            if chosen.only and name not in chosen.only.split(","):
                continue
            git(root, "add", "-A")
            git(root, "commit", "-q", "-m", "before")
            make(root)
            touched = [line[3:] for line in git(root, "status", "--porcelain", "-uall")]
            ran, again = repro(root), repro(root)
            wrong += len(again)
            print(f"| {name} | {len(touched)}: {', '.join(touched)} | {len(ran)}: "
                  f"{', '.join(ran)} | {len(again)} |", flush=True)  # fmt: skip
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
