"""Stable Diffusion 1.5 and XL, by their structure: every arm runs, and stock code agrees."""

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from dft_lib.models import adapters, conditioning, pipelines
from dft_lib.repro.noise import initial_noise
from dft_lib.sampling.sampler import Sampler, SamplingSettings, make_scheduler
from dft_lib.stages.evaluate import evaluate_arm
from dft_lib.stages.finetune import train_arm
from dft_lib.study.prompts import Request
from dft_lib.training import loop

SHAPES = [("sd15", "epsilon"), ("sdxl", "epsilon"), ("sdxl", "v_prediction")]
REQUESTS = [Request("p0", "a guard", 0), Request("p1", "a dark-skinned woman artist", 3)]


def stock_pipeline(folder):
    stock = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    stock.set_progress_bar_config(disable=True)
    stock.scheduler = make_scheduler("ddim", stock.scheduler.config)
    return stock


def stock_pictures(stock, guidance_scale):
    pictures = []
    for request in REQUESTS:
        noise = initial_noise(1, request.prompt_id, request.replicate, (4, 8, 8))
        image = stock(
            request.prompt, latents=torch.from_numpy(noise)[None], num_inference_steps=3,
            guidance_scale=guidance_scale, output_type="np",
        ).images[0]  # fmt: skip
        pictures.append(np.round(image * 255).astype(int))
    return np.stack(pictures)


def our_pictures(pipeline, guidance_scale, intervention=None):
    settings = SamplingSettings(1, 2, 3, guidance_scale, "ddim")
    return Sampler(pipeline, settings, intervention).batch(REQUESTS).astype(int)


def far(one, other):
    return np.abs(one - other).max()


@pytest.mark.parametrize("guidance_scale", [1.0, 6.0])
@pytest.mark.parametrize(("shape", "prediction_type"), SHAPES)
def test_sampler_equals_the_stock_pipeline(shaped_model, shape, prediction_type, guidance_scale):
    folder = shaped_model(shape, prediction_type)
    stock = stock_pipeline(folder)
    assert stock.scheduler.config.prediction_type == prediction_type
    ours = our_pictures(pipelines.load(str(folder), device="cpu"), guidance_scale)
    assert far(ours, stock_pictures(stock, guidance_scale)) <= 1
    assert far(ours[0], ours[1]) > 5  # or the comparison would say nothing


def test_empty_prompt_of_sdxl_is_zeros_where_the_model_says_so(shaped_model):
    pipeline = pipelines.load(str(shaped_model("sdxl")), device="cpu")
    tokens = conditioning.tokenize(pipeline, ["", "a guard", ""])
    assert tokens.shape == (3, 2, 77)
    given = conditioning.encode(pipeline, tokens)
    assert given.hidden.shape == (3, 77, 80) and given.pooled.shape == (3, 40)
    for part in (given.hidden, given.pooled):
        empty = (part.flatten(1) == 0).all(1)
        assert empty.tolist() == [True, False, True]
    assert given.time_ids.tolist() == [[64, 64, 0, 0, 64, 64]] * 3
    pipeline.register_to_config(force_zeros_for_empty_prompt=False)
    assert (conditioning.encode(pipeline, tokens).hidden[0] != 0).any()


@pytest.mark.parametrize("shape", ["sd15", "sdxl"])
def test_stock_loading_of_trained_adapters(small_study, shaped_model, tmp_path, shape):
    """Of U-Net and every text encoder, trained; pictures are the same, and of another model."""
    folder = shaped_model(shape)
    job = small_study(folder).job("denoising", tmp_path / "scratch", text_encoder_lora=True)
    pipeline = job.fresh()
    job.train(pipeline, job.settings, job.rows(job.settings))
    moved = {
        name.split(".")[0]
        for name, p in [
            (f"{part}.{k}", p)
            for part in ("unet", "text_encoder", "text_encoder_2")
            if getattr(pipeline, part, None) is not None
            for k, p in getattr(pipeline, part).named_parameters()
        ]
        if "lora_B" in name and bool((p != 0).any())
    }
    assert moved == {"unet", *conditioning.text_encoders(pipeline)}
    adapters.save(pipeline, tmp_path / "a", {}, whole_unet=False)
    ours, before = our_pictures(pipeline, 6.0), our_pictures(job.fresh(), 6.0)
    stock = stock_pipeline(folder)
    stock.load_lora_weights(tmp_path / "a")
    assert far(stock_pictures(stock, 6.0), ours) <= 1
    merged = adapters.load(job.fresh(), tmp_path / "a")
    assert far(our_pictures(merged, 6.0), ours) <= 1
    assert far(before, ours) > 5


def test_training_tells_sdxl_what_sampling_tells_it(small_study, shaped_model, tmp_path):
    """Pooled embedding and sizes of a training batch are those of its captions."""
    job = small_study(shaped_model("sdxl")).job(
        "denoising", tmp_path / "scratch", caption_dropout=0.5, text_encoder_lora=False
    )
    pipeline, seen = job.fresh(), []

    class Look(loop.Denoising):
        def __call__(self, step):
            seen.append(step)
            return super().__call__(step)

    rows = job.rows(job.settings)
    job.train(pipeline, job.settings, rows, objective=Look)
    sampler = Sampler(job.fresh(), SamplingSettings(1, 2, 3, 1.0, "ddim"))
    told = set()
    for step in seen:
        texts = rows["text"].to_numpy()[step.rows]
        texts = [t if plain else "" for t, plain in zip(texts, step.plain, strict=True)]
        told |= set(texts)
        for name, value in sampler.encode_all(texts).parts().items():
            assert torch.allclose(step.given.parts()[name], value, atol=1e-5), name
    assert "" in told and len(told) > 1


ARMS = {
    "dft": ("denoising", {}),
    "dft_full": ("denoising", {"method": "full"}),
    "iterated": ("iterated", {}),
    "concept_editing": ("concept_editing", {}),
    "alignment": ("alignment", {}),
    "adversarial": ("adversarial", {}),
}


@pytest.fixture(scope="module")
def untrained():
    """Return a dictionary: what the base model drew, once made."""
    return {}


@pytest.mark.parametrize("shape", ["sd15", "sdxl"])
@pytest.mark.parametrize("name", ARMS)
def test_every_recipe_runs(small_study, recipe_settings, shaped_model, untrained, shape, name):
    recipe, changes = ARMS[name]
    study = small_study(shaped_model(shape))
    arm = study.arm(recipe, recipe_settings[recipe] | changes)
    table = train_arm(study.base, study.finetune, name, arm)
    assert np.isfinite(table["loss"]).all() and len(table)
    ratings = evaluate_arm(study.base, study.evaluate, name, arm)
    assert len(ratings) == 8 and set(ratings["seed"]) == {0}
    if shape not in untrained:
        base = study.arm()
        train_arm(study.base, study.finetune, "base", base)
        untrained[shape] = evaluate_arm(study.base, study.evaluate, "base", base)["sha256"]
    assert (ratings["sha256"] != untrained[shape]).any()


INTERVENTIONS = {
    "prompt_randomisation": {"attributes": ["gender", "skin_tone"]},
    "ethical_intervention": {"sentence": "{prompt}, all individuals can be {a}"},
    "fair_guidance": {
        "attributes": ["gender", "skin_tone"], "warmup": 0.0, "scale": 20.0, "threshold": 0.5,
        "momentum_scale": 0.5, "momentum": 0.6,
    },
}  # fmt: skip


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize("shape", ["sd15", "sdxl"])
def test_every_intervention_runs(small_study, shaped_model, shape, guidance_scale):
    study = small_study(shaped_model(shape))
    base = study.base.model_copy(update={"guidance_scale": guidance_scale})
    drawn = {}
    for name, draw in {"none": {}, **INTERVENTIONS}.items():
        arm = study.arm(intervention=name, draw=draw)
        train_arm(base, study.finetune, name, arm)
        drawn[name] = evaluate_arm(base, study.evaluate, name, arm).set_index("prompt_id")
    same = drawn["none"]["sha256"]
    for name in INTERVENTIONS:
        kept = drawn[name]["sha256"] == same
        assert kept["g/dog"].all(), name  # nobody there, nothing changed
        assert not kept["n/guard"].any() and not kept["n/person"].any(), name
        assert kept["e/guard"].all() == (name != "ethical_intervention"), name


def test_guidance_uses_the_pooled_embedding_of_its_concepts(small_study, shaped_model):
    """Of SDXL: with the pooled embedding of another text the guided picture is another."""
    from dft_lib.interventions.base import open_intervention
    from tests.test_interventions import SETTING

    pipeline = pipelines.load(str(shaped_model("sdxl")), device="cpu")
    arm = open_intervention("fair_guidance", INTERVENTIONS["fair_guidance"], SETTING)
    ours = our_pictures(pipeline, 1.0, arm)
    seen = []
    real = conditioning.predict

    def predict(pipeline, latents, timestep, given):
        seen.append(given)
        return real(pipeline, latents, timestep, given)

    conditioning.predict, real_predict = predict, conditioning.predict
    try:
        again = our_pictures(pipeline, 1.0, arm)
    finally:
        conditioning.predict = real_predict
    assert np.array_equal(ours, again)
    assert all(g.pooled is not None and len(g.pooled) == len(g.hidden) for g in seen)
    pooled = [g.pooled for g in seen[1:6]]
    assert not any(torch.equal(pooled[0], p) for p in pooled[1:])


@pytest.mark.parametrize("shape", ["sd15", "sdxl"])
def test_whole_unet_of_a_half_precision_model_trains(small_study, shaped_model, tmp_path, shape):
    study = small_study(shaped_model(shape))
    study.base = study.base.model_copy(update={"dtype": "bfloat16"})
    job = study.job("denoising", tmp_path / "s", method="full", text_encoder_lora=False)
    log = job.train(job.fresh(), job.settings, job.rows(job.settings))
    assert np.isfinite(log["loss"]).all()


def test_scheduler_does_not_clip_latents_of_a_model_that_does_not_say():
    from diffusers import EulerDiscreteScheduler

    for name in ("ddim", "dpmsolver++"):
        scheduler = make_scheduler(name, EulerDiscreteScheduler().config)
        assert not scheduler.config.get("clip_sample", False), name
