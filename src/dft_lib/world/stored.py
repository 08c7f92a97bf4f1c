"""What the steps of the world's making leave for each other, below ``world/build/``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffusers import AutoencoderKL
from pydantic import BaseModel

from dft_lib.repro import seals
from dft_lib.repro.paths import WORLD

BUILD = WORLD / "build"


@contextmanager
def state(stage: str, group: BaseModel, *inputs: Path) -> Iterator[Path]:
    """Name a training's checkpoint after all it depends on; remove it when the block ends well."""
    text = f"{group.model_dump_json()} {seals.hash_of(*inputs)}"
    path = BUILD / f"{stage}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.state.safetensors"
    yield path
    path.unlink(missing_ok=True)


def autoencoder() -> AutoencoderKL:
    """Return the trained autoencoder in single precision, from what will be published."""
    return AutoencoderKL.from_pretrained(BUILD / "autoencoder").eval()
