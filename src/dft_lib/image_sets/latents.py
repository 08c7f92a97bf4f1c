"""Latents of training pictures, encoded once for all arms and seeds that use the same set.

What is kept are the *moments* of the autoencoder's posterior, so that training still draws a
latent anew at every step. They lie in one file that is mapped, not read, so a set may be larger
than the memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from filelock import FileLock

from dft_lib.image_sets import examples
from dft_lib.models import pipelines, sources
from dft_lib.models.memory import Fitting
from dft_lib.repro import digests, workspace
from dft_lib.repro.paths import SCRATCH
from dft_lib.study.params import Base

BATCH = 64


def moments_of(
    folder: Path, images: str, fresh: Callable[[], Any], model_hash: str
) -> tuple[torch.Tensor, pd.DataFrame]:
    """Return the latent moments of the pictures an arm may train on, and their rows.

    Parameters
    ----------
    folder : pathlib.Path
        The set of pictures.
    images : str
        The arm's ``images``.
    fresh : callable
        Loads the model, if something is to be encoded.
    model_hash : str
        What identifies its weights and numerics; see `identity`.

    Returns
    -------
    torch.Tensor, pandas.DataFrame
        (2, n, c, h, w), scaled means and standard deviations, in float32, or in float16 for a
        model in half precision; and n rows.
    """
    index = examples.read_index(folder, images)
    # the records hold the pictures' checksums, so that this is all a latent depends on
    code = digests.library().digest(__name__)
    key = workspace.digest_of([model_hash, list(index["sha256"]), torch.get_num_threads(), code])
    path = SCRATCH / "latents" / f"{key[:20]}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        for left in path.parent.glob(f".{path.name}.*.part"):  # of a killed run
            left.unlink()
        if not path.exists():
            part = path.with_name(f".{path.name}.{os.getpid()}.part")
            try:
                _write(part, fresh(), examples.pictures(folder, index), len(index))
                os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)
    # "c": a private copy of what is written, so that torch need not warn; nothing is written
    return torch.from_numpy(np.load(path, mmap_mode="c")), index


def identity(base: Base) -> str:
    """Return what identifies a model and how it computes, from the parameter group ``base``."""
    device, dtype = pipelines.choose_device(base.device, base.dtype)
    weights = sources.fingerprint(base.model)
    return workspace.digest_of([weights, device.type, str(dtype), base.channels_last])


@torch.inference_mode()
def encode(pipeline: Any, pictures: np.ndarray) -> torch.Tensor:
    """Encode pictures once into latent moments.

    Parameters
    ----------
    pipeline : diffusers.DiffusionPipeline
        Whose autoencoder encodes. Pictures of another size than it draws (another model's) are
        resized.
    pictures : numpy.ndarray
        uint8 (n, height, width, 3).

    Returns
    -------
    torch.Tensor
        Scaled means and standard deviations, float32 (2, n, c, h, w), on the CPU.
    """
    # clone(): a tensor made under inference_mode cannot take part in autograd
    return torch.cat(list(_encoded(pipeline, [pictures])), 1).clone()


@torch.inference_mode()
def _write(path: Path, pipeline: Any, pictures: Iterable[np.ndarray], count: int) -> None:
    kind = np.float32 if pipeline.vae.dtype == torch.float32 else np.float16
    at, mapped = 0, None
    for part in _encoded(pipeline, pictures):
        if mapped is None:
            shape = (2, count, *part.shape[2:])
            mapped = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
        mapped[:, at : at + part.shape[1]] = part.numpy()
        at += part.shape[1]
    if mapped is not None:
        mapped.flush()


def _encoded(pipeline: Any, pictures: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
    vae, fitting = pipeline.vae, Fitting("encoding")
    side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    for batch in _batches(pictures):
        part = torch.from_numpy(batch).permute(0, 3, 1, 2).to(vae.device)
        yield torch.cat(fitting.run(partial(_moments, vae, part, side), len(part)), 1)


def _moments(vae: Any, batch: torch.Tensor, side: int, which: slice) -> torch.Tensor:
    part = batch[which]
    scale, shift = vae.config.scaling_factor, getattr(vae.config, "shift_factor", None) or 0.0
    if tuple(part.shape[-2:]) != (side, side):
        part = F.interpolate(part.float(), (side, side), mode="bicubic", antialias=True)
        part = part.clamp(0, 255)
    posterior = vae.encode(part.to(vae.dtype) / 127.5 - 1).latent_dist
    return (torch.stack([posterior.mean - shift, posterior.std]) * scale).float().cpu()


def _batches(chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Cut a stream of pictures into batches, whatever the size of its pieces."""
    waiting: list[np.ndarray] = []
    for chunk in chunks:
        for picture in chunk:
            waiting.append(picture)
            if len(waiting) == BATCH:
                yield np.stack(waiting)
                waiting = []
    if waiting:
        yield np.stack(waiting)
