import shutil
import subprocess

import pytest

from dft_lib.repro.paths import ROOT
from dft_lib.runner import profiles


@pytest.fixture
def repository(tmp_path, monkeypatch):
    root = tmp_path / "root"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_text("a")
    (root / "src" / "b.py").write_text("b")
    (root / "results").mkdir()
    (root / "results" / "base.json").write_text("{}")
    shutil.copytree(ROOT / ".dvc", root / ".dvc", ignore=lambda *_: ["cache", "tmp"])
    (root / "profile.yaml").write_text("x: 1")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    monkeypatch.setattr(profiles, "ROOT", root)
    return root


def test_a_clone_follows_the_work_tree(repository, tmp_path):
    target = tmp_path / "clone"
    profiles.clone(repository / "profile.yaml", target)
    assert (target / "params.yaml").read_text() == "x: 1"
    assert (target / "src" / "a.py").read_text() == "a"
    assert not (target / "results").exists()  # the default study's own
    (target / "results").mkdir()
    (target / "results" / "smoke.json").write_text("{}")
    (repository / "src" / "a.py").write_text("changed")
    (repository / "src" / "b.py").unlink()
    profiles.clone(repository / "profile.yaml", target)
    assert (target / "src" / "a.py").read_text() == "changed"
    assert not (target / "src" / "b.py").exists()
    assert (target / "results" / "smoke.json").exists()  # the clone's own


def test_an_archive_without_git_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(ValueError, match="no git work tree.*git clone"):
        profiles.clone(tmp_path / "p.yaml", tmp_path / "clone")


def test_published_results_are_a_copy(repository, tmp_path):
    target = tmp_path / "clone"
    (target / "results").mkdir(parents=True)
    (target / "results" / "table.csv").write_text("new")
    (target / "paper" / "figures").mkdir(parents=True)
    (target / "paper" / "figures" / "gaps.png").write_bytes(b"png")
    (target / "dvc.lock").write_text("lock")
    (target / "params.yaml").write_text("x: 1")
    stale = repository / "results" / "full" / "old.json"
    stale.parent.mkdir()
    stale.write_text("{}")
    out = profiles.publish(target, "full")
    found = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert found == {"table.csv", "figures/gaps.png", "params.yaml", "dvc.lock"}
    assert (repository / "results" / "base.json").exists()  # the default study's stay
