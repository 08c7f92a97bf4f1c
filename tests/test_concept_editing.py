"""Closed-form editing: the algebra, the layers that carry it, and the loop around it."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from dft_lib.models import adapters, conditioning
from dft_lib.models.conditioning import Conditioning
from dft_lib.recipes import concept_editing
from dft_lib.recipes.concept_editing import Editor, Settings, missing, solve
from dft_lib.study.training import training

WIDTH = 24


@pytest.fixture
def chosen(recipe_settings, study) -> Settings:
    wanted = recipe_settings["concept_editing"]
    return training(study.finetune, wanted | {"edit_scale": 1.7, "preserve_scale": 0.6}, Settings)


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def objective(new, old, c, v, p, chosen):
    """Return the least-squares objective as its paper writes it, one concept at a time."""
    total = chosen.regularisation * ((new - old) ** 2).sum()
    for one, wanted in zip(c, v, strict=True):
        total = total + chosen.edit_scale * ((new @ one - wanted) ** 2).sum()
    for one in p:
        total = total + chosen.preserve_scale * ((new @ one - old @ one) ** 2).sum()
    return total


def test_solution_minimises_the_objective(chosen):
    c, d, p = normal(5, WIDTH), normal(5, WIDTH, seed=1), normal(7, WIDTH, seed=2)
    old = normal(9, WIDTH, seed=3)  # a key or value matrix, of any height
    v = (c + d) @ old.T
    new = (old @ (torch.eye(WIDTH) + solve(c, d, p, chosen))).requires_grad_()
    best = objective(new, old, c, v, p, chosen)
    (gradient,) = torch.autograd.grad(best, new)
    assert gradient.abs().max() < 1e-10 * best  # the normal equations hold
    for seed in range(20):
        for size in (1e-3, 1.0):
            other = new.detach() + size * normal(9, WIDTH, seed=10 + seed)
            assert objective(other, old, c, v, p, chosen) > best
    assert objective(old, old, c, v, p, chosen) > 1.5 * best  # there was something to gain


def test_what_is_preserved_stays(chosen):
    """Orthogonal to what is edited: to numerical precision; else as the scale grows."""
    basis = torch.linalg.qr(normal(WIDTH, WIDTH))[0]
    c, p, old = basis[:3] * 2, basis[3:9] * 3, normal(9, WIDTH, seed=3)
    heavy = chosen.model_copy(update={"preserve_scale": 1e6})
    x = solve(c, normal(3, WIDTH, seed=1), p, heavy)
    assert (old @ x @ p.T).abs().max() < 1e-12
    assert (old @ x @ c.T).abs().max() > 0.1
    mixed, left = p + 0.5 * c[:1], []
    for scale in (0.0, 1.0, 100.0, 1e6):
        some = chosen.model_copy(update={"preserve_scale": scale})
        x = solve(c, normal(3, WIDTH, seed=1), mixed, some)
        left.append(float((old @ x @ mixed.T).abs().max()))
    assert left == sorted(left, reverse=True) and left[-1] < 1e-4 < left[0]


def test_nothing_added_is_no_change(chosen):
    c = normal(4, WIDTH)
    assert (solve(c, torch.zeros_like(c), normal(3, WIDTH, seed=1), chosen) == 0).all()


@pytest.fixture
def editor(small_study, random_model, tmp_path):
    return make_editor(small_study(random_model), tmp_path)


def make_editor(study, tmp_path, **train):
    settings = {
        "regularisation": 0.5, "edit_scale": 1.0, "preserve_scale": 1.0, "step_size": 0.5,
        "rounds": 2, "images_per_concept": 64, "whole_tail": False,
    } | train  # fmt: skip
    job = study.job("concept_editing", tmp_path / "scratch", **settings)
    return Editor(job.fresh(), job, job.rows(job.settings))


def predict(pipeline, prompts=("a guard", "a dog", "a person")):
    tokens = conditioning.tokenize(pipeline, list(prompts))
    latents = torch.from_numpy(
        np.random.default_rng(0).standard_normal((len(prompts), 4, 8, 8), dtype=np.float32)
    )
    with torch.no_grad():
        given = conditioning.encode(pipeline, tokens)
        return conditioning.predict(pipeline, latents, torch.tensor(500), given)


def apply_directly(pipeline, x):
    """Return the pipeline with W (I + X) for every key and value matrix of cross-attention."""
    changed = 0
    for name, layer in pipeline.unet.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v")):
            weight = layer.weight.double()
            layer.weight.data = (weight + weight @ x).float()
            changed += 1
    assert changed
    return pipeline


def test_alpha_zero_is_the_model_itself(editor):
    assert all((layer.lora_B["default"].weight == 0).all() for layer in editor.layers())
    from functools import partial

    fresh = partial(type(editor.pipeline).from_pretrained, editor.pipeline.config._name_or_path)
    assert torch.equal(predict(editor.pipeline), predict(fresh(dtype=torch.float32)))


def test_concepts(editor):
    """Seed 0 holds out the artist: it is preserved, with the things."""
    assert set(editor.captions) == {"guard", "person"}
    assert editor.preserved == ["artist", "cat", "dog"]
    assert set(editor.groups) == {
        ("gender", "woman"), ("gender", "man"), ("skin_tone", "light"), ("skin_tone", "dark")
    }  # fmt: skip
    assert {tuple(v.shape) for v in editor.groups.values()} == {(1, 32)}


@pytest.mark.parametrize("shape", ["random", "sd15", "sdxl"])
@pytest.mark.parametrize("whole_tail", [False, True])
def test_stock_lora_is_the_edit(
    small_study, random_model, shaped_model, tmp_path, shape, whole_tail
):
    model = random_model if shape == "random" else shaped_model(shape)
    editor = make_editor(small_study(model), tmp_path, whole_tail=whole_tail)
    fresh = lambda: type(editor.pipeline).from_pretrained(model, dtype=torch.float32)  # noqa: E731
    for noun, sign in (("guard", 1), ("person", -1)):
        editor.alpha[noun] |= {("gender", "woman"): 3.0 * sign, ("skin_tone", "dark"): 2.0}
    editor.write()
    adapters.save(editor.pipeline, tmp_path / "a", {}, whole_unet=False)
    stock, before = fresh(), fresh()
    stock.load_lora_weights(tmp_path / "a")
    want = predict(apply_directly(fresh(), editor.x))
    effect = (want - predict(before)).abs().max()
    assert effect > 1e-2
    assert (predict(stock) - want).abs().max() < 1e-3 * effect
    assert (predict(editor.pipeline) - want).abs().max() < 1e-3 * effect


@pytest.mark.parametrize("whole_tail", [False, True])
def test_embeddings_are_of_the_last_subject_token(small_study, random_model, tmp_path, whole_tail):
    editor = make_editor(small_study(random_model), tmp_path, whole_tail=whole_tail)
    pipeline = editor.pipeline
    for prompt in ("a guard", "a photo of a construction worker"):
        tokens = conditioning.tokenize(pipeline, [prompt])
        ids = tokens[0, 0].tolist()
        end = ids.index(pipeline.tokenizer.eos_token_id)
        words = [pipeline.tokenizer.decode([i]).strip() for i in ids]
        assert words[end - 1] == prompt.split()[-1]
        given = conditioning.encode(pipeline, tokens)
        assert isinstance(given, Conditioning)
        want = given.hidden[0, end - 1 :] if whole_tail else given.hidden[0, end - 1 : end]
        got = concept_editing.embeddings(pipeline, prompt, whole_tail)
        assert torch.equal(got, want.double())


def test_edit_moves_towards_the_groups(editor):
    """W' c is nearer to W c + alpha W a than W c is, for every edited concept."""
    editor.alpha["guard"]["gender", "woman"] = 2.0
    editor.write()
    a = editor.groups["gender", "woman"][0]
    for layer in editor.layers():
        weight = layer.base_layer.weight.double()
        for c in editor.edited["guard"]:
            wanted, moved = 2.0 * weight @ a, weight @ editor.x @ c[0]
            assert torch.nn.functional.cosine_similarity(wanted, moved, dim=0) > 0.5


def counts(**groups):
    return pd.Series([g for g, n in groups.items() for _ in range(n)], dtype=object)


def test_missing():
    half = {"woman": 0.5, "man": 0.5}
    gap, even = missing(counts(woman=16, man=48), half)
    assert gap == {"woman": 0.25, "man": -0.25} and not even
    # who is not recognised does not count
    gap, even = missing(counts(woman=16, man=48, unclear=30, no_person=6), half)
    assert gap == {"woman": 0.25, "man": -0.25} and not even
    # 64 images: the band is 32 +- 7.84
    assert missing(counts(woman=25, man=39), half)[1]
    assert not missing(counts(woman=24, man=40), half)[1]
    assert not missing(counts(woman=40, man=24), half)[1]
    gap, even = missing(counts(a=10, b=90), {"a": 0.1, "b": 0.9})
    assert gap == pytest.approx({"a": 0, "b": 0}) and even
    gap, even = missing(counts(a=50, b=50), {"a": 0.5, "b": 0.25, "c": 0.25})
    assert gap == {"a": 0, "b": -0.25, "c": 0.25} and not even


def test_pictures_without_anybody_are_not_fair():
    assert not missing(counts(no_person=64), {"woman": 0.5, "man": 0.5})[1]


class Scripted:
    """A panel that says, round by round, how many of the 64 pictures show a woman."""

    women = [16, 16, 32, 32]
    calls = 0

    def __init__(self, members, groups=None):
        Scripted.calls = 0

    def rate(self, pixels):
        women = self.women[min(Scripted.calls // 2, len(self.women) - 1)]  # two nouns a round
        Scripted.calls += 1
        gender = ["woman"] * women + ["man"] * (len(pixels) - women)
        tone = ["light", "dark"] * (len(pixels) // 2)
        return pd.DataFrame({"gender": gender, "skin_tone": tone})


@pytest.fixture
def quick(monkeypatch):
    """Draw nothing: the panel knows its answers."""

    class Blank:
        def __init__(self, *arguments):
            pass

        def draw(self, requests):
            yield 0, np.zeros((len(requests), 64, 64, 3), np.uint8)

    monkeypatch.setattr(concept_editing, "Sampler", Blank)


def run(study, folder, monkeypatch, women, **train):
    settings = {
        "regularisation": 0.5, "edit_scale": 1.0, "preserve_scale": 1.0, "step_size": 0.3,
        "rounds": 5, "images_per_concept": 64, "whole_tail": False,
    } | train  # fmt: skip
    monkeypatch.setattr(Scripted, "women", women)
    monkeypatch.setattr(concept_editing, "Panel", Scripted)
    job = study.job("concept_editing", folder, **settings)
    fitted = concept_editing.fit(job)
    return fitted, json.loads((folder / "rounds.json").read_text())["alpha"]


def test_the_step_size_is_applied_and_adds_up(
    small_study, random_model, tmp_path, monkeypatch, quick
):
    study = small_study(random_model)
    fitted, alpha = run(study, tmp_path / "s", monkeypatch, [16, 16, 32])
    # two rounds with a quarter of the women missing; then nothing but chance
    assert alpha == {
        noun: pytest.approx([0.3 * 0.5, -0.3 * 0.5, 0, 0]) for noun in ("guard", "person")
    }
    log = fitted.log
    assert log["edited"].tolist() == [2, 2, 0]
    assert log["gender"].tolist() == [0.25, 0.25, 0.0] and (log["skin_tone"] == 0).all()
    assert fitted.cost.images_drawn == 3 * 2 * 64
    one, alpha = run(study, tmp_path / "t", monkeypatch, [16, 32], step_size=1.0)
    assert alpha["guard"] == pytest.approx([0.25, -0.25, 0, 0])
    assert len(one.log) == 2


def test_the_loop_ends_after_its_rounds_with_a_measurement(
    small_study, random_model, tmp_path, monkeypatch, quick
):
    fitted, alpha = run(small_study(random_model), tmp_path / "s", monkeypatch, [0], rounds=2)
    assert fitted.log["edited"].tolist() == [2, 2, 0]  # the last one measures
    assert alpha["guard"] == pytest.approx([2 * 0.3 * 0.5, -2 * 0.3 * 0.5, 0, 0])


def test_resumed_editing_goes_on_from_its_rounds(small_study, random_model, tmp_path, monkeypatch):
    """Killed after a round and inside one; with the pictures of the model as it was."""
    study = small_study(random_model)
    train = {
        "regularisation": 0.5, "edit_scale": 1.0, "preserve_scale": 1.0, "step_size": 1.0,
        "rounds": 3, "whole_tail": True, "images_per_concept": 64,
    }  # fmt: skip
    small = {"images_per_concept": 12}

    def fit(folder):
        job = study.job("concept_editing", folder, unchecked=small, **train)
        fitted = concept_editing.fit(job)
        adapters.save(fitted.pipeline, folder, {}, whole_unet=False)
        return (folder / adapters.LORA_FILE).read_bytes(), fitted

    whole, fitted = fit(tmp_path / "whole")
    assert fitted.log["edited"].tolist()[0] > 0 and len(fitted.log) > 2
    real, calls = concept_editing.Panel.rate, []

    def rate(self, pixels):
        calls.append(1)
        if len(calls) == 4:  # second noun of the second round
            raise KeyboardInterrupt
        return real(self, pixels)

    monkeypatch.setattr(concept_editing.Panel, "rate", rate)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "resumed")
    resumed, again = fit(tmp_path / "resumed")
    assert resumed == whole
    pd.testing.assert_frame_equal(fitted.log, again.log, check_like=True)
    assert fitted.cost == again.cost
    assert len(calls) == 4 + 2 * (len(fitted.log) - 1)  # the first round is not drawn again
    rounds = tmp_path / "resumed" / "rounds.json"
    rounds.write_text(rounds.read_text().replace("12", "13"))  # a disk's damage
    assert fit(tmp_path / "resumed")[0] == whole
