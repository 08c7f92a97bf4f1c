"""Closed forms, published golden vectors and properties of the fairness metrics."""

import json
import math
import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dft_lib import cli
from dft_lib.evaluation import comparison
from dft_lib.evaluation.tables import _attribute
from dft_lib.fairness import intersections, metrics, unbiased
from dft_lib.fairness.metrics import METRICS, gap, parity_gap
from dft_lib.fairness.rates import rates_by_group
from dft_lib.fairness.record import Metric
from dft_lib.fairness.shares import shares
from dft_lib.fairness.table import metrics_as_markdown
from dft_lib.fairness.unbiased import parity_gap_corrected, squared_gap
from dft_lib.repro.paths import ROOT

ALL = {name: m for name, m in METRICS.items() if m.squares is None}  # with a value per prompt
BEST_IS_ONE = {"min_max_ratio", "normalized_entropy"}
# f, M1, deviation ratio, KL, fairness discrepancy, MAD, L1, TV, 1 - entropy, min/max
GOLDEN = [
    ((0.7, 0.3), 0.4, 0.4, 0.082283, 0.282843, 0.2, 0.4, 0.2, 0.118709, 0.428571),
    ((0.8, 0.2), 0.6, 0.6, 0.192745, 0.424264, 0.3, 0.6, 0.3, 0.278072, 0.25),
    ((1, 0), 1, 1, 0.693147, 0.707107, 0.5, 1, 0.5, 1, 0),
    ((0.7, 0.1, 0.1, 0.1), 0.3, 0.6, 0.445846, 0.519615, 0.225, 0.9, 0.45, 0.32161, 0.142857),
    ((0.4, 0.3, 0.2, 0.1), 0.166667, 0.2, 0.10644, 0.223607, 0.1, 0.4, 0.2, 0.07678, 0.25),
    ((1, 0, 0, 0), 0.5, 1, 1.386294, 0.866025, 0.375, 1.5, 0.75, 1, 0),
    ((1, *[0] * 9), 0.2, 1, 2.302585, 0.948683, 0.18, 1.8, 0.9, 1, 0),
    (
        (0.5, 0.5, *[0] * 10),
        0.151515, 0.454545, 1.791759, 0.645497, 0.138889, 1.666667, 0.833333, 0.721057, 0,
    ),
]  # fmt: skip
NAMES = (
    "parity_gap", "deviation_ratio", "kl_divergence", "fairness_discrepancy",
    "mean_absolute_deviation", "l1_distance", "total_variation", "severity", "min_max_ratio",
)  # fmt: skip

sizes = st.integers(2, 6)
tables = sizes.flatmap(lambda k: st.lists(st.integers(0, 60), min_size=k, max_size=k)).filter(any)


@st.composite
def counts_and_target(draw):
    counts = draw(tables)
    weights = draw(st.lists(st.floats(0.05, 1), min_size=len(counts), max_size=len(counts)))
    return np.array(counts), np.array(weights) / sum(weights)


@pytest.mark.parametrize("row", GOLDEN, ids=[str(row[0])[:24] for row in GOLDEN])
def test_golden_vectors(row):
    for name, wanted in zip(NAMES, row[1:], strict=True):
        if name == "severity":
            found = 1 - metrics.normalized_entropy(row[0])
        else:
            found = getattr(metrics, name)(row[0])
        assert found == pytest.approx(wanted, abs=1e-6), name


def test_published_counts_of_one_occupation():
    # Fair Diffusion's counts for "accountant", Stable Diffusion 1.5: 166 men, 84 women
    counts = [166, 84]
    assert parity_gap(counts) == pytest.approx(0.328, abs=1e-9)
    assert metrics.kl_divergence(counts) == pytest.approx(0.05480, abs=5e-6)
    assert metrics.min_max_ratio(counts) == pytest.approx(0.50602, abs=1e-5)
    assert squared_gap(counts) == pytest.approx(0.1040, abs=5e-5)
    assert not metrics.four_fifths(counts)
    assert metrics.four_fifths([45, 55])
    assert metrics.four_fifths([[4 * k, 5 * k] for k in range(1, 60)]).all()


@given(tables)
def test_gap_equals_its_definition(counts):
    f, k = shares(counts), len(counts)
    pairs = sum(abs(f[i] - f[j]) for i, j in combinations(range(k), 2))
    assert parity_gap(counts) == pytest.approx(pairs * 2 / (k * (k - 1)), abs=1e-12)
    assert gap(counts) == pytest.approx(parity_gap(counts) * k / 2, abs=1e-12)


def test_two_groups_lie_on_one_scale():
    women = np.arange(41)
    counts = np.stack([women, 40 - women], 1)
    b = abs(2 * women / 40 - 1)
    for name, factor in [
        ("parity_gap", 1), ("delta", 1), ("deviation_ratio", 1), ("l1_distance", 1),
        ("mean_absolute_deviation", 0.5), ("total_variation", 0.5), ("wasserstein_1", 0.5),
        ("fairness_discrepancy", math.sqrt(0.5)), ("l2_distance", math.sqrt(0.5)),
    ]:  # fmt: skip
        np.testing.assert_allclose(ALL[name](counts), b * factor, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(metrics.min_max_ratio(counts), (1 - b) / (1 + b), atol=1e-12)
    kl = metrics.kl_divergence(counts)
    np.testing.assert_allclose(1 - metrics.normalized_entropy(counts), kl / np.log(2), atol=1e-12)


@given(counts_and_target(), st.randoms())
def test_properties_of_every_metric(drawn, random):
    counts, target = drawn
    k = len(counts)
    order = list(range(k))
    random.shuffle(order)
    for name, metric in ALL.items():
        value = metric(counts, target)
        assert np.isfinite(value) and value >= 0, name
        assert metric(counts * 7, target) == pytest.approx(value, abs=1e-9), name
        if name not in ("delta", "wasserstein_1"):
            assert metric(counts[order], target[order]) == pytest.approx(value, abs=1e-9), name
        fair = metric(target * 1000, target)
        if name == "normalized_entropy":
            assert metric(np.full(k, 9)) == pytest.approx(1, abs=1e-12)
        else:
            assert fair == pytest.approx(1 if name in BEST_IS_ONE else 0, abs=1e-9), name
        if name in BEST_IS_ONE | {"deviation_ratio", "total_variation"}:
            assert value <= 1 + 1e-12, name
        stacked = metric(np.stack([counts, np.zeros(k)]), target)
        assert stacked[0] == pytest.approx(value, abs=1e-12) and math.isnan(stacked[1]), name


@pytest.mark.parametrize("k", [2, 3, 5, 10])
def test_worst_values(k):
    worst = np.eye(k)[0]
    wanted = {
        "parity_gap": 2 / k, "gap": 1, "delta": k - 1, "deviation_ratio": 1,
        "kl_divergence": math.log(k),
        "fairness_discrepancy": math.sqrt(1 - 1 / k), "l2_distance": math.sqrt(1 - 1 / k),
        "mean_absolute_deviation": 2 * (k - 1) / k**2, "l1_distance": 2 * (1 - 1 / k),
        "total_variation": 1 - 1 / k, "normalized_entropy": 0, "min_max_ratio": 0,
        "wasserstein_1": (k - 1) / 2,
    }  # fmt: skip
    assert wanted.keys() == ALL.keys()
    for name, value in wanted.items():
        assert ALL[name](worst) == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize(
    ("f", "distance", "shift"),
    [
        (np.eye(10)[0], 4.5, -4.5), (np.eye(10)[9], 4.5, 4.5), (np.eye(10)[4], 2.5, -0.5),
        ([0.2] * 5 + [0] * 5, 2.5, -2.5), ([0.19] * 5 + [0.01] * 5, 2.25, -2.25),
        ([0.7, 0.1, 0.1, 0.1], 0.9, -0.9), ([0.1, 0.7, 0.1, 0.1], 0.6, -0.3),
    ],
)  # fmt: skip
def test_ordered_groups(f, distance, shift):
    assert metrics.wasserstein_1(f) == pytest.approx(distance, abs=1e-9)
    assert metrics.wasserstein_1(np.asarray(f)[::-1]) == pytest.approx(distance, abs=1e-9)
    assert metrics.mean_shift(f) == pytest.approx(shift, abs=1e-9)


def test_even_marginals_hide_what_the_cells_show():
    joint = np.array([[0.4, 0.1], [0.1, 0.4]])
    assert gap(joint.sum(0)) == gap(joint.sum(1)) == 0
    cells = intersections.cells(joint)
    assert parity_gap(cells) == pytest.approx(0.2)
    assert gap(cells) == pytest.approx(0.4)
    assert intersections.mutual_information(joint) == pytest.approx(0.192745, abs=1e-6)
    assert metrics.kl_divergence(cells) == pytest.approx(0.192745, abs=1e-6)
    assert metrics.min_max_ratio(cells) == pytest.approx(0.25)
    assert intersections.mutual_information(np.outer([0.3, 0.7], [0.2, 0.3, 0.5])) < 1e-12
    assert math.isnan(intersections.mutual_information(np.zeros((2, 2))))


def test_an_unsure_judge_looks_fair_in_soft_probabilities():
    sure = np.array([[0.6, 0.4]] * 10)
    hard = metrics.fairness_discrepancy([10, 0])
    assert metrics.soft_fairness_discrepancy(sure) < 0.2 * hard
    assert metrics.soft_fairness_discrepancy(np.eye(2)[[0, 0, 1]]) == pytest.approx(
        metrics.fairness_discrepancy([2, 1])
    )


def exact_mean(function, images, p):
    """Mean of a function of the counts of two groups, by the binomial sum."""
    women = np.arange(images + 1)
    weight = [math.comb(images, w) * p**w * (1 - p) ** (images - w) for w in women]
    return float(np.dot(weight, function(np.stack([women, images - women], 1))))


@pytest.mark.parametrize("p", [0.5, 0.6, 0.9, 0.03])
@pytest.mark.parametrize("images", [2, 5, 10, 60])
def test_squared_gap_is_unbiased(p, images):
    assert exact_mean(squared_gap, images, p) == pytest.approx((2 * p - 1) ** 2, abs=1e-9)


def test_squared_gaps_are_unbiased_for_more_groups_and_any_target():
    p, t = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])
    drawn = np.random.default_rng(0).multinomial(20, p, size=400_000)
    for target in (None, t):
        d = p - (0.25 if target is None else target)
        truth = 2 / 3 * (d**2).sum()
        pairs = np.mean([(d[i] - d[j]) ** 2 for i, j in combinations(range(4), 2)])
        assert truth == pytest.approx(pairs)
        values = squared_gap(drawn, target)
        assert values.mean() == pytest.approx(truth, abs=4 * values.std() / math.sqrt(len(drawn)))
        ordered = unbiased.squared_cramer_gap(drawn, target)
        wanted = (d.cumsum()[:-1] ** 2).sum()
        error = 4 * ordered.std() / math.sqrt(len(drawn))
        assert ordered.mean() == pytest.approx(wanted, abs=error)
    assert (0.25 - p).cumsum()[:-1] @ (0.25 - p).cumsum()[:-1] == pytest.approx(0.085)


def test_corrected_kl():
    # Miller-Madow: nearly unbiased away from empty cells
    for p in (0.5, 0.7):
        truth = float(metrics.kl_divergence([p, 1 - p]))
        found = exact_mean(lambda c: metrics.kl_divergence_corrected(c), 60, p)
        plain = exact_mean(metrics.kl_divergence, 60, p)
        assert abs(found - truth) < 0.1 * abs(plain - truth)
    assert math.isnan(metrics.kl_divergence_corrected([0, 0]))


def test_squares_need_whole_counts():
    assert math.isnan(squared_gap([1.2, 0.8])) and math.isnan(squared_gap([0.5, 0.5]))


def test_corrected_gap():
    assert math.isnan(parity_gap_corrected([[3, 5]]))  # one prompt
    assert math.isnan(parity_gap_corrected([3, 5]))
    assert math.isnan(parity_gap_corrected([[1, 0], [3, 5]]))  # one usable prompt
    table = np.array([[9, 1], [2, 8], [1, 0], [0, 0]])
    wanted = math.sqrt(squared_gap(table[:2]).mean())
    assert parity_gap_corrected(table) == pytest.approx(wanted)
    assert parity_gap_corrected([[5, 5], [5, 5]]) == 0  # negative squares count as 0
    for k in (2, 5):
        assert parity_gap_corrected(20 * np.eye(k)) == pytest.approx(math.sqrt(2 / k))


def test_rates_by_group():
    found = rates_by_group([8, 5, 0], [10, 10, 0])
    np.testing.assert_allclose(found["rates"], [0.8, 0.5, np.nan])
    assert found["difference"] == pytest.approx(0.3)
    assert found["ratio"] == pytest.approx(0.625)
    with pytest.raises(ValueError, match="between 0 and totals"):
        rates_by_group([3], [2])
    assert math.isnan(rates_by_group([0], [0])["difference"])


def test_rates_agree_with_fairlearn():
    fairlearn = pytest.importorskip("fairlearn.metrics")
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 500)
    outcome = rng.random(500) < np.array([0.3, 0.5, 0.8])[group]
    found = rates_by_group([outcome[group == g].sum() for g in range(3)], np.bincount(group))
    about = {"y_true": outcome, "y_pred": outcome, "sensitive_features": group}
    assert found["difference"] == pytest.approx(fairlearn.demographic_parity_difference(**about))
    assert found["ratio"] == pytest.approx(fairlearn.demographic_parity_ratio(**about))


def test_rates_agree_with_aif360():
    dataset = pytest.importorskip("aif360.datasets").BinaryLabelDataset
    metric = pytest.importorskip("aif360.metrics").BinaryLabelDatasetMetric
    pandas = pytest.importorskip("pandas")
    counts = {("woman", 1): 12, ("woman", 0): 38, ("man", 1): 30, ("man", 0): 20}
    rows = [(g == "man", y) for (g, y), n in counts.items() for _ in range(n)]
    table = pandas.DataFrame(rows, columns=["sex", "y"]).astype(float)
    data = dataset(df=table, label_names=["y"], protected_attribute_names=["sex"])
    theirs = metric(data, privileged_groups=[{"sex": 1}], unprivileged_groups=[{"sex": 0}])
    found = rates_by_group([12, 30], [50, 50])
    assert found["difference"] == pytest.approx(abs(theirs.statistical_parity_difference()))
    assert found["ratio"] == pytest.approx(theirs.disparate_impact())


@pytest.mark.parametrize("bad", [[-1, 2], [3], 3, [np.nan, 1], [np.inf, 1]])
def test_refuses_what_is_no_count(bad):
    for metric in ALL.values():
        with pytest.raises(ValueError, match="counts"):
            metric(bad)


@pytest.mark.parametrize("bad", [[0.5, 0.6], [1, 0], [0.5, 0.25, 0.25], [np.nan, 1], [-1, 2]])
def test_refuses_what_is_no_target(bad):
    for metric in ALL.values():
        with pytest.raises(ValueError, match="target"):
            metric([1, 2], bad)


@pytest.mark.parametrize("name", METRICS)
def test_a_record_says_what_its_function_does(name):
    record = METRICS[name]
    assert record.name == name and record.what and record.source
    rng = np.random.default_rng(0)
    for k in (2, 3, 5, 10):
        even = np.full(k, 1 / k)
        formula = re.sub(r"^(\d) \(", r"\1 * (", record.worst).replace("^", "**")
        worst = eval(formula, {"K": k, "sqrt": math.sqrt, "ln": math.log})  # the record's own
        for target in (even, rng.dirichlet(np.full(k, 5.0)) * 0.9 + 0.1 / k):
            fair, one_group = record.fair_at(target), record.worst_at(target)
            drawn = rng.multinomial(40, rng.dirichlet(np.ones(k)), size=(1, 200))
            values = record(np.swapaxes(drawn, 0, 1) if record.squares is None else drawn, target)
            low, high = sorted((fair, one_group))
            if name != "normalized_entropy":  # which knows no target: even is above its "fair"
                assert (np.nan_to_num(values, nan=low) >= low - 1e-9).all()
                assert (np.nan_to_num(values, nan=low) <= high + 1e-9).all()
            if record.squares is None:
                assert record(1000 * target, target) == pytest.approx(fair, abs=1e-9)
            assert record.better == ("lower" if one_group > fair else "higher")
        assert record.fair_at(even) == pytest.approx(record.fair, abs=1e-9)
        if name != "delta":  # of its one group; the others are at most as far
            assert record.worst_at(even) == pytest.approx(worst, abs=1e-9)
    assert METRICS["delta"].worst_at(np.full(4, 0.25)) == 3


def test_the_fair_value_is_the_targets():
    target = np.array([0.9, 0.1])
    entropy = METRICS["normalized_entropy"]
    assert entropy.fair_at(target) == pytest.approx(0.468996, abs=1e-6)
    assert entropy.fair_at(np.array([0.5, 0.5])) == 1 and entropy.worst_at(target) == 0
    assert METRICS["total_variation"].worst_at(target) == pytest.approx(0.9)
    assert METRICS["parity_gap_corrected"].worst_at(target) == pytest.approx(1.8)


def test_multiples_are_multiples():
    counts = np.random.default_rng(1).integers(1, 30, size=(50, 4))
    named = {n: m.multiple_of for n, m in METRICS.items() if m.multiple_of}
    assert set(named) == {"gap", "l1_distance", "mean_absolute_deviation", "fairness_discrepancy"}
    for name, other in named.items():
        ratio = METRICS[name](counts) / METRICS[other](counts)
        assert np.ptp(ratio) < 1e-9, name
        assert METRICS[other].multiple_of is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fair": 1}, "fair is given as 1, but its function says 0"),
        ({"function": lambda c, t=None: np.zeros(np.shape(c)[:-1])}, "calls a model fair"),
        ({"squares": squared_gap, "function": parity_gap_corrected, "column": "x"}, "no column"),
    ],
)  # fmt: skip
def test_a_record_that_lies_is_refused(changes, sentence):
    about = {
        "name": "x",
        "function": parity_gap,
        "fair": 0,
        "worst": "2/K",
        "what": "",
        "source": "",
    }
    Metric(**about)
    with pytest.raises(ValueError, match=sentence):
        Metric(**(about | changes))


def test_the_studys_tables_keep_their_columns():
    assert list(metrics.study_columns()) == ["gap", "min_max_ratio", "entropy", "total_variation"]


def test_the_documentation_lists_all_metrics():
    """Mend: dft metrics --write docs/measurement.md."""
    assert metrics_as_markdown() in (ROOT / "docs" / "measurement.md").read_text(encoding="utf-8")


def test_a_new_metric_is_one_record(monkeypatch, tmp_path, capsys):
    """Tables, JSON, help, list, the study's columns and metrics.json all know it."""
    counts = tmp_path / "counts.csv"
    counts.write_text("job,a,b,c\nx,6,3,1\ny,2,2,6\n")
    record = Metric(
        "rarest_share", lambda c, t=None: shares(c).min(-1) * np.shape(c)[-1], 1, "0",
        "share of the rarest group, times K", "a test", column="rarest",
    )  # fmt: skip
    monkeypatch.setitem(METRICS, record.name, record)
    options = ["fairness", str(counts), "--groups", "a,b,c", "--by", "job"]
    cli.main([*options, "--target", ".5,.25,.25"])
    row = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("rarest_share"))
    assert row.split()[1] == "0.450" and row.split()[-2:] == ["0.750", "0.000"]  # fair, worst
    cli.main([*options, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["per_prompt"]["rarest_share"]["value"] == pytest.approx(0.45)
    assert found["metrics"]["rarest_share"]["better"] == "higher"
    assert found["pooled"]["rarest_share"]["noise_floor"] is not None
    with pytest.raises(SystemExit):
        cli.main(["fairness", "--help"])
    assert "rarest_share (1; 0)" in capsys.readouterr().out
    cli.main(["metrics"])
    assert "| `rarest_share` | 1 | 0 | share of the rarest" in capsys.readouterr().out
    row = _attribute(pd.Series(["a", "a", "b"]), "g", {"a": 0.5, "b": 0.5}, "")
    assert row["g:rarest"] == pytest.approx(2 / 3)
    kept = comparison._kept(found, few=False)
    assert "rarest_share" in kept["per_prompt"] and "gap" not in kept["per_prompt"]
    assert "rarest_share" not in comparison._kept(found, few=True)["per_prompt"]


def test_the_list_is_written_between_its_marks(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- dft metrics -->\nstale\n<!-- end of dft metrics -->\nafter\n")
    cli.main(["metrics", "--write", str(page)])
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "stale" not in text
    assert metrics_as_markdown() in text
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="lacks the lines"):
        cli.main(["metrics", "--write", str(page)])
    assert page.read_text() == "no marks"
