"""One clone, one code: the library of another work tree is refused, in one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dft_lib.repro import paths
from dft_lib.repro.paths import ROOT

ENTRIES = sorted(
    path.relative_to(ROOT / "src").with_suffix("").as_posix().replace("/", ".")
    for path in (ROOT / "src" / "dft_lib").rglob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)
# `dft` measures files of anyone, wherever they lie, and `make` runs the other by its path.
ANYWHERE = ["dft_lib.cli.__main__", "dft_lib.runner.environment"]


@pytest.fixture
def other(tmp_path):
    """Return another work tree of the study."""
    root = tmp_path / "other's clone"
    for folder in ("src/dft_lib", "notebooks/fixtures"):
        (root / folder).mkdir(parents=True)
    return root


def test_refused_in_another_tree_and_below_it(other, monkeypatch):
    for folder in (other, other / "notebooks" / "fixtures"):
        monkeypatch.chdir(folder)
        with pytest.raises(ValueError) as caught:
            paths.require_own_tree()
        said = str(caught.value)
        assert str(other) in said and str(ROOT) in said and "\n" not in said
        # the remedy, as a shell reads it
        line = "set -- " + said.split("or set ")[1] + '; printf %s "$1"'
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
        assert done.stdout == f"PYTHONPATH={other}/src"


def test_a_tree_inside_another_is_the_nearest(other, monkeypatch, tmp_path):
    """A profile's clone in scratch/, or `dvc exp run --temp`."""
    inner = ROOT / "scratch" / f"inner-{os.getpid()}"
    (inner / "src" / "dft_lib").mkdir(parents=True)
    try:
        monkeypatch.chdir(inner)
        with pytest.raises(ValueError, match="but the code that Python imports"):
            paths.require_own_tree()
    finally:
        os.removedirs(inner / "src" / "dft_lib")


def test_its_own_tree_and_no_tree_are_fine(monkeypatch, tmp_path):
    (tmp_path / "link").symlink_to(ROOT)
    for folder in (ROOT, ROOT / "notebooks", tmp_path, tmp_path / "link", Path("/")):
        monkeypatch.chdir(folder)
        paths.require_own_tree()


@pytest.mark.parametrize("module", [m for m in ENTRIES if m not in ANYWHERE])
def test_every_program_refuses_before_anything_else(other, module):
    done = subprocess.run(
        [sys.executable, "-m", module], cwd=other, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 1
    (said,) = [line for line in done.stderr.splitlines() if "Warning" not in line][-1:]
    assert said.startswith(f"this is {other}, but the code that Python imports is that of {ROOT}")
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in other.iterdir()) == ["notebooks", "src"]


def test_a_notebook_of_another_clone_is_told_at_its_first_import(other):
    done = subprocess.run(
        [sys.executable, "-c", "import dft_lib.stages"], cwd=other / "notebooks",
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.stderr.splitlines()[-1].startswith(f"ValueError: this is {other}, but")


def test_dft_deps_explains_no_other_clone(other):
    done = subprocess.run(
        [sys.executable, "-m", "dft_lib.cli", "deps"], cwd=other, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"dft deps: this is {other}, but the code that Python imports")
