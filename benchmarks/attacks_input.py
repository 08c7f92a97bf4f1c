"""Attacks by what a study is given: parameters, pictures, tables, word lists, profiles."""

from __future__ import annotations

import io
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from attacking import Outcome, attack, check, refused, values


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
