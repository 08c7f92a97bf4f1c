"""Adapters: what other tools read, and what is never drawn in their place."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dft_lib import cli
from dft_lib.models import adapters, conditioning, pipelines
from dft_lib.repro.paths import NOTEBOOKS
from dft_lib.sampling.sampler import Sampler
from dft_lib.study.training import Training, training
from tests.test_sampling import REQUESTS

FIXTURE = NOTEBOOKS / "fixtures" / "models" / "dft" / "seed-0"


def moved(folder, chosen):
    """Return a pipeline whose LoRA of every part does something."""
    pipeline = pipelines.load(str(folder), device="cpu", dtype="float32")
    torch.manual_seed(3)
    for parameter in adapters.attach(pipeline, chosen).values():
        with torch.no_grad():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return pipeline


@pytest.fixture
def chosen(study) -> Training:
    settings = training(study.finetune, study.arms["dft"].train, Training)
    return settings.model_copy(update={"rank": 2, "text_encoder_lora": True})


@pytest.fixture
def saved(random_model, chosen, tmp_path):
    pipeline = moved(random_model, chosen)
    adapters.save(pipeline, tmp_path / "a", {"arm": "x"}, whole_unet=False)
    return tmp_path / "a"


def fresh(folder):
    return pipelines.load(str(folder), device="cpu", dtype="float32")


def pictures(pipeline, sampling):
    return Sampler(pipeline, sampling).batch(REQUESTS[:4]).astype(int)


def layers_by_webui_name(pipeline):
    """Return every weight by the name that ComfyUI and AUTOMATIC1111 look up in a LoRA file.

    U-Net: kohya's spelling of diffusers' names (``lora_unet_...``). Text encoders:
    ``lora_te_text_model_encoder_layers_...``; where there are two, ``lora_te1_``, ``lora_te2_``.
    """
    two = getattr(pipeline, "text_encoder_2", None) is not None
    names = {"unet": "lora_unet_", "text_encoder": "lora_te1_" if two else "lora_te_"}
    names |= {"text_encoder_2": "lora_te2_"} if two else {}
    known = {}
    for part, prefix in names.items():
        for name, module in getattr(pipeline, part).named_modules():
            if isinstance(module, torch.nn.Linear):
                if part != "unet" and not name.startswith("text_model."):
                    name = f"text_model.{name}"
                known[prefix + name.replace(".", "_")] = module.weight
    return known


def merge(pipeline, path):
    """Add a LoRA file to the weights as these tools do; return the keys that they would skip."""
    tensors, known, read = load_file(path), layers_by_webui_name(pipeline), set()
    for name, weight in known.items():
        up, down = (tensors.get(f"{name}.lora_{half}.weight") for half in ("up", "down"))
        if up is None or down is None:
            continue
        alpha = tensors.get(f"{name}.alpha", torch.tensor(len(down)))
        with torch.no_grad():
            weight += (alpha / len(down)) * (up @ down)
        read |= {f"{name}.{end}" for end in ("lora_up.weight", "lora_down.weight", "alpha")}
    return set(tensors) - read


@pytest.mark.parametrize("shape", ["tiny", "sd15", "sdxl"])
def test_other_tools_draw_the_same_pictures(
    random_model, shaped_model, chosen, sampling, tmp_path, shape
):
    folder = random_model if shape == "tiny" else shaped_model(shape)
    pipeline = moved(folder, chosen)
    adapters.save(pipeline, tmp_path / "a", {}, whole_unet=False)
    exported = adapters.export(tmp_path / "a", tmp_path / "webui.safetensors")
    ours, before = pictures(pipeline, sampling), pictures(fresh(folder), sampling)
    assert abs(ours - before).max() > 5
    merged = fresh(folder)
    assert merge(merged, exported) == set()
    assert abs(pictures(merged, sampling) - ours).max() <= 1
    for path, name in ((tmp_path / "a", None), (tmp_path, exported.name)):
        stock = DiffusionPipeline.from_pretrained(folder)
        stock.load_lora_weights(path, weight_name=name)
        assert abs(pictures(stock, sampling) - ours).max() <= 1, name
    loaded = adapters.load(fresh(folder), tmp_path / "a")
    assert abs(pictures(loaded, sampling) - ours).max() <= 1


@pytest.mark.parametrize("shape", ["tiny", "sdxl"])
def test_names_are_those_of_every_release(random_model, shaped_model, chosen, tmp_path, shape):
    folder = random_model if shape == "tiny" else shaped_model(shape)
    pipeline = moved(folder, chosen)
    adapters.save(pipeline, tmp_path / "a", {}, whole_unet=False)
    with safe_open(tmp_path / "a" / adapters.LORA_FILE, "pt") as file:
        assert not file.metadata()  # a LoraConfig holds fields that older peft refuses
        keys = list(file.keys())
    for encoder in conditioning.text_encoders(pipeline):
        mine = [k for k in keys if k.startswith(f"{encoder}.")]
        assert mine and all(k.startswith(f"{encoder}.text_model.encoder.layers.") for k in mine), (
            encoder
        )
    assert all(k.endswith((".lora_A.weight", ".lora_B.weight")) for k in keys)


def test_the_fixture_is_one_of_them():
    adapters.load(pipelines.load("data/tiny-sd", device="cpu"), FIXTURE)


def rewritten(folder, change, *, vouched):
    """Replace the LoRA file's tensors; `vouched`: by someone who mends the manifest as well."""
    path = folder / adapters.LORA_FILE
    tensors = load_file(path)
    save_file(change(tensors), path)
    if vouched:
        manifest = json.loads((folder / adapters.MANIFEST).read_text(encoding="utf-8"))
        manifest["sha256"] = {adapters.LORA_FILE: adapters.sha256_of(path)}
        (folder / adapters.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def without(ending):
    return lambda tensors: {k: v for k, v in tensors.items() if not k.endswith(ending)}


DAMAGE = {
    "no text encoder": (lambda t: {k: v for k, v in t.items() if "text" not in k}, None),
    "one layer less": (without("layers.0.self_attn.q_proj.lora_A.weight"), "holds half of the"),
    "only A": (without("lora_B.weight"), "holds half of the layer"),
    "only B": (without("lora_A.weight"), "holds half of the layer"),
    "empty": (lambda t: {}, "is empty"),
    "nan": (lambda t: {k: v * float("nan") for k, v in t.items()}, "not finite"),
    "infinite": (lambda t: t | {min(t): t[min(t)] / 0}, "not finite"),
    "other names": (lambda t: {f"x.{k}": v for k, v in t.items()}, "does not fit the model"),
    "other layers": (lambda t: {k.replace("to_q", "to_z"): v for k, v in t.items()}, "not fit"),
    "other widths": (lambda t: {k: torch.cat([v, v]) for k, v in t.items()}, "not fit"),
    "an alpha": (lambda t: t | {"unet.alpha": torch.tensor(9.0)}, "holds half of the layer"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_weights_are_never_drawn(random_model, saved, damage):
    change, sentence = DAMAGE[damage]
    if sentence is not None:  # stopped by what is in the file, whatever its manifest says
        shutil.copytree(saved, saved.parent / "vouched")
        rewritten(saved.parent / "vouched", change, vouched=True)
        with pytest.raises((ValueError, FloatingPointError), match=sentence):
            adapters.load(fresh(random_model), saved.parent / "vouched")
    rewritten(saved, change, vouched=False)
    with pytest.raises(ValueError, match="is not the file that was made.*dvc checkout -f"):
        adapters.load(fresh(random_model), saved)


def test_cut_short(random_model, saved):
    path = saved / adapters.LORA_FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is not the file that was made"):
        adapters.load(fresh(random_model), saved)
    with pytest.raises(ValueError, match="is no whole safetensors file"):
        adapters.read_lora(path)


def test_missing(random_model, saved):
    (saved / adapters.LORA_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"weights.safetensors is missing: restore it"):
        adapters.load(fresh(random_model), saved)
    (saved / adapters.MANIFEST).write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="names no trained weights with their SHA-256"):
        adapters.load(fresh(random_model), saved)
    (saved / adapters.MANIFEST).unlink()
    with pytest.raises(FileNotFoundError, match="run the notebook that makes it first"):
        adapters.load(fresh(random_model), saved)


def test_what_the_manifest_does_not_name_is_not_loaded(random_model, saved):
    (saved / "unet").mkdir()
    shutil.copy(random_model / "unet" / "config.json", saved / "unet")
    with pytest.raises(ValueError, match=r"unet/config.json is not in the manifest"):
        adapters.load(fresh(random_model), saved)


def test_damaged_whole_unets(random_model, tmp_path):
    adapters.save(fresh(random_model), tmp_path / "a", {}, whole_unet=True)
    name = "diffusion_pytorch_model.safetensors"
    path = tmp_path / "a" / "unet" / name
    weights = load_file(path)
    for change, sentence in (
        (
            {k: v for k, v in weights.items() if "mid_block" not in k},
            "missing keys|is missing|missing",
        ),
        (weights | {"more": torch.ones(1)}, "unexpected keys, more"),
        (weights | {"conv_in.bias": weights["conv_in.bias"] * float("nan")}, "not finite"),
    ):
        save_file(change, path)
        with pytest.raises(ValueError, match="is not the file that was made"):
            adapters.load(fresh(random_model), tmp_path / "a")
        manifest = adapters.read_manifest(tmp_path / "a")
        manifest["sha256"][f"unet/{name}"] = adapters.sha256_of(path)
        (tmp_path / "a" / adapters.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        with pytest.raises((ValueError, FloatingPointError), match=sentence):
            adapters.load(fresh(random_model), tmp_path / "a")
    with pytest.raises(ValueError, match="holds a whole U-Net, not LoRA"):
        save_file(weights, path)
        manifest["sha256"][f"unet/{name}"] = adapters.sha256_of(path)
        (tmp_path / "a" / adapters.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        adapters.export(tmp_path / "a", tmp_path / "webui.safetensors")


@pytest.mark.parametrize("whole", [False, True])
def test_weights_that_are_not_finite_are_not_saved(random_model, chosen, tmp_path, whole):
    pipeline = fresh(random_model)
    if not whole:
        adapters.attach(pipeline, chosen)
    with torch.no_grad():
        list(pipeline.unet.parameters())[-1].fill_(np.inf)
        for name, parameter in pipeline.unet.named_parameters():
            if "lora_B" in name:
                parameter.fill_(np.nan)
    with pytest.raises(FloatingPointError, match="not finite.*learning rate"):
        adapters.save(pipeline, tmp_path / "a", {}, whole_unet=whole)
    assert not (tmp_path / "a" / adapters.MANIFEST).exists()


def test_export_from_the_command_line(tmp_path, capsys):
    cli.main(["export", str(FIXTURE), str(tmp_path / "a.safetensors")])
    assert "a.safetensors" in capsys.readouterr().out
    keys = list(load_file(tmp_path / "a.safetensors"))
    assert len(keys) == 3 * 64 and all(k.startswith(("lora_unet_", "lora_te_")) for k in keys)
    for model, out, sentence in (
        (FIXTURE, "a.bin", "must end in .safetensors"),
        (tmp_path, "a.safetensors", "manifest.json is missing"),
    ):
        with pytest.raises(SystemExit, match=sentence):
            cli.main(["export", str(model), str(tmp_path / out)])
