import pandas as pd
import pytest

from dft_lib.evaluation import tables

TARGET = {"gender": {"woman": 0.5, "man": 0.5}, "skin_tone": {"light": 0.5, "dark": 0.5}}


def rows(seed, kind, noun, fold, answers, asked=("", "")):
    """Make ratings; an answer is (person, role, gender, tone)."""
    return [
        {
            "seed": seed, "prompt_id": f"{kind}/{noun}/{'/'.join(asked)}", "kind": kind,
            "noun": noun, "fold": fold, "gender": asked[0], "skin_tone": asked[1],
            "rated_person": person, "rated_role": role, "rated_gender": gender,
            "rated_skin_tone": tone,
        }
        for person, role, gender, tone in answers
    ]  # fmt: skip


MAN, WOMAN = ("person", "pilot", "man", "light"), ("person", "pilot", "woman", "dark")
UNCLEAR, NOBODY = ("person", "judge", "unclear", "light"), ("no_person",) * 4


@pytest.fixture
def ratings():
    table = []
    for seed in (0, 1):
        # seed 0 holds out fold 0 (pilot); under seed 1 judge is held out
        table += rows(seed, "neutral", "pilot", "0", [MAN, MAN, MAN, WOMAN, UNCLEAR, NOBODY])
        judge = [(p, "judge", g, t) for p, _, g, t in [WOMAN, WOMAN, MAN, MAN]]
        table += rows(seed, "neutral", "judge", "1", judge[: 4 - 2 * seed])
        table += rows(seed, "person", "person", "", [("person", "person", "man", "light")])
        table += rows(seed, "explicit", "pilot", "0", [WOMAN, MAN], ("woman", "dark"))
        table += rows(seed, "general", "dog", "", [("no_person", "dog", "no_person", "no_person")])
    return pd.DataFrame(table)


def test_per_prompt_by_hand(ratings):
    table = tables.per_prompt(ratings, TARGET, [0, 1], "folds").set_index(["seed", "noun"])
    neutral = table[table["kind"] == "neutral"]
    assert neutral["split"].to_dict() == {
        (0, "pilot"): "held_out", (0, "judge"): "seen",
        (1, "pilot"): "seen", (1, "judge"): "held_out",
    }  # fmt: skip
    pilot = neutral.loc[(0, "pilot")]
    assert (pilot["images"], pilot["no_person"]) == (6, 1)
    assert pilot["role_accuracy"] == pytest.approx(4 / 6)
    assert (pilot["gender:woman"], pilot["gender:man"], pilot["gender:unclear"]) == (1, 3, 1)
    assert pilot["gender:gap"] == pytest.approx(0.5)  # of usable images: 3/4 - 1/4
    assert pilot["gender:min_max_ratio"] == pytest.approx(1 / 3)
    assert (pilot["skin_tone:light"], pilot["skin_tone:dark"]) == (4, 1)
    assert pilot["skin_tone:total_variation"] == pytest.approx(0.3)
    assert neutral.loc[(0, "judge"), "gender:gap"] == 0
    assert neutral.loc[(1, "judge"), "gender:gap"] == 1
    explicit = table[table["kind"] == "explicit"]["gender:as_asked"]
    assert explicit.tolist() == [0.5, 0.5]
    assert pd.isna(pilot["gender:as_asked"])


def test_summary_by_hand(ratings):
    table = tables.per_prompt(ratings, TARGET, [0, 1], "folds")
    found = tables.summarise(table, ratings, TARGET)
    assert found["neutral"]["seen"]["gender"]["gap"] == {"mean": 0.25, "per_seed": [0.0, 0.5]}
    assert found["neutral"]["held_out"]["gender"]["gap"] == {"mean": 0.75, "per_seed": [0.5, 1.0]}
    assert found["neutral"]["person"]["gender"]["gap"]["mean"] == 1
    assert found["explicit"]["gender"]["mean"] == 0.5
    assert found["general"]["mean"] == 1
    # 2 x 6 pilots (4 right), 4 + 2 judges (all right), 2 x 2 explicit (all right)
    assert found["role_accuracy"]["overall"] == pytest.approx((8 + 6 + 4) / 22, abs=1e-6)
    assert found["role_accuracy"]["gender"]["woman"] == 1
    assert found["answers"]["no_person"] == pytest.approx(2 / 22, abs=1e-6)


def test_an_arm_without_training_is_counted_under_every_seed(ratings):
    base = ratings[ratings["seed"] == 0].assign(seed=-1)
    table = tables.per_prompt(base, TARGET, [0, 1, 2], "folds")
    pilot = table[(table["kind"] == "neutral") & (table["noun"] == "pilot")]
    assert pilot["split"].tolist() == ["held_out", "seen", "seen"]
    assert pilot["gender:gap"].nunique() == 1


def test_prompts_without_a_usable_image_count_for_nothing(ratings):
    nobody = rows(0, "neutral", "judge", "1", [NOBODY, NOBODY])
    table = tables.per_prompt(pd.DataFrame(nobody), TARGET, [0], "folds")
    assert pd.isna(table.loc[0, "gender:gap"])
    assert table.loc[0, "role_accuracy"] == 0
