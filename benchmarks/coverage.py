"""How often 95 % intervals of the corrected gap hold the truth: ``python benchmarks/coverage.py``.

Simulated studies: the true shares of P prompts come from a Dirichlet distribution around an even
target (or 95 % of the prompts show one group only), N images each are drawn from them, and each
method gives an interval for the mean squared gap, whose true value is known in closed form. Then
prompts x training seeds, by the library's own interval. Writes ``docs/figures/coverage.csv``,
``.png``, ``.pdf`` and ``coverage_seeds.csv``. About two minutes.
"""

from __future__ import annotations

from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from scipy import stats
from scipy.special import expit

from dft_lib.fairness import uncertainty
from dft_lib.fairness.unbiased import squared_gap
from dft_lib.figures import style
from dft_lib.repro.paths import ROOT

STUDIES, DRAWS, LEVEL = 2000, 1000, 0.95
PROMPTS, IMAGES, GROUPS = (5, 10, 20, 50, 100, 200), (20, 60, 250), (2, 5, 10)
# Sum of the Dirichlet's parameters: how alike the prompts are.
SPREAD = {"strongly biased": 1.5, "moderately biased": 10.0, "almost fair": 500.0,
          "95 % one-sided": 0.0}  # fmt: skip


def simulate(prompts: int, images: int, groups: int, total: float, rng: np.random.Generator):
    """Return squared gaps (studies, prompts) and their true mean."""
    if total == 0:
        one_sided = rng.random((STUDIES, prompts, 1)) < 0.95
        p = np.where(one_sided, np.eye(groups)[0], 1 / groups)
        return squared_gap(rng.multinomial(images, p)), 0.95 * 2 / groups
    p = rng.dirichlet(np.full(groups, total / groups), size=(STUDIES, prompts))
    # E sum_k (p_k - 1/K)^2 = (1 - 1/K) / (total + 1)
    truth = 2 / (groups - 1) * (1 - 1 / groups) / (total + 1)
    return squared_gap(rng.multinomial(images, p)), truth


def intervals(values: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the methods' intervals, each (2, studies)."""
    studies, prompts = values.shape
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    mean, error = values.mean(1), values.std(1, ddof=1) / np.sqrt(prompts)
    half = stats.t.ppf(tails[1], prompts - 1) * error
    weights = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=DRAWS) / prompts
    offset = values - mean[:, None]
    shift = weights @ offset.T
    means = mean + shift
    variance = np.maximum(weights @ (offset**2).T - shift**2, 0) * prompts / (prompts - 1)
    spread = np.sqrt(variance / prompts)
    usable = spread > 1e-6 * error
    ratio = np.where(usable, shift / np.maximum(spread, 1e-12), np.nan)
    ratio[:, ~usable.any(0)] = 0
    low, high = np.nanquantile(ratio, tails, axis=0)
    studentised = np.stack([mean - high * error, mean - low * error])
    # as the library does: too many resamples without spread
    few = usable.mean(0) < 0.99
    studentised[:, few] = np.stack([mean - half, mean + half])[:, few]
    # BCa: bias z0 from the share of replicas below the estimate, acceleration from the jackknife
    below = ((means < mean).mean(0) + 0.5 * (means == mean).mean(0)).clip(1e-3, 1 - 1e-3)
    z0 = stats.norm.ppf(below)
    centred = values - mean[:, None]
    square = (centred**2).sum(1)  # 0 where all prompts of a study came out alike
    skew = (centred**3).sum(1) / (6 * np.where(square > 1e-12, square, np.inf) ** 1.5)
    bca = []
    for tail in tails:
        z = z0 + stats.norm.ppf(tail)
        level = stats.norm.cdf(z0 + z / (1 - skew * z))
        place = (np.clip(level, 0, 1) * (DRAWS - 1)).round().astype(int)
        bca.append(np.sort(means, 0)[place, np.arange(studies)])
    return {
        "percentile": np.quantile(means, tails, axis=0),
        "Student's t": np.stack([mean - half, mean + half]),
        "studentised": studentised,
        "BCa": np.stack(bca),
    }


def check(rng: np.random.Generator) -> None:
    """Stop if this file's studentised interval is not the library's (up to resampling)."""
    for total in SPREAD.values():
        values, _ = simulate(20, 60, 2, total, rng)
        values = values[values.std(1) > 1e-12][:20]
        ours = intervals(values, rng)["studentised"]
        theirs = [uncertainty.mean_interval(v) for v in values]
        width = np.array([i.high - i.low for i in theirs])
        far = np.abs(ours - np.array([(i.low, i.high) for i in theirs]).T)
        assert np.median(far / width) < 0.05, "coverage.py and the library differ"


def with_seeds(rng: np.random.Generator, studies: int = 400) -> pd.DataFrame:
    """Coverage of the library's interval for 15 prompts x 3 training seeds.

    Designs: every prompt under every seed; as seen professions (two of three seeds); as held-out
    ones (one seed each). Noise: images of the seeds independent, or from the same noise.
    """
    rows = []
    fold = np.arange(15) % 3
    designs = {"all": np.ones((15, 3), bool), "seen": fold[:, None] != np.arange(3),
               "held out": fold[:, None] == np.arange(3)}  # fmt: skip
    for (model, scale), effect, shared in product(
        {"biased": 1.2, "almost fair": 0.1}.items(), (0.0, 0.3), (False, True)
    ):
        many = rng.normal(0, scale, 10**6) + rng.normal(0, effect, 10**6)
        truth = float(((2 * expit(many) - 1) ** 2).mean())
        held = dict.fromkeys(designs, 0)
        for study in range(studies):
            p = expit(rng.normal(0, scale, (15, 1)) + rng.normal(0, effect, 3))
            draws = rng.random((15, 1 if shared else 3, 40))
            women = (draws < p[..., None]).sum(-1)
            values = squared_gap(np.stack([women, 40 - women], -1))
            for name, mask in designs.items():
                found = uncertainty.mean_interval(
                    np.where(mask, values, np.nan), draws=1000, seed=study
                )
                held[name] += found.low <= truth <= found.high
        for name, count in held.items():
            rows.append({"model": model, "seed_effect": effect, "design": name,
                         "noise": "shared" if shared else "independent",
                         "coverage": count / studies})  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    rng = np.random.default_rng(0)
    check(rng)
    rows = []
    for (name, total), prompts, images, groups in product(SPREAD.items(), PROMPTS, IMAGES, GROUPS):
        values, truth = simulate(prompts, images, groups, total, rng)
        about = {"model": name, "prompts": prompts, "images": images, "groups": groups}
        bias = (values.mean() - truth) / (values.mean(1).std() / np.sqrt(STUDIES))
        for method, (low, high) in intervals(values, rng).items():
            spread = values.std(1) > 1e-12  # all prompts alike: the library gives no interval
            held = ((low <= truth) & (truth <= high))[spread].mean()
            rows.append(
                about | {"method": method, "coverage": held, "scored": spread.mean(),
                         "width": np.mean(high - low), "bias_in_standard_errors": bias}
            )  # fmt: skip
    table = pd.DataFrame(rows)
    folder = ROOT / "docs" / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    table.round(4).to_csv(folder / "coverage.csv", index=False)
    seeds = with_seeds(rng)
    seeds.to_csv(folder / "coverage_seeds.csv", index=False)
    print(seeds.pivot_table(index=["model", "seed_effect", "noise"], columns="design",
                            values="coverage").to_string())  # fmt: skip
    style.use_style()
    grid = sns.relplot(
        table, x="prompts", y="coverage", hue="method", style="method", col="model", kind="line",
        height=2.4, aspect=0.85, errorbar=("pi", 100), markers=True,
    )  # fmt: skip
    for axes in grid.axes.flat:
        axes.axhspan(0.93, 0.97, color="0.9", zorder=0)
        axes.axhline(LEVEL, color="0.5", linewidth=0.8)
        axes.set(xscale="log", xticks=PROMPTS, xticklabels=PROMPTS)
        axes.minorticks_off()
    grid.set_titles("{col_name}").set_axis_labels("prompts P", "intervals that hold the truth")
    style.save(grid.figure, folder, "coverage")
    plt.close(grid.figure)
    print(table.pivot_table(index=["model", "prompts"], columns="method", values="coverage",
                            aggfunc=["mean", "min"]).round(3).to_string())  # fmt: skip
    print("largest bias, standard errors:", table["bias_in_standard_errors"].abs().max().round(2))


if __name__ == "__main__":
    main()
