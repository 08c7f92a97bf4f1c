"""What fine-tuning changes: LoRA layers or a whole U-Net, saved as stock diffusers loads them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from dft_lib.models.conditioning import text_encoders
from dft_lib.repro.files import write_json
from dft_lib.repro.paths import show
from dft_lib.repro.tensors import save_tensors
from dft_lib.study.training import Training

LORA_FILE = "pytorch_lora_weights.safetensors"
MANIFEST = "manifest.json"
_TEXT_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj"]


def attach(pipeline: Any, chosen: Training) -> dict[str, torch.nn.Parameter]:
    """Make the parts that `chosen` trains trainable; return them by name, in a fixed order."""
    encoders = {name: encoder for name, (_, encoder) in text_encoders(pipeline).items()}
    for part in (pipeline.unet, pipeline.vae, *encoders.values()):
        part.requires_grad_(False)
    if chosen.method == "full":
        pipeline.unet.requires_grad_(True)
    elif chosen.lora_targets:
        pipeline.unet.add_adapter(lora_config(chosen.rank, chosen.lora_targets))
    if chosen.text_encoder_lora:
        for encoder in encoders.values():
            encoder.add_adapter(lora_config(chosen.rank, _TEXT_TARGETS))
    return {
        f"{name}.{k}": p
        for name, part in {"unet": pipeline.unet, **encoders}.items()
        for k, p in part.named_parameters()
        if p.requires_grad
    }


def lora_config(rank: int, targets: list[str]) -> LoraConfig:
    """Return LoRA layers of a rank that add their product with factor 1."""
    return LoraConfig(
        r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=sorted(targets)
    )


def save(pipeline: Any, folder: Path, manifest: dict[str, Any], *, whole_unet: bool) -> None:
    """Write what was trained, and a manifest that says how.

    LoRA goes to ``pytorch_lora_weights.safetensors`` under the names that stock diffusers has
    always read, whatever release of transformers and peft is here: the text encoder's layers as
    ``text_encoder.text_model.encoder...``. No metadata: alpha is the rank, which every reader
    takes for granted, and a full ``LoraConfig`` would be refused by other releases of peft. A
    whole U-Net goes to ``unet/``. The manifest gets the SHA-256 of each file. The same weights
    give the same bytes.

    Raises
    ------
    FloatingPointError
        If a weight is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if whole_unet:
        _require_finite(pipeline.unet.state_dict(), "the trained U-Net")
        pipeline.unet.save_pretrained(folder / "unet")
        config = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
        write_json(folder / "unet" / "config.json", config | {"_name_or_path": ""})
    layers = {
        f"{name}.{_wrapper(name, part)}{key}": value
        for name, part in _parts(pipeline).items()
        if getattr(part, "peft_config", None)
        for key, value in get_peft_model_state_dict(part).items()
    }
    if layers:
        _require_finite(layers, "the trained LoRA")
        save_tensors(folder / LORA_FILE, dict(sorted(layers.items())))
    made = [folder / LORA_FILE] if layers else []
    made += sorted((folder / "unet").glob("*")) if whole_unet else []
    hashes = {path.relative_to(folder).as_posix(): sha256_of(path) for path in made}
    write_json(folder / MANIFEST, manifest | {"sha256": hashes})


def _parts(pipeline: Any) -> dict[str, Any]:
    return {"unet": pipeline.unet} | {n: e for n, (_, e) in text_encoders(pipeline).items()}


def _wrapper(name: str, part: Any) -> str:
    """Return what transformers 5.6 took out of the names of a text encoder's layers."""
    return "" if name == "unet" or hasattr(part, "text_model") else "text_model."


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_finite(weights: Mapping[str, torch.Tensor], what: str) -> None:
    for name, value in weights.items():
        if not value.isfinite().all():
            raise FloatingPointError(
                f"{what} has numbers that are not finite ({name}): lower the learning rate and "
                "train again"
            )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a trained arm, of one of its models, or of a synthetic set.

    Raises
    ------
    FileNotFoundError
        If it was not made yet.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise FileNotFoundError(f"{show(path)} is missing: run the notebook that makes it first")
    return json.loads(path.read_text(encoding="utf-8"))


def load(pipeline: Any, folder: Path) -> Any:
    """Put the trained parts of `folder` into a freshly loaded pipeline, the stock way.

    LoRA is then merged into the weights (one matrix product per layer instead of three): drawing
    takes an eighth less time, and pictures equal the unmerged model's up to rounding.

    Raises
    ------
    FileNotFoundError
        If there is no manifest, or a file that it names is missing.
    ValueError
        If nothing was trained, or a file is not the one that was made, is cut short, lacks half of
        a layer, or fits another base model: never is the base model used in its place.
    FloatingPointError
        If a weight is not finite.
    """
    require_intact(folder)
    if (folder / "unet").is_dir():
        pipeline.unet = _whole_unet(folder / "unet").to(pipeline.device, pipeline.unet.dtype)
    if (folder / LORA_FILE).exists():
        _require_fitting(pipeline, folder / LORA_FILE)
        pipeline.load_lora_weights(folder, weight_name=LORA_FILE)
        pipeline.fuse_lora(list(_parts(pipeline)))
    return pipeline


_MEND = "restore it with `dvc checkout -f` or make it again with notebook 03"


def require_intact(folder: Path) -> None:
    """Compare the files of an adapter with the hashes in its manifest."""
    hashes = read_manifest(folder).get("sha256")
    if not hashes:
        raise ValueError(
            f"{show(folder / MANIFEST)} names no trained weights with their SHA-256: make the "
            "model again with notebook 03"
        )
    there = {LORA_FILE} if (folder / LORA_FILE).exists() else set()
    there |= {f"unet/{path.name}" for path in (folder / "unet").glob("*")}
    if odd := sorted(there - set(hashes)):
        raise ValueError(f"{show(folder / odd[0])} is not in the manifest beside it: delete it")
    for name, wanted in hashes.items():
        if not (folder / name).exists():
            raise FileNotFoundError(f"{show(folder / name)} is missing: {_MEND}")
        if sha256_of(folder / name) != wanted:
            raise ValueError(
                f"{show(folder / name)} is not the file that was made (another SHA-256 than in "
                f"its manifest): {_MEND}"
            )


def _whole_unet(folder: Path) -> UNet2DConditionModel:
    unet, said = UNet2DConditionModel.from_pretrained(
        folder, use_safetensors=True, output_loading_info=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if said[kind]:
            raise ValueError(
                f"{show(folder)} has {kind.replace('_', ' ')}, {said[kind][0]}: {_MEND}"
            )
    _require_finite(unet.state_dict(), show(folder))
    return unet.eval()


def _require_fitting(pipeline: Any, path: Path) -> None:
    """Stop unless every layer of a LoRA file is whole, finite, and belongs to this pipeline.

    diffusers leaves out what it cannot place, with a warning at most.
    """
    tensors = read_lora(path)
    parts = _parts(pipeline)
    for layer in sorted({key.rsplit(".lora_", 1)[0] for key in tensors}):
        down, up = (tensors.get(f"{layer}.lora_{half}.weight") for half in "AB")
        if down is None or up is None:
            raise ValueError(f"{show(path)} holds half of the layer {layer}, or none: {_MEND}")
        name, _, inner = layer.partition(".")
        part = parts.get(name)
        inner = inner.removeprefix(_wrapper(name, part))
        weight = getattr(dict(part.named_modules()).get(inner), "weight", None) if part else None
        if weight is None or (*up.shape[:1], *down.shape[1:]) != tuple(weight.shape):
            raise ValueError(
                f"{show(path)}: the layer {layer} does not fit the model {show(_origin(pipeline))}"
                ": load it into the base model that it was trained on"
            )
    _require_finite(tensors, show(path))


def _origin(pipeline: Any) -> str:
    return getattr(pipeline.config, "_name_or_path", "") or type(pipeline).__name__


def read_lora(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a LoRA file.

    Raises
    ------
    ValueError
        If it is cut short, no safetensors file, or empty.
    """
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{show(path)} is no whole safetensors file ({error}): {_MEND}"
        ) from error
    if not tensors:
        raise ValueError(f"{show(path)} is empty: {_MEND}")
    return tensors


def export(folder: Path, out: Path) -> Path:
    """Write the LoRA of `folder` under the names that ComfyUI and AUTOMATIC1111's web UI know.

    These tools know the U-Net's layers by kohya's names, ``lora_unet_down_blocks_0_...``, and skip
    others with a line in their log. Stock diffusers reads this spelling as well.

    Raises
    ------
    ValueError
        If `folder` holds a whole U-Net, which these tools take as a checkpoint.
    """
    require_intact(folder)
    if not (folder / LORA_FILE).exists():
        raise ValueError(f"{show(folder)} holds a whole U-Net, not LoRA: nothing to export")
    tensors = read_lora(folder / LORA_FILE)
    second = any(key.startswith("text_encoder_2.") for key in tensors)
    prefixes = {
        "unet": "lora_unet", "text_encoder": "lora_te1" if second else "lora_te",
        "text_encoder_2": "lora_te2",
    }  # fmt: skip
    renamed = {}
    for key, value in tensors.items():
        layer, _, half = key.partition(".lora_")
        name, _, inner = layer.partition(".")
        plain = f"{prefixes[name]}_{inner.replace('.', '_')}"
        renamed[f"{plain}.lora_{'down' if half[0] == 'A' else 'up'}.weight"] = value
        if half[0] == "A":
            renamed[f"{plain}.alpha"] = torch.tensor(float(len(value)))
    save_tensors(out, dict(sorted(renamed.items())))
    return out
