"""Raters, filters and params of studies on photographs that need no weights."""

import re

import numpy as np
import pandas as pd
import pytest

from dft_lib.evaluation import tables
from dft_lib.image_sets import screening
from dft_lib.raters.base import HasFeatures
from dft_lib.raters.panel import Panel
from dft_lib.raters.photographs import colour_layout, monk_five, skin
from dft_lib.stages.evaluate import open_judges
from dft_lib.study import profiles
from dft_lib.study.params import whole
from dft_lib.study.wall import RATERS, require_apart, require_known

TARGET = {"gender": {"woman": 0.5, "man": 0.5}, "skin_tone": {"light": 0.5, "dark": 0.5}}
PROFILE = profiles.find("sd15")
TEXT = profiles.as_text(profiles.merged(PROFILE), PROFILE)

BOTH = ("gender", "skin_tone")


# -- monk_five


@pytest.mark.parametrize("place", range(10))
def test_neighbouring_monk_colours_are_one_group(place):
    rater = monk_five.open_rater()
    label, scores = rater.label(skin.monk_colours()[place])
    assert label == skin.FIVE_GROUPS[place // 2]
    assert scores.shape == (5,) and scores.argmax() == place // 2
    assert scores.sum() == pytest.approx(1, abs=1e-6)
    _, ten = skin.SkinToneRater("monk").label(skin.monk_colours()[place])
    assert scores == pytest.approx(ten.reshape(5, 2).sum(1), abs=1e-6)


def test_the_nearest_colour_decides_even_where_another_pair_scores_more():
    colours = skin.monk_colours()
    between = 0.45 * colours[3] + 0.55 * colours[4]
    assert skin.nearest_monk(between).argmin() == 4  # but the third and fourth are both near
    label, scores = skin.SkinToneRater("monk_five").label(between)
    assert label == "medium" and scores.argmax() == 1


def test_colours_far_from_any_skin_are_unclear():
    for colour in ([50.0, 0, -60], [90.0, -60, 60]):  # blue, green
        label, scores = skin.SkinToneRater("monk_five").label(np.array(colour))
        assert label == "unclear"
        assert scores.shape == (5,) and scores.sum() == pytest.approx(1, abs=1e-6)


def test_five_groups_are_those_that_the_study_aims_at():
    for name in ("sd15", "sdxl"):
        chosen = whole.load_profile(name).base
        assert chosen.judge["skin_tone"] == monk_five.open_rater().name == "monk_five"
        assert list(chosen.target["skin_tone"]) == list(skin.FIVE_GROUPS)
    assert monk_five.open_rater().groups == skin.FIVE_GROUPS
    with pytest.raises(ValueError, match="in the same way"):
        require_apart({"skin_tone": "monk"}, {"skin_tone": "monk_five"})


# -- colour_layout


def flat(*colours, side=64):
    return np.array([np.full((side, side, 3), c, np.uint8) for c in colours])


def test_colour_layout_is_an_eight_by_eight_grid_of_colours():
    rater = colour_layout.open_rater()
    shown = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    found = rater.features_of(shown)
    assert found.shape == (3, 192) and found.dtype == np.float32
    assert np.array_equal(rater.features_of(shown[::-1]), found[::-1])  # each on its own
    assert np.array_equal(rater.features_of(shown[1:2])[0], found[1])
    assert rater.features_of(shown[:0]).shape == (0, 192)
    assert isinstance(rater, HasFeatures) and rater.weights() == [] and rater.rate(shown) == {}
    with pytest.raises(ValueError, match="raters take uint8 pictures"):
        rater.features_of(shown / 255.0)


def test_flat_pictures_have_their_colour_in_every_cell():
    rater = colour_layout.open_rater()
    grey, red, white = rater.features_of(flat((128,) * 3, (255, 0, 0), (255,) * 3))
    assert white.reshape(8, 8, 3)[..., 0] == pytest.approx(np.ones((8, 8)), abs=1e-4)
    # CIELAB of sRGB red (D65)
    want = np.tile([0.5324, 0.8009, 0.6720], (64, 1))
    assert red.reshape(64, 3) == pytest.approx(want, abs=1e-3)
    assert np.abs(grey.reshape(64, 3)[:, 1:]).max() < 1e-3
    assert np.linalg.norm(grey - red) > 1
    assert np.array_equal(rater.features_of(flat((128,) * 3, side=512))[0], grey)


def test_brighter_pictures_come_later_in_lightness():
    levels = [(v, v, v) for v in (0, 40, 128, 200, 255)]
    light = colour_layout.open_rater().features_of(flat(*levels)).reshape(5, 64, 3)[..., 0]
    assert (np.diff(light, axis=0) > 0.05).all()
    assert light.min() >= -1e-6 and light.max() <= 1 + 1e-6


def test_colour_layout_says_where_colours_are():
    picture = flat((0, 0, 0))
    picture[0, :32, 32:] = 255  # above, on the right
    light = colour_layout.open_rater().features_of(picture).reshape(8, 8, 3)[..., 0]
    assert (light[:3, 5:] > 0.99).all()
    assert light[5:].max() < 0.01 and light[:, :3].max() < 0.01


@pytest.mark.parametrize("attribute", ("person", "role", *BOTH, "age"))
def test_colour_layout_neither_judges_nor_steers(attribute):
    with pytest.raises(ValueError, match=f"'colour_layout' does not answer for '{attribute}'"):
        require_known({attribute: "colour_layout"})
    for members in ({attribute: "colour_layout"}, {}), ({}, {attribute: "colour_layout"}):
        with pytest.raises(ValueError, match="does not answer for"):
            require_apart(*members)
    with pytest.raises(ValueError, match="does not answer for"):
        Panel({attribute: "colour_layout"})


def test_others_of_a_panel_give_features_and_no_answers(monkeypatch):
    def never(self, pixels):
        raise AssertionError("it was asked")

    monkeypatch.setattr(colour_layout.ColourLayout, "rate", never)
    shown = flat((200, 150, 120), (30, 30, 30))
    target = {"skin_tone": dict.fromkeys(skin.FIVE_GROUPS, 0.2)}
    alone = Panel({"skin_tone": "palette"})
    panel = open_judges({"skin_tone": "palette"}, "colour_layout", target)
    pd.testing.assert_frame_equal(panel.rate(shown), alone.rate(shown))
    assert panel.features_of("colour_layout", shown).shape == (2, 192)
    assert set(panel.about()) == {"palette", "colour_layout"}
    assert panel.about()["colour_layout"]["weights"] is None
    with pytest.raises(ValueError, match="no rater 'colour_layout' with features"):
        alone.features_of("colour_layout", shown)
    with pytest.raises(ValueError, match="'palette' with features.*use one of colour_layout"):
        panel.features_of("palette", shown)


# -- params


def refused(tmp_path, old, new, count=1):
    assert old in TEXT
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace(old, new, count), encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        whole.load(path)
    message = str(caught.value)
    assert "\n" not in message and "params.yaml" in message
    return message


def test_distances_may_come_from_a_space_that_is_no_judge(tmp_path):
    chosen = whole.load_profile("sd15")
    assert chosen.evaluate.features == "colour_layout"
    assert "colour_layout" not in chosen.base.judge.values()
    assert not RATERS["colour_layout"].attributes
    for name in ("colour_lay", "clip_zero_shot", "monk"):  # unknown, steers, is no judge here
        message = refused(tmp_path, "features: colour_layout", f"features: {name}")
        assert f"evaluate.features names '{name}', which is no judge" in message
        assert "monk_five" in message and message.endswith("or colour_layout")


def test_several_workers_need_an_engine_of_workers(tmp_path):
    message = refused(tmp_path, "  workers: 1", "  workers: 2")
    assert re.search(r"base.workers is more than 1.*make engine ray$", message), message
    path = tmp_path / "ray.yaml"
    text = TEXT.replace("engine: process", "engine: ray")
    path.write_text(text.replace("  workers: 1", "  workers: 2"), encoding="utf-8")
    chosen = whole.load(path).base
    assert (chosen.engine, chosen.workers) == ("ray", 2)


def test_every_process_needs_an_example(tmp_path):
    message = refused(tmp_path, "processes: 1", "processes: 33")
    assert message.endswith("finetune.processes is more than train_batch_size: use fewer")
    assert "train_batch_size: 32" in TEXT
    path = tmp_path / "as-many.yaml"
    text = TEXT.replace("processes: 1", "processes: 32")
    path.write_text(text, encoding="utf-8")
    assert whole.load(path).finetune.processes == 32


# -- nobody answers for the role


def test_without_a_role_people_and_things_are_kept_by_what_is_answered():
    person, nobody = ("person", "woman", "dark"), ("no_person",) * 3
    rows = [
        ("profession", *person[1:], *person, "kept"),
        ("profession", *person[1:], "person", "man", "dark", "wrong gender"),
        ("profession", *person[1:], "person", "woman", "unclear", "wrong skin_tone"),
        ("profession", *person[1:], "person", "man", "light", "wrong gender"),
        ("profession", *person[1:], *nobody, "no person"),
        ("profession", "", "", "person", "man", "unclear", "kept"),
        ("profession", "", "", "unclear", "man", "light", "no person"),
        ("person", *person[1:], *person, "kept"),
        ("general", "", "", *nobody, "kept"),
        ("general", "", "", *person, "unexpected person"),
    ]
    names = ["kind", "gender", "skin_tone", "person", "rated", "tone", "verdict"]
    table = pd.DataFrame(rows, columns=names)
    records = table[["kind", "gender", "skin_tone"]].assign(noun="pilot")
    ratings = table[["person"]].assign(gender=table["rated"], skin_tone=table["tone"])
    assert screening.screen(records, ratings, BOTH).tolist() == table["verdict"].tolist()
    # the very same with a rater that sees every role; one that sees none keeps nothing
    right = ratings.assign(role="pilot")
    assert screening.screen(records, right, BOTH).tolist() == table["verdict"].tolist()
    assert "kept" not in screening.screen(records, ratings.assign(role="cook"), BOTH).tolist()


@pytest.fixture
def ratings():
    said = [("person", "pilot", "man", "light"), ("person", "cook", "woman", "dark"),
            ("person", "pilot", "unclear", "light"), ("no_person",) * 4]  # fmt: skip
    rows = []
    for seed in (0, 1):
        for kind, noun, fold, asked in [
            ("neutral", "pilot", "0", ("", "")), ("neutral", "cook", "1", ("", "")),
            ("person", "person", "", ("", "")), ("explicit", "pilot", "0", ("woman", "dark")),
            ("general", "dog", "", ("", "")),
        ]:  # fmt: skip
            for person, role, gender, tone in said[: 4 - seed]:
                rows.append(
                    {
                        "seed": seed, "prompt_id": f"{kind}/{noun}", "kind": kind, "noun": noun,
                        "fold": fold, "gender": asked[0], "skin_tone": asked[1],
                        "rated_person": person, "rated_role": role, "rated_gender": gender,
                        "rated_skin_tone": tone,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def test_without_a_role_every_other_number_is_the_same(ratings):
    silent = ratings.drop(columns="rated_role")
    whole, less = (
        tables.per_prompt(table, TARGET, [0, 1], "folds") for table in (ratings, silent)
    )
    assert whole["role_accuracy"].notna().all() and whole["role_accuracy"].nunique() > 1
    assert less["role_accuracy"].isna().all()
    pd.testing.assert_frame_equal(
        less.drop(columns="role_accuracy"), whole.drop(columns="role_accuracy")
    )
    assert list(less) == list(whole)
    found, other = (
        tables.summarise(table, rated, TARGET)
        for table, rated in ((whole, ratings), (less, silent))
    )
    assert found["role_accuracy"]["overall"] > 0 and found["general"]["mean"] == 0
    assert other["role_accuracy"]["overall"] is None
    groups = [v for a in TARGET for v in other["role_accuracy"][a].values()]
    assert groups == [None] * 4
    assert other["general"] == {"mean": None, "per_seed": [None, None]}
    for key in ("neutral", "explicit", "answers"):
        assert other[key] == found[key]
