"""Every hash of the locks is recomputed; what is damaged is named, with what mends it."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from dft_lib.runner import verify

STAGES = """
stages:
  make:
    cmd: mkdir -p made/deep && echo one > made/a && echo two > made/deep/b && echo 3 > result
    deps: [given]
    outs: [made]
    metrics: [{result: {cache: false}}]
"""


def run(folder, *command):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Return a small study as DVC leaves it: data in a store, a stage's outputs in the cache."""
    root = tmp_path_factory.mktemp("study") / "root"
    (root / "data" / "in").mkdir(parents=True)
    for name in ("x", "in/ü", "in/z"):
        (root / "data" / name).write_text(f"data {name}")
    (root / "data" / "__pycache__").mkdir()
    (root / "data" / "__pycache__" / "x.pyc").write_text("not hashed")
    (root / "given").write_text("given")
    (root / "dvc.yaml").write_text(STAGES)
    (root / ".dvcignore").write_text("__pycache__\nstore\n")
    run(root, "dvc", "init", "-q", "--no-scm")
    config = "[core]\n    no_scm = true\n['remote \"store\"']\n    url = ../store\n"
    (root / ".dvc" / "config").write_text(config)
    run(root, "dvc", "add", "-q", "data")
    run(root, "dvc", "push", "-q", "-r", "store", "data.dvc")
    run(root, "dvc", "repro", "-q")
    assert verify.places_of(root) == [root / ".dvc" / "cache", root / "store"]
    return root


@pytest.fixture
def root(original, tmp_path, monkeypatch):
    root = tmp_path / "root"
    shutil.copytree(original, root)
    monkeypatch.setattr(
        verify, "places_of", lambda root: [root / ".dvc" / "cache", root / "store"]
    )
    return root


def stored(root, place, text):
    """Return an object of a place by its content."""
    folder = root / (".dvc/cache" if place == "cache" else "store") / "files" / "md5"
    (found,) = (p for p in folder.rglob("*") if p.is_file() and p.read_text() == text)
    return found


def lists(root, place, name):
    folder = root / (".dvc/cache" if place == "cache" else "store") / "files" / "md5"
    (found,) = (p for p in folder.rglob("*.dir") if f'"{name}"' in p.read_text())
    return found


def flip(path):
    """Change one bit as a disk does: size and times stay."""
    about, data = path.stat(), bytearray(path.read_bytes())
    data[0] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def test_a_whole_study_is_whole(root):
    report = verify.verify(root)
    assert (report.damaged, report.changed, report.missing) == ({}, {}, {})
    assert report.read > 0


PLACES = {
    "work": lambda r: r / "made" / "a",
    "deep": lambda r: r / "made" / "deep" / "b",
    "uncached": lambda r: r / "result",
    "data": lambda r: r / "data" / "in" / "ü",
    "cache": lambda r: stored(r, "cache", "one\n"),
    "cached data": lambda r: stored(r, "cache", "data x"),
    "store": lambda r: stored(r, "store", "data x"),
    "cache's list": lambda r: lists(r, "cache", "deep/b"),
    "cache's list of data": lambda r: lists(r, "cache", "in/z"),
    "store's list": lambda r: lists(r, "store", "in/z"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_one_damaged_file_is_found_and_its_remedy_mends_it(root, place, damage):
    path = PLACES[place](root)
    whole = path.read_bytes()
    if damage == "flip":
        flip(path)
    else:
        path.chmod(0o644)
        path.write_bytes(whole[:-2])
    report = verify.verify(root)
    ((what, mend),) = report.damaged.items()
    assert path.name in what and not report.changed and not report.missing
    run(root, "bash", "-c", mend)
    assert verify.verify(root).damaged == {}
    assert path.read_bytes() == whole


def test_work_file_and_object_damaged_together(root):
    for path in (root / "made" / "a", stored(root, "cache", "one\n")):
        flip(path)
    mends = verify.verify(root).damaged.values()
    assert sorted(m.split(" && ")[-1] for m in mends) == ["dvc repro -f make"] * 2
    for path in (root / "data" / "x", stored(root, "cache", "data x")):
        flip(path)
    again = verify.verify(root).damaged
    assert sum("cp -f store/" in mend for mend in again.values()) == 2


def test_gone_and_foreign_files_of_a_folder(root):
    (root / "made" / "a").unlink()
    (root / "made" / "new").write_text("x")
    report = verify.verify(root)
    assert report.damaged["made/new, which was not recorded"] == "rm -f made/new"
    gone = next(m for w, m in report.damaged.items() if w.startswith("made/a "))
    run(root, "bash", "-c", gone)
    assert (root / "made" / "a").read_text() == "one\n"


def test_what_was_never_made_is_no_damage(root, capsys, monkeypatch):
    shutil.rmtree(root / "made")
    shutil.rmtree(root / ".dvc" / "cache")
    (root / "result").unlink()
    report = verify.verify(root)
    assert report.missing == {"made": "dvc repro -f make", "result": "dvc repro -f make"}
    assert not report.damaged
    monkeypatch.setattr(verify, "verify", lambda: report)
    verify.main()
    assert "not here: made (dvc repro -f make)" in capsys.readouterr().out


def test_a_deleted_work_file_over_a_damaged_object_is_damage(root, capsys, monkeypatch):
    """DVC would check it out as if it were good."""
    shutil.rmtree(root / "made")
    flip(stored(root, "cache", "two\n"))
    report = verify.verify(root)
    ((what, mend),) = report.damaged.items()
    assert "made/deep/b" in what and mend.endswith("dvc repro -f make")
    monkeypatch.setattr(verify, "verify", lambda: report)
    with pytest.raises(SystemExit, match="1 damaged: run what stands below"):
        verify.main()
    assert f"DAMAGED: {what}\n    {mend}" in capsys.readouterr().out


def test_an_edited_input_is_said_apart(root):
    (root / "given").write_text("edited")
    report = verify.verify(root)
    assert report.changed == {"given": "make"} and not report.damaged
