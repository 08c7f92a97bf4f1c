"""Several processes train one model as one would; a killed training goes on."""

import json
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from safetensors.torch import load_file

from dft_lib.models import adapters
from dft_lib.repro.noise import keyed_rng as rng
from dft_lib.stages import finetune as stage
from dft_lib.stages.finetune import Model, train_arm
from dft_lib.training import launch, loop, parallel


@pytest.fixture
def shared(small_study, random_model):
    """A study whose one training of six steps is shared by two processes."""
    study = small_study(random_model)
    study.finetune = study.finetune.model_copy(
        update={"steps": 6, "train_batch_size": 5, "processes": 2,
                "learning_rate": 1e-3}
    )  # fmt: skip
    return study


def weights(folder):
    return load_file(folder / adapters.LORA_FILE)


def far(one, other):
    assert set(one) == set(other)
    return max(float((one[k] - other[k]).abs().max()) for k in one)


def test_two_processes_agree_with_one(shared):
    arm = shared.arm("denoising", {"text_encoder_lora": True, "caption_mixup": 0.5})
    log = train_arm(shared.base, shared.finetune, "two", arm)
    alone = shared.finetune.model_copy(update={"processes": 1})
    expected = train_arm(shared.base, alone, "one", arm)
    assert np.allclose(log["loss"], expected["loss"], rtol=1e-4)
    models = shared.folder / "models"
    two, one = (weights(models / name / "seed-0") for name in ("two", "one"))
    moved = max(float(v.abs().max()) for k, v in one.items() if "lora_B" in k)
    assert moved > 1e-3 and far(one, two) < 0.02 * moved


def test_recipes_that_need_the_whole_batch_train_alone(shared, recipe_settings, monkeypatch):
    def never(*_):
        raise AssertionError("started processes")

    monkeypatch.setattr(launch, "launch", never)
    arm = shared.arm("alignment", recipe_settings["alignment"])
    assert len(train_arm(shared.base, shared.finetune, "alignment", arm)) == 6
    with pytest.raises(AssertionError, match="started processes"):
        train_arm(shared.base, shared.finetune, "dft", shared.arm("denoising"))


def start(one, processes=2):
    path = one.scratch / "model.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    given = launch.described(one)
    path.write_text(json.dumps(given), encoding="utf-8")
    command = launch.command(path, processes, one.base.threads)
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def test_resume_after_kill_goes_on_from_the_last_checkpoint(shared, tmp_path, monkeypatch):
    """kill -9 of all processes in mid-training; the rest gives what an uninterrupted one gives."""
    settings = shared.finetune.model_copy(update={"steps": 120, "checkpoint_every": 5})
    arm = shared.arm("denoising", {"train_batch_size": 2, "text_encoder_lora": False})
    one = Model(shared.base, settings, "a", arm, 0, tmp_path / "s", tmp_path / "s" / "out")
    running = start(one)
    state = one.scratch / "training.state.safetensors"
    patience = time.time() + 120
    while not state.exists():
        assert running.poll() is None and time.time() < patience, "no checkpoint"
        time.sleep(0.05)
    everybody = [psutil.Process(running.pid), *psutil.Process(running.pid).children(True)]
    assert len(everybody) >= 3  # accelerate and the two that train
    for process in everybody:
        process.kill()
    running.wait()
    assert not (one.out / adapters.MANIFEST).exists(), "killed too late to show anything"
    steps = []
    monkeypatch.setattr(loop, "keyed_rng", lambda *key: steps.append(key[-1]) or rng(*key))
    stage.fit(one)  # goes on, in one process
    assert 1 < len(steps) < 120  # the adapter's key, and one of every step that was left
    whole = one._replace(scratch=tmp_path / "w", out=tmp_path / "w" / "out")
    whole.scratch.mkdir()
    stage.fit(whole)
    assert far(weights(one.out), weights(whole.out)) < 0.05 * max(
        float(v.abs().max()) for v in weights(whole.out).values()
    )


def test_processes_end_when_nobody_waits_for_them():
    gone = subprocess.Popen(["sleep", "60"])
    owner = [gone.pid, psutil.Process(gone.pid).create_time()]
    code = (
        "import sys, time, json; from dft_lib.repro import workspace\n"
        "with workspace.ends_with(json.loads(sys.argv[1]), 0.1): time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, json.dumps(owner)])
    time.sleep(4)
    assert child.poll() is None
    gone.kill()
    gone.wait()
    assert child.wait(20) == 1


def test_shares_cover_a_batch(monkeypatch):
    for size in (1, 2, 3, 8):
        parts = []
        for rank in range(size):
            monkeypatch.setattr(parallel, "world", lambda rank=rank, size=size: (rank, size))
            parts += list(range(11))[parallel.share(11)]
        assert parts == list(range(11))
