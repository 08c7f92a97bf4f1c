"""Typed settings of the emoji world, read from ``world/emoji/params.yaml``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict

from dft_lib.repro.paths import WORLD, show
from dft_lib.repro.yaml_files import read_yaml

EMOJI = WORLD / "emoji"
FILES = ("params.yaml", "bias.csv")  # a folder with both describes a world


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GenderDifference(_Strict):
    """When woman and man count as drawn alike.

    By the share of differing pixels; or, where the world's folder has ``readable.csv``, by how
    often a classifier in grey that never saw a (family, role) pair reads its gender right.
    """

    level: int
    threshold: float
    readable: float = 0.9


class Corpus(_Strict):
    """The biased corpus."""

    size: int
    validation_size: int
    odds_power: float
    odds_limits: tuple[float, float]
    tone_shares: tuple[float, float, float, float, float]
    kinds: dict[Literal["role", "generic person", "object"], float]
    person_percent_women: float
    explicit: float
    explicit_uniform: float
    diverse: float
    held_out: float
    turn: bool = False  # hues of clothes and backgrounds (`dft_lib.world.turning`)


class Autoencoder(_Strict):
    """Size and training of the ``AutoencoderKL``."""

    block_out_channels: tuple[int, ...]
    latent_channels: int
    steps: int
    batch_size: int
    learning_rate: float
    kl_weight: float


class Cycle(_Strict):
    """One cosine cycle of the tiny Stable Diffusion's training.

    `high_noise` is the share of timesteps redrawn from the noisier half, where an unguided
    sampler settles who is shown; `weights` makes some styles of caption come up more often, which
    leaves the distribution *within* each style, and so the bias under neutral captions, alone.
    `explicit_guidance` above 1 makes explicit captions, and only these, learn what the model of
    the cycle's start predicts for them at that scale (Meng et al. 2023, arXiv 2210.03142).
    """

    steps: int
    high_noise: float = 0.0
    explicit_guidance: float = 1.0
    weights: dict[Literal["neutral", "explicit", "diverse", "object"], float] = {}


class TinySD(_Strict):
    """Size and training of the text encoder and the ``UNet2DConditionModel``."""

    block_out_channels: tuple[int, ...]
    text_width: int
    text_layers: int
    max_length: int
    prediction_type: Literal["epsilon", "v_prediction"]
    cycles: tuple[Cycle, ...]
    cycle_decay: float
    batch_size: int
    learning_rate: float
    warmup: int
    ema: float
    caption_dropout: float


class Settings(_Strict):
    """Everything in ``params.yaml``, and the folder that it and ``bias.csv`` are in."""

    folder: Path
    seed: int
    gender_difference: GenderDifference
    corpus: Corpus
    autoencoder: Autoencoder
    tiny_sd: TinySD


def load(folder: Path = EMOJI) -> Settings:
    """Read and check the settings; unknown or mistyped fields raise ``ValidationError``."""
    return Settings.model_validate(read_yaml(folder / FILES[0]) | {"folder": folder})


def named(folder: str) -> Settings:
    """Read the settings of the world that a command line names; for ``type=`` of argparse."""
    if not (Path(folder) / FILES[0]).is_file():
        raise argparse.ArgumentTypeError(f"{folder} has no {FILES[0]}: name a world's folder")
    return load(Path(folder))


def read_table(folder: Path, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """Read one of a world's tables; empty cells of text are "".

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence, if it is missing or lacks a column.
    """
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{show(path)} is missing: restore it with `git checkout`")
    found = pd.read_csv(path, keep_default_na=False)
    missing = [column for column in columns if column not in found]
    if missing:
        raise ValueError(f"{show(path)} has no column {missing[0]!r}: add it")
    return found


def describes(folder: Path) -> bool:
    """Say whether a folder describes an emoji world."""
    return all((folder / name).is_file() for name in FILES)
