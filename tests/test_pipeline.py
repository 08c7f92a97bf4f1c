"""The DVC pipelines and the files around them."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest

from dft_lib.repro.paths import NOTEBOOKS, ROOT
from dft_lib.repro.yaml_files import read_yaml
from dft_lib.runner import dvc_files
from dft_lib.runner.notebook import OF_ALL_ARMS, OF_ONE_ARM
from dft_lib.study import profiles

PIPELINE = read_yaml(ROOT / "dvc.yaml")["stages"]
CHOSEN = read_yaml(ROOT / "params.yaml")
MADE = ("code/", "data", "evaluation", "models", "real/", "results/metrics", "runs/", "synthetic/")


def bodies():
    """Return the stages that run a notebook."""
    bodies = {name: stage.get("do", stage) for name, stage in PIPELINE.items()}
    return {n: b for n, b in bodies.items() if "runner.notebook" in b["cmd"]}


def paths(entries):
    return [e if isinstance(e, str) else next(iter(e)) for e in entries or []]


def test_one_stage_per_notebook():
    commands = [body["cmd"].split()[3] for body in bodies().values()]
    assert commands == sorted(p.stem for p in NOTEBOOKS.glob("0*.py"))


@pytest.mark.parametrize("name", bodies())
def test_stage_declares_what_it_uses(name):
    body = bodies()[name]
    assert "base" in body["params"] and name in body["params"]
    used, outs = paths(body["deps"]), paths(body["outs"])
    written = outs + paths(body.get("metrics")) + paths(body.get("plots"))
    assert f"code/stages/{name}.txt" in used
    assert not any(p.startswith(("data", "lexicon")) for p in written)
    assert not any(d.startswith(("notebooks", "src", "data/tiny-sd")) for d in used)
    assert not any(d.startswith("runs/") and d != "runs/checked.json" for d in used)
    assert any(o.startswith("runs/") for o in outs)


def test_what_params_name_is_a_dependency_and_is_there():
    stages = dvc_files.stages({"stages": PIPELINE}, CHOSEN)
    for name, stage in stages.items():
        for dep in stage.deps:
            assert dep.startswith(MADE) or (ROOT / dep).exists(), (name, dep)
    wanted = {
        "prompts": [CHOSEN["base"]["model"], CHOSEN["base"]["lexicon_folder"]],
        "synthesis": [CHOSEN["synthesis"]["teacher"]],
        "real": [CHOSEN["real"]["source"]],
        "measure": [CHOSEN["measure"]["minutes"], CHOSEN["measure"]["calibration"]],
    }
    wanted |= {n: [CHOSEN["base"]["model"]] for n in stages if n.startswith(("fine", "eval"))}
    for name, named in wanted.items():
        assert set(named) <= set(stages[name].deps), name


@pytest.mark.parametrize("profile", [p.stem for p in (ROOT / "profiles").glob("*.yaml")])
def test_profiles_name_files_that_are_there(profile):
    chosen = profiles.merged(profiles.find(profile))
    for name, stage in dvc_files.stages({"stages": PIPELINE}, chosen).items():
        for dep in stage.deps:
            assert dep.startswith(MADE) or (ROOT / dep).exists(), (name, dep)


def test_the_study_never_rebuilds_the_world():
    """A dependency on an output of world/dvc.yaml would, for hours, in a fresh clone."""
    world = read_yaml(ROOT / "world" / "dvc.yaml")["stages"]
    built = [f"world/{out}" for body in world.values() for out in paths(body["outs"])]
    used = [d for s in dvc_files.stages({"stages": PIPELINE}, CHOSEN).values() for d in s.deps]
    assert "world/build/report" in built and CHOSEN["real"]["source"] in used
    for dep in used:
        for out in built:
            assert not f"{dep}/".startswith(f"{out}/") and not f"{out}/".startswith(f"{dep}/")


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


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text):
    return dict(re.findall(r"^\s*\"?([A-Za-z0-9_.\-]+)==([^\s\",]+)", text, re.M))


def test_pins_agree():
    lock = pins((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    lock = {normal(k): v for k, v in lock.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    for requirement in wanted:
        name, version = requirement.split("==")
        assert lock[normal(name)] == version, requirement
    assert lock["torch"] == "2.13.0"
    assert not any("+" in version for version in lock.values())
    assert not any(name.startswith(("torchvision", "nvidia", "triton")) for name in lock)


def test_conda_installs_the_same_pins():
    conda = read_yaml(ROOT / "environment.yml")
    assert conda["channels"][0] == "conda-forge" and "pytorch" not in conda["channels"]
    assert "python=3.11" in conda["dependencies"]
    # pip reads hashes as a wish for --require-hashes, which CUDA's packages have not
    assert "pip" in conda["dependencies"]
    assert not any(isinstance(d, dict) for d in conda["dependencies"])


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
