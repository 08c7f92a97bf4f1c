"""Majorities and agreement of raters."""

import numpy as np
import pytest

from dft_lib.raters.consensus import agreement, majority


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


def test_agreement():
    same = column("woman", "man", "man", "unclear")
    other = column("woman", "man", "woman", "unclear")
    found = agreement({"a": same, "b": same, "c": other}, ["woman", "man"])
    assert found["kappa"]["a / b"] == 1
    assert 0 < found["kappa"]["a / c"] < 1
    assert 0 < found["alpha"] < 1
    assert agreement({"a": same, "b": same}, ["woman", "man"])["alpha"] == 1
