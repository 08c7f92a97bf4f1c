"""Training of the tiny Stable Diffusion: cycles, guidance of explicit captions, resume."""

import numpy as np
import pandas as pd
import pytest
import torch

from dft_lib.world import art, corpus, settings, tiny_sd
from dft_lib.world.settings import Cycle

CYCLES = (
    Cycle(steps=3),
    Cycle(steps=4, high_noise=0.5, weights={"explicit": 2.0}, explicit_guidance=3.0),
)


@pytest.fixture(scope="module")
def small():
    chosen = settings.load()
    size = {
        "block_out_channels": (32, 32), "text_width": 32, "batch_size": 8, "warmup": 2,
        "learning_rate": 1e-2, "ema": 0.5, "cycles": CYCLES,
    }  # fmt: skip
    return chosen.model_copy(update={"tiny_sd": chosen.tiny_sd.model_copy(update=size)})


@pytest.fixture(scope="module")
def data():
    captions = ["a pilot", "a woman pilot", "a man judge", "a dog"] * 8
    styles = ["neutral", "explicit", "explicit", "object"] * 8
    rng = np.random.default_rng(0)
    latents = torch.from_numpy(rng.standard_normal((32, 4, 8, 8), dtype=np.float32))
    return pd.DataFrame({"caption": captions, "style": styles}), (latents, latents.abs() / 10)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_sd.make_tokenizer(corpus.vocabulary(art.load()), 32)


def weights(parts):
    return {f"{i}.{k}": v for i, part in enumerate(parts) for k, v in part.state_dict().items()}


def test_rate_of_cycles(small):
    chosen = small.tiny_sd
    rates = [tiny_sd.learning_rate(chosen, step) for step in range(7)]
    assert [first for *_, first in rates] == [True, False, False, True, False, False, False]
    assert [cycle for _, cycle, _ in rates] == [CYCLES[0]] * 3 + [CYCLES[1]] * 4
    assert rates[1][0] > rates[2][0] and rates[4][0] > rates[6][0]
    assert max(r for r, *_ in rates[3:]) <= chosen.learning_rate * chosen.cycle_decay


def test_style_weights_leave_shares_within_a_style_alone(data):
    styles = data[0]["style"]
    steps = np.diff(tiny_sd._style_weights(styles, CYCLES[1]), prepend=0.0)
    assert steps.sum() == pytest.approx(1)
    assert steps[styles == "explicit"] == pytest.approx(2 * steps[styles == "neutral"][0])
    assert tiny_sd._style_weights(styles, CYCLES[0]) is None


def test_a_guided_cycle_resumes_to_the_same_weights(small, data, tokenizer, tmp_path, killed_at):
    def train(state, every):
        return tiny_sd.train(*data, tokenizer, small, state, checkpoint_every=every)

    whole = weights(train(tmp_path / "whole", 100))

    with killed_at(tiny_sd, 5):
        train(tmp_path / "state", 5)
    again = weights(train(tmp_path / "state", 100))
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[k], again[k]) for k in whole)


def test_guidance_moves_explicit_captions_only(small, tokenizer):
    torch.manual_seed(0)
    text = tiny_sd.make_text_encoder(small.tiny_sd, tokenizer)
    unet = tiny_sd.make_unet(small.tiny_sd, 4, 8)
    named = {f"text_encoder.{k}": p for k, p in text.named_parameters()}
    named |= {f"unet.{k}": p for k, p in unet.named_parameters()}
    teacher = tiny_sd.Teacher(text, unet, {k: p.detach() for k, p in named.items()})
    noisy, timestep = torch.randn(2, 4, 8, 8), torch.tensor([900, 100])
    tokens = tiny_sd.tokenize(tokenizer, ["a pilot", "a woman pilot", ""])
    with torch.no_grad():
        plain = unet(noisy, timestep, text(tokens[:2])[0]).sample
    plain_again = teacher.predict(noisy, timestep, tokens[:2], tokens[2], 1.0)
    guided = teacher.predict(noisy, timestep, tokens[:2], tokens[2], 2.0)
    without = teacher.predict(noisy, timestep, tokens[:2], tokens[2], 0.0)
    assert torch.allclose(plain_again, plain, atol=1e-5)
    assert torch.allclose(guided, 2 * plain - without, atol=1e-5)
    assert not torch.allclose(guided, plain, atol=1e-3)
