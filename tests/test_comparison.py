"""Intervals, tests and side effects of arms whose answers are known."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dft_lib.evaluation import comparison, side_effects, tables
from dft_lib.evaluation.arm import EvaluatedArm
from dft_lib.evaluation.calibration import Calibration
from dft_lib.evaluation.tables import all_attributes
from dft_lib.repro.paths import ROOT

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
    table = tables.per_prompt(ratings, TARGET, SEEDS, "folds").assign(arm=name)
    shown = rng.normal(size=(len(ratings), 3))
    return EvaluatedArm(name, name.upper(), seeds != [-1], table, ratings, shown)


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
    return comparison.compare(arms, TARGET, "made up", references=["base", "unbalanced"])


def test_is_valid_json_and_complete(measured):
    json.dumps(measured, allow_nan=False)
    assert measured["schema"] == comparison.SCHEMA == 2 and list(measured["arms"]) == [
        "base",
        "unbalanced",
        "dft",
    ]
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
    table = tables.per_prompt(rows, TARGET, SEEDS, "folds").assign(arm="dft")
    found = comparison.gaps(replace(arms["dft"], table=table, ratings=rows), TARGET)["seen"]
    assert found["gender"]["per_prompt"]["parity_gap"]["value"] == 0
    assert found["skin_tone"]["per_prompt"]["parity_gap"]["value"] == 0
    cells = found["gender_x_skin_tone"]
    assert cells["per_prompt"]["parity_gap"]["value"] == pytest.approx(1 / 3, abs=1e-6)
    assert cells["mutual_information"]["value"] == pytest.approx(np.log(2), abs=1e-4)


def test_against_base(measured):
    arm = measured["arms"]["dft"]["against_base"]["seen"]["gender"]
    assert arm["gap"]["value"] < -0.6 and arm["gap"]["high"] < 0
    assert len(arm["gap"]["per_seed"]) == 3 and max(arm["gap"]["per_seed"]) < -0.6
    test = arm["squared_gap"]
    assert test["p"] == pytest.approx(2 / 2**9, abs=1e-6)
    assert test["p_holm"] == pytest.approx(2 * test["p"], abs=1e-5)  # two arms were tested
    assert test["smallest_possible_p"] == pytest.approx(test["p_holm"], abs=1e-5)
    same = measured["arms"]["unbalanced"]["against_base"]["seen"]["gender"]
    assert same["gap"]["value"] == 0 and same["squared_gap"]["p_holm"] == 1
    assert "against_base" not in measured["arms"]["base"]
    assert set(measured["arms"]["dft"]["against_unbalanced"]) >= {"seen", "held_out", "explicit"}
    assert "against_unbalanced" not in measured["arms"]["unbalanced"]
    held = measured["arms"]["dft"]["against_base"]["held_out"]["gender"]
    assert held["squared_gap"]["prompts"] == 9
    rows = pd.DataFrame(comparison.tests_table(measured))
    shown = rows.query("arm == 'dft' and against == 'base' and part == 'seen'")
    assert shown["difference"].tolist()[0] == arm["gap"]["value"] and len(shown) == 3


def test_fewer_usable_images_are_no_difference(arms):
    """The raw gap grows as N falls; the tested squared gap of equally fair arms does not."""
    rng = np.random.default_rng(0)
    wanted = {f"g{k}": 0.1 for k in range(10)}
    few, many = (
        pd.DataFrame(
            rng.multinomial(n, list(wanted.values()), 4000), columns=[f"a:{g}" for g in wanted]
        ).assign(kind="neutral", split="seen", prompt_id=range(4000), seed=0)
        for n in (24, 36)
    )
    squares = [comparison._per_cell(replace(arms["dft"], table=t), "seen", "a", wanted)
               for t in (few, many)]  # fmt: skip
    difference = squares[0] - squares[1]
    error = float(difference.std().iloc[0]) / np.sqrt(4000)
    assert abs(float(difference.mean().iloc[0])) < 4 * error


def test_seeds_that_share_their_noise_are_not_counted_twice(measured):
    seen = measured["arms"]["dft"]["neutral"]["seen"]["gender"]
    base = measured["arms"]["base"]["neutral"]["seen"]["gender"]
    # nine professions of N images, whatever the number of seeds
    assert seen["null_band"]["per_prompt"]["parity_gap"] == pytest.approx(
        base["null_band"]["per_prompt"]["parity_gap"], abs=0.02
    )


def test_side_effects(measured):
    effects = measured["arms"]["dft"]["side_effects"]
    assert effects["explicit"]["gender"]["value"] == pytest.approx(17 / 18, abs=1e-6)
    assert effects["explicit"]["skin_tone"]["value"] == 1
    assert effects["general"]["value"] == 1
    dropped = effects["drop_out"]["gender"]
    assert dropped["woman"]["unclear"] == pytest.approx(1 / 9, abs=1e-6)
    assert dropped["man"]["unclear"] == 0 and dropped[""]["bounds"]["woman"] == [0.5, 0.5]
    drift = effects["drift"]["explicit"]
    assert drift["images"] == 18 and drift["frechet_distance"] > 0
    own = measured["arms"]["base"]["side_effects"]["drift"]["explicit"]
    assert own["frechet_distance"] == own["kernel_distance"] == pytest.approx(0, abs=1e-6)
    diversity = effects["diversity"]["gender"]["woman"]
    assert diversity["prompts"] == 8  # base shows one woman only in one of nine professions
    assert diversity["difference"]["low"] < 0.5
    table = side_effects.table_of(measured)
    assert list(table) == ["BASE", "UNBALANCED", "DFT"]


def test_roles_are_compared_within_professions():
    """Women are drawn in the easy profession and men in the hard one: no unequal accuracy."""
    rows = []
    for noun, women, men, right in (("nurse", 90, 10, 1.0), ("guard", 10, 90, 0.5)):
        for gender, n in (("woman", women), ("man", men)):
            for k in range(n):
                row = image("neutral", noun, "0", 0, k, gender, "light")
                rows.append(row | {"rated_role": noun if k < right * n else "cook"})
    found = side_effects._roles(pd.DataFrame(rows), "gender", ["woman", "man"])
    assert found["groups"] == {"woman": 0.75, "man": 0.75} and found["difference"] == 0
    assert found["professions"] == 2 and 0 < found["noise_floor"] < 0.2
    rows = [image("neutral", "guard", "0", 0, k, "woman", "light") for k in range(5)]
    assert side_effects._roles(pd.DataFrame(rows), "gender", ["woman", "man"])["groups"] is None


def test_unclear_in_either_attribute_is_unclear_in_the_cell():
    rows = pd.DataFrame(
        [image("neutral", "a", "0", 0, k, g, t) for k, (g, t) in enumerate(
            [("woman", "light"), ("unclear", "light"), ("man", "unclear"),
             ("no_person", "no_person"), ("man", "dark")])]
    )  # fmt: skip
    found = tables.per_prompt(rows, TARGET, [0], "folds").iloc[0]
    assert found["gender_x_skin_tone:woman/light"] == found["gender_x_skin_tone:man/dark"] == 1
    assert found["gender_x_skin_tone:unclear"] == 2
    assert list(all_attributes(TARGET)["gender_x_skin_tone"].values()) == [0.25] * 4
    assert all_attributes({"gender": TARGET["gender"]}) == {"gender": TARGET["gender"]}


def labelled(n=100, hidden=20):
    """Make a judge that calls dark-skinned women `unclear` too often and errs nowhere else."""
    rows = []
    for tone in ("light", "dark"):
        for truth in ("woman", "man"):
            lost = hidden if (tone, truth) == ("dark", "woman") else 0
            for said, count in ((truth, n - lost), ("unclear", lost)):
                rows.append((tone, truth, said, count))
        rows.append((tone, "unclear", "unclear", n))
    table = pd.DataFrame(rows, columns=["skin_tone", "truth", "answer", "n"])
    return table.assign(rater="judge", attribute="gender", pictures="reconstructed")


def answers(dark_women_lost, neither=0):
    """Make ten prompts of 100 images: half dark-skinned, half women, some answers lost."""
    rows = []
    for prompt in range(10):
        for tone in ("light", "dark"):
            lost = dark_women_lost if tone == "dark" else 0
            for gender, n in (("woman", 25 - lost), ("man", 25), ("unclear", lost + neither)):
                rows += [{"prompt_id": prompt, "rated_gender": gender,
                          "rated_skin_tone": tone}] * n  # fmt: skip
    return pd.DataFrame(rows)


def test_corrected_shares(tmp_path):
    path = tmp_path / "confusion.csv"
    labelled().to_csv(path, index=False)
    known = Calibration.read(path, {"gender": "judge"})
    matrix, truths = known.matrix("gender", ["woman", "man"], ["light", "dark"])
    assert matrix.shape == (2, 3, 4) and truths == ["woman", "man", "unclear"]
    found = known.calibrated(answers(5), "gender", ["woman", "man"], ["light", "dark"])
    naive = 45 / 95
    assert abs(found["woman"]["value"] - 0.5) < 0.5 * abs(naive - 0.5)
    assert found["woman"]["value"] + found["man"]["value"] == pytest.approx(1, abs=1e-5)
    # pictures that show no gender are not shared out among the genders
    found = known.calibrated(answers(0, 20), "gender", ["woman", "man"], ["light", "dark"])
    assert found["woman"]["value"] == pytest.approx(0.5, abs=0.03)
    assert found["unclear"]["value"] > 0.2
    men = answers(0, 10).query("rated_gender != 'woman'")
    found = known.calibrated(men, "gender", ["woman", "man"], ["light", "dark"])
    assert found["man"]["value"] > 0.99 and found["man"]["high"] <= 1
    few = Calibration(labelled(10, 2), {"gender": "judge"})
    refused = few.calibrated(answers(5), "gender", ["woman", "man"], ["light", "dark"])
    assert "labelled images, 30 are needed" in refused["refused"]


def test_calibration_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="is missing: restore it"):
        Calibration.read(tmp_path / "none.csv", {})
    (tmp_path / "a.csv").write_text("rater,attribute\nx,y\n")
    with pytest.raises(ValueError, match="has no column 'answer'"):
        Calibration.read(tmp_path / "a.csv", {})
    assert Calibration.read(ROOT / "benchmarks" / "none" / "rater_confusion.csv", {}) is None
