"""Losses on drawn images: sampling, the truncated gradient, and the terms that steer."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from dft_lib.models import conditioning, pipelines
from dft_lib.recipes.adversarial import Reverse, moment_loss, reversal
from dft_lib.recipes.alignment import transport_targets
from dft_lib.repro.noise import initial_noise, keyed_rng
from dft_lib.sampling.sampler import Sampler, SamplingSettings
from dft_lib.study.prompts import Request
from dft_lib.study.training import Training, training
from dft_lib.training import loop, rollout


@pytest.fixture
def base(study):
    return study.base.model_copy(update={"num_inference_steps": 3, "batch_size": 4})


def load(model, prediction_type=None):
    pipeline = pipelines.load(str(model), device="cpu", dtype="float32")
    if prediction_type:
        config = dict(pipeline.scheduler.config) | {"prediction_type": prediction_type}
        pipeline.scheduler = pipeline.scheduler.from_config(config)
    return pipeline


def given_of(pipeline, captions):
    return conditioning.encode(pipeline, conditioning.tokenize(pipeline, captions))


def noise_of(count, seed=0):
    noise = [initial_noise(1, f"seed {seed}", i, (4, 8, 8)) for i in range(count)]
    return torch.from_numpy(np.stack(noise))


@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++"])
@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize("shape", ["random", "sdxl"])
def test_a_rollout_is_what_the_study_samples(
    random_model, shaped_model, base, shape, guidance_scale, scheduler
):
    pipeline = load(random_model if shape == "random" else shaped_model("sdxl"))
    base = base.model_copy(update={"guidance_scale": guidance_scale, "scheduler": scheduler})
    requests = [Request(f"p{i}", "a guard" if i % 2 else "a dog", i) for i in range(4)]
    sampler = Sampler(pipeline, SamplingSettings.of(base))
    noise = np.stack(
        [initial_noise(base.study_seed, r.prompt_id, r.replicate, (4, 8, 8)) for r in requests]
    )
    given = given_of(pipeline, [r.prompt for r in requests])
    rolled = rollout.roll(pipeline, base, torch.from_numpy(noise), given)
    want = sampler.latents(requests)
    assert (rolled.final - want).abs().max() < 1e-4 * max(1, float(want.abs().max()))
    assert not rolled.final.requires_grad
    assert [int(t) for t, _ in rolled.states] == sampler.scheduler.timesteps.tolist()


def attached(pipeline, study, text=True):
    chosen = training(study.finetune, {"rank": 2, "text_encoder_lora": text}, Training)
    trained = loop.attach(pipeline, chosen, 1, 0)
    rng = np.random.default_rng(3)
    for parameter in trained.values():  # B starts at 0, and A would then get no gradient
        noise = rng.standard_normal(tuple(parameter.shape), dtype=np.float32)
        parameter.data += 0.05 * torch.from_numpy(noise)
    return trained


def gradient_of(value, trained):
    found = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten()
         for g, p in zip(found, trained.values(), strict=True)]
    )  # fmt: skip


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_of_one_step_the_surrogate_has_the_gradient_itself(
    random_model, study, base, prediction_type
):
    """With one step nothing is cut off but a positive factor."""
    base = base.model_copy(update={"num_inference_steps": 1})
    pipeline = load(random_model, prediction_type)
    trained = attached(pipeline, study)
    given, noise = given_of(pipeline, ["a guard"] * 4), noise_of(4)
    towards = noise_of(4, 1)
    rolled = rollout.roll(pipeline, base, noise, given)
    value = rollout.surrogate(pipeline, rolled, given, towards, [0])
    ours = gradient_of(value, trained)
    # the sampler again, with gradients; the loss is linear, its gradient `towards`
    final = rollout.roll.__wrapped__(pipeline, base, noise, given_of(pipeline, ["a guard"] * 4))
    true = gradient_of((final.final * towards).sum(), trained)
    assert F.cosine_similarity(ours, true, dim=0) > 0.9999
    schedule = pipeline.scheduler
    a, last = schedule.alphas_cumprod[999].double(), schedule.alphas_cumprod[0].double()
    if prediction_type == "epsilon":
        factor = (last / a * (1 - a)).sqrt() - (1 - last).sqrt()
    else:
        factor = (last * (1 - a)).sqrt() - ((1 - last) * a).sqrt()
    assert float(true.norm() / ours.norm()) == pytest.approx(float(factor), rel=1e-3)
    assert factor > 0


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_step_against_the_surrogate_lowers_the_loss(
    random_model, study, base, prediction_type, guidance_scale
):
    """The loss of images drawn again from the same noise."""
    base = base.model_copy(update={"guidance_scale": guidance_scale})
    gained = []
    pipeline = load(random_model, prediction_type)
    trained = attached(pipeline, study)
    start = {k: p.detach().clone() for k, p in trained.items()}

    def loss_of(latents):
        return latents[:, 0].mean((1, 2)).square().sum() + (latents[:, 1] - 1).mean()

    for seed in range(3):
        noise = noise_of(4, seed)
        given = given_of(pipeline, ["a guard"] * 4)
        rolled = rollout.roll(pipeline, base, noise, given)
        latents = rolled.final.requires_grad_()
        before = loss_of(latents)
        (towards,) = torch.autograd.grad(before, latents)
        value = rollout.surrogate(pipeline, rolled, given, towards, range(3))
        found = gradient_of(value, trained)
        size, at = 0.002 / float(found.norm()), 0
        for p in trained.values():
            p.data -= size * found[at : at + p.numel()].reshape(p.shape)
            at += p.numel()
        with torch.no_grad():
            given = given_of(pipeline, ["a guard"] * 4)
            after = loss_of(rollout.roll(pipeline, base, noise, given).final)
        gained.append(float(before.detach() - after) / abs(float(before.detach())))
        for k, p in trained.items():
            p.data.copy_(start[k])
    assert min(gained) > 0, gained


def test_steps_that_are_not_chosen_get_no_gradient(random_model, study, base):
    pipeline = load(random_model)
    trained = attached(pipeline, study)
    given, noise = given_of(pipeline, ["a guard"] * 4), noise_of(4)
    rolled = rollout.roll(pipeline, base, noise, given)
    towards = noise_of(4, 1)

    def gradient(steps, states=rolled.states):
        changed = replace(rolled, states=states)
        value = rollout.surrogate(pipeline, changed, given, towards, steps)
        found = torch.autograd.grad(
            value, list(trained.values()), allow_unused=True, retain_graph=True
        )
        return torch.cat([f.flatten() for f in found if f is not None])

    one = [gradient([i]) for i in range(3)]
    broken = [(t, x * float("nan") if i != 1 else x) for i, (t, x) in enumerate(rolled.states)]
    assert torch.equal(gradient([1], broken), one[1])
    assert torch.allclose(gradient([0, 2]), (one[0] + one[2]) / 2, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(one[0], one[1], rtol=0.1)


def test_a_policy_draws_other_steps_captions_and_noise_each_time(random_model, study, base):
    pipeline = load(random_model)
    attached(pipeline, study)
    captions = ["a guard", "an artist", "a judge"]
    policy = rollout.OnPolicy(pipeline, base, captions, images=2, gradient_steps=2)
    drawn, steps = [], []
    real = rollout.surrogate
    rollout.surrogate = lambda *a: steps.append(a[-1]) or real(*a)
    try:
        for i in range(8):
            rng = keyed_rng("policy", i)
            chosen, noise, given, rolled = policy.draw(rng)
            value = policy.carry_back(rolled, given, noise, rng)
            drawn.append((chosen, noise))
            want = given_of(pipeline, [captions[chosen]] * 2).hidden
            assert torch.allclose(given.hidden, want, atol=1e-5)
            assert value.requires_grad
    finally:
        rollout.surrogate = real
    assert {c for c, _ in drawn} == {0, 1, 2}
    assert not any(torch.equal(drawn[0][1], n) for _, n in drawn[1:])
    assert all(len(set(s)) == 2 for s in steps) and len({tuple(sorted(s)) for s in steps}) > 1
    again = policy.draw(keyed_rng("policy", 0))
    assert again[0] == drawn[0][0] and torch.equal(again[1], drawn[0][1])
    many = rollout.OnPolicy(pipeline, base, captions, images=2, gradient_steps=99)
    assert many.gradient_steps == 3


SHARES = [np.array([0.5, 0.5]), np.array([0.75, 0.25]), np.array([0.2, 0.5, 0.3])]


@pytest.mark.parametrize("shares", SHARES, ids=str)
def test_transport_meets_the_drawn_groups_and_so_the_target(shares):
    n, k, draws = 12, len(shares), 7
    given = np.random.default_rng(1).dirichlet(np.ones(k), n)
    rows = transport_targets(given, shares, np.random.default_rng(5), draws)
    assert rows.sum(1) == pytest.approx(1)
    again = np.random.default_rng(5)
    drawn = np.concatenate([again.choice(k, size=n, p=shares) for _ in range(draws)])
    assert rows.mean(0) == pytest.approx(np.bincount(drawn, minlength=k) / len(drawn))
    many = transport_targets(given, shares, np.random.default_rng(5), 1500)
    assert many.mean(0) == pytest.approx(shares, abs=0.02)


def test_transport_of_two_groups_ranks():
    """Whatever the probabilities are, the order decides; a quarter goes to the lesser group."""
    for seed in range(3):
        p = np.random.default_rng(seed).uniform(0.9, 1, 16)  # all of them "men"
        rows = transport_targets(
            np.stack([1 - p, p], 1), np.array([0.25, 0.75]), np.random.default_rng(seed), 200
        )
        order = np.argsort(p)
        assert (np.diff(rows[order, 1]) >= 0).all()  # the surer a man, the more often one
        assert set(order[:2]) <= set(np.flatnonzero(rows[:, 0] > 0.5))
        one = transport_targets(
            np.stack([1 - p, p], 1), np.array([0.25, 0.75]), np.random.default_rng(9), 1
        )
        women = int(one[:, 0].sum())
        assert set(np.flatnonzero(one[:, 0])) == set(order[:women])


def test_transport_leaves_sure_images_alone():
    corner = np.eye(3)[[0, 0, 1, 1, 2, 2]]
    third = np.full(3, 1 / 3)
    rows = transport_targets(corner, third, np.random.default_rng(0), 500)
    assert (rows.argmax(1) == corner.argmax(1)).all()


def test_reversal_layer_and_its_schedule():
    x = torch.randn(3, 2, requires_grad=True)
    out = Reverse.apply(x, 0.7)
    assert torch.equal(out, x)
    weight = torch.randn(3, 2)
    (out * weight).sum().backward()
    assert torch.allclose(x.grad, -0.7 * weight)
    assert reversal(0.0, 3.0) == 0
    values = [reversal(s, 3.0) for s in np.linspace(0, 1, 11)]
    assert values == sorted(values) and values[-1] == pytest.approx(3, rel=1e-3)
    assert all(reversal(s, 0.0) == 0 for s in (0.0, 0.5, 1.0))


def test_moment_loss_is_zero_where_the_mean_share_is_the_target():
    target = {"gender": {"woman": 0.25, "man": 0.75}, "tone": {"a": 0.2, "b": 0.3, "c": 0.5}}
    exact = {
        "gender": torch.tensor([[0.1, 0.9], [0.4, 0.6]]).log() + 3,  # each far, the mean right
        "tone": torch.tensor([[0.2, 0.3, 0.5]] * 2).log(),
    }
    assert float(moment_loss(exact, target)) == pytest.approx(0, abs=1e-12)
    off = exact | {"gender": torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log()}
    assert float(moment_loss(off, target)) == pytest.approx(2 * 0.25**2)
    swapped = exact | {"gender": exact["gender"].flip(1)}
    assert float(moment_loss(swapped, target)) == pytest.approx(2 * 0.5**2)
    sure = {"gender": torch.tensor([[50.0, 0.0]] * 4)}
    assert float(moment_loss(sure, {"gender": {"x": 0.0, "y": 1.0}})) == pytest.approx(2)


def test_classifier_reads_the_groups_and_reports_pictures_it_has_not_seen():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {"gender": rng.choice(["woman", "man"], 160), "tone": rng.choice(["a", "b", "c"], 160)}
    )
    target = {"gender": {"man": 0.5, "woman": 0.5}, "tone": {"c": 0.2, "a": 0.3, "b": 0.5}}
    moments = torch.from_numpy(0.3 * rng.standard_normal((2, 500, 4, 8, 8), dtype=np.float32))
    moments[1] = 0.05
    rows.index = np.arange(160) * 3 + 7  # pictures of other sets lie between
    moments[0, rows.index, 0] += torch.tensor(np.where(rows["gender"] == "woman", 1, -1))[
        :, None, None
    ].float()
    for i, group in enumerate("abc"):
        moments[0, rows.index[rows["tone"] == group], 1 + i] += 1
    net, right = rollout.fit_classifier(moments, rows, target, key=["t"], steps=25, batch=32)
    assert min(right.values()) > 0.9
    seen = net(moments[0, rows.index])
    for attribute, groups in target.items():  # in the target's order of groups
        names = np.array(list(groups))[seen[attribute].argmax(1).numpy()]
        assert (names == rows[attribute]).mean() > 0.9
    assert not any(p.requires_grad for p in net.parameters())
    again, _ = rollout.fit_classifier(moments, rows, target, key=["t"], steps=25, batch=32)
    for one, two in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
    # with labels that mean nothing, what it reports is chance
    rows["gender"] = rng.permutation(rows["gender"].to_numpy())
    moments[0, :, 0] = torch.from_numpy(rng.standard_normal((500, 8, 8), dtype=np.float32))
    _, right = rollout.fit_classifier(moments, rows, target, key=["t"], steps=60, batch=32)
    assert right["gender"] < 0.9
