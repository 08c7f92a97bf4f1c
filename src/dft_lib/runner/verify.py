"""Recompute every hash that DVC recorded: ``python -m dft_lib.runner.verify`` (``make verify``).

DVC takes a file whose time and size did not change for unchanged, and an object that lies in its
cache for good, so bits that a disk flipped go unnoticed. Here everything that the locks and
``data.dvc`` name is read and hashed by DVC's own rules: in the work tree, in the cache and in the
store, each file once. What is damaged is listed with the command that mends it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dft_lib.repro.paths import ROOT, enter
from dft_lib.study.schema import read_yaml

LOCKS = ("dvc.lock", "data.dvc", "world/dvc.lock")
FOLDER = ".dir"  # ends the hash of a folder, which is that of the list of its files
_IGNORED = {"__pycache__", ".ipynb_checkpoints"}  # by .dvcignore


@dataclass(frozen=True)
class Entry:
    """A hash in a lock: of what, and which stage made or read it ("" in data.dvc)."""

    path: Path
    md5: str
    stage: str
    out: bool


@dataclass
class Report:
    """What was found.

    Attributes
    ----------
    damaged : dict
        A file that is not what was recorded -> how to mend it; in this order.
    changed : dict
        An input that is not what a stage last read (edited, or damaged) -> the stage.
    missing : dict
        What is in no place (never made here, or never pulled) -> what makes it.
    read : int
        Bytes that were read.
    """

    damaged: dict[str, str] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    read: int = 0


class Hasher:
    """MD5 of files; an inode is read once (a work file may be a link into the cache)."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, int], str] = {}
        self.bar = tqdm(unit="B", unit_scale=True, desc="verify", disable=None)
        self.read = 0

    def file(self, path: Path) -> str:
        """Return the MD5 of a file, "" if it cannot be read."""
        try:
            about = path.stat()
            key = (about.st_dev, about.st_ino)
            if key not in self.seen:
                with path.open("rb") as stream:
                    self.seen[key] = hashlib.file_digest(stream, "md5").hexdigest()
                self.read += about.st_size
                self.bar.update(about.st_size)
        except OSError:
            return ""
        return self.seen[key]

    def files(self, path: Path) -> dict[str, str]:
        """Return the MD5 of every file of a folder by its path there; of a file, by ""."""
        if not path.is_dir():
            return {"": self.file(path)}
        found = [entry.relative_to(path) for entry in path.rglob("*") if entry.is_file()]
        return {e.as_posix(): self.file(path / e) for e in found if not _IGNORED & {*e.parts}}

    def whole(self, path: Path) -> str:
        """Return DVC's hash of a file or folder."""
        found = self.files(path)
        return folder_hash(found) if path.is_dir() else found[""]


def folder_hash(listed: dict[str, str]) -> str:
    """Return DVC's hash of a folder: the MD5 of its list of files, which DVC keeps as JSON."""
    entries = [{"md5": md5, "relpath": name} for name, md5 in sorted(listed.items())]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + FOLDER


def entries_of(lock: Path) -> Iterator[Entry]:
    """List the hashes of a ``dvc.lock`` or a ``.dvc`` file."""
    held: dict[str, Any] = read_yaml(lock)
    for stage, parts in held.get("stages", {"": held}).items():
        for kind in ("deps", "outs"):
            for entry in parts.get(kind, []):
                path = Path(os.path.normpath(lock.parent / entry["path"]))
                if entry.get("md5"):
                    yield Entry(path, entry["md5"], str(stage), kind == "outs")


def places_of(root: Path) -> list[Path]:
    """Return where objects lie: DVC's cache, and the store."""
    store = root / "store"
    said = []
    for command in (["cache", "dir"], ["remote", "list"]):
        done = subprocess.run(["dvc", *command], cwd=root, capture_output=True, text=True)
        said.append(done.stdout.strip())
    for line in said[1].splitlines():
        name, where = (line.split("\t") + [""])[:2]
        if name == "store" and Path(where.strip()).is_absolute():  # a profile's clone
            store = Path(where.strip())
    return [Path(said[0] or root / ".dvc" / "cache"), store]


class Verifier:
    """Compares outputs with their hashes, in the work tree and where objects lie."""

    def __init__(self, root: Path) -> None:
        self.root, self.places = root, places_of(root)
        self.hasher, self.report = Hasher(), Report()

    def name(self, path: Path) -> str:
        """Return a path as it is shown and typed in the root."""
        return shlex.quote(os.path.relpath(path, self.root))

    def copies(self, md5: str) -> dict[Path, bool]:
        """Return the copies of an object and whether each is what its name says."""
        paths = [place / "files" / "md5" / md5[:2] / md5[2:] for place in self.places]
        plain = md5.removesuffix(FOLDER)
        return {path: self.hasher.file(path) == plain for path in paths if path.exists()}

    def listed(self, entry: Entry) -> dict[str, str] | None:
        """Return the hashes of an output's files by name, None if no good list of them is left."""
        if not entry.md5.endswith(FOLDER):
            return {"": entry.md5}
        copies = self.copies(entry.md5)
        good = next((path for path, well in copies.items() if well), None)
        work = self.hasher.files(entry.path) if entry.path.is_dir() else {}
        whole = work if folder_hash(work) == entry.md5 else None
        for path in (path for path, well in copies.items() if not well):
            mend = f"cp -f {self.name(good)} {self.name(path)}" if good else self.again(entry)
            if good is None and whole is not None:
                mend = f"rm -f {self.name(path)} && dvc commit -f {entry.stage or 'data.dvc'}"
            self.report.damaged[f"{self.name(path)}, the list of {self.name(entry.path)}"] = mend
        if good is None:
            return whole
        return {e["relpath"]: e["md5"] for e in json.loads(good.read_text(encoding="utf-8"))}

    def again(self, entry: Entry) -> str:
        """Return how an output is made, or got, again."""
        if not entry.stage:
            return "git checkout -- store && dvc pull -f -r store data.dvc"
        folder = "world/dvc.yaml:" if self.root / "world" in entry.path.parents else ""
        return f"dvc repro -f {folder}{entry.stage}"

    def out(self, entry: Entry) -> None:
        """Compare one output with what was recorded, wherever a copy of it lies."""
        here, again = entry.path.exists(), self.again(entry)
        listed = self.listed(entry)
        if listed is None:
            where = self.report.damaged if here else self.report.missing
            where[self.name(entry.path)] = again
            return
        held = self.hasher.files(entry.path) if here else {}
        anywhere = here
        for inner, md5 in listed.items():
            work = entry.path / inner if inner else entry.path
            copies = self.copies(md5) | ({work: held.get(inner) == md5} if here else {})
            anywhere = anywhere or bool(copies)
            good = next((path for path, well in copies.items() if well), None)
            for path in (path for path, well in copies.items() if not well):
                mend = f"cp -f {self.name(good)} {self.name(path)}" if good else again
                if good is None and work != path:
                    mend = f"rm -f {self.name(path)} && {again}"
                self.report.damaged[f"{self.name(path)} ({self.name(work)})"] = mend
        for inner in sorted(set(held) - set(listed)):
            extra = self.name(entry.path / inner)
            self.report.damaged[f"{extra}, which was not recorded"] = f"rm -f {extra}"
        if not anywhere:
            self.report.missing[self.name(entry.path)] = again

    def input(self, path: Path, entries: list[Entry]) -> None:
        """Compare an input that no stage makes with what stages recorded of it."""
        if not path.exists():
            self.report.missing[self.name(path)] = f"read by {entries[0].stage}"
        elif self.hasher.whole(path) not in {entry.md5 for entry in entries}:
            self.report.changed[self.name(path)] = entries[0].stage


def verify(root: Path = ROOT) -> Report:
    """Read everything that the locks name and compare it with its hash."""
    verifier = Verifier(root)
    found = [e for name in LOCKS if (root / name).exists() for e in entries_of(root / name)]
    outs = {entry.path: entry for entry in found if entry.out}
    for entry in outs.values():
        verifier.out(entry)
    inputs: dict[Path, list[Entry]] = {}
    for entry in found:
        related = {entry.path, *entry.path.parents} & set(outs)
        if not related and not any(entry.path in path.parents for path in outs):
            inputs.setdefault(entry.path, []).append(entry)
    for path, entries in inputs.items():
        verifier.input(path, entries)
    # What a stage makes again it makes of its inputs: they are mended first.
    mends = sorted(verifier.report.damaged.items(), key=lambda item: "dvc repro" in item[1])
    verifier.report.damaged = dict(mends)
    verifier.hasher.bar.close()
    verifier.report.read = verifier.hasher.read
    return verifier.report


def main() -> None:
    """Say what is damaged and how to mend it; end with status 1 if something is."""
    enter()
    report = verify()
    for what, makes in report.missing.items():
        print(f"not here: {what} ({makes})")
    for what, stage in report.changed.items():
        print(f"changed since {stage} read it, by an edit (`git diff` shows it) or damage: {what}")
    for what, mend in report.damaged.items():
        print(f"DAMAGED: {what}\n    {mend}")
    print(f"{report.read / 1e6:.1f} MB read", end=", ")
    if report.damaged:
        sys.exit(
            f"{len(report.damaged)} damaged: run what stands below each, in this order, then "
            "this again"
        )
    print("nothing damaged")


if __name__ == "__main__":
    main()
