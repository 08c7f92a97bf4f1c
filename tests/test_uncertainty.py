"""Intervals and tests over prompts and seeds."""

import csv

import numpy as np
import pytest
from scipy import stats

from dft_lib.fairness import uncertainty as un
from dft_lib.fairness.metrics import gap
from dft_lib.fairness.unbiased import squared_gap
from dft_lib.repro.paths import ROOT

GOLDEN = ROOT.parent / "shared" / "golden" / "fair_diffusion_counts.csv"


def test_bootstrap_interval_of_a_mean():
    values = np.random.default_rng(0).normal(2, 1, 100)
    found = un.bootstrap_interval(values)
    error = values.std() / 10
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.02)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.02)
    assert un.bootstrap_interval(values) == found  # seeded
    assert un.bootstrap_interval(values, seed=1) != found


@pytest.mark.skipif(not GOLDEN.exists(), reason="the published counts are not here")
def test_published_paired_difference():
    """Fair Diffusion against Stable Diffusion 1.5: .413, 95 % interval .373 to .453."""
    with open(GOLDEN, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    values = {
        name: gap([[int(r["woman"]), int(r["man"])] for r in rows if r["set"] == name])
        for name in ("sd15_base", "sd15_fair_diffusion")
    }
    found = un.bootstrap_interval(values["sd15_base"] - values["sd15_fair_diffusion"])
    assert (found.value, found.low, found.high) == pytest.approx((0.413, 0.373, 0.453), abs=0.003)


def test_one_prompt_has_no_interval():
    for function in (un.bootstrap_interval, un.t_interval, un.mean_interval):
        found = function(np.array([0.3]))
        assert found.value == 0.3 and np.isnan([found.low, found.high]).all()
        assert np.isnan(function(np.array([np.nan])).value)


def test_seeds_are_a_crossed_factor():
    """Seeds that differ widen the interval, however many prompts there are."""
    rng = np.random.default_rng(0)
    prompts, seeds = rng.normal(0, 0.1, 200)[:, None], np.array([-1.0, 0.0, 1.0])
    found = un.bootstrap_interval(prompts + seeds)
    assert found.high - found.low > 1
    alone = un.bootstrap_interval(prompts + 0 * seeds)
    assert alone.high - alone.low < 0.1
    assert un.bootstrap_interval(prompts) == pytest.approx(alone) or alone.low < 0 < alone.high


def test_prompts_missing_under_a_seed_are_no_zeros():
    values = np.array([[1.0, np.nan], [np.nan, 3.0], [1.0, 3.0], [np.nan, np.nan]])
    found = un.bootstrap_interval(values)
    assert found.value == pytest.approx(2)
    assert 1 <= found.low <= found.high <= 3


def test_student_t_is_scipys():
    values = np.random.default_rng(0).normal(2, 1, 12)
    wanted = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = un.t_interval(values)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def coverage(prompts, total, studies=400):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(2, total / 2), size=(studies, prompts))
    values = squared_gap(rng.multinomial(40, p))
    truth = 2 * 0.5 / (total + 1)
    intervals = [un.mean_interval(v, draws=1000) for v in values]
    assert values.mean() == pytest.approx(truth, abs=4 * values.mean(1).std() / studies**0.5)
    return np.mean([i.low <= truth <= i.high for i in intervals])


@pytest.mark.parametrize("prompts", [50, 100])
def test_intervals_of_the_corrected_gap_cover(prompts):
    # 95 % +- three binomial standard errors of 400 studies; benchmarks/coverage.py has the rest
    assert 0.92 <= coverage(prompts, 1.5) <= 0.985


@pytest.mark.parametrize(("prompts", "images"), [(19, 36), (13, 20), (7, 37), (20, 40)])
def test_prompts_that_agree_but_for_one_do_not_break_the_interval(prompts, images):
    """Resamples without the odd one have no spread, and rounding must not give them any."""
    counts = np.tile([images, 0], (prompts, 1))
    counts[0] = [images // 2, images - images // 2]
    values = squared_gap(counts)
    found = un.mean_interval(values)
    wanted = un.t_interval(values)
    assert (found.low, found.high) == (wanted.low, wanted.high)
    alike = un.mean_interval(np.full(prompts, 0.3))
    assert alike.value == pytest.approx(0.3) and np.isnan([alike.low, alike.high]).all()


def test_sign_flip_test():
    assert un.sign_flip_test([1.0] * 6) == pytest.approx(2 / 2**6)
    assert un.sign_flip_test([1, -1, 1, -1]) == 1
    assert un.sign_flip_test([0.0, 0.0]) == 1
    assert un.sign_flip_test([]) == 1
    assert un.sign_flip_test([np.nan, 1, 1]) == pytest.approx(0.5)
    many = np.random.default_rng(0).normal(0.5, 1, 40)
    found = un.sign_flip_test(many)
    assert found == pytest.approx(stats.ttest_1samp(many, 0).pvalue, abs=0.01)
    assert un.sign_flip_test(np.ones(60)) == pytest.approx(1 / 10_001)  # never 0
    exact = un.sign_flip_test(many[:14])
    assert un.sign_flip_test(many[:14], exact_up_to=5) == pytest.approx(exact, abs=0.02)


def test_sign_flip_test_holds_its_level():
    rng = np.random.default_rng(0)
    p = [un.sign_flip_test(rng.normal(size=8)) for _ in range(1000)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.025)


def test_smallest_p():
    assert un.smallest_p(5) == 0.0625 and un.smallest_p(6) == 0.03125
    assert un.smallest_p(0) == un.smallest_p(1) == 1
    assert un.sign_flip_test(np.ones(5)) == un.smallest_p(5)


def test_holm():
    found = un.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9})
    assert found == pytest.approx({"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.9})
    assert list(found) == ["a", "b", "c", "d"]
    assert un.holm({"a": 0.6, "b": 0.7}) == {"a": 1, "b": 1}
