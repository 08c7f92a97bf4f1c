"""Shared fixtures: a random pipeline of the real classes, small enough for unit tests."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dft_lib import params
from dft_lib.paths import ROOT
from dft_lib.sampling import SamplingSettings
from dft_lib.world import autoencoder, corpus, settings, tiny_sd


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an untrained pipeline, small but of the stock classes."""
    chosen = settings.load()
    small = chosen.model_copy(
        update={
            "tiny_sd": chosen.tiny_sd.model_copy(
                update={"block_out_channels": (32, 32), "text_width": 32}
            ),
            "autoencoder": chosen.autoencoder.model_copy(
                update={"block_out_channels": (8, 8, 16, 16)}
            ),
        }
    )
    torch.manual_seed(0)
    tokenizer = tiny_sd.make_tokenizer(corpus.vocabulary(), small.tiny_sd.max_length)
    folder = tmp_path_factory.mktemp("model") / "random-sd"
    tiny_sd.assemble(
        autoencoder.make(small),
        tiny_sd.make_text_encoder(small.tiny_sd, tokenizer),
        tokenizer,
        tiny_sd.make_unet(small.tiny_sd, 4, 8),
        small.tiny_sd,
        folder,
    )
    return folder


@pytest.fixture
def sampling() -> SamplingSettings:
    return SamplingSettings(
        study_seed=1, batch_size=4, num_inference_steps=3, guidance_scale=1.0, scheduler="ddim"
    )


@pytest.fixture
def study() -> params.Params:
    return params.load(ROOT / "profiles" / "smoke.yaml")


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def records() -> pd.DataFrame:
    return pd.DataFrame({"prompt_id": list("abcde"), "replicate": range(5), "seed": 0.5})


@pytest.fixture
def killed_at(monkeypatch):
    """Return a context in which a training loop dies right after its checkpoint of `step`.

    `module` is the one that calls ``save_training_state``.
    """

    class Killed(Exception):
        pass

    @contextmanager
    def context(module, step):
        save = module.save_training_state

        def save_and_die(path, at, *rest):
            save(path, at, *rest)
            if at == step:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(module, "save_training_state", save_and_die)
            with pytest.raises(Killed):
                yield

    return context
