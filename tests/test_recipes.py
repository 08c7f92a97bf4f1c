"""Recipes: alignment, the adversary, the iterated loop; their bytes, manifests and costs."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from dft_lib.image_sets import latents
from dft_lib.models import adapters, conditioning
from dft_lib.recipes import adversarial, alignment, iterated
from dft_lib.recipes.iterated import adjust, allotted, cell_shares
from dft_lib.sampling.sampler import Sampler
from dft_lib.stages.evaluate import evaluate_arm
from dft_lib.stages.finetune import train_arm
from dft_lib.training import loop, rollout
from dft_lib.training.job import settings_of
from tests.conftest import TARGET


class Sign(nn.Module):
    """Stands for a classifier: a woman where the mean of channel 0 is above a level."""

    level = 0.0

    def forward(self, latents):
        seen = 8 * (latents[:, 0].mean((1, 2)) - self.level)
        return {"gender": torch.stack([seen, -seen], 1)}


@pytest.fixture
def steered(small_study, random_model, tmp_path, monkeypatch):
    """Return a function that trains with a classifier by which a fifth are women.

    It returns the share of women before and after, over images that training did not draw.
    """
    study = small_study(random_model)
    study.finetune = study.finetune.model_copy(
        update={"steps": 20, "learning_rate": 8e-3, "rank": 4, "warmup_steps": 3}
    )

    def women(pipeline, level=None):
        noise = np.random.default_rng(7).standard_normal((100, 4, 8, 8), dtype=np.float32)
        given = conditioning.encode(pipeline, conditioning.tokenize(pipeline, ["a guard"] * 100))
        drawn = rollout.roll(pipeline, study.base, torch.from_numpy(noise), given).final
        means = drawn[:, 0].mean((1, 2))
        return float((means > level).float().mean()) if level is not None else means

    def run(recipe, target, **train):
        study.base = study.base.model_copy(update={"target": {"gender": target}})
        job = study.job(recipe, tmp_path / recipe, **train)
        Sign.level = float(torch.quantile(women(job.fresh()), 0.8))
        for module in (alignment, adversarial):
            stub = lambda *a, **k: (Sign(), {"gender": 1.0})  # noqa: E731
            monkeypatch.setattr(module, "fit_classifier", stub)
        before = women(job.fresh(), Sign.level)
        fitted = {"alignment": alignment, "adversarial": adversarial}[recipe].fit(job)
        return before, women(fitted.pipeline.to("cpu"), Sign.level), fitted

    return run


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_alignment_moves_shares_to_the_target(steered, share):
    before, after, fitted = steered(
        "alignment", {"woman": share, "man": 1 - share}, images_per_prompt=8, gradient_steps=2,
        transports=20, uncertainty=0.3, alignment_weight=10.0, image_weight=0.0,
    )  # fmt: skip
    assert before == pytest.approx(0.2, abs=0.02)
    assert abs(after - share) < abs(before - share) / 2
    assert after > before + 0.15
    assert fitted.raters == (rollout.CLASSIFIER,)
    assert list(fitted.log.columns[2:]) == ["denoising", "alignment", "image", "assigned"]
    assert ((fitted.log["assigned"] >= 0) & (fitted.log["assigned"] <= 1)).all()


def test_the_moment_term_moves_shares_to_the_target(steered):
    share = 0.8
    before, after, _ = steered(
        "adversarial", {"woman": share, "man": 1 - share}, images_per_prompt=8,
        gradient_steps=2, moment_weight=20.0, adversary_weight=0.0, adversary_rate=1.0,
        adversary_from=0,
    )  # fmt: skip
    assert abs(after - share) < abs(before - share) / 2


def test_image_term_keeps_the_frozen_models_images(small_study, random_model, tmp_path):
    """The likeness is 1, its loss 0, at the start: both models draw from the same noise."""
    job = small_study(random_model).job(
        "alignment", tmp_path / "s", images_per_prompt=4, gradient_steps=1, transports=5,
        uncertainty=1.0, alignment_weight=0.0, image_weight=1.0, steps=3, learning_rate=0.1,
    )  # fmt: skip
    log = alignment.fit(job).log
    assert log["image"].iloc[0] == pytest.approx(0, abs=1e-5)
    assert log["image"].iloc[2] > 1e-4
    assert (log["assigned"] == 1).all()


# --- the adversary


def two_clusters(study):
    """Write the group into the latents: channel 0 is far up or far down."""
    rows = study.index.copy()
    moments = torch.zeros_like(study.moments)
    moments[1] = 0.1
    up = torch.tensor(np.where(rows["rated_gender"] == "woman", 1.5, -1.5)).float()
    moments[0, :, 0] = up[:, None, None]
    return moments


def adversary_run(study, folder, weight, **changes):
    study.base = study.base.model_copy(update={"target": {"gender": {"woman": 0.5, "man": 0.5}}})
    train = {
        "images": "balanced", "method": "full", "text_encoder_lora": False, "steps": 30,
        "train_batch_size": 16, "learning_rate": 2e-3, "warmup_steps": 1, "adversary_rate": 2.0,
        "adversary_from": 300, "moment_weight": 0.0, "images_per_prompt": 2, "gradient_steps": 1,
        "caption_dropout": 0.0, "preservation_share": 0.0, "adversary_weight": weight,
    } | changes  # fmt: skip
    job = study.job("adversarial", folder, **train)
    job = job.__class__(**{**vars(job), "moments": two_clusters(job)})
    return job, adversarial.fit(job)


def test_the_adversary_learns_and_the_model_misleads_it(small_study, random_model, tmp_path):
    """Its logged accuracy only: a fresh reader of the same features may still find the group."""
    study = small_study(random_model)
    _, free = adversary_run(study, tmp_path / "free", 0.0)
    _, hiding = adversary_run(study, tmp_path / "hiding", 0.5)
    read = [fitted.log["adversary_gender"].tail(10).mean() for fitted in (free, hiding)]
    assert read[0] > 0.85
    assert read[1] < read[0] - 0.2
    assert free.raters == ()  # without the moment term nothing steers
    told = hiding.about["probe_accuracy"]["gender"]  # and the manifest says what a fresh one reads
    assert told["majority"] <= told["before"] and 0 <= told["after"] <= 1


def objective(study, folder, classifier=None, **train):
    wanted = {
        "images": "balanced", "adversary_weight": 1.0, "adversary_rate": 1.0,
        "adversary_from": 400, "moment_weight": 1.0, "images_per_prompt": 2, "gradient_steps": 1,
    } | train  # fmt: skip
    job = study.job("adversarial", folder, **wanted)
    pipeline = job.fresh()
    trained = loop.attach(pipeline, job.settings, 1, 0)
    rng = np.random.default_rng(3)
    for parameter in trained.values():
        noise = rng.standard_normal(tuple(parameter.shape), dtype=np.float32)
        parameter.data += 0.05 * torch.from_numpy(noise)
    rows = job.rows(job.settings)
    torch.manual_seed(0)
    goal = adversarial.Adversarial(
        pipeline, job=job, rows=rows, captions=["a guard"], classifier=classifier
    )
    goal.adversary.eval()  # spectral norm as it is
    return goal, trained, rows


def step_of(goal, rows, share=1.0, timestep=(500, 900, 399, 400, 800, 700), rng=0):
    count = len(timestep)
    normal = np.random.default_rng(5).standard_normal((2, count, 4, 8, 8), dtype=np.float32)
    pipeline = goal.pipeline
    given = conditioning.encode(pipeline, conditioning.tokenize(pipeline, ["a guard"] * count))
    people = np.flatnonzero(rows["kind"] != "general")
    picks = np.array([*people[:: len(people) // (count - 1)][: count - 1], len(rows) - 1])
    plain = np.ones(count, bool)
    plain[1] = False
    return adversarial.Step(
        0, share, picks, plain, torch.from_numpy(normal[0]), torch.from_numpy(normal[1]),
        torch.tensor(timestep), given, np.random.default_rng(rng),
    )  # fmt: skip


def gradients(loss, parameters):
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return torch.cat([f.flatten() for f in found if f is not None])


def test_the_model_gets_the_adversarys_gradient_reversed(small_study, random_model, tmp_path):
    study, model, own = small_study(random_model), {}, {}
    for weight in (0.0, 1.0, 2.0):
        goal, trained, rows = objective(study, tmp_path / str(weight), adversary_weight=weight)
        loss, logged = goal(step_of(goal, rows))
        everything = trained | {f"own.{k}": p for k, p in goal.parameters().items()}
        found = torch.autograd.grad(loss, list(everything.values()), allow_unused=True)
        part = dict(zip(everything, found, strict=True))
        flat = {k: v.flatten() for k, v in part.items() if v is not None}
        model[weight] = torch.cat([v for k, v in flat.items() if not k.startswith("own.")])
        own[weight] = torch.cat([v for k, v in flat.items() if k.startswith("own.")])
        assert float(loss.detach()) == pytest.approx(
            logged["denoising"] + logged["adversary"], rel=1e-5
        )
        assert logged["moment"] == 0
    assert torch.allclose(own[0.0], own[2.0], atol=1e-6) and own[0.0].norm() > 1e-3
    one, two = model[1.0] - model[0.0], model[2.0] - model[0.0]
    assert torch.allclose(two, 2 * one, atol=1e-5, rtol=1e-2) and one.norm() > 1e-5
    # along what the model gets (against its gradient) the adversary's loss grows
    goal, trained, rows = objective(study, tmp_path / "x")
    step = step_of(goal, rows)
    _, before = goal(step)
    at, size = 0, 0.02 / float(one.norm())
    for p in (p for k, p in trained.items() if part[k] is not None):
        p.data -= size * one[at : at + p.numel()].reshape(p.shape)
        at += p.numel()
    _, after = goal(step_of(goal, rows))
    assert after["adversary"] > before["adversary"]


def test_the_adversary_sees_noisy_captioned_people_alone(small_study, random_model, tmp_path):
    """Of six: the second has no caption, the third too little noise, the last nobody."""
    goal, _, rows = objective(small_study(random_model), tmp_path)
    step = step_of(goal, rows)
    goal(step)
    with torch.no_grad():
        given = goal.adversary(goal.features.float())
    for attribute, names in TARGET.items():
        told = rows[f"rated_{attribute}"].to_numpy()[step.rows]
        labels = [list(names).index(t) for t in told]
        used = [0, 3, 4]
        right = (given[attribute].argmax(1).numpy()[used] == np.array(labels)[used]).mean()
        _, logged = goal(step)
        assert logged[f"adversary_{attribute}"] == pytest.approx(right)
    want = sum(
        float(torch.nn.functional.cross_entropy(
            given[a][used], torch.tensor([list(n).index(t) for t in
                                          rows[f"rated_{a}"].to_numpy()[step.rows][used]])))
        for a, n in TARGET.items()
    )  # fmt: skip
    assert logged["adversary"] == pytest.approx(want, rel=1e-5)
    quiet = step_of(goal, rows, timestep=(0, 1, 2, 3, 4, 5))
    _, logged = goal(quiet)
    assert logged["adversary"] == 0 and np.isnan(logged["adversary_gender"])


def test_the_moment_term_is_carried_back_to_the_weights(small_study, random_model, tmp_path):
    study = small_study(random_model)
    study.base = study.base.model_copy(update={"target": {"gender": {"woman": 0.9, "man": 0.1}}})
    found = {}
    for weight in (0.0, 1.0, 3.0):
        goal, trained, rows = objective(
            study, tmp_path / str(weight), Sign(), moment_weight=weight, adversary_weight=0.0
        )
        loss, logged = goal(step_of(goal, rows))
        found[weight] = gradients(loss, trained)
        assert logged["moment"] > 0  # logged without its weight
    one, three = found[1.0] - found[0.0], found[3.0] - found[0.0]
    assert one.norm() > 1e-6 and torch.allclose(three, 3 * one, rtol=1e-2, atol=1e-5)


# --- the iterated loop


def rated(**columns):
    return pd.DataFrame(columns)


def test_corrected_moves_factors_against_what_is_there():
    target = {"gender": {"woman": 0.5, "man": 0.5}}
    factors = {}
    some = rated(gender=["woman"] * 3 + ["man"] * 13 + ["unclear"] * 4)
    adjust(factors, "guard", some, target, 1.0)
    # smoothed: 4 and 14 of 18
    assert factors == {
        ("guard", "gender", "woman"): pytest.approx(9 / 4),
        ("guard", "gender", "man"): pytest.approx(9 / 14),
    }
    adjust(factors, "guard", some, target, 1.0)
    assert factors["guard", "gender", "woman"] == 4  # 81/16, clipped
    assert factors["guard", "gender", "man"] == pytest.approx((9 / 14) ** 2)
    adjust(factors, "judge", some, target, 0.5)
    assert factors["judge", "gender", "woman"] == pytest.approx(1.5)
    for _ in range(9):
        adjust(factors, "cook", rated(gender=["man"] * 60), target, 1.0)
    assert factors["cook", "gender", "man"] == 0.25
    even = {}
    adjust(even, "x", rated(gender=["woman", "man"] * 8), target, 1.0)
    assert set(even.values()) == {1.0}


def test_cell_shares_are_the_target_times_the_factors():
    target = {"gender": {"woman": 0.5, "man": 0.5}, "tone": {"a": 0.2, "b": 0.3, "c": 0.5}}
    plain = cell_shares({}, "guard", target)
    assert sum(plain.values()) == pytest.approx(1) and len(plain) == 6
    assert plain["woman", "b"] == pytest.approx(0.15)
    moved = cell_shares({("guard", "gender", "woman"): 3.0, ("other", "tone", "a"): 9.0},
                        "guard", target)  # fmt: skip
    assert sum(moved.values()) == pytest.approx(1)
    assert moved["woman", "c"] / moved["man", "c"] == pytest.approx(3)
    assert moved["woman", "a"] / moved["woman", "c"] == pytest.approx(0.4)


def test_allotted_sums_to_the_images_and_goes_where_they_lack():
    rng = np.random.default_rng(0)
    for images in (0, 1, 7, 64):
        for _ in range(50):
            wanted, even = rng.dirichlet(np.ones(6)), np.full(6, 1 / 6)
            shared = allotted(wanted, even, images)
            assert shared.sum() == images and (shared >= 0).all()
            assert (shared[wanted <= even] == 0).all()
            lack = np.maximum(wanted - even, 0)
            assert (np.abs(shared - images * lack / lack.sum()) < 1).all()
    assert (allotted(np.full(4, 0.25), np.full(4, 0.25), 9) == 0).all()


class Men:
    """A panel that sees light-skinned men only."""

    def __init__(self, members, groups=None):
        pass

    def rate(self, pixels):
        return pd.DataFrame(
            {"gender": ["man"] * len(pixels), "skin_tone": ["light"] * len(pixels)}
        )


ITERATED = {"rounds": 2, "measured_images": 4, "added_images": 6, "strength": 1.0}


def test_the_loop_adds_what_is_missing(small_study, random_model, tmp_path, monkeypatch):
    study = small_study(random_model)
    monkeypatch.setattr(iterated, "Panel", Men)
    job = study.job("iterated", tmp_path, **ITERATED)
    feedback = iterated.Loop(job, job.rows(job.settings))
    first, moments = feedback.rows.copy(), feedback.moments.clone()
    assert feedback.nouns == ["guard", "person"]  # the artist is held out
    drawn = []
    real = Sampler.draw

    def draw(self, listed):
        for start, pictures in real(self, listed):
            drawn.extend(zip(listed[start : start + len(pictures)], pictures, strict=True))
            yield start, pictures

    monkeypatch.setattr(Sampler, "draw", draw)
    gaps = feedback.measure(job.fresh(), 0)
    assert gaps == {"gender": 0.5, "skin_tone": 0.5}
    assert {r.prompt for r, _ in drawn} == {"a guard", "a person"} and len(drawn) == 8
    drawn.clear()
    feedback.synthesise(0)
    # women with dark skin lack most, light men nothing
    wanted = cell_shares(feedback.factors, "guard", TARGET)
    counts = allotted(np.array([*wanted.values()]), np.full(4, 0.25), 6)
    asked = [r.prompt for r, _ in drawn]
    for noun in ("guard", "person"):
        for (gender, tone), count in zip(wanted, counts, strict=True):
            assert asked.count(f"a {tone}-skinned {gender} {noun}") == count
    assert counts.argmax() == list(wanted).index(("woman", "dark"))
    assert dict(zip(wanted, counts, strict=True))["man", "light"] == 0
    added = feedback.rows.iloc[len(first) :]
    pd.testing.assert_frame_equal(feedback.rows.iloc[: len(first)], first)
    # of each noun the pictures that screening kept, and their own latents
    kept = [pair for noun in range(2) for pair in drawn[6 * noun : 6 * noun + 6][::2]]
    assert list(added["prompt"]) == [r.prompt for r, _ in kept]
    assert list(added.index) == list(range(len(moments[0]), len(moments[0]) + len(kept)))
    assert torch.equal(feedback.moments[:, : moments.shape[1]], moments)
    want = latents.encode(job.fresh(), np.stack([p for _, p in kept]))
    assert torch.equal(feedback.moments[:, moments.shape[1] :], want)
    feedback.weigh()
    people = feedback.rows[feedback.rows["kind"] != "general"]
    for noun, mine in people.groupby("noun"):
        cells = mine.groupby(["gender", "skin_tone"])["weight"].sum()
        assert cells.sum() == pytest.approx(1)
        for cell, share in cell_shares(feedback.factors, noun, TARGET).items():
            assert cells[cell] == pytest.approx(share)
    was, now = (t.loc[t["kind"] == "general", "weight"] for t in (first, feedback.rows))
    assert (was == now).all()
    assert feedback.drawn == 8 + 12


def test_the_loop_goes_on_when_screening_keeps_nothing(
    small_study, random_model, tmp_path, monkeypatch
):
    study = small_study(random_model)
    monkeypatch.setattr(
        iterated.screening, "screen", lambda t, r, a: pd.Series("no person", index=t.index)
    )
    job = study.job("iterated", tmp_path, **ITERATED)
    feedback = iterated.Loop(job, job.rows(job.settings))
    feedback.measure(job.fresh(), 0)
    feedback.synthesise(0)
    assert feedback.moments.shape == job.moments.shape


def test_resumed_loop_gives_the_same_bytes(
    small_study, random_model, tmp_path, monkeypatch, killed_at
):
    """Killed inside the second round, then between two rounds."""
    study = small_study(random_model)

    def fit(name):
        job = study.job("iterated", tmp_path / name, **ITERATED | {"rounds": 3}, steps=12)
        fitted = iterated.fit(job)
        adapters.save(fitted.pipeline, tmp_path / name, {}, whole_unet=False)
        return (tmp_path / name / adapters.LORA_FILE).read_bytes(), fitted

    whole, fitted = fit("whole")
    assert fitted.log["step"].tolist() == list(range(12))
    assert set(fitted.about) == {"measured_0", "measured_1"}
    calls = []
    real = loop.save_training_state

    def die(path, at, *rest):
        real(path, at, *rest)
        calls.append(path.name)
        if len(calls) == 3:  # the first checkpoint of two in the second round
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_training_state", die)
        with pytest.raises(KeyboardInterrupt):
            fit("resumed")
    assert calls[2].startswith("round-1")
    with monkeypatch.context() as patch:
        synthesise = iterated.Loop.synthesise

        def interrupted(self, number):
            if number == 1:
                raise KeyboardInterrupt
            synthesise(self, number)

        patch.setattr(iterated.Loop, "synthesise", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit("resumed")
    kept = tmp_path / "resumed" / "round-1.safetensors"  # a disk's damage: that round is redone
    kept.write_bytes(kept.read_bytes()[:-4] + b"\0\0\1\0")
    resumed, again = fit("resumed")
    assert resumed == whole
    assert again.cost == fitted.cost and again.about == fitted.about
    pd.testing.assert_frame_equal(again.log, fitted.log)


def test_rounds_draw_what_one_training_would(small_study, random_model, tmp_path):
    """A round's random numbers are those of the steps it stands for, never the first round's."""
    job = small_study(random_model).job("denoising", tmp_path, steps=4, text_encoder_lora=False)
    seen = []

    class Look(loop.Denoising):
        def __call__(self, step):
            seen.append(step)
            return super().__call__(step)

    for offset in (0, 2):
        rows = job.rows(job.settings)
        job.train(job.fresh(), job.settings, rows, objective=Look, part=str(offset), offset=offset)
    assert torch.equal(seen[4].noise, seen[2].noise) and torch.equal(seen[5].clean, seen[3].clean)
    noise = [s.noise for s in (*seen[:4], *seen[6:])]
    assert not any(torch.equal(a, b) for i, a in enumerate(noise) for b in noise[:i])


# --- stages

MODELS = ["iterated", "concept_editing", "alignment", "adversarial"]


@pytest.mark.parametrize("recipe", MODELS)
def test_twice_gives_the_same_bytes_and_a_manifest(
    small_study, recipe_settings, random_model, recipe
):
    study = small_study(random_model)
    arm = study.arm(recipe, recipe_settings[recipe])
    out, found = study.folder / "models" / "x", []
    for _ in range(2):
        table = train_arm(study.base, study.finetune, "x", arm)
        files = {
            p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()
        }
        found.append(files)
        shutil.rmtree(out)
    assert found[0] == found[1]
    files = ["losses.csv", "manifest.json", "seed-0/manifest.json", f"seed-0/{adapters.LORA_FILE}"]
    assert set(found[0]) == {".dft-made", *files}
    assert list(table.columns[:3]) == ["seed", "step", "loss"]
    for name in ("manifest.json", "seed-0/manifest.json"):
        manifest = json.loads(found[0][name])
        steering = {"alignment", "adversarial"} & {recipe}
        want = {"hog", "histogram"} | ({rollout.CLASSIFIER} if steering else set())
        assert set(manifest["raters_used"]) == want
        assert manifest["training"]["rank"] == 2 and manifest["recipe"] == recipe
    cost = manifest["cost"]
    assert cost["parameters"] > 0 and cost["images_drawn"] > 0 and cost["forward"] > 0
    if recipe in steering:
        drawn = study.finetune.steps * 4 * (2 if recipe == "alignment" else 1)
        # the synthetic set of this seed: 2 nouns of 8 and 4 things; its control, and the
        # classifier's pictures, are as many
        rest = 20 if recipe == "alignment" else 20 + 16
        assert cost["images_drawn"] == drawn + rest
        assert cost["forward"] == 2 * cost["images_drawn"]
        assert cost["backward"] == 4 * 4 + 4 * 4 * 1
    if recipe == "iterated":
        # 20, then 2 nouns of 4 measured and 4 added
        assert cost["images_drawn"] == 20 + 2 * (4 + 4)
        assert cost["backward"] == 4 * 4
    if recipe == "concept_editing":
        assert cost["images_drawn"] % 128 == 0 and cost["backward"] == 0


def test_resumed_adversarial_training_gives_the_same_bytes(
    small_study, recipe_settings, random_model, tmp_path, killed_at
):
    study = small_study(random_model)
    settings = recipe_settings["adversarial"] | {"moment_weight": 0.0, "adversary_weight": 5.0}

    def fit(name):
        job = study.job("adversarial", tmp_path / name, **settings, steps=6)
        fitted = adversarial.fit(job)
        adapters.save(fitted.pipeline, tmp_path / name, {}, whole_unet=False)
        return (tmp_path / name / adapters.LORA_FILE).read_bytes()

    whole = fit("whole")
    assert fit("again") == whole
    with killed_at(loop, 4):
        fit("resumed")
    assert fit("resumed") == whole


def test_resumed_alignment_gives_the_same_bytes(
    small_study, recipe_settings, random_model, tmp_path, killed_at
):
    study = small_study(random_model)

    def fit(name):
        job = study.job("alignment", tmp_path / name, **recipe_settings["alignment"], steps=6)
        fitted = alignment.fit(job)
        adapters.save(fitted.pipeline, tmp_path / name, {}, whole_unet=False)
        return (tmp_path / name / adapters.LORA_FILE).read_bytes()

    whole = fit("whole")
    with killed_at(loop, 4):
        fit("resumed")
    assert fit("resumed") == whole


def test_a_rater_that_steered_may_not_judge(small_study, recipe_settings, random_model):
    study = small_study(random_model)
    arm = study.arm("iterated", recipe_settings["iterated"])
    train_arm(study.base, study.finetune, "x", arm)
    turned = study.base.model_copy(update={"steer": study.base.judge, "judge": study.base.steer})
    # nothing in these parameters is wrong; the model's manifest says who steered
    with pytest.raises(ValueError, match="steers or filters and may not judge"):
        evaluate_arm(turned, study.evaluate, "x", arm)


def test_steering_raters_are_in_the_manifest_whoever_screened(
    small_study, recipe_settings, random_model
):
    """Pictures that nobody screened (real ones): the recipe's own raters are named."""
    study = small_study(random_model)
    (study.data / "manifest.json").write_text('{"screened_by": []}')
    for recipe, want in {
        "iterated": {"hog", "histogram"}, "denoising": set(),
    }.items():  # fmt: skip
        train_arm(study.base, study.finetune, recipe, study.arm(recipe, recipe_settings[recipe]))
        manifest = adapters.read_manifest(study.folder / "models" / recipe)
        assert set(manifest["raters_used"]) == want


@pytest.mark.parametrize(
    ("recipe", "train", "message"),
    [
        ("alignement", {}, "has no file src/dft_lib/recipes/alignement.py"),
        ("alignment", {}, "images_per_prompt is missing"),
        ("denoising", {"images_per_prompt": 3}, "images_per_prompt is no parameter"),
        ("iterated", {"rounds": 1}, "rounds: input should be greater than 1"),
        ("concept_editing", {"images_per_concept": 10}, "greater than or equal to 64"),
    ],
)
def test_bad_settings(small_study, recipe_settings, random_model, recipe, train, message):
    study = small_study(random_model)
    whole = recipe_settings[recipe] | train if train else train
    with pytest.raises(ValueError) as caught:
        settings_of(study.arm(recipe, whole), study.finetune)
    assert message in str(caught.value) and "\n" not in str(caught.value)
