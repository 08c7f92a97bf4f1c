"""Latents of training pictures, encoded once for all arms and seeds that use the same set.

What is kept are the *moments* of the autoencoder's posterior, so that training still draws a
latent anew at every step. They lie in one file that is mapped, not read, so a set may be larger
than the memory.
"""

from __future__ import annotations

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
from dft_lib.models.memory import BatchSplitter
from dft_lib.repro import digests, seals, workspace
from dft_lib.repro.files import require_room, write_atomic
from dft_lib.repro.paths import SCRATCH
from dft_lib.study.base import Base

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
        sealed = path.with_suffix(".sha256")
        if not seals.intact(sealed, path):
            moments = _encoded(fresh_model := fresh(), examples.pictures(folder, index))
            half = fresh_model.vae.dtype != torch.float32
            kind = np.float16 if half else np.float32
            write_atomic(path, lambda part: _write(part, moments, len(index), kind))
            seals.seal(sealed, path)
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
def _write(path: Path, moments: Iterable[torch.Tensor], count: int, kind: Any) -> None:
    """Write moments as they come into an array (2, count, c, h, w) on disk.

    Written, not mapped: where the disk is full a write says so, and a mapped page ends the
    process. For the same reason the room is asked for first.
    """
    at = 0
    with path.open("wb") as file:
        for part in moments:
            if at == 0:
                shape = (2, count, *part.shape[2:])
                header = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                start, size = file.tell(), int(np.prod(shape[1:])) * np.dtype(kind).itemsize
                require_room(path.parent, 2 * size)
            for row, values in enumerate(part.numpy().astype(kind)):
                file.seek(start + row * size + at * (size // count))
                file.write(values.tobytes())
            at += part.shape[1]


def _encoded(pipeline: Any, pictures: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
    vae, splitter = pipeline.vae, BatchSplitter("encoding")
    side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    for batch in _batches(pictures):
        part = torch.from_numpy(batch).permute(0, 3, 1, 2).to(vae.device)
        yield torch.cat(splitter.run(partial(_moments, vae, part, side), len(part)), 1)


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
