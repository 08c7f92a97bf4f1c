"""Random numbers keyed by what they are for, never by when they are drawn.

Every stream is NumPy's Philox keyed by the full SHA-256 of a JSON key, so an image's noise, or a
training step's batch, is the same whatever came before it, in whatever order and process.
PyTorch's CPU generator would not do: it keeps 32 bits of a seed and repeats itself within a
million images.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np


def keyed_rng(*key: str | int) -> np.random.Generator:
    """Return the random stream that belongs to `key`.

    Parameters
    ----------
    *key : str or int
        What the numbers are for, e.g. study seed, prompt id, replicate.

    Returns
    -------
    numpy.random.Generator
        Philox with the first 128 bits of the key's SHA-256 as key and the other 128 as the upper
        half of the counter; the lower half counts, so streams never overlap in practice.
    """
    text = json.dumps(key, separators=(",", ":"), ensure_ascii=True)
    words = np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype="<u8")
    counter = np.array([0, 0, words[2], words[3]], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=words[:2], counter=counter))


def initial_noise(
    study_seed: int, prompt_id: str, replicate: int, shape: tuple[int, ...]
) -> np.ndarray:
    """Return the initial noise of one image: float32 standard normal of the given shape.

    All arms share it for the same (prompt, replicate), so comparisons between arms are paired.
    """
    return keyed_rng(study_seed, prompt_id, replicate).standard_normal(shape, dtype=np.float32)
