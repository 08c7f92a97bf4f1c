"""A stage replaces what it made itself, below the root, and nothing else."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import psutil
import pytest

from dft_lib.repro import places
from dft_lib.repro.files import write_json

STAGE = "finetune-dft"


def mark(folder, stage=STAGE):
    write_json(folder / places.MARKER, {"stage": stage})


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Return a clone of a few folders, with git."""
    root = tmp_path / "clone"
    for name in ("src", "mine", "results", "own", "world"):
        (root / name).mkdir(parents=True)
        (root / name / "file").write_text("x")
    (root / "empty").mkdir()
    (root / "own" / "file").unlink()
    mark(root / "own")
    (root / "results" / "new").write_text("x")
    (tmp_path / "outside").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run(["git", "add", "mine", "src", "results/file"], cwd=root, check=True)
    monkeypatch.setattr(places, "ROOT", root)
    return root


@pytest.mark.parametrize("path", ["new", "new/deep", "empty", "own", "a b", "own/../new", "ünï"])
def test_what_a_stage_may_replace(root, path):
    places.require_publishable(root / path, STAGE)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "does not lie below the root"), (".", "does not lie below the root"),
        ("..", "does not lie below the root"), ("../outside", "does not lie below the root"),
        ("/", "does not lie below the root"), ("/tmp", "does not lie below the root"),
        ("link", "is a link"), ("link/new", "does not lie below the root"),
        ("src", "src/ belongs to the repository"), ("src/new", "src/ belongs"),
        (".git", ".git/ belongs"), (".git/refs/new", ".git/ belongs"), ("data/x", "data/ belongs"),
        ("world/new", "world/ belongs"), (".venv", ".venv/ belongs"),
        ("mine", "holds files that git tracks"), ("mine/file", "is a file"),
        ("results", "holds files that git tracks"),
        ("own/inner", "lies in what stage finetune-dft makes"),
    ],
)  # fmt: skip
def test_what_it_may_not(root, path, why):
    with pytest.raises(ValueError, match=rf"^finetune-dft may not write to .*{why}.*out$") as said:
        places.require_publishable(root / path, STAGE)
    assert "\n" not in str(said.value)


def test_a_folder_of_another_stage_or_of_nobody_is_left_alone(root):
    with pytest.raises(ValueError, match="which stage finetune-dft made"):
        places.require_publishable(root / "own", "real")
    (root / "own" / places.MARKER).write_text("garbage")
    with pytest.raises(ValueError, match="which no stage made"):
        places.require_publishable(root / "own", STAGE)


def test_a_mounted_disk_is_left_alone(root, monkeypatch):
    disk = SimpleNamespace(mountpoint=str(root / "empty"))
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [disk])
    with pytest.raises(ValueError, match="where a disk is mounted"):
        places.require_publishable(root / "empty", STAGE)


def test_outside_the_root_a_new_folder_may_be_made_by_hand(root, tmp_path):
    places.require_publishable(tmp_path / "fresh", STAGE)


def test_without_git_the_marker_still_guards(root, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="which no stage made"):
        places.require_publishable(root / "mine", STAGE)
    places.require_publishable(root / "own", STAGE)


@pytest.mark.parametrize("path", ["new.json", "results/x.json", "results/file", "results/new"])
def test_files_a_stage_may_write(root, path):
    places.require_writable(root / path, STAGE)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("mine/file", "which git tracks"), ("src/new.json", "src/ belongs"), ("mine", "a folder"),
        ("own/x.json", "lies in what stage"), ("../outside", "not lie below"), ("", "not lie"),
        ("params.yaml", "which git tracks"), (".dvc/config", ".dvc/ belongs"),
    ],
)  # fmt: skip
def test_files_it_may_not(root, path, why):
    (root / "params.yaml").write_text("x")
    subprocess.run(["git", "add", "params.yaml"], cwd=root, check=True)
    with pytest.raises(ValueError, match=f"^finetune-dft may not write .*{why}"):
        places.require_writable(root / path, STAGE)
