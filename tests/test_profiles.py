"""Profiles: differences of params.yaml, run in clones, published beside the study's results."""

import io
import shutil
import subprocess
import sys

import pytest
from ruamel.yaml import YAML

from dft_lib.repro.paths import ROOT
from dft_lib.runner import profiles as runner
from dft_lib.study import profiles
from dft_lib.study.params import whole

DEFAULT = """\
base: {seed: 1, target: {a: 0.5, b: 0.5}}
arms:
  base: {label: base model, train: {}}
  fair: {label: fair, train: {}}
  dft: {label: DFT, train: {rank: 4, steps: 2}}
"""


@pytest.fixture
def merge(tmp_path):
    default, profile = tmp_path / "params.yaml", tmp_path / "small.yaml"
    default.write_text(DEFAULT, encoding="utf-8")

    def merged(text):
        profile.write_text(text, encoding="utf-8")
        return profiles.merged(profile, default)

    return merged


def test_a_field_is_replaced_whole(merge):
    found = merge("base: {target: {a: 1.0}}")
    assert found["base"] == {"seed": 1, "target": {"a": 1.0}}
    assert list(found["arms"]) == ["base", "fair", "dft"]


def test_an_arm_changes_field_by_field_and_null_removes_one(merge):
    found = merge("arms:\n  fair: null\n  dft: {train: {rank: 8}}\n")["arms"]
    assert list(found) == ["base", "dft"]
    assert found["dft"] == {"label": "DFT", "train": {"rank": 8}}


def test_a_new_arm_stands_after_the_one_named_before_it(merge):
    found = merge("arms:\n  base: {}\n  one: {label: 1}\n  two: {label: 2}\n")["arms"]
    assert list(found) == ["base", "one", "two", "fair", "dft"]
    assert list(merge("arms:\n  one: {label: 1}\n")["arms"]) == ["base", "fair", "dft", "one"]


def test_what_cannot_be_merged_is_one_sentence(merge):
    with pytest.raises(ValueError, match=r"small.yaml: arms.dtf is null, but .* no such arm"):
        merge("arms: {dtf: null}")
    with pytest.raises(ValueError, match="small.yaml holds no parameters"):
        merge("- base")


@pytest.mark.parametrize("path", sorted(profiles.FOLDER.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_profile_holds_differences_only_and_is_whole_when_merged(path):
    default, own, merged = (
        profiles.read_values(ROOT / "params.yaml"), profiles.read_values(path),
        profiles.merged(path),
    )  # fmt: skip
    for name, group in own.items():
        for field, value in group.items():
            if name != "arms":
                assert default[name][field] != value, f"{name}.{field} is the default's"
            elif value and field in default["arms"]:
                for key, changed in value.items():
                    assert default["arms"][field].get(key) != changed, f"arms.{field}.{key}"
    again = YAML(typ="safe", pure=True).load(io.StringIO(profiles.as_text(merged, path)))
    assert again == merged and list(again["arms"]) == list(merged["arms"])
    assert whole.check(again, path) == whole.load_profile(path.stem)


@pytest.mark.parametrize(
    "name", ["", "Smoke", "a b", "a;b", "../params", "profiles", "/etc/passwd", "smoke.yml", "-x"]
)
def test_a_profile_is_a_name_or_the_path_of_a_yaml_file(name):
    with pytest.raises(ValueError, match="is no profile|there is no profiles/profiles.yaml"):
        profiles.find(name)


def test_a_profile_elsewhere_is_only_read(tmp_path):
    path = tmp_path / "smoke.yaml"
    path.write_text("base: {batch_size: 4}\n", encoding="utf-8")
    assert whole.load_profile(str(path)).base.batch_size == 4
    found = profiles.find(str(path))
    assert not profiles.is_named(found) and profiles.is_named(profiles.find("smoke"))
    assert runner.place_of(found) != runner.place_of(profiles.find("smoke"))
    done = subprocess.run(
        [sys.executable, "-m", "dft_lib.runner.profiles", str(path), "--publish"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and "only profiles of profiles/ are published" in done.stderr
    assert path.read_text(encoding="utf-8") == "base: {batch_size: 4}\n"


def test_show_prints_the_whole_file(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["profiles", "smoke", "--show"])
    runner.main()
    text = capsys.readouterr().out
    assert text == profiles.as_text(
        profiles.merged(profiles.find("smoke")), profiles.find("smoke")
    )
    assert "study_seed: 2310" in text and "steps: 20" in text


@pytest.fixture
def repository(tmp_path, monkeypatch):
    root = tmp_path / "root"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_text("a")
    (root / "src" / "b.py").write_text("b")
    (root / "results").mkdir()
    (root / "results" / "base.json").write_text("{}")
    shutil.copytree(ROOT / ".dvc", root / ".dvc", ignore=lambda *_: ["cache", "tmp"])
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    monkeypatch.setattr(runner, "ROOT", root)
    return root


def test_a_clone_follows_the_work_tree(repository, tmp_path):
    target = tmp_path / "clone"
    runner.clone("x: 1", target)
    assert (target / "params.yaml").read_text() == "x: 1"
    assert (target / "src" / "a.py").read_text() == "a"
    assert not (target / "results").exists()  # the default study's own
    (target / "results").mkdir()
    (target / "results" / "smoke.json").write_text("{}")
    (repository / "src" / "a.py").write_text("changed")
    (repository / "src" / "b.py").unlink()
    runner.clone("x: 2", target)
    assert (target / "params.yaml").read_text() == "x: 2"
    assert (target / "src" / "a.py").read_text() == "changed"
    assert not (target / "src" / "b.py").exists()
    assert (target / "results" / "smoke.json").exists()  # the clone's own


def test_a_folder_that_is_no_clone_is_left_alone(repository, tmp_path):
    target = tmp_path / "clone"
    (target / "src").mkdir(parents=True)
    (target / "src" / "a.py").write_text("somebody's")
    with pytest.raises(ValueError, match="is no clone of a profile: move it away"):
        runner.clone("x: 1", target)
    assert (target / "src" / "a.py").read_text() == "somebody's"


def test_an_archive_without_git_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(ValueError, match="no git work tree.*git clone"):
        runner.clone("x: 1", tmp_path / "clone")


@pytest.fixture
def finished(tmp_path):
    """Return a function that fills a clone with what a study of some arms would have made."""
    target = tmp_path / "finished"

    def fill(arms, text="new"):
        shutil.rmtree(target, ignore_errors=True)
        values = profiles.merged(profiles.find("smoke"))
        values["arms"] = {name: values["arms"][name] for name in arms}
        (target / "paper" / "figures").mkdir(parents=True)
        (target / "results").mkdir()
        (target / "params.yaml").write_text(profiles.as_text(values, target), encoding="utf-8")
        (target / "dvc.lock").write_text(text)
        (target / "paper" / "figures" / "gaps.png").write_bytes(b"png")
        (target / "paper" / "figures" / ".gitignore").write_text("")
        names = [f"{arm}.{kind}" for arm in (*arms, "of_yesterday") for kind in ("json", "csv")]
        for name in (*names, "audit.json", "metrics.json", "table.csv", "table.md"):
            (target / "results" / name).write_text(text)
        return target

    return fill


def test_published_results_are_a_copy_of_what_the_study_made(repository, finished):
    out = runner.publish(finished(["base", "dft"]), "small")
    found = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    made = {"base.csv", "base.json", "dft.csv", "dft.json", "audit.json", "metrics.json",
            "table.csv", "table.md", "figures/gaps.png", "params.yaml", "dvc.lock"}  # fmt: skip
    assert found == made | {runner.PUBLISHED}
    assert (repository / "results" / "base.json").read_text() == "{}"  # the default study's stay
    (out / "NOTES.md").write_text("mine")
    runner.publish(finished(["base"], "newer"), "small")
    assert not (out / "dft.json").exists() and (out / "base.json").read_text() == "newer"
    assert (out / "NOTES.md").read_text() == "mine"


def test_publishing_replaces_nobody_elses_file(repository, finished):
    stale = repository / "results" / "small" / "table.md"
    stale.parent.mkdir()
    stale.write_text("somebody's")
    with pytest.raises(ValueError, match=r"results/small/table.md was not published.*git rm -r"):
        runner.publish(finished(["base"]), "small")
    assert stale.read_text() == "somebody's" and list(stale.parent.iterdir()) == [stale]
