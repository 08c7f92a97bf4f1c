"""Attacks on what a study writes, keeps and goes on from."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attacking import Outcome, attack, check, command, flip, refused, values


@attack(1, "an output folder that is not the stage's", "data loss: a clone, a folder, a disk")
def outputs(root: Path) -> Iterator[Outcome]:
    """Name every kind of folder as the output; by params, and past them."""
    from dft_lib.repro import workspace
    from dft_lib.repro.paths import resolve

    foreign = root.parent / "foreign"
    foreign.mkdir()
    (foreign / "thesis").write_text("years", encoding="utf-8")
    (root / "mine").mkdir()
    (root / "mine" / "notes").write_text("mine", encoding="utf-8")
    (root / "link").symlink_to(foreign)
    places = ["", ".", "..", "../foreign", "/", str(foreign), str(root), "link", "src", "lexicon",
              "notebooks", "data", "data/tiny-sd", "world", ".git", ".git/refs", ".dvc", "results",
              "mine", "real/../src", "store", "tests"]  # fmt: skip
    before = command("git", "status", "--porcelain", cwd=root).stdout

    def publish(place: str) -> None:
        out = resolve(place)
        with workspace.hold("real", out, {}) as folder:
            (folder / "publish" / "x").write_text("x", encoding="utf-8")
            workspace.publish(folder / "publish", out)

    for place in places:
        yield f"publish to {place!r}", refused(lambda place=place: publish(place))
    for place in ("", ".", "..", "/", str(foreign), "a/../.."):
        for group, field in (("real", "out"), ("finetune", "out"), ("prompts", "out"),
                             ("measure", "results"), ("synthesis", "audit_file")):  # fmt: skip
            held = values()
            held[group][field] = place
            yield f"{group}.{field} is {place!r}", refused(lambda held=held: check(held))
    yield "the clone is whole", command("git", "status", "--porcelain", cwd=root).stdout == before
    yield "the foreign folder is whole", (foreign / "thesis").read_text() == "years"
    publish("fresh/images")
    publish("fresh/images")
    yield "its own folder is replaced", (root / "fresh/images/x").exists()


@attack(4, "damage that DVC does not see", "silent: 20 of 23 unnoticed, all restored as good")
def stored(root: Path) -> Iterator[Outcome]:
    """Flip a bit of data and of the store, with size and times unchanged; do what verify says."""
    from dft_lib.runner.verify import verify

    rng = random.Random(0)
    yield "nothing is damaged at first", not verify(root).damaged
    work = sorted(p for p in (root / "data").rglob("*") if p.is_file())
    store = sorted(p for p in (root / "store").rglob("*") if p.is_file())
    chosen = [*rng.sample(work, 8), *rng.sample(store, 6)]
    whole = {path: path.read_bytes() for path in chosen}
    for path in chosen:
        flip(path, rng)
    found = verify(root).damaged
    for path in chosen:
        # where the list of a folder's files is damaged too, the folder is named as a whole
        yield f"{path.name}: found", any(path.name in w or w == "data" for w in found)
    for mend in found.values():
        command("bash", "-c", mend, cwd=root)
    yield "nothing is damaged any more", not verify(root).damaged
    for path in chosen:
        yield f"{path.name}: mended", path.read_bytes() == whole[path]


@attack(3, "a damaged store", "silent: `make data` ended well")
def pulled(root: Path) -> Iterator[Outcome]:
    """Flip bits of the store's weights, then pull into an empty clone."""
    rng = random.Random(1)
    top = root.parent / "pulls"
    objects = sorted((p for p in (root / "store").rglob("*") if p.is_file()),
                     key=lambda p: -p.stat().st_size)[:2]  # fmt: skip
    for number, path in enumerate(objects):
        clone = top / str(number)
        subprocess.run(["git", "clone", "-q", str(root), str(clone)], check=True)
        target = clone / path.relative_to(root)
        if number:
            target.write_bytes(target.read_bytes()[:-100])
        else:
            flip(target, rng)
        done = command("dvc", "pull", "-r", "store", "data.dvc", cwd=clone)
        yield f"pull of {path.name[:8]}: refused", done.returncode != 0
        yield "and its reason said", bool(done.stderr.strip())


@attack(7, "another clone's code", "it read A's params and wrote into A")
def clones(root: Path) -> Iterator[Outcome]:
    """Run a stage of one clone with the library of another."""
    other = root.parent / "other clone"
    subprocess.run(["git", "clone", "-q", str(root), str(other)], check=True)
    done = command(sys.executable, "-m", "dft_lib.runner.notebook", "01_prompts", cwd=other,
                   PYTHONPATH=str(root / "src"))  # fmt: skip
    yield "refused", done.returncode != 0 and "Traceback" not in done.stderr
    yield "nothing is written into the first", not (root / "synthetic").exists()


@attack(
    11, "numbers that are not finite", "silent: 128 of 128 tensors not finite, results written"
)
def not_finite(root: Path) -> Iterator[Outcome]:
    """Train at absurd rates, draw with broken weights."""
    import torch

    from dft_lib.sampling.sampler import pixels

    for rate in (1e38, 3e38):
        yield f"rate {rate:g}, one step", refused(lambda rate=rate: trained(root, "nan", rate, 1))
    for rate in ("inf", "nan"):
        held = values()
        held["finetune"]["learning_rate"] = float(rate)
        yield f"rate {rate}", refused(lambda held=held: check(held))
    for value in (float("nan"), float("inf"), -float("inf")):
        broken = torch.zeros(1, 3, 8, 8)
        broken[0, 0, 0, 0] = value
        yield f"a pixel of {value}", refused(lambda broken=broken: pixels(broken))


def trained(root: Path, name: str, rate: float = 1e-3, steps: int = 4) -> Path:
    """Train two seeds for some steps on the fixtures; return the models' folder."""
    import torch

    from dft_lib.stages.finetune import train_arm
    from dft_lib.study.params import whole

    torch.set_num_threads(2)
    study = whole.load_profile("smoke")
    base = study.base.model_copy(update={"training_seeds": [0, 1]})
    settings = study.finetune.model_copy(
        update={"learning_rate": rate, "steps": steps, "warmup_steps": 0, "checkpoint_every": 2,
                "out": f"attacks/{name}", "train_batch_size": 4}
    )  # fmt: skip
    fields = {"data": "notebooks/fixtures/synthetic", "train": {}, "recipe": "denoising"}
    train_arm(base, settings, "dft", study.arms["dft"].model_copy(update=fields))
    return root / "attacks" / name / "dft"


@attack(8, "damage in scratch/ of an interrupted run", "22 tried: 7 silent, 11 stopped for ever")
def scratch(root: Path) -> Iterator[Outcome]:
    """Interrupt a training in its second model, damage what it left, go on."""
    from dft_lib.repro import seals
    from dft_lib.training import loop

    whole = seals.hash_of(trained(root, "whole"))
    rng = random.Random(2)

    class Killed(Exception):
        pass

    def interrupted() -> Path:
        calls, save = [], loop.save_training_state

        def dies(*arguments: Any) -> None:
            save(*arguments)
            calls.append(1)
            if len(calls) == 3:  # the second model's first checkpoint
                raise Killed

        loop.save_training_state = dies  # type: ignore[attr-defined]
        shutil.rmtree(root / "attacks" / "whole", ignore_errors=True)
        try:
            trained(root, "whole")
        except Killed:
            pass
        finally:
            loop.save_training_state = save  # type: ignore[attr-defined]
        return next((root / "scratch").glob("finetune-dft-*/*/publish")).parent

    def one(folder: Path, pattern: str) -> Path:
        return next(folder.glob(pattern))

    weights, state = "publish/seed-0/*.safetensors", "seed-1/*.state.safetensors"
    latents = root / "scratch" / "latents"
    damages: dict[str, Callable[[Path], Any]] = {
        "a finished model's bit": lambda f: flip(one(f, weights), rng),
        "a finished model missing": lambda f: one(f, weights).unlink(),
        "a finished model cut": lambda f: os.truncate(one(f, weights), 1000),
        "its manifest garbage": lambda f: one(f, "publish/seed-0/manifest.json").write_text("{"),
        "its log garbage": lambda f: one(f, "seed-0/log.parquet").write_bytes(b"x"),
        "its seal garbage": lambda f: one(f, "seed-0/made.sha256").write_bytes(b"\xff"),
        "a checkpoint's bit": lambda f: flip(one(f, state), rng),
        "a checkpoint cut": lambda f: os.truncate(one(f, state), 5000),
        "a checkpoint empty": lambda f: os.truncate(one(f, state), 0),
        "latents zeroed": lambda f: os.truncate(one(latents, "*.npy"), 0) or os.truncate(
            one(latents, "*.npy"), 100_000),
        "latents' bit": lambda f: flip(one(latents, "*.npy"), rng),
        "latents' seal gone": lambda f: one(latents, "*.sha256").unlink(),
        "the marker gone": lambda f: (f / "publish" / ".dft-made").unlink(),
        "the owner garbage": lambda f: (f.parent / "owner.json").write_text("{}"),
    }  # fmt: skip
    for name, damage in damages.items():
        damage(interrupted())
        try:
            right = seals.hash_of(trained(root, "whole")) == whole
        except Exception as error:
            print(f"  {name}: {type(error).__name__}: {error}")
            right = False
        yield name, right


@attack(16, "odd environments", "a traceback at a long TMPDIR, another hash by MPLBACKEND")
def environments(root: Path) -> Iterator[Outcome]:
    """Run notebook 01 under a long TMPDIR and a reader's matplotlib settings."""
    long = root.parent / ("t" * 120)
    long.mkdir()
    made = []
    for more in ({}, {"TMPDIR": str(long)}, {"MPLBACKEND": "agg", "PYTHONOPTIMIZE": "2"}):
        done = command(
            sys.executable, "-m", "dft_lib.runner.notebook", "01_prompts", cwd=root, **more
        )
        copy = root / "runs" / "01_prompts.ipynb"
        made.append(copy.read_bytes() if not done.returncode else done.stderr.encode())
        yield f"{list(more) or 'plain'}", made[-1] == made[0] and not done.returncode


@attack(19, "no room left, a killed kernel", "a traceback without a word of disk or memory")
def room(root: Path) -> Iterator[Outcome]:
    """Ask for more than any disk has; kill the kernel from inside."""
    from dft_lib.repro.files import require_room

    yield "an exabyte", refused(lambda: require_room(root, 10**18))
    shutil.copy(root / "notebooks" / "01_prompts.py", root.parent / "kept.py")
    path = root / "notebooks" / "01_prompts.py"
    with path.open("a", encoding="utf-8") as file:
        file.write("\n# %%\nimport os\n\nos.kill(os.getpid(), 9)\n")
    done = command(sys.executable, "-m", "dft_lib.runner.notebook", "01_prompts", cwd=root)
    shutil.copy(root.parent / "kept.py", path)
    said = done.stderr
    yield "a killed kernel", "memory" in said and "disk" in said and "Traceback" not in said
