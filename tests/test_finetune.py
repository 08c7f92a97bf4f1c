import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionPipeline

from dft_lib.image_sets import examples, latents
from dft_lib.models import adapters, pipelines
from dft_lib.repro.tensors import load_training_state
from dft_lib.sampling.sampler import Sampler
from dft_lib.study.training import Training, training
from dft_lib.training import loop, objectives
from tests.test_sampling import REQUESTS

NAMED = ["gender", "skin_tone"]


@pytest.fixture
def chosen(study) -> Training:
    return training(study.finetune, study.arms["dft"].train, Training).model_copy(
        update={"steps": 6, "train_batch_size": 4}
    )


@pytest.fixture(scope="module")
def index() -> pd.DataFrame:
    rows = []
    for kind, noun, fold in [
        ("profession", "pilot", "0"), ("profession", "judge", "1"),
        ("person", "person", ""), ("general", "dog", ""),
    ]:  # fmt: skip
        for group in ["balanced", "unbalanced"] if kind != "general" else ["general"]:
            asked = group == "balanced"
            for i in range(4):
                rows.append(
                    {
                        "set": group, "kind": kind, "noun": noun, "fold": fold,
                        "prompt": f"a dark-skinned woman {noun}" if asked else f"a {noun}",
                        "caption": f"a {noun}", "weight": 0.0 if i == 3 else 1 / 3,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def drawn(index) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (len(index), 64, 64, 3), dtype=np.uint8)


def fit(model, chosen, index, drawn, state, every=2, seed=1, dtype="float32"):
    pipeline = pipelines.load(str(model), device="cpu", dtype=dtype)
    mine = examples.usable(index, chosen.images)
    rows = examples.select(index[mine].reset_index(drop=True), chosen, seed, "folds", NAMED)
    moments = latents.encode(pipeline, drawn[mine])
    losses = loop.train(
        pipeline, examples.examples(moments, rows), chosen,
        study_seed=3, seed=seed, state=state, checkpoint_every=every,
    )  # fmt: skip
    return pipeline, losses["loss"].to_numpy()


def test_held_out_professions_and_rejected_images_never_train(index, chosen):
    rows = examples.select(index[examples.usable(index, "balanced")], chosen, 0, "folds", NAMED)
    assert set(rows["noun"]) == {"judge", "person", "dog"}
    assert (rows["weight"] > 0).all()
    assert set(rows["set"]) == {"balanced", "general"}
    control = index[examples.usable(index, "unbalanced")]
    assert set(examples.select(control, chosen, 1, "folds", NAMED)["noun"]) == {
        "pilot",
        "person",
        "dog",
    }
    assert set(control["set"]) == {"unbalanced", "general"}


def test_captions(index, chosen):
    dropped = examples.select(index, chosen, 2, "folds", NAMED)
    assert not dropped["text"].str.contains("woman").any()
    kept = examples.select(
        index, chosen.model_copy(update={"captions": "kept"}), 2, "folds", NAMED
    )
    assert kept.loc[kept["set"] == "balanced", "text"].str.contains("woman").all()


def test_nothing_left_to_train_on(index, chosen):
    with pytest.raises(ValueError, match="no training image is left"):
        examples.select(index[index["noun"] != "judge"], chosen, 0, "folds", NAMED)


@pytest.mark.parametrize("text", [False, True])
def test_stock_diffusers_loads_the_same_model(
    random_model, chosen, index, drawn, tmp_path, sampling, text
):
    chosen = chosen.model_copy(update={"text_encoder_lora": text, "learning_rate": 0.05})
    pipeline, losses = fit(random_model, chosen, index, drawn, tmp_path / "state")
    assert np.isfinite(losses).all()
    adapters.save(pipeline, tmp_path / "a", {"arm": "x"}, whole_unet=chosen.method == "full")
    adapters.save(pipeline, tmp_path / "b", {"arm": "x"}, whole_unet=chosen.method == "full")
    for name in (adapters.LORA_FILE, adapters.MANIFEST):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    # no path of this clone: adapters of two clones are the same bytes
    assert str(random_model).encode() not in (tmp_path / "a" / adapters.LORA_FILE).read_bytes()
    ours = Sampler(pipeline, sampling).batch(REQUESTS[:4])
    stock = StableDiffusionPipeline.from_pretrained(random_model, dtype=torch.float32)
    before = Sampler(stock, sampling).batch(REQUESTS[:4])
    stock.load_lora_weights(tmp_path / "a")
    assert np.array_equal(Sampler(stock, sampling).batch(REQUESTS[:4]), ours)
    assert not np.array_equal(before, ours)
    assert stock.unet.peft_config["default_0"].r == chosen.rank


def test_whole_unet(random_model, chosen, index, drawn, tmp_path, sampling):
    chosen = chosen.model_copy(update={"method": "full"})
    pipeline, _ = fit(random_model, chosen, index, drawn, tmp_path / "state")
    adapters.save(pipeline, tmp_path / "a", {"arm": "x"}, whole_unet=chosen.method == "full")
    config = (tmp_path / "a" / "unet" / "config.json").read_text(encoding="utf-8")
    assert str(random_model) not in config
    again = adapters.load(pipelines.load(str(random_model), device="cpu"), tmp_path / "a")
    ours = Sampler(pipeline, sampling).batch(REQUESTS[:4])
    assert np.array_equal(Sampler(again, sampling).batch(REQUESTS[:4]), ours)


def test_training_twice_gives_the_same_bytes(random_model, chosen, index, drawn, tmp_path):
    """With equal captions in a batch and several threads, whose sums once came in any order.

    The batch is large because PyTorch shares small sums among no threads.
    """
    chosen = chosen.model_copy(
        update={
            "steps": 6, "train_batch_size": 64, "text_encoder_lora": True, "learning_rate": 1e-2,
        }
    )  # fmt: skip
    threads = torch.get_num_threads()
    torch.set_num_threads(max(threads, 2))
    try:
        for name in "ab":
            pipeline, _ = fit(random_model, chosen, index, drawn, tmp_path / f"{name}.state", 100)
            adapters.save(pipeline, tmp_path / name, {}, whole_unet=chosen.method == "full")
    finally:
        torch.set_num_threads(threads)
    one, two = (tmp_path / name / adapters.LORA_FILE for name in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_resume_gives_the_bytes_of_an_uninterrupted_run(
    random_model, chosen, index, drawn, tmp_path, killed_at
):
    whole, losses = fit(random_model, chosen, index, drawn, tmp_path / "whole")
    # Interrupted after step 4: train up to there with the same schedule, then go on.
    state = tmp_path / "state"

    with killed_at(loop, 4):
        fit(random_model, chosen, index, drawn, state)
    resumed, again = fit(random_model, chosen, index, drawn, state)
    assert np.array_equal(losses, again)
    for folder, pipeline in (("a", whole), ("b", resumed)):
        adapters.save(pipeline, tmp_path / folder, {}, whole_unet=chosen.method == "full")
    one, two = (tmp_path / f / adapters.LORA_FILE for f in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_a_broken_loss_stops_and_keeps_the_last_good_state(
    random_model, chosen, index, drawn, tmp_path, monkeypatch
):
    calls = []
    real = objectives.denoising_loss

    def breaks(*arguments):
        calls.append(1)
        loss = real(*arguments)
        return loss * float("nan") if len(calls) == 4 else loss

    monkeypatch.setattr(objectives, "denoising_loss", breaks)
    with pytest.raises(FloatingPointError, match=r"became nan at step 3.*learning_rate.*kept in"):
        fit(random_model, chosen, index, drawn, tmp_path / "state", every=100)
    pipeline = pipelines.load(str(random_model), device="cpu")
    trained = adapters.attach(pipeline, chosen)
    step, extra = load_training_state(
        tmp_path / "state", trained, torch.optim.AdamW(trained.values())
    )
    assert step == 3
    assert all(p.isfinite().all() for p in trained.values())
    assert extra["losses"][:3].isfinite().all()


@pytest.mark.parametrize("every", [1, 100])
def test_weights_that_overflow_are_never_given_back(
    random_model, chosen, index, drawn, tmp_path, every
):
    """One step at a rate of 1e38: the loss before it is finite, the weights after it are not."""
    wild = chosen.model_copy(update={"learning_rate": 1e38, "steps": 1, "warmup_steps": 0})
    wild = wild.model_copy(update={"learning_rate": 1e39})
    with pytest.raises(FloatingPointError, match=r"not finite after step 0.*no good weights"):
        fit(random_model, wild, index, drawn, tmp_path / "state", every=every)
    assert not (tmp_path / "state").exists()


def test_a_damaged_checkpoint_is_trained_again_to_the_same_weights(
    random_model, chosen, index, drawn, tmp_path, killed_at, caplog
):
    whole, losses = fit(random_model, chosen, index, drawn, tmp_path / "whole")
    with killed_at(loop, 4):
        fit(random_model, chosen, index, drawn, tmp_path / "state")
    data = bytearray((tmp_path / "state").read_bytes())
    data[-5] ^= 8
    (tmp_path / "state").write_bytes(data)
    again, more = fit(random_model, chosen, index, drawn, tmp_path / "state")
    assert np.array_equal(more, losses)
    assert any("training begins anew" in r.getMessage() for r in caplog.records)
    for one, two in zip(whole.unet.parameters(), again.unet.parameters(), strict=True):
        assert torch.equal(one, two)


def test_half_precision_models_train_full_precision_adapters(
    random_model, chosen, index, drawn, tmp_path
):
    pipeline, losses = fit(random_model, chosen, index, drawn, tmp_path / "s", dtype="bfloat16")
    trained = [p for p in pipeline.unet.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    assert pipeline.unet.conv_in.weight.dtype == torch.bfloat16
    _, exact = fit(random_model, chosen, index, drawn, tmp_path / "t")
    assert losses == pytest.approx(exact, rel=0.05)


def test_arms_of_one_seed_see_the_same_draws(random_model, chosen, index, drawn, tmp_path):
    """Arms that differ in captions alone train on the same latents, noise and timesteps."""
    seen = {"dropped": [], "kept": []}
    real = objectives.denoising_loss
    for captions, calls in seen.items():

        def record(pipeline, schedule, clean, noise, timestep, given, weight=None, calls=calls):
            hidden = given.hidden.clone()
            calls.append((clean.clone(), noise.clone(), timestep.clone(), hidden))
            return real(pipeline, schedule, clean, noise, timestep, given)

        objectives.denoising_loss = record
        try:
            arm = chosen.model_copy(update={"captions": captions, "caption_dropout": 0.0})
            fit(random_model, arm, index, drawn, tmp_path / captions)
        finally:
            objectives.denoising_loss = real
    assert len(seen["kept"]) == chosen.steps
    for one, two in zip(*seen.values(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[:3], two[:3], strict=True))
        assert not torch.equal(one[3], two[3])


def test_synthetic_set_that_does_not_fit_its_index(tmp_path, pictures, records):
    from dft_lib.repro import shards

    with pytest.raises(FileNotFoundError, match="run notebook 02 first"):
        examples.read_index(tmp_path, "balanced")
    shards.write(tmp_path / "shards" / "shard-00000.parquet", pictures, records)
    records.assign(sha256="0").to_parquet(tmp_path / shards.INDEX)
    with pytest.raises(ValueError, match="does not belong to the shards"):
        examples.read_index(tmp_path, "balanced")
    shutil.rmtree(tmp_path / "shards")
