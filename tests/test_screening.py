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
