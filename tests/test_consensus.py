"""Majorities and agreement of raters."""

import numpy as np
import pytest

from dft_lib.raters.consensus import COARSE_TONES, agreement, coarse_tone, majority
from dft_lib.raters.skin import ITA_GROUPS, MONK_GROUPS


def column(*labels):
    return np.array(labels, dtype=object)


def test_majority_may_abstain():
    one = column("woman", "woman", "man", "unclear", "unclear", "woman")
    two = column("woman", "man", "man", "man", "unclear", "woman")
    three = column("man", "unclear", "man", "man", "unclear", "no_person")
    found = majority([one, two, three])
    assert found.tolist() == ["woman", "unclear", "man", "man", "unclear", "woman"]
    assert majority([one, two, three], needed=3).tolist() == [
        "unclear", "unclear", "man", "unclear", "unclear", "unclear"
    ]  # fmt: skip
    assert majority([one, two], needed=1)[1] == "unclear"  # a tie
    with pytest.raises(ValueError, match="between 1 and the 2 raters"):
        majority([one, two], needed=3)
    with pytest.raises(ValueError, match="one answer per image"):
        majority([one, two[:2]])


def test_scales_of_skin_tone_meet_on_a_coarse_one():
    monk = column("monk-2", "monk-6", "monk-9", "no_person")
    ita = column("light", "tan", "dark", "unclear")
    assert coarse_tone(monk).tolist() == ["light", "medium", "dark", "no_person"]
    assert coarse_tone(ita).tolist() == ["light", "medium", "dark", "unclear"]
    assert set(coarse_tone(column(*MONK_GROUPS, *ITA_GROUPS))) == set(COARSE_TONES)
    found = agreement({"monk": coarse_tone(monk), "ita": coarse_tone(ita)}, COARSE_TONES)
    assert found["alpha"] == 1
    with pytest.raises(ValueError, match="at least one image"):
        agreement({"a": column(), "b": column()}, COARSE_TONES)


def test_agreement():
    same = column("woman", "man", "man", "unclear")
    other = column("woman", "man", "woman", "unclear")
    found = agreement({"a": same, "b": same, "c": other}, ["woman", "man"])
    assert found["kappa"]["a / b"] == 1
    assert 0 < found["kappa"]["a / c"] < 1
    assert 0 < found["alpha"] < 1
    assert agreement({"a": same, "b": same}, ["woman", "man"])["alpha"] == 1
