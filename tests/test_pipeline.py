"""The DVC pipelines and the files around them."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib

import pytest

from dft_lib.repro.paths import NOTEBOOKS, ROOT
from dft_lib.repro.yaml_files import read_yaml
from dft_lib.runner.notebook import OF_ALL_ARMS, OF_ONE_ARM

PIPELINE = read_yaml(ROOT / "dvc.yaml")["stages"]


def bodies():
    return {name: stage.get("do", stage) for name, stage in PIPELINE.items()}


def paths(entries):
    return [e if isinstance(e, str) else next(iter(e)) for e in entries or []]


def test_one_stage_per_notebook():
    commands = [body["cmd"].split()[3] for body in bodies().values()]
    assert commands == sorted(p.stem for p in NOTEBOOKS.glob("0*.py"))


@pytest.mark.parametrize("name", bodies())
def test_stage_declares_what_it_uses(name):
    body = bodies()[name]
    assert "base" in body["params"] and name in body["params"]
    deps, outs = paths(body["deps"]), paths(body["outs"])
    written = outs + paths(body.get("metrics")) + paths(body.get("plots"))
    assert any(d.startswith("notebooks/") for d in deps)
    assert not any(p.startswith(("data", "lexicon")) for p in written)
    assert not any(d.startswith("runs/") for d in deps)
    assert any(o.startswith("runs/") for o in outs)
    for dep in deps:
        if "$" not in dep and not dep.startswith(("synthetic", "real", "models", "evaluation")):
            assert (ROOT / dep).exists(), dep


# Plumbing cannot change a result without failing.
PLUMBING = {"files", "params", "paths", "schema", "tensors", "work"}


def imports(path):
    """Return the library's modules that a module needs, itself included, plumbing left out."""
    todo, seen = [path], set()
    while todo:
        module = todo.pop()
        if module in seen or module.stem in PLUMBING:
            continue
        seen.add(module)
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dft_lib"):
                folder = ROOT / "src" / node.module.replace(".", "/")
                for name in node.names:
                    inner = folder / f"{name.name}.py"
                    todo.append(inner if inner.exists() else folder.with_suffix(".py"))
    return {p.relative_to(ROOT).as_posix() for p in seen}


@pytest.mark.parametrize("name", bodies())
def test_stage_depends_on_all_code_that_decides_its_result(name):
    deps = paths(bodies()[name]["deps"])
    for module in imports(ROOT / "src" / "dft_lib" / "stages" / f"{name}.py"):
        assert any(module == d or module.startswith(d + "/") for d in deps), module


def test_the_study_never_rebuilds_the_world():
    """A dependency on an output of world/dvc.yaml would, for hours, in a fresh clone."""
    for name, body in bodies().items():
        made = ("world/build", "world/results")
        assert not [d for d in paths(body["deps"]) if d.startswith(made)], name


def test_arms_come_from_params():
    assert PIPELINE["finetune"]["foreach"] == PIPELINE["evaluate"]["foreach"] == "${arms}"
    for name, parts in OF_ONE_ARM.items():
        wanted = [f"arms.${{key}}.{field}" for field in parts.model_fields]
        assert [p for p in PIPELINE[name]["do"]["params"] if "arms" in p] == wanted
    for name in OF_ALL_ARMS:
        assert "arms" in PIPELINE[name]["params"]


def test_nothing_of_params_reaches_a_shell():
    """DVC gives a command to the shell as it is; the arm comes in the environment instead."""
    for name, body in bodies().items():
        assert "$" not in body["cmd"], name
    for name in OF_ONE_ARM:  # and no folder outside is an out that DVC removes first
        assert "runs/checked.json" in PIPELINE[name]["do"]["deps"]


def test_the_store_takes_nothing_but_data():
    config = (ROOT / ".dvc" / "config").read_text(encoding="utf-8")
    assert "remote =" not in config.replace("['remote", "")
    assert "url = ../store" in config
    assert "analytics = false" in config and "check_update = false" in config
    assert "remote: store" in (ROOT / "data.dvc").read_text(encoding="utf-8")


def pins(text):
    return dict(re.findall(r"^\s*\"?([A-Za-z0-9_.\-]+)==([^\s\",]+)", text, re.M))


def test_pins_agree():
    lock = pins((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    lock = {k.lower().replace("_", "-"): v for k, v in lock.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    for requirement in wanted:
        name, version = requirement.split("==")
        assert lock[name.lower()] == version, requirement
    assert lock["torch"] == "2.13.0"
    assert not any("+" in version for version in lock.values())
    assert not any(name.startswith(("torchvision", "nvidia", "triton")) for name in lock)


def test_conda_installs_the_same_pins():
    conda = read_yaml(ROOT / "environment.yml")
    assert conda["channels"][0] == "conda-forge" and "pytorch" not in conda["channels"]
    assert "python=3.11" in conda["dependencies"]
    assert conda["dependencies"][-1] == {"pip": ["-r requirements.lock"]}


def test_no_pickle_and_no_remote_code():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert not [n for n in listed if n.endswith((".pkl", ".pt", ".bin", ".ckpt", ".npy"))]
    for name in listed:
        if name.startswith(("src/", "notebooks/", "tests/", "world/")) and name.endswith(".py"):
            text = (ROOT / name).read_text(encoding="utf-8")
            assert not re.search(r"torch\.load\(|pickle\.load|trust_remote_code\s*=", text), name


def test_modules_stay_small():
    for path in (ROOT / "src").rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 320, path


def test_ray_pins_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = dict(r.split("==") for r in project["optional-dependencies"]["ray"])
    assert pins((ROOT / "requirements-ray.lock").read_text(encoding="utf-8")) == wanted
