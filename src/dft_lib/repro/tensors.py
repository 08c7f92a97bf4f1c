"""Tensors and training states as safetensors: atomic, no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from dft_lib.repro.files import write_atomic


def save_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, atomically; the same tensors give the same bytes."""
    whole = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    write_atomic(path, lambda part: save_file(whole, part, dict(metadata or {})))


def save_training_state(
    path: Path,
    step: int,
    parameters: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    extra: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write what a training loop needs to go on from `step` (safetensors, no pickle)."""
    tensors: dict[str, torch.Tensor] = {"step": torch.tensor(step)}
    for name, parameter in parameters.items():
        tensors[f"parameter/{name}"] = parameter
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{name}/{key}"] = value
    tensors.update({f"extra/{k}": v for k, v in (extra or {}).items()})
    save_tensors(path, tensors)


def load_training_state(
    path: Path, parameters: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> tuple[int, dict[str, torch.Tensor]]:
    """Read a state written by `save_training_state` into place; return (step, extra)."""
    tensors = load_file(path)
    extra = {}
    with torch.no_grad():
        for key, value in tensors.items():
            kind, _, name = key.partition("/")
            if kind == "parameter":
                parameters[name].copy_(value)
            elif kind == "optimizer":
                name, _, field = name.rpartition("/")
                # moments live beside their parameter; the step count stays on the CPU
                where = parameters[name].device if value.ndim else value.device
                optimizer.state[parameters[name]][field] = value.to(where)
            elif kind == "extra":
                extra[name] = value
    return int(tensors["step"]), extra
