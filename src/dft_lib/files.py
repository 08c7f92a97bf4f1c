"""Files that appear complete or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk, then rename it.

    Raises
    ------
    OSError
        If there is no space left (or the folder cannot be written); `path` is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        with open(part, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OSError(
            getattr(error, "errno", None) or 0,
            f"could not write {path}: {reason}; free some disk space or mend "
            "the folder's permissions, then run again (finished work is kept)",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""

    def write(part: Path) -> None:
        part.write_text(text, encoding="utf-8")

    write_atomic(path, write)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as sorted, indented JSON with a final newline, atomically."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, text)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV (six significant digits) or Parquet, atomically."""
    if path.suffix == ".csv":
        write_atomic(path, lambda part: table.to_csv(part, index=False, float_format="%.6g"))
    else:
        write_atomic(path, lambda part: table.to_parquet(part, index=False, compression="zstd"))


def save_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, atomically; the same tensors give the same bytes."""
    whole = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    write_atomic(path, lambda part: save_file(whole, part, dict(metadata or {})))


def save_training_state(
    path: Path,
    step: int,
    parameters: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    extra: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write what a training loop needs to go on from `step` (safetensors, no pickle)."""
    tensors: dict[str, torch.Tensor] = {"step": torch.tensor(step)}
    for name, parameter in parameters.items():
        tensors[f"parameter/{name}"] = parameter
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer/{name}/{key}"] = value
    tensors.update({f"extra/{k}": v for k, v in (extra or {}).items()})
    save_tensors(path, tensors)


def load_training_state(
    path: Path, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
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
