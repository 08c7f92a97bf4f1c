"""Say why a stage is stale: ``dft deps [STAGE]``.

It hashes the files itself, as DVC does, each once as long as it does not change: importing DVC
takes longer than this takes to answer. What DVC knows of a dependency is one hash; the older
content, from DVC's cache, says more: which module of a closure changed, which file of a folder,
which value of a parameter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from configparser import ConfigParser
from functools import cache
from pathlib import Path
from typing import Any

from dft_lib.repro import digests
from dft_lib.repro.files import write_text
from dft_lib.repro.paths import ROOT, SCRATCH
from dft_lib.repro.yaml_files import read_yaml
from dft_lib.runner.code import Listing
from dft_lib.runner.dvc_files import Stage, read_lock, stages, value_of

CODE = "code"
SHOWN = 6  # names of one kind that are printed


class Memory:
    """Digests of files that did not change since they were read: as DVC, by time, size and inode.

    Parameters
    ----------
    file : pathlib.Path
        Where they are kept; without it, damaged, or written by other code, every file is read.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.code = file, md5_of(Path(digests.__file__)) + md5_of(Path(__file__))
        self.held: dict[str, list[Any]] = {}
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
            if kept["code"] == self.code:
                self.held = dict(kept["files"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self.before = dict(self.held)

    def digest(self, path: Path, make: Callable[[Path], str]) -> str:
        """Return ``make(path)``, from memory if the file is the same."""
        about, key = path.stat(), f"{make.__name__} {path}"
        stamp = [about.st_mtime_ns, about.st_size, about.st_ino]
        if self.held.get(key, [None])[0] != stamp:
            self.held[key] = [stamp, make(path)]
        return self.held[key][1]

    def keep(self) -> None:
        """Write what was learned."""
        if self.held != self.before:
            write_text(self.file, json.dumps({"code": self.code, "files": self.held}))


class RememberedCode(digests.Code):
    """The library, of which only changed files are parsed."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory

    def _digest(self, path: Path, of: Callable[[Path], str]) -> str:
        return self.memory.digest(path, of)


class Study:
    """A work tree, its pipeline, and what its last run left in ``dvc.lock``.

    Parameters
    ----------
    root : pathlib.Path
        The work tree.
    code : dict
        The lines of every file below ``code/`` as they would be written now.
    memory : Memory
        Hashes of files.
    """

    def __init__(self, root: Path, code: Mapping[str, list[str]], memory: Memory) -> None:
        self.root, self.code, self.memory = root, code, memory
        self.chosen = read_yaml(root / "params.yaml")
        self.stages = stages(read_yaml(root / "dvc.yaml"), self.chosen)
        self.lock = read_lock(root / "dvc.lock")
        ignored = root / ".dvcignore"
        lines = ignored.read_text(encoding="utf-8").split() if ignored.exists() else []
        self.ignored = {line.strip("/") for line in lines if not line.startswith("#")}
        self.hash = cache(self._hash)

    def reasons(self) -> dict[str, list[str]]:
        """Return, for every stage that the next ``dvc repro`` may run, why."""
        found: dict[str, list[str]] = {}
        stale: dict[str, str] = {}  # output -> the stale stage that makes it
        for name, stage in self.stages.items():
            why = list(self._why(name, stage))
            for dep in stage.deps:
                makers = [m for out, m in stale.items() if _overlap(out, dep)]
                # what `code` will write is known already
                why += [f"{dep} is made by {m}" for m in makers if m != CODE]
            if why:
                found[name] = list(dict.fromkeys(why))
                stale |= dict.fromkeys(stage.outs, name)
        return found

    def _why(self, name: str, stage: Stage) -> Iterator[str]:
        old = self.lock.get(name)
        if old is None:
            yield "it never ran (dvc.lock does not know it)"
            return
        if " ".join(old["cmd"].split()) != stage.cmd:
            yield f"its command was: {old['cmd']}"
        before = old.get("params", {}).get("params.yaml", {})
        for key in stage.params:
            now = value_of(self.chosen, key)
            if key not in before:
                yield f"params.yaml: {key} is new to it"
            elif before[key] != now:
                yield from (f"params.yaml: {text}" for text in _differences(key, before[key], now))
        known = {entry["path"]: entry["md5"] for entry in old.get("deps", [])}
        for dep in stage.deps:
            if dep not in known:
                yield f"{dep} is new to it"
            elif (now := self.hash(dep)) != known[dep]:
                yield from self._changed(dep, known[dep], now)
        made = {entry["path"]: entry["md5"] for entry in old.get("outs", [])}
        for out in stage.outs if name != CODE else ():
            if out not in made:
                yield f"{out} is a new output"
            elif (now := self.hash(out)) is None:
                yield f"{out} is missing"
            elif now != made[out]:
                yield f"{out} was changed after it was made"

    def _changed(self, path: str, before: str, now: str | None) -> Iterator[str]:
        if now is None:
            yield f"{path} is missing"
            return
        old = self._cached(before)
        if self._is_code(path):
            new = dict(line.split(" ") for line in self._lines(path))
            was = dict(line.split(" ") for line in old.decode().splitlines()) if old else None
        elif before.endswith(".dir"):
            new = self._folder(self.root / path)
            was = {e["relpath"]: e["md5"] for e in json.loads(old)} if old else None
        else:
            yield f"{path} changed"
            return
        if was is None:
            yield f"{path} changed (its older content is not in the cache)"
            return
        for word, names in (
            ("changed", [n for n in new if n in was and new[n] != was[n]]),
            ("new", [n for n in new if n not in was]),
            ("gone", [n for n in was if n not in new]),
        ):
            if names:
                more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                yield f"{path}: {word}: {', '.join(sorted(names)[:SHOWN])}{more}"

    def _is_code(self, path: str) -> bool:
        return path.startswith(f"{CODE}/")

    def _lines(self, path: str) -> list[str]:
        return self.code.get(path.removeprefix(f"{CODE}/"), [])

    def _hash(self, path: str) -> str | None:
        """Return DVC's hash of a file or folder, None if it is not there."""
        if self._is_code(path):
            lines = self._lines(path)
            return _md5(("\n".join(lines) + "\n").encode()) if lines else None
        there = self.root / path
        if there.is_dir():
            folder = sorted(self._folder(there).items())
            entries = [{"md5": md5, "relpath": name} for name, md5 in folder]
            return _md5(json.dumps(entries, sort_keys=True).encode()) + ".dir"
        return self.memory.digest(there, md5_of) if there.exists() else None

    def _folder(self, folder: Path) -> dict[str, str]:
        found = {}
        for path in folder.rglob("*"):
            name = path.relative_to(folder)
            if not self.ignored & {*name.parts} and path.is_file():
                found[name.as_posix()] = self.memory.digest(path, md5_of)
        return found

    @property
    def _cache(self) -> Path:
        config = ConfigParser()
        config.read([self.root / ".dvc" / "config", self.root / ".dvc" / "config.local"])
        return self.root / ".dvc" / config.get("cache", "dir", fallback="cache")

    def _cached(self, md5: str) -> bytes | None:
        path = self._cache / "files" / "md5" / md5[:2] / md5[2:]
        return path.read_bytes() if path.exists() else None


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")


def _differences(key: str, before: Any, now: Any) -> Iterator[str]:
    """Say which values of a parameter group differ, deepest names first told."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in [*before, *(n for n in now if n not in before)]:
            if name not in now:
                yield f"{key}.{name} is gone"
            elif name not in before:
                yield f"{key}.{name} is new: {now[name]}"
            elif before[name] != now[name]:
                yield from _differences(f"{key}.{name}", before[name], now[name])
    else:
        yield f"{key}: {before} -> {now}"


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def md5_of(path: Path) -> str:
    """Return a file's MD5, as DVC does."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def explain(stage: str | None = None, root: Path = ROOT) -> str:
    """Return why stages are stale, a paragraph each.

    Parameters
    ----------
    stage : str, optional
        One stage (``finetune@dft``), or all of a ``foreach`` (``finetune``); by default all.
    root : pathlib.Path
        The work tree.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence, if there is no such stage or a file cannot be read.
    """
    memory = Memory(SCRATCH / "deps.json")
    code = Listing(RememberedCode(memory), read_yaml(root / "params.yaml")).files()
    study = Study(root, code, memory)
    names = [n for n in study.stages if stage in (None, n, n.partition("@")[0])]
    if not names:
        raise ValueError(f"no stage {stage!r}; there are: {', '.join(study.stages)}")
    found = study.reasons()
    memory.keep()
    lines = [[name, *(f"  {why}" for why in found[name])] for name in names if name in found]
    text = "\n".join(line for part in lines for line in part)
    return text or f"{stage or 'everything'} is up to date"
