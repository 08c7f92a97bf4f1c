"""The stage ``code``: what is in which file, which stages an edit makes stale, and why."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys

import pytest
from ruamel.yaml import YAML

from dft_lib.repro import digests
from dft_lib.repro.paths import NOTEBOOKS, ROOT
from dft_lib.repro.yaml_files import read_yaml
from dft_lib.runner import code, deps, dvc_files

CHOSEN = read_yaml(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def files():
    listing = code.Listing(digests.library(), CHOSEN)
    return {n: {line.split(" ")[0] for line in lines} for n, lines in listing.files().items()}


def rater(name):
    return f"dft_lib.raters.{code.RATERS[name].module}"


def test_every_dependency_on_code_is_written(files):
    for pipeline, where in (("dvc.yaml", ""), ("world/dvc.yaml", "../")):
        for name, body in read_yaml(ROOT / pipeline)["stages"].items():
            arms = CHOSEN["arms"].values() if "foreach" in body else [{}]
            for dep in body.get("do", body)["deps"]:
                if "code/" in dep:
                    for arm in arms:
                        one = dep.removeprefix(where + "code/")
                        for key, value in arm.items():
                            one = one.replace(f"${{item.{key}}}", str(value))
                        assert one in files, (name, one)


def test_a_stage_is_its_notebook_and_what_that_imports(files):
    for path in NOTEBOOKS.glob("[0-9]*.py"):
        stage = path.stem.partition("_")[2]
        assert f"notebooks/{path.name}" in files[f"stages/{stage}.txt"]
        assert f"dft_lib.stages.{stage}" in files[f"stages/{stage}.txt"]
        others = {m for m in files[f"stages/{stage}.txt"] if m.startswith("dft_lib.stages.")}
        assert others == {f"dft_lib.stages.{stage}"}


def test_raters_belong_where_they_rate(files):
    steer, judge = ({rater(n) for n in CHOSEN["base"][p].values()} for p in ("steer", "judge"))
    judge.add(rater(CHOSEN["evaluate"]["features"]))
    assert steer <= files["stages/synthesis.txt"] and judge <= files["stages/evaluate.txt"]
    assert not judge & files["stages/synthesis.txt"] and not steer & files["stages/evaluate.txt"]
    assert steer <= files["recipes/iterated.txt"] and steer <= files["recipes/concept_editing.txt"]
    assert not steer & files["recipes/denoising.txt"]
    assert steer | judge <= files["world/report.txt"]


def test_recipes_and_interventions_are_their_own(files):
    rollout = "dft_lib.training.rollout"
    assert {n for n in files if rollout in files[n] and n.startswith("recipes/")} == {
        "recipes/adversarial.txt", "recipes/alignment.txt",
    }  # fmt: skip
    assert rollout not in files["stages/finetune.txt"]
    for kind in ("recipes", "interventions"):
        own = {n: m for n, m in files.items() if n.startswith("stages/")}
        for name, modules in own.items():
            loaded = {m for m in modules if m.startswith(f"dft_lib.{kind}.")}
            assert loaded <= {"dft_lib.interventions.base"}, name


def test_measuring_needs_no_model(files):
    assert not any(m.startswith("dft_lib.models") for m in files["stages/measure.txt"])


def test_every_file_is_parsed_once(monkeypatch):
    parsed = []
    parse = ast.parse
    monkeypatch.setattr(ast, "parse", lambda *a, **k: parsed.append(a) or parse(*a, **k))
    code.Listing(digests.Code(), CHOSEN).files()
    notebooks = len(list(NOTEBOOKS.glob("[0-9]*.py"))) + 1
    cells = sum(p.read_text().count("\n# %%") for p in NOTEBOOKS.glob("[0-9]*.py")) + 99
    assert len(parsed) <= len(digests.library().graph.modules) + cells + notebooks


def test_it_loads_nothing_heavy():
    heavy = "torch", "pandas", "pydantic", "scipy", "dvc"
    text = "import sys; import dft_lib.cli.deps; print(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    loaded = subprocess.run(
        [sys.executable, "-c", text], env=environment, check=True, capture_output=True, text=True
    ).stdout.split()
    assert "grimp" in loaded and not set(heavy) & set(loaded)


@pytest.mark.parametrize(
    ("group", "name", "value", "message"),
    [
        ("base", "steer", {"gender": "hogg"}, "no rater 'hogg'"),
        ("base", "judge", None, "base.judge is missing or mistyped"),
        ("evaluate", "features", [], "evaluate.features is missing or mistyped"),
    ],
)
def test_mistakes_in_params_are_said(group, name, value, message):
    chosen = CHOSEN | {group: CHOSEN[group] | {name: value}}
    with pytest.raises(ValueError, match=message):
        code.Listing(digests.library(), chosen)


PIPELINE = """\
stages:
  code:
    cmd: python -m dft_lib.runner.code
    params: [base.steer, base.judge, evaluate.features]
    deps: [notebooks, src/dft_lib, world/world.py]
    outs: [code]
  synthesis:
    cmd: echo synthesis > synthesis.txt
    params: [base]
    deps: ["${base.model}", code/stages/synthesis.txt]
    outs: [synthesis.txt]
  evaluate:
    cmd: echo evaluate > evaluate.txt
    deps: [code/stages/evaluate.txt, synthesis.txt]
    outs: [evaluate.txt]
  finetune:
    foreach: ${arms}
    do:
      cmd: echo ${key} > "${key}.txt"
      params: ["arms.${key}.train"]
      deps: ["code/recipes/${item.recipe}.txt"]
      outs: ["${key}.txt"]
"""


class Tree:
    """A small work tree with this library's source, and stages that only echo."""

    def __init__(self, root):
        self.root = root
        self.environment = os.environ | {
            "PYTHONPATH": str(root / "src"), "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(root / ".dvc" / "site"),
            "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}",
        }  # fmt: skip
        skip = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "fixtures", "*.ipynb")
        for folder in ("src/dft_lib", "notebooks", "lexicon"):
            shutil.copytree(ROOT / folder, root / folder, ignore=skip)
        (root / "world").mkdir()
        shutil.copy(ROOT / "world" / "world.py", root / "world")
        shutil.copy(ROOT / ".dvcignore", root)
        shutil.copy(ROOT / "params.yaml", root)
        self.edit("params.yaml", "model: data/tiny-sd", "model: model")
        (root / "model").mkdir()
        (root / "model" / "weights").write_text("1")
        (root / "dvc.yaml").write_text(PIPELINE)
        self.run("git", "init", "-q")
        (root / ".dvc").mkdir()
        (root / ".dvc" / "config").write_text("")

    def run(self, *command):
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def edit(self, name, old, new):
        text = (self.root / name).read_text(encoding="utf-8")
        assert old in text
        (self.root / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    def stale(self):
        """Return what DVC calls stale once `code` has run, and what `dft deps` does."""
        mine = self.run("python", "-m", "dft_lib.cli", "deps")
        names = {line for line in mine.splitlines() if line and line[0] != " "}
        self.run("dvc", "repro", "-q", "code")
        return set(json.loads(self.run("dvc", "status", "--json"))), names - {"code"}, mine


def test_what_an_edit_makes_stale(tmp_path):
    tree = Tree(tmp_path / "a tree")
    tree.run("dvc", "repro", "-q")
    assert tree.run("python", "-m", "dft_lib.cli", "deps") == "everything is up to date\n"

    tree.edit("src/dft_lib/models/pipelines.py", '"""', '"""Now: ')
    tree.edit("notebooks/02_synthesis.py", "# %% [markdown]\n", "# %% [markdown]\n# Hm.\n")
    assert set(json.loads(tree.run("dvc", "status", "--json"))) == {"code"}
    dvc, mine, _ = tree.stale()
    assert dvc == set() and mine == set()

    tree.edit("src/dft_lib/training/rollout.py", '"""\n', '"""\nNEW = 1\n')  # of no arm here
    hog = "src/dft_lib/raters/drawings/hog.py"  # steers
    tree.edit(hog, '"""\n', '"""\nNEW = 1\n')
    dvc, mine, why = tree.stale()
    assert dvc == {"synthesis"} and mine == {"synthesis", "evaluate"}  # DVC waits with the second
    assert "code/stages/synthesis.txt: changed: dft_lib.raters.drawings.hog\n" in why
    assert "synthesis.txt is made by synthesis" in why
    tree.run("dvc", "repro", "-q")

    (tree.root / "model" / "weights").write_text("2")  # in place
    tree.edit("params.yaml", "train: {}", "train: {rank: 2}")  # of the first arm
    tree.edit("params.yaml", "batch_size: 32", "batch_size: 16")
    dvc, mine, why = tree.stale()
    first = f"finetune@{next(iter(CHOSEN['arms']))}"
    assert dvc == {"synthesis", first} and mine == {"synthesis", "evaluate", first}
    assert "params.yaml: base.batch_size: 32 -> 16" in why and ".train.rank is new: 2" in why
    assert "model: changed: weights" in why or "model changed" in why


def test_stages_are_those_of_dvc():
    found = dvc_files.stages(read_yaml(ROOT / "dvc.yaml"), CHOSEN)
    assert [f"finetune@{arm}" for arm in CHOSEN["arms"]] == [n for n in found if "finetune@" in n]
    assert CHOSEN["base"]["model"] in found["prompts"].deps
    assert not any("$" in text for stage in found.values() for text in stage.deps + stage.outs)
    with pytest.raises(ValueError, match=r"params.yaml has no base\.model"):
        dvc_files.stages(read_yaml(ROOT / "dvc.yaml"), CHOSEN | {"base": {}})
    with pytest.raises(ValueError, match="no stage 'fintune'; there are: code, check"):
        deps.explain("fintune")


@pytest.mark.parametrize("name", ["dvc.lock", "world/dvc.lock", "results/full/dvc.lock"])
def test_a_lock_is_read_as_dvc_reads_it(name):
    assert dvc_files.read_lock(ROOT / name) == read_yaml(ROOT / name)["stages"] != {}


def test_words_of_a_lock(tmp_path):
    values = [1e-4, 1.5e-05, 3, -3.0, "1e-4", "no", "12:30", "007", True, None, "null", "", "é: #"]
    lock = tmp_path / "dvc.lock"
    YAML().dump({"stages": {"a": values}}, lock)
    read = dvc_files.read_lock(lock)["a"]
    assert list(map(repr, read)) == list(map(repr, values))
    lock.write_text("stages: {")
    with pytest.raises(ValueError, match="is not valid YAML"):
        dvc_files.read_lock(lock)


def test_an_entry_of_a_rater_belongs_to_those_who_use_it(monkeypatch):
    def lines():
        return code.Listing(digests.library(), CHOSEN).files()

    before, entry = lines(), code.RATERS["hog"]
    monkeypatch.setitem(code.RATERS, "another", entry)
    assert lines() == before
    (judge,) = {name for name in ("hog", "convnet") if name in CHOSEN["base"]["judge"].values()}
    monkeypatch.setitem(code.RATERS, judge, code.RATERS[judge]._replace(version="2"))
    now = lines()
    changed = {name for name in now if now[name] != before[name] and "world" not in name}
    assert changed == {"stages/evaluate.txt", "check.txt"}


@pytest.mark.parametrize("group", ["synthesis", "real", "evaluate", "measure", "figures"])
def test_a_group_of_params_belongs_to_its_stage(group):
    files = code.Listing(digests.library(), CHOSEN).files()
    module = f"dft_lib.study.params.{group} "
    found = {n for n, lines in files.items() if any(line.startswith(module) for line in lines)}
    # the world's report runs a notebook by itself, so the runner belongs to it
    assert found - {"world/report.txt"} == {f"stages/{group}.txt", "check.txt"}


def test_a_metric_draws_and_trains_nothing():
    files = code.Listing(digests.library(), CHOSEN).files()
    users = {n for n, lines in files.items() if any("fairness.metrics " in x for x in lines)}
    assert users == {"stages/measure.txt", "stages/figures.txt", "check.txt", "world/report.txt"}


def test_memory_knows_changed_files_and_survives_damage(tmp_path):
    file, kept, read = tmp_path / "a", tmp_path / "memory.json", []

    def make(path):
        read.append(path)
        return path.read_text()

    def ask():
        memory = deps.Memory(kept)
        value = memory.digest(file, make)
        memory.keep()
        return value, len(read)

    file.write_text("one")
    assert ask() == ("one", 1) and ask() == ("one", 1)
    file.write_text("two")
    assert ask() == ("two", 2)
    for damaged in (
        "",
        "{",
        "[]",
        '{"code": 1}',
        kept.read_text().replace('"code": "', '"code": "x'),
    ):
        kept.write_text(damaged)
        assert ask() == ("two", len(read))
    assert len(read) == 7
