"""What does not fit into memory is cut smaller, and comes out as it would have whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.models.attention import BasicTransformerBlock
from diffusers.training_utils import compute_snr
from transformers.models.clip.modeling_clip import CLIPMLP

from dft_lib.image_sets import latents
from dft_lib.models import conditioning, pipelines
from dft_lib.models.conditioning import Conditioning
from dft_lib.models.memory import BatchSplitter
from dft_lib.recipes import adversarial, alignment, denoising
from dft_lib.sampling import sampler as sampler_module
from dft_lib.sampling.sampler import Sampler
from dft_lib.study.prompts import Request
from dft_lib.training import backward, loop, objectives
from dft_lib.training.backward import Backward
from dft_lib.training.objectives import Denoising, Step, min_snr_weight

SCARCE = torch.OutOfMemoryError("CUDA out of memory")
REQUESTS = [Request(f"p{i}", ["a pilot", "a dog", "", "a judge"][i], i) for i in range(4)]


def limited(call, most, sizes, argument):
    """Return `call`, out of memory where that argument is longer than `most`."""

    def wrapped(*arguments, **named):
        sizes.append(len(arguments[argument]))
        if sizes[-1] > most:
            raise SCARCE
        return call(*arguments, **named)

    return wrapped


# -- BatchSplitter


def parts_of(most, seen):
    def call(part):
        seen.append((part.start, part.stop))
        if part.stop - part.start > most:
            raise SCARCE
        return list(range(part.start, part.stop))

    return call


@pytest.mark.parametrize("count", [1, 7, 8])
def test_a_batch_that_fits_is_run_whole(count):
    seen = []
    assert BatchSplitter("x").run(parts_of(8, seen), count) == [list(range(count))]
    assert seen == [(0, count)]


@pytest.mark.parametrize(("count", "most", "size"), [(8, 4, 4), (8, 3, 2), (7, 6, 3), (5, 1, 1)])
def test_parts_are_halved_until_they_fit_and_cover_the_batch_in_order(count, most, size):
    found = BatchSplitter("x").run(parts_of(most, []), count)
    assert [i for part in found for i in part] == list(range(count))
    assert [len(part) for part in found[:-1]] == [size] * (len(found) - 1)
    assert 0 < len(found[-1]) <= size


def test_the_limit_is_remembered():
    seen, splitter = [], BatchSplitter("x")
    splitter.run(parts_of(3, seen), 8)
    assert seen == [(0, 8), (0, 4), (0, 2), (2, 4), (4, 6), (6, 8)]
    seen.clear()
    splitter.run(parts_of(3, seen), 5)
    assert seen == [(0, 2), (2, 4), (4, 5)]
    seen.clear()
    assert splitter.run(parts_of(3, seen), 1) == [[0]]
    splitter.run(parts_of(3, seen), 4)  # a small batch in between moves no limit
    assert seen == [(0, 1), (0, 2), (2, 4)]


def test_running_out_later_starts_over():
    done = []

    def call(part):
        done.append((part.start, part.stop))
        if done[-1] == (4, 8):
            raise SCARCE
        return part.start

    splitter = BatchSplitter("x")
    splitter.most = 4
    assert splitter.run(call, 8) == [0, 2, 4, 6]
    assert done == [(0, 4), (4, 8), (0, 2), (2, 4), (4, 6), (6, 8)]


def test_one_that_does_not_fit_is_an_error_and_so_is_anything_else(caplog):
    seen = []
    with pytest.raises(torch.OutOfMemoryError):
        BatchSplitter("denoising").run(parts_of(0, seen), 4)
    assert seen == [(0, 4), (0, 2), (0, 1)]
    assert [r.getMessage() for r in caplog.records] == [
        f"denoising: {n} at once do not fit into the device's memory; going on with {n // 2}"
        for n in (4, 2)
    ]

    def broken(part):
        raise RuntimeError("no memory matter")

    with pytest.raises(RuntimeError, match="no memory matter"):
        BatchSplitter("x").run(broken, 4)


# -- Sampler


@pytest.fixture(scope="module")
def pipeline(random_model):
    return pipelines.load(str(random_model), device="cpu")


def differ(one, other):
    return int(np.abs(one.astype(int) - other).max())


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_pictures_drawn_in_parts_are_the_same(pipeline, sampling, guidance_scale, monkeypatch):
    settings = replace(sampling, guidance_scale=guidance_scale)
    whole = Sampler(pipeline, settings).batch(REQUESTS)
    assert min(differ(a, b) for a, b in zip(whole, whole[1:], strict=False)) > 10  # told apart
    drawn, decoded = [], []
    monkeypatch.setattr(conditioning, "predict", limited(conditioning.predict, 2, drawn, 1))
    monkeypatch.setattr(pipeline.vae, "decode", limited(pipeline.vae.decode, 1, decoded, 0))
    sampler = Sampler(pipeline, settings)
    assert differ(sampler.batch(REQUESTS), whole) <= 1
    images = 4 if guidance_scale == 1 else 8  # with and without the prompt
    tried = [4, 2] if guidance_scale == 1 else [8, 4, 2]
    assert drawn[: len(tried)] == tried
    assert drawn[len(tried) - 1 :] == [2] * (images // 2 * settings.num_inference_steps)
    assert decoded == [4, 2, 1, 1, 1, 1]
    drawn.clear()
    decoded.clear()
    assert differ(sampler.batch(REQUESTS[:3]), whole[:3]) <= 1
    assert max(drawn) == 2 and max(decoded) == 1  # the limits are remembered


def test_latents_are_encoded_in_parts_too(pipeline, monkeypatch):
    pictures = np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)
    whole, sizes = latents.encode(pipeline, pictures), []
    monkeypatch.setattr(pipeline.vae, "encode", limited(pipeline.vae.encode, 3, sizes, 0))
    assert torch.allclose(latents.encode(pipeline, pictures), whole, atol=1e-5)
    assert sizes == [7, 3, 3, 1]


@pytest.fixture
def encoded(monkeypatch, pipeline):
    """Return the list of prompts that get encoded from now on."""
    seen, real = [], conditioning.encode

    def count(pipe, tokens):
        listed = pipe.tokenizer.batch_decode(tokens[:, 0], skip_special_tokens=True)
        seen.extend(text.strip() for text in listed)
        return real(pipe, tokens)

    monkeypatch.setattr(conditioning, "encode", count)
    return seen


def test_every_prompt_is_encoded_once(pipeline, sampling, encoded):
    sampler = Sampler(pipeline, sampling)
    given = sampler.encode_all(["a pilot", "a dog", "a pilot"])
    assert encoded == ["a pilot", "a dog"]
    assert torch.equal(given.hidden[0], given.hidden[2])
    assert not torch.equal(given.hidden[0], given.hidden[1])
    sampler.encode_all(["a dog", "a judge"])
    sampler.encode("a pilot")
    assert encoded == ["a pilot", "a dog", "a judge"]


def test_kept_embeddings_are_bounded_and_made_again(pipeline, sampling, encoded, monkeypatch):
    monkeypatch.setattr(sampler_module, "ENCODED_PROMPTS", 3)
    texts = ["a pilot", "a dog", "a judge", "a cook", "a cat"]
    alone = {t: Sampler(pipeline, sampling).encode(t).hidden[0] for t in texts}
    sampler = Sampler(pipeline, sampling)
    encoded.clear()
    given = sampler.encode_all(texts)  # more at once than are kept
    assert all(torch.equal(row, alone[t]) for row, t in zip(given.hidden, texts, strict=True))
    assert len(sampler._encoded) == 3 and encoded == texts
    encoded.clear()
    mixed = ["a cat", "a pilot", "a judge"]
    given = sampler.encode_all(mixed)
    assert encoded == ["a pilot"]  # the last three were there
    assert all(torch.equal(row, alone[t]) for row, t in zip(given.hidden, mixed, strict=True))
    encoded.clear()
    sampler.encode("a cat")  # used again, so it stays longer than what was not
    sampler.encode_all(["a cook", "a dog"])
    assert encoded == ["a cook", "a dog"]
    sampler.encode("a cat")
    assert encoded == ["a cook", "a dog"] and len(sampler._encoded) == 3


# -- Backward, on a toy that shows every number


class Toy:
    """A loss of two parameters that reads everything of a step; one number more is logged."""

    columns, rate, splits = ("loss", "mean"), 1.0, True

    def __init__(self, splits=True):
        self.splits, self.sizes = splits, []
        self.w = torch.nn.Parameter(torch.tensor([0.5, -2.0], dtype=torch.float64))

    def __call__(self, step):
        self.sizes.append(len(step.rows))
        assert len(step.given) == len(step.plain) == len(step.rows) == len(step.timestep)
        found = self.w[0] * step.clean + self.w[1] * step.given.hidden.sum((1, 2))
        each = (found - step.noise) ** 2 * step.timestep * step.weight
        return each.mean(), {"mean": float(each.detach().mean()) + float(step.rows.mean())}


def toy_batch(size=7):
    rng = np.random.default_rng(5)
    table = torch.from_numpy(rng.standard_normal((4, 2, 3)))
    step = Step(
        0, 0.0, np.arange(size), rng.random(size) < 0.5, torch.from_numpy(rng.random(size)),
        torch.from_numpy(rng.random(size)), torch.arange(1, size + 1), None, rng,
        torch.from_numpy(rng.random(size)),
    )  # fmt: skip
    mixup = (rng.permutation(size), torch.from_numpy(rng.uniform(0.5, 1, size)))
    return table, step, rng.integers(0, 4, size), mixup


def toy_gradient(goal, mixed, most=None):
    """Return what is logged, and the gradient of the toy and of its embeddings."""
    table, step, caption, mixup = toy_batch()
    table.requires_grad_()
    optimizer = torch.optim.SGD([goal.w, table], lr=1.0)
    goal.w.grad = torch.full_like(goal.w, 1e3)  # of the step before
    run = Backward(
        goal, lambda c: Conditioning(table[c]), optimizer, torch.device("cpu"), torch.float32
    )
    run.splitter.most = most
    logged = run(step, caption, mixup if mixed else None)
    return [*logged, *goal.w.grad.tolist(), *table.grad.flatten().tolist()]


def by_hand(mixed):
    table, step, caption, (partner, own) = toy_batch()
    table.requires_grad_()
    w = torch.tensor([0.5, -2.0], dtype=torch.float64, requires_grad=True)
    hidden = table[caption].sum((1, 2))
    if mixed:
        hidden = own * hidden + (1 - own) * hidden[torch.from_numpy(partner)]
    each = (w[0] * step.clean + w[1] * hidden - step.noise) ** 2 * step.timestep * step.weight
    each.mean().backward()
    loss = float(each.detach().mean())
    return [loss, loss + 3.0, *w.grad.tolist(), *table.grad.flatten().tolist()]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("most", [None, 1, 2, 3, 6])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(most, mixed):
    goal = Toy()
    assert toy_gradient(goal, mixed, most) == pytest.approx(by_hand(mixed), rel=1e-12)
    assert max(goal.sizes) == (most or 7) and sum(goal.sizes) == 7


def test_parts_that_ran_out_of_memory_leave_no_gradient():
    class Later(Toy):
        def __call__(self, step):
            if len(step.rows) == 4 or (len(step.rows) == 3 and step.rows[0] == 3):
                self.sizes.append(None)
                raise SCARCE  # after the gradient of the first three was there
            return super().__call__(step)

    goal = Later()
    assert toy_gradient(goal, True, most=3) == pytest.approx(by_hand(True), rel=1e-12)
    assert goal.sizes == [3, None, *[1] * 7]


@pytest.mark.parametrize("most", [None, 2])
@pytest.mark.parametrize("processes", [2, 3])
def test_the_parts_of_several_processes_add_up(processes, most, monkeypatch):
    monkeypatch.setattr(backward.parallel, "add_gradients", lambda parameters: None)
    monkeypatch.setattr(backward.parallel, "add", lambda values, device: values)
    total = 0
    for rank in range(processes):
        monkeypatch.setattr(backward.parallel, "world", lambda rank=rank: (rank, processes))
        total = total + np.array(toy_gradient(Toy(), True, most))
    assert total == pytest.approx(by_hand(True), rel=1e-12)


def test_a_loss_of_whole_batches_is_never_cut(monkeypatch):
    goal = Toy(splits=False)
    assert toy_gradient(goal, True, most=2) == pytest.approx(by_hand(True), rel=1e-12)
    assert goal.sizes == [7]
    assert Denoising.splits
    assert not alignment.Alignment.splits and not adversarial.Adversarial.splits
    monkeypatch.setattr(backward.parallel, "world", lambda: (0, 2))
    with pytest.raises(ValueError, match="set finetune.processes to 1"):
        toy_gradient(goal, True)


# -- training


@pytest.fixture
def fit(small_study, random_model, tmp_path):
    """Return a function that trains under some settings: model, losses, and what was learned."""
    count = iter(range(99))

    def run(objective=None, model=random_model, **settings):
        study = small_study(model)
        defaults = {"train_batch_size": 7, "steps": 3, "text_encoder_lora": False, "rank": 2}
        job = study.job("denoising", tmp_path / f"run-{next(count)}", **defaults | settings)
        if objective is None:
            fitted = denoising.fit(job)
            pipeline, log = fitted.pipeline, fitted.log
        else:
            pipeline = job.fresh()
            log = job.train(pipeline, job.settings, job.rows(job.settings), objective=objective)
        parts = (pipeline.unet, pipeline.text_encoder)
        learned = [p.detach().flatten() for m in parts for p in m.parameters() if p.requires_grad]
        return pipeline, log["loss"].to_numpy(), torch.cat(learned).numpy()

    return run


@pytest.fixture
def scarce(monkeypatch):
    """Return a function that lets the denoising loss take so many examples at once."""

    def set_limit(most):
        sizes = []
        loss = limited(objectives.denoising_loss, most, sizes, 2)
        monkeypatch.setattr(objectives, "denoising_loss", loss)
        return sizes

    return set_limit


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("mixup", [0.0, 0.8])
def test_training_in_parts_learns_the_same(fit, scarce, text, mixup):
    settings = {"text_encoder_lora": text, "caption_mixup": mixup, "min_snr_gamma": 5.0}
    _, losses, learned = fit(**settings)
    sizes = scarce(3)
    _, again, same = fit(**settings)
    assert sizes == [7, *[3, 3, 1] * 3]
    assert again == pytest.approx(losses, rel=1e-5)
    # Adam's steps are of the learning rate's size, 1e-2, however small a gradient is
    assert np.abs(same - learned).mean() < 1e-5 and np.abs(same - learned).max() < 1e-3
    moved = fit(**settings, caption_dropout=0.9)[2]  # a change that does show
    assert np.abs(moved - learned).mean() > 1e-4


def test_a_whole_batch_objective_is_trained_on_whole_batches(fit, scarce):
    class Whole(Denoising):
        splits = False

    _, losses, _ = fit(objective=Whole)
    assert losses == pytest.approx(fit()[1], rel=1e-6)
    sizes = scarce(3)
    with pytest.raises(torch.OutOfMemoryError):
        fit(objective=Whole)
    assert sizes == [7]


def test_gradient_checkpointing_learns_the_same(fit, monkeypatch):
    passes = {BasicTransformerBlock: 0, CLIPMLP: 0}
    for kind in passes:

        def count(self, *arguments, kind=kind, real=kind.forward, **named):
            passes[kind] += torch.is_grad_enabled()
            return real(self, *arguments, **named)

        monkeypatch.setattr(kind, "forward", count)
    settings = {"text_encoder_lora": True, "gradient_checkpointing": False}
    _, losses, learned = fit(**settings)
    once = dict(passes)
    pipeline, again, same = fit(**settings | {"gradient_checkpointing": True})
    assert {k: passes[k] - once[k] for k in passes} == {k: 2 * n for k, n in once.items()}
    assert again == pytest.approx(losses, rel=1e-5)
    assert np.abs(same - learned).max() < 1e-3
    assert not pipeline.unet.training


def test_captions_that_are_not_kept_train_the_same(fit, encoded, monkeypatch):
    _, losses, learned = fit(caption_mixup=0.5)
    kept = len(encoded)
    encoded.clear()
    monkeypatch.setattr(loop, "CACHED_CAPTIONS", 1)
    _, again, same = fit(caption_mixup=0.5)
    assert len(encoded) == 3 * 7 > kept  # every caption of every batch
    assert again == pytest.approx(losses, rel=1e-5)
    assert np.abs(same - learned).max() < 1e-3


# -- min-SNR


def schedule(kind):
    return DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=kind
    )


TIMES = torch.tensor([0, 1, 50, 200, 400, 500, 700, 998, 999])


@pytest.mark.parametrize("gamma", [0.5, 1.0, 5.0, 1e9])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_min_snr_weights_by_hand(kind, gamma):
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = np.cumprod(1 - betas)[TIMES.numpy()]
    ratio = kept / (1 - kept)
    capped = np.where(ratio < gamma, ratio, gamma)
    want = capped / ratio if kind == "epsilon" else capped / (ratio + 1)
    found = min_snr_weight(schedule(kind), TIMES, gamma)
    assert found.dtype == torch.float32
    assert found.numpy() == pytest.approx(want, rel=1e-4)
    assert (found > 0).all() and (found <= 1).all()
    snr = compute_snr(schedule(kind), TIMES)
    stock = torch.stack([snr, gamma * torch.ones_like(snr)], 1).min(1)[0]
    stock = stock / (snr if kind == "epsilon" else snr + 1)  # as diffusers' training scripts
    assert found.numpy() == pytest.approx(stock.numpy(), rel=1e-4)


def test_min_snr_weighs_clean_pictures_less():
    found = min_snr_weight(schedule("epsilon"), TIMES, 5.0)
    assert found[0] < 0.01 and found[-1] == 1
    assert (found.diff() >= 0).all()
    velocity = min_snr_weight(schedule("v_prediction"), TIMES, 5.0)
    assert velocity[-1] < 0.01 and velocity[0] < 0.01 and velocity.max() > 0.5


def test_weights_multiply_each_examples_loss(pipeline):
    rng = torch.Generator().manual_seed(0)
    clean, noise = torch.randn((2, 3, 4, 8, 8), generator=rng)
    times, kind = torch.tensor([10, 500, 900]), schedule("epsilon")
    given = conditioning.encode(
        pipeline, conditioning.tokenize(pipeline, ["a dog", "a cat", "a pilot"])
    )

    @torch.no_grad()
    def loss(part, weight=None):
        chosen = (clean[part], noise[part], times[part], given[part])
        return float(objectives.denoising_loss(pipeline, kind, *chosen, weight))

    alone = [loss(slice(i, i + 1)) for i in range(3)]
    assert loss(slice(3)) == pytest.approx(np.mean(alone), rel=1e-5)
    weight = torch.tensor([0.5, 0.0, 0.9])
    want = (0.5 * alone[0] + 0.9 * alone[2]) / 3
    assert loss(slice(3), weight) == pytest.approx(want, rel=1e-5)


def test_a_very_large_gamma_changes_nothing(fit, shaped_model):
    model = shaped_model("sd15", "epsilon")
    plain, large, small = (fit(model=model, min_snr_gamma=g)[1] for g in (None, 1e9, 0.05))
    assert large == pytest.approx(plain, abs=1e-5)
    assert (small < 0.9 * plain).all()
