"""Tensors and training states as safetensors: atomic, no pickle."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dft_lib.repro.files import write_atomic
from dft_lib.repro.paths import show

log = logging.getLogger(__name__)


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
    """Write what a training loop needs to go on from `step`, with a checksum over all of it."""
    tensors: dict[str, torch.Tensor] = {"step": torch.tensor(step)}
    for name, parameter in parameters.items():
        tensors[f"parameter/{name}"] = parameter
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{name}/{key}"] = value
    tensors.update({f"extra/{k}": v for k, v in (extra or {}).items()})
    whole = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    save_tensors(path, whole, {"sha256": _checksum(whole)})


def load_training_state(
    path: Path, parameters: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> tuple[int, dict[str, torch.Tensor]]:
    """Read a state written by `save_training_state` into place; return (step, extra).

    Where there is none, or it is not what was written, nothing is changed and training begins
    anew: (0, {}). A damaged file is removed, with a warning of one sentence.
    """
    if not path.exists():
        return 0, {}
    try:
        with safe_open(path, "pt") as file:
            wanted = (file.metadata() or {}).get("sha256")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if _checksum(tensors) != wanted:
            raise ValueError("its checksum differs")
    except (SafetensorError, OSError, ValueError) as error:
        log.warning("checkpoint %s is damaged (%s): training begins anew", show(path), error)
        path.unlink(missing_ok=True)
        return 0, {}
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


def _checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values of tensors on the CPU."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def first_broken(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Return the name of the first tensor that holds a number that is not finite, if any."""
    return next((name for name, value in tensors.items() if not value.isfinite().all()), None)
