import math

import numpy as np
import pytest

from dft_lib.fairness.metrics import (
    METRICS,
    entropy,
    even_gap,
    gap,
    min_max_ratio,
    shares,
    total_variation,
)

# (shares, M1, TV to uniform, min/max) from reference/metrics.md section 9, tolerance 1e-6
GOLDEN = [
    ((0.7, 0.3), 0.4, 0.2, 0.428571),
    ((0.8, 0.2), 0.6, 0.3, 0.25),
    ((1, 0), 1, 0.5, 0),
    ((0.7, 0.1, 0.1, 0.1), 0.3, 0.45, 0.142857),
    ((0.4, 0.3, 0.2, 0.1), 0.166667, 0.2, 0.25),
    ((1, 0, 0, 0), 0.5, 0.75, 0),
    ((0.5, 0.5, *[0] * 10), 0.151515, 0.833333, 0),
]


@pytest.mark.parametrize(("f", "m1", "tv", "ratio"), GOLDEN)
def test_golden_vectors(f, m1, tv, ratio):
    counts, k = np.array(f) * 1000, len(f)
    assert gap(counts) == pytest.approx(m1 * k / 2, abs=1e-6)
    assert total_variation(counts, np.full(k, 1 / k)) == pytest.approx(tv, abs=1e-6)
    assert min_max_ratio(counts) == pytest.approx(ratio, abs=1e-6)


def test_published_counts_of_one_occupation():
    # Fair Diffusion's counts for "accountant", Stable Diffusion 1.5: 166 men, 84 women
    assert gap([166, 84]) == pytest.approx(0.328, abs=1e-9)
    assert min_max_ratio([166, 84]) == pytest.approx(0.50602, abs=1e-5)


def test_gap_equals_its_definition_for_any_number_of_groups():
    rng = np.random.default_rng(0)
    for k in (2, 3, 5, 10):
        counts = rng.integers(0, 20, (50, k)) + np.eye(k, dtype=int)[0]
        f = shares(counts)
        pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
        m1 = sum(abs(f[:, i] - f[:, j]) for i, j in pairs) * 2 / (k * (k - 1))
        np.testing.assert_allclose(gap(counts), m1 * k / 2, atol=1e-12)


def test_two_groups_lie_on_one_scale():
    for women in range(41):
        b = abs(2 * women / 40 - 1)
        counts = [women, 40 - women]
        assert gap(counts) == pytest.approx(b, abs=1e-12)
        assert min_max_ratio(counts) == pytest.approx((1 - b) / (1 + b), abs=1e-12)
        assert total_variation(counts, [0.5, 0.5]) == pytest.approx(b / 2, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS.values())
def test_properties(metric):
    counts = np.array([3, 9, 0, 8])
    assert metric(counts) == pytest.approx(metric(counts[::-1]), abs=1e-12)
    assert metric(counts) == pytest.approx(metric(counts * 7), abs=1e-12)
    assert 0 <= metric(counts) <= 1
    assert math.isnan(metric([0, 0]))
    table = np.array([[1, 1], [3, 0], [0, 0]])
    np.testing.assert_allclose(metric(table), [metric(row) for row in table])


def test_ends_of_the_scales():
    assert (gap([4, 4]), min_max_ratio([4, 4]), entropy([4, 4])) == (0, 1, 1)
    assert (gap([8, 0]), min_max_ratio([8, 0]), entropy([8, 0])) == (1, 0, 0)


def test_floor_of_an_even_model_is_not_zero():
    # E|2p - 1| at N = 30 is .1445 (exact binomial sum, reference/metrics.md section 3)
    n = 30
    weights = np.array([math.comb(n, c) / 2**n for c in range(n + 1)])
    values = gap(np.array([[c, n - c] for c in range(n + 1)]))
    assert (weights * values).sum() == pytest.approx(0.1445, abs=5e-5)


@pytest.mark.parametrize("bad", [[-1, 2], [3], 3])
def test_refuses_what_is_no_count(bad):
    with pytest.raises(ValueError, match="counts"):
        gap(bad)


def test_refuses_a_target_that_does_not_sum_to_one():
    with pytest.raises(ValueError, match="target"):
        total_variation([1, 2], [0.5, 0.6])


@pytest.mark.parametrize(("images", "groups"), [(40, 2), (40, 5), (7, 3)])
def test_floor_is_what_even_models_score_on_average(images, groups):
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(images, np.full(groups, 1 / groups), 200_000)
    assert even_gap(images, groups) == pytest.approx(gap(drawn).mean(), abs=2e-3)


def test_floor_at_its_ends():
    assert even_gap(1, 2) == even_gap(1, 5) == pytest.approx(1)
    assert even_gap(2, 2) == pytest.approx(0.5)  # both alike half of the time
    assert even_gap(40, 2) == pytest.approx(0.125371, abs=1e-6)
    with pytest.raises(ValueError, match="at least one image"):
        even_gap(0, 2)
