"""The attacks of an audit, repeated: ``python benchmarks/attacks.py`` (a clone, no network).

    python benchmarks/attacks.py [--only 1,8] [--list]

An attack is a function that yields what it tried and whether the outcome was right: one sentence
and nothing harmed, or the result that an undisturbed run gives. A traceback, a wrong result and
silence are wrong. Their numbers are those of a review of an earlier version, whose outcomes stand
beside; interruptions are `kills.py`. No network is used; 5 to 15 minutes on two cores.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parents[1]
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
    from dft_lib.study import params

    return params.check(held, Path("params.yaml"))


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


@attack(2, "names that a shell would run", "a shell command ran")
def names(root: Path) -> Iterator[Outcome]:
    """Give arms, recipes and interventions names with a meaning to a shell or a path."""
    for name in ("x; touch pwned", "$(touch pwned)", "`touch pwned`", "../x", "a/b", "", " ",
                 "-rf", "a\nb", "x&y", "ä", "A", "x'y", '"', "*", "."):  # fmt: skip
        held = values()
        held["arms"][name] = dict(held["arms"]["base"])
        yield f"an arm called {name!r}", refused(lambda held=held: check(held))
        for field in ("recipe", "intervention"):
            held = values()
            held["arms"]["base"] = dict(held["arms"]["base"]) | {field: name}
            yield f"{field} {name!r}", refused(lambda held=held: check(held))
    text = (root / "dvc.yaml").read_text(encoding="utf-8")
    commands = [line for line in text.splitlines() if "cmd:" in line]
    yield "no command holds a key", not any("${" in line for line in commands)


@attack(4, "damage that DVC does not see", "silent: 20 of 23 unnoticed, all restored as good")
def stored(root: Path) -> Iterator[Outcome]:
    """Flip a bit of data and of the store, with size and times unchanged; do what verify says."""
    from dft_lib.runner.verify import verify

    rng = random.Random(0)
    yield "nothing is damaged at first", not verify(root).damaged
    work = sorted(p for p in (root / "data").rglob("*") if p.is_file())
    store = sorted(p for p in (root / "store").rglob("*") if p.is_file())
    for path in [*rng.sample(work, 8), *rng.sample(store, 6)]:
        whole = path.read_bytes()
        flip(path, rng)
        found = verify(root).damaged
        yield f"{path.name}: found", any(path.name in what for what in found)
        for mend in found.values():
            command("bash", "-c", mend, cwd=root)
        yield f"{path.name}: mended", not verify(root).damaged and path.read_bytes() == whole


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


@attack(5, "inputs that DVC does not know", "silent, stale")
def inputs(root: Path) -> Iterator[Outcome]:
    """Look whether the pipeline depends on what params name."""
    text = (root / "dvc.yaml").read_text(encoding="utf-8")
    for name in ("base.model", "synthesis.teacher", "real.source", "base.lexicon_folder"):
        yield f"{name} is a dependency", f"- ${{{name}}}" in text


@attack(6, "templates that say nothing", "silent: 15 professions become one prompt")
def templates(root: Path) -> Iterator[Outcome]:
    """Leave out the noun's place, and put it twice."""
    for template in ("a photo", "", "{b}", "{", "{a} {a}", "a photo of {a", "{}{}", "{0}"):
        held = values()
        held["prompts"]["train_templates"] = [template]
        yield f"template {template!r}", refused(lambda held=held: check(held))


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

    from dft_lib.models import pipelines
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
    del pipelines


def trained(root: Path, name: str, rate: float = 1e-3, steps: int = 4) -> Path:
    """Train two seeds for some steps on the fixtures; return the models' folder."""
    import torch

    from dft_lib import stages
    from dft_lib.study import params

    torch.set_num_threads(2)
    study = params.load_profile("smoke")
    base = study.base.model_copy(update={"training_seeds": [0, 1]})
    settings = study.finetune.model_copy(
        update={"learning_rate": rate, "steps": steps, "warmup_steps": 0, "checkpoint_every": 2,
                "out": f"attacks/{name}", "train_batch_size": 4}
    )  # fmt: skip
    fields = {"data": "notebooks/fixtures/synthetic", "train": {}, "recipe": "denoising"}
    stages.train_arm(base, settings, "dft", study.arms["dft"].model_copy(update=fields))
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


@attack(
    12, "pictures from strangers", "EPS started Ghostscript, 16 bits became white, 9 tracebacks"
)
def pictures(root: Path) -> Iterator[Outcome]:
    """Hand over other formats, damaged bytes and huge sizes."""
    import numpy as np
    from PIL import Image

    from dft_lib.image_sets.picture_files import open_picture

    def encoded(image: Image.Image, kind: str) -> bytes:
        stream = io.BytesIO()
        image.save(stream, kind)
        return stream.getvalue()

    small = Image.fromarray(np.full((8, 8, 3), 100, np.uint8))
    for kind in ("EPS", "BMP", "TIFF", "GIF", "PPM", "TGA", "ICO"):
        yield kind, refused(lambda kind=kind: open_picture(encoded(small, kind)))
    png = encoded(small, "PNG")
    for name, data in {"empty": b"", "garbage": b"x" * 99, "cut": png[:40]}.items():
        yield name, refused(lambda data=data: open_picture(data))
    huge = encoded(Image.new("1", (9400, 9400)), "PNG")
    yield "88 megapixels", refused(lambda: open_picture(huge))
    grey = Image.fromarray(np.full((8, 8), 25_700, np.uint16))
    yield "16 bits", bool((open_picture(encoded(grey, "PNG")).pixels == 100).all())


@attack(15, "counts of any origin", "0 crashes of 5,000, a traceback at a long header, 4 silent")
def counts(root: Path) -> Iterator[Outcome]:
    """Fuzz CSV files; a reader may refuse in one sentence or read, and must not crash."""
    from dft_lib.fairness.counts import read_counts

    rng, path = random.Random(3), root.parent / "counts.csv"
    good = "job,woman,man\nnurse,9,1\npilot,2,8\n"
    signs = ['"', ",", ";", "\t", "\0", "\n", "\x1b[31m", "1.000", "-1", "nan", "Total", "é", "%"]
    for number in range(300):
        text = list(good)
        for _ in range(rng.randrange(1, 5)):
            text.insert(rng.randrange(len(text)), rng.choice(signs))
        path.write_text("".join(text), encoding="utf-8")
        try:
            read_counts(path, ["woman", "man"], "job")
        except (ValueError, OSError):
            pass
        except Exception as error:
            yield f"fuzz {number}: {type(error).__name__}", False
            continue
        yield f"fuzz {number}", True
    path.write_text("x" * 200_000 + ",woman,man\na,1,1\n", encoding="utf-8")
    yield "a header of 200,000", refused(lambda: read_counts(path, ["woman", "man"], "job"))


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


@attack(17, "word lists that were edited", "38 edits: symlink loop, stray quotes, a cut file")
def lexicons(root: Path) -> Iterator[Outcome]:
    """Edit the lists as people and editors do."""
    from dft_lib.study import lexicon

    whole = (root / "lexicon" / "professions.csv").read_text(encoding="utf-8")
    lines = whole.splitlines(keepends=True)
    edits = {
        "a stray quote": whole.replace(lines[2], '"' + lines[2]), "cut": whole[: len(whole) // 2],
        "empty": "", "only a header": lines[0], "a row twice": whole + lines[2],
        "a twin by a no-break space": whole + lines[2].replace(" ", "\u00a0", 1).upper(),
        "semicolons": whole.replace(",", ";"), "zero bytes": whole + "\0\n",
    }  # fmt: skip
    for name, text in edits.items():
        folder = root.parent / "lists"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(root / "lexicon", folder)
        (folder / "professions.csv").write_text(text, encoding="utf-8")
        yield name, refused(lambda folder=folder: lexicon.load(folder))
    (folder / "professions.csv").unlink()
    (folder / "professions.csv").symlink_to("professions.csv")
    yield "a link to itself", refused(lambda: lexicon.load(folder))


@attack(18, "a profile by its path", "a foreign README.md was overwritten, results deleted")
def profile_paths(root: Path) -> Iterator[Outcome]:
    """Name profiles by paths."""
    from dft_lib.study import profiles

    for name in ("../params", "../../etc/passwd", "a b", "$(x)", "", "/", "smoke.yml", "nowhere"):
        yield repr(name), refused(lambda name=name: profiles.find(name))


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
