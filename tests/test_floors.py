"""What a fair model scores, and the sample sizes that follow."""

import math

import numpy as np
import pytest

from dft_lib.fairness import floors, metrics

# K, N, mean and 95th percentile of M1, KL, discrepancy, delta, TV, min/max (100,000 draws)
FLOORS = [
    (2, 10, 0.2461, 0.600, 0.0530, 0.173, 0.2461, 0.123, 0.645),
    (2, 60, 0.1026, 0.267, 0.0084, 0.072, 0.1026, 0.051, 0.823),
    (4, 60, 0.0727, 0.128, 0.0254, 0.103, 0.1773, 0.089, 0.595),
    (10, 160, 0.0281, 0.040, 0.0285, 0.073, 0.1882, 0.094, 0.460),
]
NAMES = (
    "parity_gap", "kl_divergence", "fairness_discrepancy", "delta", "total_variation",
    "min_max_ratio",
)  # fmt: skip


@pytest.mark.parametrize("row", FLOORS, ids=[f"K{r[0]}-N{r[1]}" for r in FLOORS])
def test_published_floors(row):
    k, n, mean, high, *others = row
    drawn = floors.simulate_fair([n], np.full(k, 1 / k), draws=40_000)[:, 0]
    m1 = metrics.parity_gap(drawn)
    assert m1.mean() == pytest.approx(mean, abs=max(4 * m1.std() / 200, 5e-5))
    assert floors.even_gap(n, k) == pytest.approx(mean * k / 2, abs=5e-5 * k)
    assert np.quantile(m1, 0.95) == pytest.approx(high, abs=0.5 * max(2 / n / k, 0.001) + 5e-4)
    for name, wanted in zip(NAMES, [mean, *others], strict=True):
        values = metrics.METRICS[name](drawn)
        assert values.mean() == pytest.approx(wanted, abs=max(4 * values.std() / 200, 1e-3)), name


@pytest.mark.parametrize(("images", "groups"), [(40, 2), (40, 5), (7, 3)])
def test_floor_is_what_even_models_score_on_average(images, groups):
    even = np.full(groups, 1 / groups)
    found = floors.noise_floor(metrics.gap, [images] * 20, even, draws=5000)
    assert floors.even_gap(images, groups) == pytest.approx(found.floor, abs=3e-3)
    assert found.low < found.floor < found.high
    again = floors.noise_floor(metrics.gap, [images] * 20, even, draws=5000)
    assert again == found


def test_floor_at_its_ends():
    assert floors.even_gap(1, 2) == floors.even_gap(1, 5) == pytest.approx(1)
    assert floors.even_gap(2, 2) == pytest.approx(0.5)  # both alike half of the time
    assert floors.even_gap(40, 2) == pytest.approx(0.125371, abs=1e-6)
    with pytest.raises(ValueError, match="at least one image"):
        floors.even_gap(0, 2)
    with pytest.raises(ValueError, match="whole numbers"):
        floors.simulate_fair([3.5], [0.5, 0.5])


def test_wilson():
    wanted = {(166, 250): (0.603, 0.720), (0, 60): (0, 0.060), (30, 60): (0.377, 0.623)}
    for (k, n), interval in wanted.items():
        assert floors.wilson(k, n) == pytest.approx(interval, abs=5e-4)
    assert floors.wilson(0, 0) == pytest.approx((0, 1))
    with pytest.raises(ValueError, match="between 0 and totals"):
        floors.wilson(3, 2)


def test_sample_sizes():
    assert floors.images_for_width(0.10) == 97
    assert floors.images_for_width(0.05) == 385
    even = [0.5, 0.5]
    for prompts, images, wanted in [(20, 60, 0.069), (50, 60, 0.044), (50, 160, 0.027)]:
        found = floors.detectable_difference(
            prompts, images, metric=metrics.parity_gap, target=even
        )
        assert found == pytest.approx(wanted, abs=1.5e-3)
    with pytest.raises(ValueError, match="half_width"):
        floors.images_for_width(0)


def test_mean_over_fifty_prompts_of_a_fair_model():
    # a published .0546 at these settings lies below anything a fair model scores
    drawn = floors.simulate_fair([60] * 50, [0.5, 0.5], draws=20_000)
    means = metrics.parity_gap(drawn).mean(1)
    assert means.mean() == pytest.approx(0.1025, abs=5e-4)
    assert means.std() == pytest.approx(0.0111, abs=3e-4)
    assert means.min() > 0.0546
    assert math.isclose(floors.even_gap(60, 2), means.mean(), abs_tol=5e-4)
