"""Correcting shares for the rater's errors, and agreement of raters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dft_lib.fairness import rater_error as re

WOMAN_MAN = np.array([[0.90, 0.10], [0.02, 0.98]])


def test_confusion_counts_every_answer():
    counts = re.confusion(
        ["a", "a", "b", "c"], ["a", "unclear", "b", "a"], ["a", "b"], ["a", "b", "unclear"]
    )
    assert counts.tolist() == [[1, 0, 1], [0, 1, 0]]
    with pytest.raises(ValueError, match="answered 'x'"):
        re.confusion(["a"], ["x"], ["a", "b"], ["a", "b"])


@pytest.mark.parametrize(("reported", "true"), [(0.46, 0.5), (0.108, 0.1)])
def test_golden_correction(reported, true):
    assert re.rogan_gladen(reported, 0.90, 0.98) == pytest.approx(true, abs=1e-9)
    shares = re.calibrated_shares([reported, 1 - reported], WOMAN_MAN)
    assert shares == pytest.approx([true, 1 - true], abs=1e-5)
    assert [true, 1 - true] @ WOMAN_MAN == pytest.approx([reported, 1 - reported])
    with pytest.raises(ValueError, match="no better than chance"):
        re.rogan_gladen(0.4, 0.5, 0.5)


@pytest.mark.parametrize(("p", "wanted"), [(0.5, 0.0755), (0.1, 0.0479)])
def test_golden_standard_error(p, wanted):
    assert re.rogan_gladen_error(p, 60, 0.9, 0.98, (100, 100)) == pytest.approx(wanted, abs=5e-5)
    rng = np.random.default_rng(0)
    f = rng.binomial(60, p * 0.9 + (1 - p) * 0.02, 100_000) / 60
    se, sp = rng.binomial(100, 0.9, 100_000) / 100, rng.binomial(100, 0.98, 100_000) / 100
    assert ((f + sp - 1) / (se + sp - 1)).std() == pytest.approx(wanted, abs=1e-3)


def test_correction_stays_on_the_simplex():
    # plain inversion gives a negative share here
    assert re.rogan_gladen(0.0, 0.9, 0.98) < 0
    assert re.calibrated_shares([0, 60], WOMAN_MAN) == pytest.approx([0, 1], abs=1e-6)
    assert np.isnan(re.calibrated_shares([0, 0], WOMAN_MAN)).all()


@given(st.integers(2, 5), st.integers(0, 10**6))
def test_correction_undoes_the_error(k, seed):
    rng = np.random.default_rng(seed)
    matrix = 0.8 * np.eye(k) + 0.2 * rng.dirichlet(np.ones(k), size=k)
    true = rng.dirichlet(np.full(k, 3.0))
    assert re.calibrated_shares(true @ matrix, matrix) == pytest.approx(true, abs=1e-3)
    stacked = re.calibrated_shares(np.stack([true @ matrix] * 3), matrix)
    assert stacked.shape == (3, k)


def test_a_rater_that_hides_a_group_is_seen_through():
    # dark tones are called "unclear" four times in ten: uncorrected shares over answers hide them
    calibration = np.array([[98, 0, 2], [0, 60, 40]])
    reported = np.array([49, 30, 21])  # half and half in truth
    naive = reported[:2] / reported[:2].sum()
    assert naive[1] < 0.39
    found = re.calibrated_prevalence(reported, calibration)
    assert found.shares == pytest.approx([0.5, 0.5], abs=5e-3)
    assert (found.low < 0.5).all() and (found.high > 0.5).all()


def test_intervals_carry_the_calibration_error():
    few, many = np.array([[36, 4], [1, 39]]), np.array([[3600, 400], [100, 3900]])
    counts = np.tile([20, 20], (50, 1))
    counts[::2] = [30, 10]
    wide, narrow = (re.calibrated_prevalence(counts, c) for c in (few, many))
    assert wide.shares == pytest.approx(narrow.shares, abs=5e-3)
    assert wide.high[0] - wide.low[0] > 1.3 * (narrow.high[0] - narrow.low[0])
    assert re.calibrated_prevalence(counts, few).low == pytest.approx(wide.low)  # seeded
    assert np.isnan(re.calibrated_prevalence([[0, 0]], few).shares).all()


def test_no_share_is_lost_on_an_answer_that_calibration_never_saw():
    diagonal = np.array([[95, 5, 0], [5, 95, 0]])
    found = re.calibrated_prevalence([45, 45, 10], diagonal)
    assert found.shares.sum() == pytest.approx(1) and found.shares[0] == pytest.approx(0.5)
    assert (found.high - found.low > 0.05).all()
    with pytest.raises(ValueError, match="nobody gives"):
        re.calibrated_shares([45, 45, 10], diagonal / 100)


def test_errors_that_depend_on_a_stratum_are_mixed_as_it_occurs():
    light, dark = np.array([[95, 5], [5, 95]]), np.array([[60, 40], [5, 95]])
    true = np.array([0.5, 0.5])
    mixed = 0.25 * light / 100 + 0.75 * dark / 100
    reported = (true @ mixed * 10_000).round().astype(int)
    found = re.calibrated_prevalence(reported, np.stack([light, dark]), strata=[1, 3])
    assert found.shares == pytest.approx(true, abs=0.01)
    wrong = re.calibrated_prevalence(reported, light)
    assert wrong.shares[0] < 0.4


def test_interval_covers():
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(200):
        calibration = np.stack([rng.multinomial(100, row) for row in WOMAN_MAN])
        counts = rng.multinomial(60, np.array([0.5, 0.5]) @ WOMAN_MAN)
        found = re.calibrated_prevalence(counts, calibration, draws=300, seed=trial)
        held += found.low[0] <= 0.5 <= found.high[0]
    assert 180 <= held <= 200


@pytest.mark.parametrize(
    ("calibration", "sentence"),
    [
        ([[20, 1], [1, 99]], "21 labelled images, 30 are needed"),
        ([[60, 40], [50, 50]], "cannot tell the groups apart"),
        ([[60, 40]], "a row per group"),
    ],
)
def test_refuses_what_it_cannot_correct(calibration, sentence):
    with pytest.raises(ValueError, match=sentence):
        re.calibrated_prevalence([30, 30], calibration)


def test_kappa():
    assert re.cohen_kappa([[45, 5], [10, 40]]) == pytest.approx(0.70)
    assert re.cohen_kappa([[5, 0], [0, 5]]) == 1
    assert np.isnan(re.cohen_kappa([[5, 0], [0, 0]]))
    with pytest.raises(ValueError, match="square"):
        re.cohen_kappa([[1, 2, 3], [1, 2, 3]])


def test_alpha_of_krippendorffs_own_example():
    # Krippendorff 2011, section B (binary, two observers): .095; C (nominal, four observers): .743
    b = ["0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"]
    assert re.krippendorff_alpha([row.split() for row in b]) == pytest.approx(0.095, abs=5e-4)
    c = [
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    ]
    rows = [[None if x == "." else x for x in row.split()] for row in c]
    assert re.krippendorff_alpha(rows) == pytest.approx(0.743, abs=5e-4)
    assert np.isnan(re.krippendorff_alpha([["a", "a"], ["a", "a"]]))
    assert np.isnan(re.krippendorff_alpha([["a", None], [None, "b"]]))
