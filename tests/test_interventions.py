from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from dft_lib.interventions.base import Setting, open_intervention
from dft_lib.interventions.fair_guidance import keep_largest, other_group
from dft_lib.interventions.people import People
from dft_lib.models import conditioning, pipelines
from dft_lib.repro.noise import initial_noise
from dft_lib.sampling.sampler import Sampler, make_scheduler
from dft_lib.study import lexicon
from dft_lib.study.attributes import Attribute
from dft_lib.study.prompts import Request

WORDS = lexicon.load()
SETTING = Setting(
    study_seed=5,
    target={
        "gender": {"woman": 0.5, "man": 0.5},
        "skin_tone": {"light": 0.1, "medium-light": 0.3, "medium": 0.2, "medium-dark": 0.15,
                      "dark": 0.25},
    },
    attributes=WORDS.attributes,
    nouns=(*WORDS.professions["profession"], *WORDS.people["noun"]),
)  # fmt: skip
BOTH = ["gender", "skin_tone"]
GUIDANCE = {
    "attributes": BOTH, "warmup": 1 / 3, "scale": 20.0, "threshold": 0.9, "momentum_scale": 0.5,
    "momentum": 0.6,
}  # fmt: skip
REQUESTS = [
    Request("pilot", "a pilot", 0),
    Request("dog", "a dog", 0),
    Request("explicit", "a dark-skinned woman pilot", 0),
    Request("woman", "a photo of a woman pilot", 0),
]
UNTOUCHED = [1, 2]  # rows of REQUESTS for which there is nothing to draw
NEUTRAL = [Request(f"p{i % 8}", "a pilot", i // 8) for i in range(2000)]


@pytest.fixture(scope="module")
def model(random_model):
    return pipelines.load(str(random_model), device="cpu")


def randomisation(attributes=BOTH, setting=SETTING):
    return open_intervention("prompt_randomisation", {"attributes": attributes}, setting)


def guidance(setting=SETTING, **changes):
    return open_intervention("fair_guidance", GUIDANCE | changes, setting)


# What each prompt becomes when "woman" and "dark" are drawn for what it leaves open.
REWRITTEN = {
    "a pilot": "a dark-skinned woman pilot",
    "an artist": "a dark-skinned woman artist",
    "An artist at work": "A dark-skinned woman artist at work",
    "a portrait of an artist": "a portrait of a dark-skinned woman artist",
    "a photo of a construction worker": "a photo of a dark-skinned woman construction worker",
    "a photo of the face of a police officer":
        "a photo of the face of a dark-skinned woman police officer",
    "firefighter": "dark-skinned woman firefighter",
    "Firefighter, oil painting": "Dark-skinned woman Firefighter, oil painting",
    "one guard": "one dark-skinned woman guard",
    "the judge": "the dark-skinned woman judge",
    "a happy pilot": "a happy dark-skinned woman pilot",
    "an old cook": "an old dark-skinned woman cook",
    "a person": "a dark-skinned woman",
    "an old person": "an old dark-skinned woman",
    "a person who is a judge": "a dark-skinned woman who is a judge",
    "a diverse singer": "a diverse dark-skinned woman singer",
    "a pilot of any gender and any skin tone":
        "a dark-skinned woman pilot of any gender and any skin tone",
    "a judge in a black robe": "a dark-skinned woman judge in a black robe",
    "a teacher in the dark": "a dark-skinned woman teacher in the dark",
    # gender stated
    "a man": "a dark-skinned man",
    "a girl with a balloon": "a dark-skinned girl with a balloon",
    "a male pilot": "a dark-skinned male pilot",
    "a photo of a FEMALE astronaut": "a photo of a dark-skinned FEMALE astronaut",
    "an amazing female artist": "an amazing dark-skinned female artist",
    "a male person": "a dark-skinned male person",
    "a farmer and his dog": "a dark-skinned farmer and his dog",
    "a woman next to a pilot": "a dark-skinned woman next to a pilot",
    # tone stated
    "a light-skinned pilot": "a light-skinned woman pilot",
    "a medium-dark-skinned person": "a medium-dark-skinned woman",
    "a pale skinned artist": "a pale skinned woman artist",
    "an artist with light skin": "a woman artist with light skin",
    "a person with medium-light skin": "a woman with medium-light skin",
    "a cook with dark-brown skin": "a woman cook with dark-brown skin",
    "a Black student": "a Black woman student",
    "an Asian person": "an Asian woman",
    # both stated
    "woman pilot with dark skin": "woman pilot with dark skin",
    "a light-skinned man": "a light-skinned man",
    "a light-skinned male judge": "a light-skinned male judge",
    "a white lady": "a white lady",
    # nobody there
    "a dog": "a dog",
    "a lion king": "a lion king",
    "a female lion": "a female lion",
    "a guardrail": "a guardrail",
    "a man-made lake": "a man-made lake",
    "a judge's wig": "a judge's wig",
    "two pilots": "two pilots",
    "women": "women",
    "": "",
}  # fmt: skip


@pytest.mark.parametrize(("prompt", "want"), REWRITTEN.items())
def test_rewriting_adds_what_is_open_and_keeps_what_is_stated(prompt, want):
    sure = {"gender": {"woman": 1.0, "man": 0.0}, "skin_tone": {"light": 0.0, "dark": 1.0}}
    plan = randomisation(setting=replace(SETTING, target=sure)).plan(Request("x", prompt, 3))
    assert plan.prompt == want
    assert plan.request == Request("x", prompt, 3)  # the noise key and the prompt of the record
    signs = {"gender": "woman", "skin_tone": "dark-skinned"}
    added = {a for a, s in signs.items() if want.lower().count(s) > prompt.lower().count(s)}
    assert set(plan.drawn) == added


def test_rewriting_again_changes_nothing():
    arm = randomisation()
    for prompt in REWRITTEN:
        once = arm.plan(Request("x", prompt, 0)).prompt
        again = arm.plan(Request("x", once, 0))
        assert (again.prompt, dict(again.drawn)) == (once, {})


def test_longest_noun_wins():
    people = People(replace(SETTING, nouns=("worker", "construction", "construction worker")))
    assert people.find("a construction worker").noun == "construction worker"
    assert people.find("a construction site").noun == "construction"


def test_age_can_be_drawn():
    setting = replace(
        SETTING, target={"age": {"young": 0.0, "old": 1.0}},
        attributes={"age": Attribute("age", "perceived age", {"young": "young", "old": "old"})},
    )  # fmt: skip
    arm = randomisation(["age"], setting)
    assert arm.plan(Request("x", "a pilot", 0)).prompt == "an old pilot"
    assert arm.plan(Request("x", "a young pilot", 0)).prompt == "a young pilot"
    assert arm.plan(Request("x", "a 30-year-old pilot", 0)).prompt == "a 30-year-old pilot"


@pytest.mark.parametrize("arm", [randomisation(), guidance()], ids=["prompt", "guidance"])
def test_draws_follow_the_target(arm):
    drawn = [arm.plan(r).drawn for r in NEUTRAL]
    for attribute, shares in SETTING.target.items():
        counts = [sum(d[attribute] == group for d in drawn) for group in shares]
        assert stats.chisquare(counts, np.array([*shares.values()]) * 2000).pvalue > 0.001
    table = [[sum(d["gender"] == g and d["skin_tone"] == t for d in drawn)
              for t in SETTING.target["skin_tone"]] for g in SETTING.target["gender"]]  # fmt: skip
    assert stats.chi2_contingency(table).pvalue > 0.001  # attributes are drawn independently


def test_draws_belong_to_the_image():
    forward = {r: randomisation().plan(r).drawn for r in NEUTRAL}
    assert forward == {r: randomisation().plan(r).drawn for r in NEUTRAL[::-1]}
    assert forward == {r: guidance().plan(r).drawn for r in NEUTRAL}  # arms are paired
    gender = randomisation(["gender"])
    assert all(gender.plan(r).drawn == {"gender": forward[r]["gender"]} for r in NEUTRAL)
    other_study = randomisation(setting=replace(SETTING, study_seed=6))
    assert forward != {r: other_study.plan(r).drawn for r in NEUTRAL}


def test_shares_that_are_rounded_can_be_drawn():
    thirds = {"gender": {"woman": 0.3333333, "man": 0.3333333, "x": 0.3333333}}
    own = {"gender": Attribute("gender", "perceived gender", {g: g for g in thirds["gender"]})}
    setting = replace(SETTING, target=thirds, attributes=own)
    assert randomisation(["gender"], setting).plan(NEUTRAL[0]).drawn


def test_other_group():
    assert other_group(SETTING, "gender", "woman", NEUTRAL[0]) == "man"
    others = [other_group(SETTING, "skin_tone", "dark", r) for r in NEUTRAL]
    counts = [others.count(g) for g in ("light", "medium-light", "medium", "medium-dark")]
    assert sum(counts) == 2000 and stats.chisquare(counts).pvalue > 0.001
    assert others[0] == other_group(SETTING, "skin_tone", "dark", NEUTRAL[0])


@pytest.mark.parametrize(
    ("sentence", "prompt", "want"),
    [
        ("{prompt}, all individuals can be {a} irrespective of their gender and skin tone",
         "a photo of an artist",
         "a photo of an artist, all individuals can be an artist irrespective of their gender "
         "and skin tone"),
        ("a diverse {}", "a photo of a construction worker", "a diverse construction worker"),
        ("{prompt}, {}", "a dark-skinned woman pilot", "a dark-skinned woman pilot, pilot"),
        ("{prompt}, diverse", "a pilot {a}", "a pilot {a}, diverse"),
        ("{prompt}, diverse", "a dog", "a dog"),
    ],
)  # fmt: skip
def test_ethical_sentence(sentence, prompt, want):
    arm = open_intervention("ethical_intervention", {"sentence": sentence}, SETTING)
    plan = arm.plan(Request("x", prompt, 1))
    assert (plan.prompt, dict(plan.drawn)) == (want, {})
    assert plan.request == Request("x", prompt, 1)


def slowly(pipeline, sampling, request):
    """Semantic guidance written down again: one image, one number at a time."""
    sampler, arm = Sampler(pipeline, sampling), guidance()
    edits = []
    for attribute, group in arm.plan(request).drawn.items():
        other = other_group(SETTING, attribute, group, request)
        tone = attribute == "skin_tone"
        edits += [(+1, f"a {group}-skinned person" if tone else f"a {group}")]
        edits += [(-1, f"a {other}-skinned person" if tone else f"a {other}")]

    def predict(latents, t, prompt):
        return conditioning.predict(pipeline, latents, t, sampler.encode(prompt))

    scheduler = make_scheduler("ddim", pipeline.scheduler.config)
    scheduler.set_timesteps(3)
    noise = initial_noise(1, request.prompt_id, request.replicate, (4, 8, 8))
    latents = torch.from_numpy(noise)[None]
    nu = np.zeros((4, 8, 8))
    for step, t in enumerate(scheduler.timesteps):
        without, asked = predict(latents, t, ""), predict(latents, t, request.prompt)
        output = without + sampling.guidance_scale * (asked - without)
        gamma = 0.5 * nu
        for sign, concept in edits:
            psi = sign * (predict(latents, t, concept) - without)[0].double().numpy()
            least = np.quantile(np.abs(psi), 0.9)
            for at in np.ndindex(psi.shape):
                gamma[at] += 20 * psi[at] if abs(psi[at]) >= least else 0
        nu = 0.6 * nu + 0.4 * gamma
        if step >= 1:  # a third of three steps is the warm-up
            output = output + torch.from_numpy(gamma)[None].float()
        latents = scheduler.step(output, t, latents).prev_sample
    return latents[0]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
@torch.inference_mode()
def test_guidance_is_what_the_paper_says(random_model, sampling, guidance_scale, prediction_type):
    pipeline = pipelines.load(str(random_model), device="cpu")
    config = dict(pipeline.scheduler.config) | {"prediction_type": prediction_type}
    pipeline.scheduler = pipeline.scheduler.from_config(config)
    settings = replace(sampling, guidance_scale=guidance_scale)
    ours = Sampler(pipeline, settings, guidance()).latents(REQUESTS)
    plain = Sampler(pipeline, settings).latents(REQUESTS)
    for row, request in enumerate(REQUESTS):
        want = slowly(pipeline, settings, request)
        effect = (plain[row] - want).abs().max()
        assert (ours[row] - want).abs().max() <= 1e-4 + 1e-3 * effect
        assert effect > 0.1 or row in UNTOUCHED  # or the comparison would say nothing


def test_guidance_leaves_other_rows_alone(model, sampling):
    plain = Sampler(model, sampling).latents(REQUESTS)
    guided = Sampler(model, sampling, guidance()).latents(REQUESTS)
    same = [torch.equal(a, b) for a, b in zip(plain, guided, strict=True)]
    assert [row for row, yes in enumerate(same) if yes] == UNTOUCHED
    alone = Sampler(model, sampling, guidance()).latents([REQUESTS[1]])
    assert torch.equal(alone[0], plain[1])


@pytest.mark.parametrize("changes", [{"scale": 0.0}, {"warmup": 1.0}])
def test_no_guidance_is_plain_sampling(model, sampling, changes):
    plain = Sampler(model, sampling).latents(REQUESTS)
    assert torch.equal(Sampler(model, sampling, guidance(**changes)).latents(REQUESTS), plain)


def test_guided_images_do_not_depend_on_their_batch(model, sampling):
    listed = [*REQUESTS, Request("judge", "a judge", 0), Request("pilot", "a pilot", 1)]
    sampler = Sampler(model, sampling, guidance())

    def drawn(requests):
        pictures = np.concatenate([p for _, p in sampler.draw(requests)])
        return dict(zip(requests, pictures, strict=True))

    first, again, alone = drawn(listed), drawn(listed[::-1]), drawn(listed[:1])
    assert all(np.array_equal(first[r], again[r]) for r in listed)
    assert np.array_equal(alone[listed[0]], first[listed[0]])


def test_threshold():
    psi = torch.tensor([[0.0, -1.0, 2.0, -3.0, 4.0], [0.0, 10.0, -20.0, 30.0, -40.0]])
    psi = psi.reshape(2, 1, 1, 5)
    assert torch.equal(keep_largest(psi, 0.0), psi)
    kept = keep_largest(psi, 0.5).reshape(2, 5)
    assert kept.tolist() == [[0, 0, 2, -3, 4], [0, 0, -20, 30, -40]]  # each image its own
    assert (keep_largest(psi, 1.0) != 0).sum() == 2


@pytest.mark.parametrize(
    "arm", [guidance(), guidance(attributes=["gender"]), guidance(scale=0.0), randomisation()]
)
def test_evaluations_are_what_the_unet_is_asked(model, sampling, arm, monkeypatch):
    seen = []
    predict = conditioning.predict

    def counted(pipeline, latents, timestep, given):
        seen.append(len(latents))
        return predict(pipeline, latents, timestep, given)

    monkeypatch.setattr(conditioning, "predict", counted)
    Sampler(model, sampling, arm).latents(REQUESTS)
    assert sum(seen) == arm.evaluations * sampling.batch_size * sampling.num_inference_steps
    assert set(seen) == {sampling.batch_size}  # one batch size, whatever the batch holds


@pytest.mark.parametrize(
    ("name", "draw", "message"),
    [
        ("prompt_randomization", {}, "has no file"),
        ("people", {}, "is no intervention"),
        ("prompt_randomisation", {}, "attributes is missing"),
        ("prompt_randomisation", {"attributes": []}, "attributes: list should have at least 1"),
        ("prompt_randomisation", {"attributes": ["age"]}, "'age' has no target"),
        (
            "prompt_randomisation",
            {"attributes": ["hair"]},
            "'hair' has no target; use gender, skin_tone",
        ),
        ("prompt_randomisation", {"attributes": ["gender"] * 2}, "names 'gender' twice"),
        ("ethical_intervention", {"sentence": "be fair"}, "sentence.has no placeholder"),
        ("ethical_intervention", {"sentence": "{prompt} {noun}"}, "sentence.names {noun}"),
        ("fair_guidance", GUIDANCE | {"warmup": 5}, "warmup: input should be less than or equal"),
        ("fair_guidance", GUIDANCE | {"scale": -1.0}, "scale: input should be greater than"),
        ("fair_guidance", GUIDANCE | {"scale": "4"}, "scale: input should be a valid number"),
        ("fair_guidance", GUIDANCE | {"beta": 0.5}, "beta is no parameter"),
    ],
)
def test_bad_settings(name, draw, message):
    with pytest.raises(ValueError) as caught:
        open_intervention(name, draw, SETTING)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_groups_that_cannot_be_drawn():
    alone = replace(SETTING, target={"gender": {"woman": 1.0}})
    with pytest.raises(ValueError, match="has one group only"):
        guidance(alone, attributes=["gender"])
