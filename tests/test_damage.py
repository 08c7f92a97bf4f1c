"""An arm whose unfinished work a disk damaged ends with the bytes of an undisturbed one."""

from __future__ import annotations

import os

import pytest

from dft_lib.models import adapters
from dft_lib.repro import places, seals
from dft_lib.stages.finetune import train_arm
from dft_lib.training import loop


class Killed(BaseException):
    pass


@pytest.fixture
def arm(small_study, random_model, tmp_path, monkeypatch):
    """Return functions that train an arm of two seeds: whole, and up to its second model."""
    study = small_study(random_model)
    base = study.base.model_copy(update={"training_seeds": [0, 1]})
    settings = study.finetune

    def train():
        train_arm(base, settings, "a", study.arm("denoising"))
        return seals.hash_of(study.folder / "models" / "a")

    def interrupted():
        real, calls = loop.save_training_state, []

        def dies(path, at, *rest):
            real(path, at, *rest)
            calls.append(at)
            if len(calls) == 3:  # the second model's first checkpoint
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(loop, "save_training_state", dies)
            with pytest.raises(Killed):
                train()
        return next((tmp_path / "scratch").glob("finetune-a-*/*/publish")).parent

    return train, interrupted


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


WEIGHTS, STATE = f"publish/seed-0/{adapters.LORA_FILE}", "seed-1/training.state.safetensors"
DAMAGES = {
    "nothing": lambda f: None,
    "a finished model's bit": lambda f: flip(f / WEIGHTS),
    "a finished model missing": lambda f: (f / WEIGHTS).unlink(),
    "its manifest garbage": lambda f: (f / "publish/seed-0/manifest.json").write_text("{"),
    "its log cut": lambda f: os.truncate(f / "seed-0/log.parquet", 20),
    "its seal gone": lambda f: (f / "seed-0/made.sha256").unlink(),
    "a checkpoint's bit": lambda f: flip(f / STATE),
    "a checkpoint empty": lambda f: os.truncate(f / STATE, 0),
    "latents zeroed": lambda f: [
        p.write_bytes(bytes(p.stat().st_size)) for p in f.parents[1].glob("latents/*.npy")
    ],
    "the marker": lambda f: (f / "publish" / places.MARKER).write_text("x"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_work_ends_in_the_same_bytes(arm, damage, caplog):
    train, interrupted = arm
    whole = train()
    folder = interrupted()
    assert (folder / WEIGHTS).exists() and (folder / STATE).exists()
    caplog.clear()
    DAMAGES[damage](folder)
    assert train() == whole
    said = [r.getMessage() for r in caplog.records]
    quiet = damage in ("nothing", "the marker")
    assert quiet or any("made again" in s or "training begins anew" in s for s in said)
    assert not (quiet and said)
