import pandas as pd
import pytest

from dft_lib.image_sets import audit, screening

TARGET = {"gender": {"woman": 0.5, "man": 0.5}, "skin_tone": {"light": 0.75, "dark": 0.25}}


def index(kept: dict[tuple[str, str], int], rejected: int = 1) -> pd.DataFrame:
    rows = []
    for (gender, tone), count in kept.items():
        for i in range(count + rejected):
            rows.append(
                {
                    "set": "balanced", "kind": "profession", "noun": "pilot", "gender": gender,
                    "caption": ("a pilot", "a photo of a pilot")[i % 2],
                    "skin_tone": tone, "rated_gender": gender, "rated_skin_tone": tone,
                    "verdict": "kept" if i < count else "no person",
                }
            )  # fmt: skip
    for i in range(60):
        rows.append(
            {
                "set": "unbalanced", "kind": "profession", "noun": "pilot", "gender": "",
                "caption": ("a pilot", "a photo of a pilot")[i >= 30],
                "skin_tone": "", "rated_gender": "man", "rated_skin_tone": "light",
                "verdict": "kept",
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


UNEVEN = {("woman", "light"): 2, ("woman", "dark"): 1, ("man", "light"): 9, ("man", "dark"): 4}


def test_weights_meet_the_target_whatever_screening_kept():
    table = index(UNEVEN)
    table["weight"] = screening.weigh(table, TARGET, 1)
    balanced = table[table["set"] == "balanced"]
    assert balanced["weight"].sum() == pytest.approx(1)
    assert (balanced.loc[balanced["verdict"] != "kept", "weight"] == 0).all()
    for attribute, shares in TARGET.items():
        for group, share in shares.items():
            got = balanced.loc[balanced[attribute] == group, "weight"].sum()
            assert got == pytest.approx(share)


def test_an_empty_cell_stops_the_study():
    with pytest.raises(ValueError, match="screening left 0 images of dark woman pilot"):
        screening.weigh(index(UNEVEN | {("woman", "dark"): 0}), TARGET, 1)


def test_a_cell_that_was_never_drawn_stops_the_study_too():
    gone = {cell: n for cell, n in UNEVEN.items() if cell[0] == "man"}
    with pytest.raises(ValueError, match="left 0 images of .* woman pilot.*forbidden_terms"):
        screening.weigh(index(gone), TARGET, 1)


def test_the_control_is_cut_to_the_same_size():
    table = index(UNEVEN)
    table["verdict"] = screening.match_size(table)
    kept = table[table["verdict"] == "kept"].groupby(["set", "caption"]).size()
    assert kept["balanced"].to_dict() == kept["unbalanced"].to_dict()
    assert kept["balanced"].sum() == 16


def test_verdicts():
    asked = pd.DataFrame(
        {
            "kind": ["profession"] * 6 + ["general"] * 3,
            "noun": ["pilot"] * 6 + ["dog"] * 3,
            "gender": ["woman"] * 5 + [""] * 4,
            "skin_tone": ["dark"] * 5 + [""] * 4,
        }
    )
    rated = pd.DataFrame(
        {
            "person": ["person"] * 4
            + ["no_person", "person"]
            + ["no_person", "person", "no_person"],
            "role": ["pilot", "judge", "pilot", "pilot", "pilot", "pilot", "dog", "dog", "cat"],
            "gender": ["woman", "woman", "unclear", "woman", "woman", "man"] + ["no_person"] * 3,
            "skin_tone": ["dark", "dark", "dark", "medium", "dark", "light"] + ["no_person"] * 3,
        }
    )
    assert screening.screen(asked, rated, list(TARGET)).tolist() == [
        "kept", "wrong subject", "wrong gender", "wrong skin_tone", "no person", "kept",
        "kept", "unexpected person", "wrong subject",
    ]  # fmt: skip


def test_forbidden_terms_match_whole_words():
    texts = pd.Series(["a soldier", "a Soldierly cook", "two soldiers"])
    assert screening.forbidden(texts, ["Soldier"]).tolist() == [True, False, False]
    assert not screening.forbidden(texts, []).any()


def test_audit_sees_the_skew_and_the_weights_mend_it():
    table = index(UNEVEN)
    table["weight"] = screening.weigh(table, TARGET, 1)
    shares = audit.representation(table, TARGET)
    assert shares.groupby(["set", "stage", "attribute"])["share"].sum().round(9).eq(1).all()
    summary = audit.summary(shares, table)["balanced"]["total_variation"]["gender"]
    assert summary["requested"] > 0
    assert summary["kept"] == pytest.approx(13 / 16 - 0.5, abs=1e-5)
    assert summary["weighted"] == pytest.approx(0, abs=1e-9)


def flagging(rows: pd.DataFrame) -> pd.DataFrame:
    """A skewed filter: flags every second picture of women, and none of men."""
    woman = rows["gender"].where(rows["gender"] != "", rows["rated_gender"]) == "woman"
    turn = woman.cumsum() % 2 == 1
    return rows.assign(rated_unsafe=(woman & turn).map({True: "unsafe", False: "safe"}))


def test_unsafe_is_the_gravest_verdict_and_an_unclear_filter_is_not_safe():
    asked = pd.DataFrame(
        {"kind": ["profession"] * 4 + ["general"], "noun": ["pilot"] * 4 + ["dog"],
         "gender": ["woman"] * 4 + [""], "skin_tone": ["dark"] * 4 + [""]}
    )  # fmt: skip
    rated = pd.DataFrame(
        {"person": ["person", "no_person", "person", "person", "no_person"],
         "gender": ["woman", "no_person", "man", "woman", "no_person"],
         "skin_tone": ["dark"] * 5, "unsafe": ["unsafe", "unsafe", "unsafe", "unclear", "safe"]}
    )  # fmt: skip
    named = ["gender", "skin_tone"]
    verdict = screening.screen(asked, rated, named)
    assert verdict.tolist() == ["unsafe"] * 4 + ["kept"]
    assert screening.UNSAFE not in screening.REASONS  # what figures show
    assert screening.screen(asked, rated.drop(columns="unsafe"), named)[0] == "kept"


def test_the_audit_shows_a_skewed_filter_by_requested_group():
    table = flagging(index({("woman", "light"): 8, ("man", "light"): 8}, rejected=0))
    table.loc[table["rated_unsafe"] == "unsafe", "verdict"] = screening.UNSAFE
    table["weight"] = 1.0
    counted = audit.flagged(table, TARGET).set_index(["set", "attribute", "group"])
    assert counted.loc[("balanced", "gender", "woman"), ["images", "unsafe"]].tolist() == [8, 4]
    assert counted.loc[("balanced", "gender", "woman"), "share"] == 0.5
    assert counted.loc[("balanced", "gender", "man"), "unsafe"] == 0
    assert counted.loc[("balanced", "skin_tone", "light"), ["images", "unsafe"]].tolist() == [
        16,
        4,
    ]
    # nothing was requested of the control: what the raters saw
    assert counted.loc[("unbalanced", "gender", "man"), ["images", "unsafe"]].tolist() == [60, 0]
    shares = audit.representation(table, TARGET)
    told = audit.summary(shares, table, audit.flagged(table, TARGET))
    assert told["balanced"]["unsafe"]["gender"] == {
        "woman": {"images": 8, "unsafe": 4}, "man": {"images": 8, "unsafe": 0},
    }  # fmt: skip
    assert told["balanced"]["verdicts"]["unsafe"] == 4


def test_without_a_filter_the_audit_says_nothing_of_it():
    table = index(UNEVEN).assign(weight=1.0)
    counted = audit.flagged(table, TARGET)
    assert counted.empty
    told = audit.summary(audit.representation(table, TARGET), table, counted)
    assert "unsafe" not in told["balanced"]
