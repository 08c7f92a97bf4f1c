"""Intervals, tests and side effects of arms whose answers are known."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dft_lib import comparison, evaluation, side_effects
from dft_lib.calibration import Calibration
from dft_lib.evaluated import Arm
from dft_lib.evaluation import all_attributes

TARGET = {"gender": {"woman": 0.5, "man": 0.5}, "skin_tone": {"light": 0.5, "dark": 0.5}}
NOUNS = [f"job{i}" for i in range(9)]
SEEDS = [0, 1, 2]
N = 20


def image(kind, noun, fold, seed, number, gender, tone, asked=("", "")):
    return {
        "seed": seed, "prompt_id": f"{kind}/{noun}/{'/'.join(asked)}", "kind": kind, "noun": noun,
        "fold": fold, "gender": asked[0], "skin_tone": asked[1], "replicate": number,
        "rated_person": "no_person" if gender == "no_person" else "person",
        "rated_role": noun, "rated_gender": gender, "rated_skin_tone": tone,
    }  # fmt: skip


def make(name, women, light, seeds, rng):
    """Make an arm: `women[i]` of N pictures of job i show women, and `light[i]` light skin."""
    rows = []
    for seed in seeds:
        for i, noun in enumerate(NOUNS):
            for k in range(N):
                gender = "woman" if k < women[i] else "man"
                tone = "light" if (k * 7) % N < light[i] else "dark"
                rows.append(image("neutral", noun, str(i % 3), seed, k, gender, tone))
            for g, t in (("woman", "dark"), ("man", "light")):
                said = "unclear" if g == "woman" and i == 0 else g
                rows.append(image("explicit", noun, str(i % 3), seed, 0, said, t, (g, t)))
        for k in range(N):
            rows.append(image("person", "person", "", seed, k, "woman", "light"))
        rows.append(image("general", "dog", "", seed, 0, "no_person", "no_person"))
        rows.append(image("general", "cup", "", seed, 0, "no_person", "no_person"))
    ratings = pd.DataFrame(rows)
    table = evaluation.per_prompt(ratings, TARGET, SEEDS, "folds").assign(arm=name)
    shown = rng.normal(size=(len(ratings), 3))
    return Arm(name, name.upper(), seeds != [-1], table, ratings, shown)


@pytest.fixture(scope="module")
def arms():
    rng = np.random.default_rng(0)
    biased = [2, 18, 3, 17, 1, 19, 4, 18, 2]
    return {
        "base": make("base", biased, [18] * 9, [-1], rng),
        "unbalanced": make("unbalanced", biased, [18] * 9, SEEDS, rng),
        "dft": make("dft", [10] * 9, [11] * 9, SEEDS, rng),
    }


@pytest.fixture(scope="module")
def measured(arms):
    return comparison.compare(arms, TARGET, "made up")


def test_is_valid_json_and_complete(measured):
    json.dumps(measured, allow_nan=False)
    assert measured["schema"] == 1 and list(measured["arms"]) == ["base", "unbalanced", "dft"]
    for arm in measured["arms"].values():
        assert set(arm["neutral"]) == {"seen", "held_out", "person"}
        for part in arm["neutral"].values():
            assert list(part) == ["gender", "skin_tone", "gender_x_skin_tone"]


def test_values_by_hand(arms, measured):
    base = measured["arms"]["base"]["neutral"]["seen"]["gender"]
    counts = arms["base"].table.query("kind == 'neutral' and seed == 0")
    gap = (counts["gender:woman"] - counts["gender:man"]).abs() / N
    assert base["per_prompt"]["parity_gap"]["value"] == pytest.approx(gap.mean(), abs=1e-6)
    assert base["prompts"] == 9 and base["seeds"] == 1  # its images are counted once
    dft = measured["arms"]["dft"]["neutral"]["seen"]["gender"]
    assert dft["per_prompt"]["parity_gap"]["value"] == 0
    assert dft["per_prompt"]["parity_gap_corrected"]["value"] == 0
    assert dft["seeds"] == 3 and dft["images"] == [N, N]
    low, high = dft["null_band"]["per_prompt"]["parity_gap"]
    assert 0 < low < dft["per_prompt"]["parity_gap"]["noise_floor"] < high
    person = measured["arms"]["dft"]["neutral"]["person"]["gender"]
    assert person["prompts"] == 1 and person["per_prompt"]["parity_gap"]["low"] is None


def test_even_margins_do_not_hide_uneven_cells(arms):
    rows = arms["dft"].ratings.copy()
    plain = rows["kind"] == "neutral"
    rows.loc[plain, "rated_skin_tone"] = np.where(
        rows.loc[plain, "rated_gender"] == "woman", "dark", "light"
    )
    table = evaluation.per_prompt(rows, TARGET, SEEDS, "folds").assign(arm="dft")
    found = comparison.gaps(replace(arms["dft"], table=table, ratings=rows), TARGET)["seen"]
    assert found["gender"]["per_prompt"]["parity_gap"]["value"] == 0
    assert found["skin_tone"]["per_prompt"]["parity_gap"]["value"] == 0
    cells = found["gender_x_skin_tone"]
    assert cells["per_prompt"]["parity_gap"]["value"] == pytest.approx(1 / 3, abs=1e-6)
    assert cells["mutual_information"]["value"] == pytest.approx(np.log(2), abs=1e-4)


def test_against_base(measured):
    arm = measured["arms"]["dft"]["against_base"]["seen"]["gender"]
    assert arm["value"] < -0.6 and arm["high"] < 0
    assert arm["p"] == pytest.approx(2 / 2**9, abs=1e-6) == arm["smallest_possible_p"]
    assert arm["p_holm"] == pytest.approx(2 * arm["p"], abs=1e-5)  # two arms were tested
    same = measured["arms"]["unbalanced"]["against_base"]["seen"]["gender"]
    assert (same["value"], same["p"], same["p_holm"]) == (0, 1, 1)
    assert "against_base" not in measured["arms"]["base"]
    assert set(measured["arms"]["dft"]["against_unbalanced"]) >= {"seen", "held_out", "explicit"}
    assert "against_unbalanced" not in measured["arms"]["unbalanced"]
    few = measured["arms"]["dft"]["against_base"]["held_out"]["gender"]
    assert few["prompts"] == 9
    rows = pd.DataFrame(comparison.tests_table(measured))
    shown = rows.query("arm == 'dft' and against == 'base' and part == 'seen'")
    assert shown["difference"].tolist()[0] == arm["value"] and len(shown) == 3


def test_side_effects(measured):
    effects = measured["arms"]["dft"]["side_effects"]
    assert effects["explicit"]["gender"]["value"] == pytest.approx(17 / 18, abs=1e-6)
    assert effects["explicit"]["skin_tone"]["value"] == 1
    assert effects["general"]["value"] == 1
    roles = effects["role_accuracy"]["gender"]
    assert roles["difference"] == 0 and roles["groups"]["woman"]["low"] < 1
    dropped = effects["drop_out"]["gender"]
    assert dropped["woman"]["unclear"] == pytest.approx(1 / 9, abs=1e-6)
    assert dropped["man"]["unclear"] == 0 and dropped[""]["bounds"]["woman"] == [0.5, 0.5]
    assert effects["drift"]["explicit"]["images"] == 18
    assert measured["arms"]["base"]["side_effects"]["drift"]["explicit"]["frechet_distance"] == 0
    assert set(effects["diversity"]["gender"]) == {"woman", "man"}
    table = side_effects.table_of(measured)
    assert list(table) == ["BASE", "UNBALANCED", "DFT"]


def test_unclear_in_either_attribute_is_unclear_in_the_cell():
    rows = pd.DataFrame(
        [image("neutral", "a", "0", 0, k, g, t) for k, (g, t) in enumerate(
            [("woman", "light"), ("unclear", "light"), ("man", "unclear"),
             ("no_person", "no_person"), ("man", "dark")])]
    )  # fmt: skip
    found = evaluation.per_prompt(rows, TARGET, [0], "folds").iloc[0]
    assert found["gender_x_skin_tone:woman/light"] == found["gender_x_skin_tone:man/dark"] == 1
    assert found["gender_x_skin_tone:unclear"] == 2
    assert list(all_attributes(TARGET)["gender_x_skin_tone"].values()) == [0.25] * 4
    assert all_attributes({"gender": TARGET["gender"]}) == {"gender": TARGET["gender"]}


def calibration(n=100):
    """Make a judge that calls every fifth dark-skinned woman `unclear` and errs nowhere else."""
    rows = []
    for tone in ("light", "dark"):
        for truth in ("woman", "man"):
            hidden = n // 5 if (tone, truth) == ("dark", "woman") else 0
            for said, count in ((truth, n - hidden), ("unclear", hidden)):
                rows.append((tone, truth, said, count))
    table = pd.DataFrame(rows, columns=["skin_tone", "truth", "answer", "n"])
    return table.assign(rater="judge", attribute="gender", pictures="reconstructed")


def test_corrected_shares(arms, tmp_path):
    ratings = arms["dft"].ratings.query("kind == 'neutral'").copy()
    ratings["rated_skin_tone"] = np.where(ratings["replicate"] % 2, "dark", "light")
    hidden = (ratings["rated_skin_tone"] == "dark") & (ratings["rated_gender"] == "woman")
    fifth = hidden & (ratings["replicate"] == 1)  # one of five dark-skinned women per profession
    ratings.loc[fifth, "rated_gender"] = "unclear"
    path = tmp_path / "confusion.csv"
    calibration().to_csv(path, index=False)
    known = Calibration.read(path, {"gender": "judge"})
    found = known.corrected(ratings, "gender", ["woman", "man"], ["light", "dark"])
    dark = found["by_skin_tone"]["dark"]["woman"]
    assert dark["value"] == pytest.approx(0.5, abs=1e-3)
    assert dark["low"] <= dark["value"] <= dark["high"]
    naive = (ratings.query("rated_skin_tone == 'dark'")["rated_gender"] == "woman").mean()
    assert naive == pytest.approx(0.4)
    few = Calibration(calibration(10), {"gender": "judge"})
    refused = few.corrected(ratings, "gender", ["woman", "man"], ["light", "dark"])
    assert "labelled images, 30 are needed" in refused["overall"]["refused"]


def test_calibration_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="set figures.calibration to null"):
        Calibration.read(tmp_path / "none.csv", {})
    (tmp_path / "a.csv").write_text("rater,attribute\nx,y\n")
    with pytest.raises(ValueError, match="has no column 'answer'"):
        Calibration.read(tmp_path / "a.csv", {})
