import os

import pandas as pd
import pytest
import torch

from dft_lib.models import adapters, pipelines
from dft_lib.repro import places, shards, workspace
from dft_lib.sampling import drawing
from dft_lib.sampling.sampler import Sampler
from dft_lib.stages.evaluate import evaluate_arm
from dft_lib.stages.finetune import train_arm
from dft_lib.stages.prompts import make_prompts
from dft_lib.stages.synthesis import synthesise
from dft_lib.study import prompts


@pytest.fixture
def grid():
    row = {"set": "x", "kind": "general", "noun": "dog", "fold": "", "gender": "", "skin_tone": ""}
    return pd.DataFrame(
        [row | {"prompt_id": i, "prompt": f"a {i}", "caption": i, "images": 3} for i in "abcd"]
    )


@pytest.fixture
def sampler(random_model, sampling):
    return Sampler(pipelines.load(str(random_model), device="cpu"), sampling)


def task(sampler, grid, folder, size=4):
    return drawing.Drawing(lambda: sampler, grid, folder, size, {"arm": "x"})


def draw(sampler, grid, folder):
    return drawing.draw_shards(task(sampler, grid, folder))


def test_missing_and_damaged_shards_are_drawn_again_to_the_same_bytes(sampler, grid, tmp_path):
    paths = draw(sampler, grid, tmp_path)
    whole = [p.read_bytes() for p in paths]
    assert len(paths) == 3  # 12 images, 4 a shard
    paths[0].unlink()
    paths[1].write_bytes(whole[1][:-200])
    untouched = paths[2].stat().st_mtime_ns
    assert [p.read_bytes() for p in draw(sampler, grid, tmp_path)] == whole
    assert paths[2].stat().st_mtime_ns == untouched


def flip(path):
    """Change one bit in the middle of a file, as a failing disk does; the time stays."""
    stamp, data = path.stat().st_mtime_ns, bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stamp, stamp))


def swap(one, two):
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)


DAMAGES = {
    "a shard's bit": lambda t: flip(t.path(1)),
    "ratings' bit": lambda t: flip(t.rated(1)),
    "ratings swapped": lambda t: swap(t.rated(0), t.rated(1)),
    "ratings and seals swapped": lambda t: [
        swap(t.rated(0), t.rated(1)), swap(t.seal(0, "rated"), t.seal(1, "rated"))
    ],
    "shards swapped": lambda t: swap(t.path(0), t.path(1)),
    "ratings empty": lambda t: t.rated(2).write_bytes(b""),
    "a shard is garbage": lambda t: t.path(2).write_bytes(b"garbage"),
    "a seal is garbage": lambda t: t.seal(0, "shard").write_bytes(b"\xff\xfe"),
    "seals missing": lambda t: [t.seal(n, k).unlink() for n in (0, 1) for k in ("shard", "rated")],
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_work_is_done_again_and_said(sampler, grid, tmp_path, caplog, damage):
    def open_rating():
        return lambda pictures: pd.DataFrame({"rated_mean": pictures.mean((1, 2, 3))})

    work = drawing.Drawing(
        lambda: sampler, grid, tmp_path / "shards", 4, {"arm": "x"}, open_rating, tmp_path / "r"
    )
    drawing.draw_shards(work)
    files = [p for n in range(3) for p in (work.path(n), work.rated(n))]
    whole = [p.read_bytes() for p in files]
    DAMAGES[damage](work)
    assert work.todo() != []
    caplog.clear()
    drawing.draw_shards(work)
    assert [p.read_bytes() for p in files] == whole and work.todo() == []
    assert any("it is made again" in r.getMessage() for r in caplog.records)
    assert not list((tmp_path / "shards").glob("*.sha256"))  # seals are never published


def test_pictures_that_are_not_finite_stop(sampler, grid, tmp_path):
    with torch.no_grad():
        next(sampler.pipeline.unet.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="values that are not finite"):
        draw(sampler, grid, tmp_path)
    assert not list(tmp_path.glob("*.parquet"))


def test_records_say_how_an_image_was_drawn(sampler, grid, tmp_path):
    _, records = shards.read(draw(sampler, grid, tmp_path)[0])
    record = records.iloc[3]
    assert (record["prompt_id"], record["replicate"], record["arm"]) == ("b", 0, "x")
    assert record["num_inference_steps"] == 3 and record["batch_size"] == 4
    assert (record["scheduler"], record["dtype"], record["device"]) == ("ddim", "float32", "cpu")
    assert record["threads"] >= 1


def test_shard_size_must_fit_the_batches(sampler, grid, tmp_path):
    with pytest.raises(ValueError, match="not a multiple of base.batch_size 4"):
        drawing.draw_shards(task(sampler, grid, tmp_path, 6))


def test_forbidding_everything_is_refused(study, tmp_path, monkeypatch):
    monkeypatch.setattr(workspace, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(places, "ROOT", tmp_path)
    grid = tmp_path / "prompts" / "training.parquet"
    grid.parent.mkdir()
    made, _ = make_prompts(
        study.base, study.prompts.model_copy(update={"out": str(tmp_path / "prompts")})
    )
    assert len(prompts.read_grid(grid)) == len(made)
    settings = study.synthesis.model_copy(
        update={"prompts": str(tmp_path / "prompts"), "forbidden_terms": ["a", "an"]}
    )
    with pytest.raises(ValueError, match="bars every prompt"):
        synthesise(study.base, settings)


def test_a_judge_that_screened_the_set_is_refused_whatever_params_say_now(study, tmp_path):
    """The set was screened by today's judge; params were changed since."""
    models = tmp_path / "models" / "dft"
    models.mkdir(parents=True)
    manifest = '{"raters_used": ["convnet"], "training": null, "seeds": []}'
    (models / adapters.MANIFEST).write_text(manifest, encoding="utf-8")
    settings = study.evaluate.model_copy(update={"models": str(tmp_path / "models")})
    with pytest.raises(ValueError, match="'convnet' steers or filters and may not judge"):
        evaluate_arm(study.base, settings, "dft", study.arms["dft"])


def test_training_records_who_screened_its_set(study, random_model, tmp_path, monkeypatch):
    from dft_lib.repro.paths import NOTEBOOKS

    monkeypatch.setattr(workspace, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(places, "ROOT", tmp_path)
    base = study.base.model_copy(update={"model": str(random_model)})
    settings = study.finetune.model_copy(
        update={
            "out": str(tmp_path), "steps": 2,
        }
    )  # fmt: skip
    data = str(NOTEBOOKS / "fixtures" / "synthetic")
    arm = study.arms["dft"].model_copy(update={"data": data})
    train_arm(base, settings, "dft", arm)
    screened = adapters.read_manifest(NOTEBOOKS / "fixtures" / "synthetic")["screened_by"]
    for folder in (tmp_path / "dft", tmp_path / "dft" / "seed-0"):
        assert adapters.read_manifest(folder)["raters_used"] == screened != []
