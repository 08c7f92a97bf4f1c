import pandas as pd
import pytest

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


def test_forbidding_everything_is_refused(study, tmp_path):
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
