"""What fine-tuning changes: LoRA layers or a whole U-Net, saved as stock diffusers loads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from dft_lib.models.conditioning import text_encoders
from dft_lib.repro.files import write_json
from dft_lib.repro.paths import show
from dft_lib.repro.tensors import save_tensors
from dft_lib.study.params import Training

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

    LoRA goes to ``pytorch_lora_weights.safetensors`` with its adapter metadata, so that stock
    ``pipeline.load_lora_weights(folder)`` rebuilds the same layers; a whole U-Net goes to
    ``unet/``. The same weights give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    layers: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    if whole_unet:
        pipeline.unet.save_pretrained(folder / "unet")
        config = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
        write_json(folder / "unet" / "config.json", config | {"_name_or_path": ""})
    parts = {"unet": pipeline.unet} | {n: e for n, (_, e) in text_encoders(pipeline).items()}
    for name, part in parts.items():
        if getattr(part, "peft_config", None):
            layers[f"{name}_lora_layers"] = get_peft_model_state_dict(part)
            metadata |= _metadata(name, part)
    if layers:

        def write(weights: dict[str, torch.Tensor], path: str) -> None:
            # Stock saving writes two metadata keys, in an order that differs between processes.
            text = json.dumps(metadata, sort_keys=True)
            save_tensors(
                Path(path), dict(sorted(weights.items())), {"lora_adapter_metadata": text}
            )

        type(pipeline).save_lora_weights(
            folder, **layers, weight_name=LORA_FILE, save_function=write
        )
    write_json(folder / MANIFEST, manifest)


def _metadata(prefix: str, model: Any) -> dict[str, Any]:
    config = model.peft_config["default"].to_dict()
    # Where the base model lay: differs between clones, and the manifest names model and hash.
    config["base_model_name_or_path"] = None
    plain = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
    return {f"{prefix}.{k}": v for k, v in plain.items()}


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
    """
    read_manifest(folder)
    if (folder / "unet").is_dir():
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", use_safetensors=True)
        pipeline.unet = unet.to(pipeline.device, pipeline.unet.dtype).eval()
    if (folder / LORA_FILE).exists():
        pipeline.load_lora_weights(folder, weight_name=LORA_FILE)
        pipeline.fuse_lora(list(text_encoders(pipeline)) + ["unet"])
    return pipeline
