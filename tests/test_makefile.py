"""From `git clone` to the first notebook: the Makefile, in stand-in clones and environments."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dft_lib.repro.paths import ROOT
from dft_lib.runner import environment

COPIED = ["Makefile", "pyproject.toml", "requirements.lock", "requirements-photos.lock",
          "requirements-ray.lock", "src/dft_lib/runner/environment.py"]  # fmt: skip
# What an environment's python and dvc do here: write down what they are asked for.
PYTHON = """\
#!/bin/bash
if [ "$2" = pip ]; then echo "pip: ${*:3}" >> "$LOG"; exit "${PIP_STATUS:-0}"; fi
if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$(dirname "$0")/dvc" "$3/bin/"
  mv "$3/bin/$(basename "$0")" "$3/bin/python" 2>/dev/null; exit 0; fi
if [ "$1" = -I ]; then exec "$REAL" "$@"; fi
echo "python: $*" >> "$LOG"
"""
DVC = """\
#!/bin/bash
echo "dvc: $* in $PWD with $PYTHONPATH" >> "$LOG"
[ -z "$DVC_SAYS" ] || { echo "$DVC_SAYS" >&2; exit 1; }
"""


def programs(folder: Path, **texts: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in texts.items():
        path = folder / name.replace("_", ".")
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    return folder


class Clone:
    """A stand-in clone: the Makefile and what it reads."""

    def __init__(self, top: Path, name: str = "clone", git: bool = True) -> None:
        self.top, self.root, self.log = top, top / "clones" / name, top / "log"
        for path in COPIED:
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, self.root / path)
        if git:
            subprocess.run(["git", "init", "-q"], cwd=self.root, check=True)
        self.bin = programs(top / "bin", python3_11=PYTHON, dvc=DVC)
        os.symlink(self.bin / "python3.11", self.bin / "python")

    def make(self, *arguments: str, **variables: str) -> tuple[int, str, list[str]]:
        """Return exit status, output, and what python and dvc were asked for."""
        self.log.unlink(missing_ok=True)
        plain = {
            "PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.top), "LOG": str(self.log),
            "REAL": sys.executable, "LC_ALL": "C.UTF-8",
            "GIT_CEILING_DIRECTORIES": str(self.top.parent),
        }  # fmt: skip
        done = subprocess.run(
            ["make", *arguments], cwd=self.root, env=plain | variables, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        asked = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        return done.returncode, done.stdout, asked


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path)


ODD = ["my study", "it's", 'say "hi"', "a$HOME$b", "a${b}(c)", "#1", "a;b&c|d", "a`b`", "ünïcödé",
       "a%b*c?", "a\\b", "-a", "a=b,c"]  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_any_folder_will_do(tmp_path, name):
    clone = Clone(tmp_path, name)
    status, said, asked = clone.make("data")
    assert status == 0, said
    assert asked[-1] == f"dvc: pull -r store data.dvc in {clone.root} with {clone.root}/src"
    assert (clone.root / ".venv" / ".dft-installed").exists()
    assert [p.name for p in clone.root.parent.iterdir()] == [name]  # nothing beside the clone
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bin", "clones", "log"]


@pytest.mark.parametrize("name", ODD)
def test_an_environment_in_any_folder_will_do(clone, name):
    shutil.copytree(clone.bin, clone.top / name / "bin", symlinks=False)
    variables = {"VIRTUAL_ENV": str(clone.top / name)}
    status, said, asked = clone.make("data", **variables)
    assert status == 0, said
    assert (clone.top / name / ".dft-installed").exists() and asked[-1].startswith("dvc: pull")
    assert not (clone.root / ".venv").exists()


def test_a_colon_ends_a_path(tmp_path, clone):
    for colon, variables in (
        (Clone(tmp_path / "2", "a:b"), {}),
        (clone, {"VIRTUAL_ENV": str(tmp_path / "a:b")}),
    ):
        status, said, asked = colon.make("data", **variables)
        assert status and "a colon in the path" in said and not asked
        assert not (colon.root / ".venv").exists()


@pytest.mark.parametrize(
    "target", ["data", "repro", "repro PROFILE=smoke", "test", "lab", "world"]
)
def test_an_archive_without_git_says_so_first(tmp_path, target):
    clone = Clone(tmp_path, git=False)
    status, said, asked = clone.make(*target.split())
    assert status and "no git clone of its own" in said and "git init" in said
    assert not asked and not (clone.root / ".venv").exists()


def test_an_archive_in_another_repository_says_so_too(tmp_path):
    clone = Clone(tmp_path, git=False)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    status, said, asked = clone.make("data")
    assert status and "no git clone of its own" in said and not asked


def test_photos_need_no_git(tmp_path):
    status, said, asked = Clone(tmp_path, git=False).make("photos")
    assert status == 0 and asked[-1].endswith("-r requirements-photos.lock"), said


def test_a_work_tree_is_a_clone(clone):
    run = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*run, "add", "Makefile"], cwd=clone.root, check=True)
    subprocess.run([*run, "commit", "-qm", "a"], cwd=clone.root, check=True)
    other = clone.top / "other"
    subprocess.run([*run, "worktree", "add", "-q", str(other)], cwd=clone.root, check=True)
    for path in COPIED:
        (other / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, other / path)
    clone.root = other
    assert clone.make("data")[0] == 0


def test_pull_keeps_its_reasons_and_adds_advice(clone):
    status, said, _ = clone.make("data", DVC_SAYS="ERROR: the store is on fire")
    assert status and "ERROR: the store is on fire" in said
    assert "dvc checkout -f data.dvc" in said and "git checkout store" in said


def test_installing_once_from_hashes(clone):
    _, _, asked = clone.make("data")
    installs = [line for line in asked if line.startswith("pip: install")]
    assert len(installs) == 3
    assert re.search(r" --no-deps torch==[0-9.]+$", installs[0])  # a CPU build, where there is one
    assert "--require-hashes --no-deps -r requirements.lock" in installs[1]
    assert installs[2].endswith("--no-build-isolation -e .")
    assert not [line for line in clone.make("data")[2] if line.startswith("pip")]
    with (clone.root / "requirements.lock").open("a", encoding="utf-8") as lock:
        lock.write("# a change\n")
    assert [line for line in clone.make("data")[2] if line.startswith("pip")]


def test_a_failed_installation_is_tried_again(clone):
    status, said, asked = clone.make("data", PIP_STATUS="1")
    assert status and len(asked) == 1, said
    assert len(clone.make("data")[2]) == 4


def test_condas_base_is_left_alone(clone):
    base = clone.top / "conda"
    shutil.copytree(clone.bin, base / "bin")
    clone.make("data", CONDA_PREFIX=str(base), CONDA_DEFAULT_ENV="base")
    assert not (base / ".dft-installed").exists()
    assert (clone.root / ".venv" / ".dft-installed").exists()
    clone.make("data", CONDA_PREFIX=str(base), CONDA_DEFAULT_ENV="dft")
    assert (base / ".dft-installed").exists()


def test_no_python(clone):
    status, said, _ = clone.make("data", PYTHON="/no/python3.11")
    assert status and "make PYTHON=/path/to/python3.11" in said


def test_an_environment_without_pip(clone):
    folder = clone.top / "v"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    status, said, asked = clone.make("data", VIRTUAL_ENV=str(folder))
    assert status and "has no pip" in said and "ensurepip" in said and "--seed" in said
    assert "Traceback" not in said and not asked


@pytest.mark.parametrize(
    ("python", "pip", "sentence"),
    [
        ((3, 11, 5), "22.3", ""), ((3, 12, 9), "26.1.2", ""), ((3, 11, 9), "26.dev0", ""),
        ((3, 10, 13), "24.0", "has Python 3.10.13, and the locks need 3.11.5 to 3.12"),
        ((3, 11, 4), "24.0", "has Python 3.11.4"), ((3, 13, 0), "24.0", "has Python 3.13.0"),
        ((4, 0, 0), "24.0", "has Python 4.0.0"), ((2, 7, 18), None, "has Python 2.7.18"),
        ((3, 11, 9), None, "has no pip"), ((3, 11, 9), "20.3.4", "pip 20.3.4, which is too old"),
        ((3, 11, 9), "9.0.1", "install --upgrade pip"),
    ],
)  # fmt: skip
def test_environments_that_cannot_take_the_locks(python, pip, sentence):
    said = environment.complaint(python, pip, "/there")
    assert sentence in said and said.startswith("/there has") == bool(sentence)
    assert "\n" not in said


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = ".".join(map(str, environment.OLDEST))
    after = f"{environment.NEWEST[0]}.{environment.NEWEST[1] + 1}"
    assert project["requires-python"] == f">={oldest},<{after}"


def test_bare_make_lists_every_target(clone):
    status, said, asked = clone.make()
    assert status == 0 and not asked
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    listed = re.findall(r"^make (\w+) +\S", said, re.M)
    targets = re.search(r"^\.PHONY: (.*)", text, re.M)[1].split()
    assert sorted(listed) == sorted(set(targets) - {"clone"})
    assert max(map(len, said.splitlines())) <= 99


def test_every_line_goes_through_a_shell():
    """For make 3.81; and nothing of later releases is used."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^SHELL := /bin/bash$", text, re.M)
    for later in (".ONESHELL", "!=", "$(file", "undefine ", "private ", "::=", "&:"):
        assert later not in text, later


def test_clean_leaves_data_and_cache(clone):
    for name in ("scratch", "runs", "synthetic", "models", "evaluation", "real", "data", ".dvc"):
        (clone.root / name).mkdir()
    assert clone.make("clean")[0] == 0
    left = {p.name for p in clone.root.iterdir()}
    assert {"data", ".dvc"} <= left
    assert not {"scratch", "runs", "synthetic", "models", "evaluation", "real"} & left


def test_every_pin_has_hashes():
    for name in ("requirements", "requirements-photos", "requirements-ray"):
        text = (ROOT / f"{name}.lock").read_text(encoding="utf-8")
        pins = re.split(r"^(?=[A-Za-z0-9])", re.sub(r"^#.*\n", "", text, flags=re.M), flags=re.M)
        assert len(pins) > 2
        for pin in pins[1:]:
            first, *hashes = pin.replace("\\\n", "").split()
            assert re.fullmatch(r"[a-z0-9.-]+==[^+;]+", first), first
            assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", h) for h in hashes)
    cpu = re.search(r"^TORCH_CPU := (\w{64})$", (ROOT / "Makefile").read_text("utf-8"), re.M)[1]
    assert f"--hash=sha256:{cpu}" in (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_line_endings_are_those_that_were_hashed(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(ROOT / ".gitattributes", source)
    text, own = b"a\nb\n", b"a\r\nb\r\n"
    for name in ("a.py", "a.csv", "a.yaml", "a.md", "a.json", "a.lock", "a.mplstyle", "a.ipynb",
                 "a.dvc", "Makefile", "a.new"):  # fmt: skip
        (source / name).write_bytes(text)
    foreign = ["store/files/md5/aa/bb", "tests/cases/hand-over/csv/a.csv", "a.pdf", "a.png",
               "a.parquet", "a.safetensors"]  # fmt: skip
    for name in foreign:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(own)
    git = ["git", "-c", "core.autocrlf=true", "-c", "user.name=a", "-c", "user.email=a@b",
           "-c", "core.safecrlf=false"]  # fmt: skip
    subprocess.run([*git, "init", "-q"], cwd=source, check=True)
    subprocess.run([*git, "add", "."], cwd=source, check=True)
    subprocess.run([*git, "commit", "-qm", "a"], cwd=source, check=True)
    copy = tmp_path / "copy"
    subprocess.run([*git, "clone", "-q", str(source), str(copy)], check=True)
    for path in (p for p in copy.rglob("*") if p.is_file() and ".git" not in p.parts):
        name = path.relative_to(copy).as_posix()
        wanted = own if name in foreign else text
        if name != ".gitattributes":
            assert path.read_bytes() == wanted, name


def test_dvc_keeps_to_the_clone_and_checks_what_it_takes():
    config = (ROOT / ".dvc" / "config").read_text(encoding="utf-8")
    assert re.search(r"^ +verify = true$", config, re.M)
    folder = ROOT / re.search(r"^ +site_cache_dir = (\S+)$", config, re.M)[1] / "repo"
    # DVC would make it writable for everybody; one that is there keeps its mode
    assert (folder / ".gitignore").exists()
    assert not folder.stat().st_mode & stat.S_IWOTH
