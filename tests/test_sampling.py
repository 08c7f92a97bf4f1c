import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from dft_lib.models import pipelines, sources
from dft_lib.repro.noise import initial_noise
from dft_lib.repro.paths import ROOT
from dft_lib.repro.seals import hash_of
from dft_lib.sampling.sampler import Sampler, make_scheduler
from dft_lib.study.prompts import Request

REQUESTS = [Request(f"p{i % 3}", ["a pilot", "a dog", ""][i % 3], i) for i in range(7)]


def draw(sampler, listed):
    pictures = np.concatenate([p for _, p in sampler.draw(listed)])
    return {(r.prompt_id, r.replicate): p for r, p in zip(listed, pictures, strict=True)}


@pytest.fixture(scope="module")
def pipeline(random_model):
    return pipelines.load(str(random_model), device="cpu")


def test_order_and_padding_do_not_change_a_byte(pipeline, sampling):
    sampler = Sampler(pipeline, sampling)
    first = draw(sampler, REQUESTS)
    again = draw(sampler, REQUESTS[::-1])
    alone = draw(sampler, REQUESTS[:1])
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert all(np.array_equal(first[key], alone[key]) for key in alone)


def test_batch_size_changes_little(pipeline, sampling):
    from dataclasses import replace

    one = draw(Sampler(pipeline, replace(sampling, batch_size=1)), REQUESTS)
    four = draw(Sampler(pipeline, sampling), REQUESTS)
    worst = max(np.abs(one[k].astype(int) - four[k]).max() for k in one)
    assert worst <= 2


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++"])
def test_equals_the_stock_pipeline(random_model, sampling, guidance_scale, scheduler):
    from dataclasses import replace

    settings = replace(sampling, guidance_scale=guidance_scale, scheduler=scheduler)
    ours = Sampler(pipelines.load(str(random_model), device="cpu"), settings).batch(REQUESTS[:2])
    stock = StableDiffusionPipeline.from_pretrained(random_model, dtype=torch.float32)
    stock.set_progress_bar_config(disable=True)
    stock.scheduler = make_scheduler(scheduler, stock.scheduler.config)
    for request, mine in zip(REQUESTS[:2], ours, strict=True):
        noise = initial_noise(1, request.prompt_id, request.replicate, (4, 8, 8))
        image = stock(
            request.prompt,
            latents=torch.from_numpy(noise)[None],
            num_inference_steps=3,
            guidance_scale=guidance_scale,
            output_type="np",
        ).images[0]
        assert np.abs(mine.astype(int) - np.round(image * 255)).max() <= 2


def test_unknown_scheduler(pipeline):
    with pytest.raises(ValueError, match="no scheduler 'euler'"):
        make_scheduler("euler", pipeline.scheduler.config)


def test_missing_model_folder():
    with pytest.raises(FileNotFoundError, match=r"data/nowhere is missing: run `dvc pull"):
        pipelines.load("data/nowhere")


def test_folder_that_is_no_pipeline(tmp_path):
    with pytest.raises(ValueError, match="is not a diffusers pipeline"):
        pipelines.load(str(tmp_path))


def test_damaged_model(random_model, tmp_path):
    import shutil

    shutil.copytree(random_model, tmp_path / "model")
    (tmp_path / "model/unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match="is damaged or of a wrong kind"):
        pipelines.load(str(tmp_path / "model"))


@pytest.mark.parametrize(
    "text", ["id: owner/name", "id: owner/name\nrevision: main", "id: name\nrevision: " + "0" * 40]
)
def test_hub_model_needs_a_pinned_revision(text, tmp_path):
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(ValueError, match="needs the hub's id.*40-digit commit") as raised:
        pipelines.load(str(tmp_path / "model.yaml"))
    assert "\n" not in str(raised.value)


def test_a_model_is_a_path(tmp_path):
    for nothing in ("owner/name", "hub/none.yaml", "data/none"):
        with pytest.raises(FileNotFoundError, match="is missing: run `dvc pull data.dvc`"):
            pipelines.load(nothing)
    (tmp_path / "model.ckpt").write_text("")
    with pytest.raises(ValueError, match="neither a folder nor a .yaml file"):
        pipelines.load(str(tmp_path / "model.ckpt"))


def test_records_name_a_folder_or_a_commit(random_model):
    found = sources.record(str(random_model))
    assert found == {"model": str(random_model), "model_hash": hash_of(random_model)}
    commit = "stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
    assert sources.record("hub/sd15.yaml") == {"model": commit, "model_hash": commit}
    for path in (ROOT / "hub").glob("*.yaml"):
        assert sources.find(str(path)).revision


def test_hub_model_without_network(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="could not be fetched"):
        pipelines.load("hub/sd15.yaml")


def test_cuda_is_never_replaced_silently():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match="no CUDA device"):
        pipelines.choose_device("cuda")


def test_values_that_are_not_finite_stop(random_model, sampling):
    """Clamped they would be black pictures, recorded and rated like others."""
    broken = pipelines.load(str(random_model), device="cpu")
    for part in (broken.unet, broken.vae.decoder):
        weight = next(part.parameters())
        kept = weight.detach().clone()
        with torch.no_grad():
            weight.fill_(float("nan"))
        with pytest.raises(FloatingPointError, match="not finite.*base.dtype"):
            Sampler(broken, sampling).batch(REQUESTS[:1])
        with torch.no_grad():
            weight.copy_(kept)
    Sampler(broken, sampling).batch(REQUESTS[:1])
