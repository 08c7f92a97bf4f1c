"""An attribute is an object read from the lexicon; raters and targets must fit it."""

import shutil
from importlib import import_module

import numpy as np
import pandas as pd
import pytest

from dft_lib.image_sets import screening
from dft_lib.raters import stand_in
from dft_lib.raters.drawings import skin_colours
from dft_lib.raters.panel import Panel
from dft_lib.raters.photographs import age_gender, clip_zero_shot, skin
from dft_lib.repro.paths import LEXICON
from dft_lib.study import attributes, lexicon, wall
from dft_lib.study.base import Base
from dft_lib.study.params import whole

TARGET = {"gender": {"woman": 0.5, "man": 0.5}, "skin_tone": {"light": 0.25, "dark": 0.75}}


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(LEXICON, tmp_path / "lexicon")
    return tmp_path / "lexicon"


def test_the_default_attributes():
    known = lexicon.load().attributes
    assert list(known) == ["gender", "skin_tone"]
    gender, tone = known.values()
    assert (gender.label, gender.groups) == ("perceived gender", ("woman", "man"))
    assert gender.replaces_person and not gender.ordered
    assert tone.ordered and not tone.replaces_person
    assert tone.say(tone.words["dark"]) == "dark-skinned"
    assert tuple(tone.colours.values()) == skin_colours.SKIN["noto"]
    assert tone.groups == skin_colours.TONES


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        ("groups.csv", "gender,man", "sex,man", "fewer than two groups of 'gender'"),
        (
            "attributes.csv",
            "{}-skinned",
            "skinned",
            "pattern of 'skin_tone' is 'skinned'; it must",
        ),
        ("attributes.csv", ",-3,", ",-1,", "gives the place -1 twice"),
        ("attributes.csv", ",-3,", ",0,", "place of 'skin_tone' is '0'; use a whole number"),
        ("attributes.csv", ",-3,yes", ",-3,1", "ordered of 'skin_tone' is '1'; use yes or no"),
        ("groups.csv", "#70534a", "brown", "colour of 'dark' is 'brown'; write it as #a0b1c2"),
        ("groups.csv", "skin_tone,dark,", "skin_tone,unclear,", "cannot have the group 'unclear'"),
        ("groups.csv", "skin_tone,dark,", "skin_tone,a/b,", "cannot have the group 'a/b'"),
        ("attributes.csv", "gender,p", "role,p", "attribute of 'role' is 'role'"),
    ],
)
def test_bad_attributes_stop_with_one_sentence(folder, file, old, new, sentence):
    path = folder / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=sentence) as caught:
        lexicon.load(folder)
    assert "\n" not in str(caught.value)


def test_an_attribute_of_one_group_is_none(folder):
    path = folder / "groups.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(x for x in lines if not x.startswith("gender,man")), encoding="utf-8")
    with pytest.raises(ValueError, match="fewer than two groups of 'gender'"):
        lexicon.load(folder)


def test_target_and_lexicon_must_agree():
    words = lexicon.load()
    tones = dict.fromkeys(words.attributes["skin_tone"].groups, 0.2)
    chosen = words.chosen({"skin_tone": tones, "gender": {"woman": 0.5, "man": 0.5}})
    assert list(chosen) == ["skin_tone", "gender"]  # the target's order
    with pytest.raises(ValueError, match="in the same order"):
        words.chosen({"gender": {"man": 0.5, "woman": 0.5}})
    with pytest.raises(ValueError, match="base.target names 'hair'"):
        words.chosen({"hair": {"red": 0.5, "dark": 0.5}})


def test_cells_and_pairs():
    found = attributes.cells(TARGET)
    assert found == {("woman", "light"): 0.125, ("woman", "dark"): 0.375,
                     ("man", "light"): 0.125, ("man", "dark"): 0.375}  # fmt: skip
    assert attributes.cells({"gender": TARGET["gender"]}) == {("woman",): 0.5, ("man",): 0.5}
    assert attributes.pairs(["a"]) == {}
    assert attributes.pairs("abc") == {"a_x_b": ("a", "b"), "a_x_c": ("a", "c"),
                                       "b_x_c": ("b", "c")}  # fmt: skip
    known = lexicon.load().attributes
    assert attributes.title("gender_x_skin_tone", known) == "gender x skin tone"
    assert attributes.title("skin_tone", known) == "perceived skin tone"


def test_the_wall_names_what_raters_answer():
    tones = {name: wall.RATERS[name].groups["skin_tone"] for name in
             ("palette", "histogram", "monk_five", "monk", "ita")}  # fmt: skip
    assert tones["palette"] == tones["histogram"] == skin_colours.TONES
    assert tones["monk_five"] == skin.FIVE_GROUPS
    assert (tones["monk"], tones["ita"]) == (skin.MONK_GROUPS, skin.ITA_GROUPS)
    assert dict(wall.RATERS["age_gender"].groups) == {"gender": age_gender.GENDERS,
                                                      "age": age_gender.AGES}  # fmt: skip
    seen = wall.RATERS["clip_zero_shot"].groups
    for attribute in ("gender", "skin_tone"):
        assert seen[attribute] == tuple(clip_zero_shot.SENTENCES[attribute])
    blip = import_module("dft_lib.raters.photographs.blip2_vqa").QUESTIONS
    assert wall.RATERS["blip2_vqa"].groups["skin_tone"] == tuple(blip["skin_tone"].words)


ONE_SENTENCE = [
    ({"gender": {"woman": 0.5, "man": 0.25, "non-binary": 0.25}},
     "target.gender has the group 'non-binary', but rater 'hog' under steer answers only woman"),
    ({"skin_tone": dict.fromkeys(skin.MONK_GROUPS, 0.1)}, "has the group 'monk-1', but rater"),
    ({"skin_tone": dict.fromkeys("abcd", 0.25)}, "has the group 'a', but rater 'histogram'"),
    ({"gender": {"woman": 1.0, "man": 0.0}}, "target.gender.man is 0, and metrics are not"),
    ({"gender": {"woman": 1.0}}, "target.gender needs two groups at least"),
    ({"age": {"young": 0.5, "old": 0.5}}, "target.age has no rater: name one under steer"),
    ({"role": {"cook": 0.5, "pilot": 0.5}}, "target.role is no attribute: remove it"),
    ({}, "target"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "sentence"), ONE_SENTENCE)
def test_targets_that_cannot_be_judged_stop_at_once(target, sentence):
    values = whole.load().base.model_dump() | {"target": target}
    with pytest.raises(ValueError, match=sentence):
        Base.model_validate(values)


@pytest.mark.parametrize("names", [["gender"], ["skin_tone"], ["skin_tone", "gender"]])
def test_targets_of_one_attribute_are_fine(names):
    base = whole.load().base
    values = base.model_dump() | {"target": {name: base.target[name] for name in names}}
    assert list(Base.model_validate(values).target) == names


def test_stand_ins_read_plain_colours():
    groups = {"gender": ("woman", "man"), "tone": skin.MONK_GROUPS, "age": ("a", "b", "c")}
    cells = [
        dict(zip(groups, cell, strict=True))
        for cell in [("woman", "monk-1", "a"), ("man", "monk-10", "c"), ("woman", "monk-7", "b")]
    ]
    pictures = np.stack([stand_in.plain(cell, groups, 16) for cell in cells])
    for name in stand_in.HALVES:
        panel = Panel(dict.fromkeys(["person", *groups], name), groups=groups)
        rated = panel.rate(np.concatenate([pictures, np.zeros((1, 16, 16, 3), np.uint8)]))
        assert rated[list(groups)].iloc[:3].to_dict("records") == cells
        assert rated["person"].tolist() == ["person"] * 3 + ["no_person"]
        assert set(rated.iloc[3]) == {"no_person"}
        assert panel.features_of(name, pictures).shape == (3, 6)
        assert panel.about()[name]["weights"] is None


def test_stand_ins_look_at_different_halves():
    groups = {"gender": ("woman", "man")}
    picture = stand_in.plain({"gender": "woman"}, groups, 16)
    picture[:, 8:] = stand_in.plain({"gender": "man"}, groups, 16)[:, 8:]
    seen = [Panel({"gender": name}, groups=groups).rate(picture[None])["gender"][0]
            for name in ("stand_in_left", "stand_in_right")]  # fmt: skip
    assert seen == ["woman", "man"]
    wall.require_apart({"age": "stand_in_left"}, {"age": "stand_in_right"})
    with pytest.raises(ValueError, match="may not judge"):
        wall.require_apart({"age": "stand_in_left"}, {"age": "stand_in_left"})
    with pytest.raises(ValueError, match="does not answer for 'role'"):
        wall.require_known({"role": "stand_in_left"})


def test_weights_of_one_and_of_three_attributes_follow_the_target():
    three = TARGET | {"age": {"young": 0.2, "old": 0.8}}
    for target in ({"skin_tone": TARGET["skin_tone"]}, three):
        cells = attributes.cells(target)
        rows = [(*cell, n) for n, cell in enumerate(cells) for _ in range(n % 3 + 1)]
        index = pd.DataFrame(rows, columns=[*target, "n"]).assign(
            set="balanced", noun="pilot", verdict="kept"
        )
        weight = screening.weigh(index, target, 1)
        found = weight.groupby([index[a] for a in target], sort=False).sum()
        np.testing.assert_allclose(found.to_numpy(), list(cells.values()))
        gone = index.assign(verdict=np.where(index["n"] == 0, "wrong age", "kept"))
        with pytest.raises(ValueError, match="screening left 0 images of .*light.* pilot"):
            screening.weigh(gone, target, 1)


def test_of_several_wrong_groups_the_first_attribute_is_named():
    names = ["age", "gender"]
    records = pd.DataFrame({"kind": ["profession"] * 3, "noun": "cook", "age": "old",
                            "gender": "man"})  # fmt: skip
    ratings = pd.DataFrame({"person": ["person"] * 3, "age": ["old", "young", "young"],
                            "gender": ["woman", "man", "woman"]})  # fmt: skip
    verdicts = screening.screen(records, ratings, names)
    assert verdicts.tolist() == ["wrong gender", "wrong age", "wrong age"]
    assert screening.rejected(verdicts).all()
    others = pd.Series(["kept", "unsafe", "beyond the balanced set's size", "no person"])
    assert screening.rejected(others).tolist() == [False, False, False, True]
