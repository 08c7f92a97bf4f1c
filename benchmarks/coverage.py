"""How often 95 % intervals of the corrected gap hold the truth: ``python benchmarks/coverage.py``.

Simulated studies: the true shares of P prompts come from a Dirichlet distribution around an even
target, N images each are drawn from them, and each method gives an interval for the mean squared
gap, whose true value is known in closed form. Writes ``docs/figures/coverage.csv``, ``.png`` and
``.pdf``. About two minutes.
"""

from __future__ import annotations

from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from scipy import stats

from dft_lib import figures
from dft_lib.fairness.metrics import squared_gap
from dft_lib.paths import ROOT

STUDIES, DRAWS, LEVEL = 2000, 1000, 0.95
PROMPTS, IMAGES, GROUPS = (5, 10, 20, 50, 100, 200), (20, 60, 250), (2, 5, 10)
# Sum of the Dirichlet's parameters: how alike the prompts are.
SPREAD = {"strongly biased": 1.5, "moderately biased": 10.0, "almost fair": 500.0}


def simulate(prompts: int, images: int, groups: int, total: float, rng: np.random.Generator):
    """Return squared gaps (studies, prompts) and their true mean."""
    p = rng.dirichlet(np.full(groups, total / groups), size=(STUDIES, prompts))
    counts = rng.multinomial(images, p)
    # E sum_k (p_k - 1/K)^2 = (1 - 1/K) / (total + 1)
    return squared_gap(counts), 2 / (groups - 1) * (1 - 1 / groups) / (total + 1)


def intervals(values: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the methods' intervals, each (2, studies)."""
    studies, prompts = values.shape
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    mean, error = values.mean(1), values.std(1, ddof=1) / np.sqrt(prompts)
    half = stats.t.ppf(tails[1], prompts - 1) * error
    weights = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=DRAWS) / prompts
    means = weights @ values.T
    variance = np.maximum(weights @ (values**2).T - means**2, 0) * prompts / (prompts - 1)
    spread = np.sqrt(variance / prompts)
    ratio = np.where(spread > 1e-9, (means - mean) / np.maximum(spread, 1e-9), 0)
    low, high = np.quantile(ratio, tails, axis=0)
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
        "studentised": np.stack([mean - high * error, mean - low * error]),
        "BCa": np.stack(bca),
    }


def main() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for (name, total), prompts, images, groups in product(SPREAD.items(), PROMPTS, IMAGES, GROUPS):
        values, truth = simulate(prompts, images, groups, total, rng)
        about = {"model": name, "prompts": prompts, "images": images, "groups": groups}
        bias = (values.mean() - truth) / (values.mean(1).std() / np.sqrt(STUDIES))
        for method, (low, high) in intervals(values, rng).items():
            held = ((low <= truth) & (truth <= high)).mean()
            rows.append(
                about | {"method": method, "coverage": held, "width": np.mean(high - low),
                         "bias_in_standard_errors": bias}
            )  # fmt: skip
    table = pd.DataFrame(rows)
    folder = ROOT / "docs" / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    table.round(4).to_csv(folder / "coverage.csv", index=False)
    figures.use_style()
    grid = sns.relplot(
        table, x="prompts", y="coverage", hue="method", style="method", col="model", kind="line",
        height=2.6, aspect=1.0, errorbar=("pi", 100), markers=True,
    )  # fmt: skip
    for axes in grid.axes.flat:
        axes.axhspan(0.93, 0.97, color="0.9", zorder=0)
        axes.axhline(LEVEL, color="0.5", linewidth=0.8)
        axes.set(xscale="log", xticks=PROMPTS, xticklabels=PROMPTS)
        axes.minorticks_off()
    grid.set_titles("{col_name}").set_axis_labels("prompts P", "intervals that hold the truth")
    figures.save(grid.figure, folder, "coverage")
    plt.close(grid.figure)
    print(table.pivot_table(index=["model", "prompts"], columns="method", values="coverage",
                            aggfunc=["mean", "min"]).round(3).to_string())  # fmt: skip
    print("largest bias, standard errors:", table["bias_in_standard_errors"].abs().max().round(2))


if __name__ == "__main__":
    main()
