"""Figures of measured gaps: with intervals, beside what a fair model scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dft_lib.evaluation.scales import normalised
from dft_lib.fairness import floors, metrics
from dft_lib.figures.style import SPLIT_NAMES, family_styles, palette, row_height, wrapped
from dft_lib.study.attributes import Attribute, pairs, title


def gaps(
    measured: dict[str, Any],
    table: pd.DataFrame,
    labels: dict[str, str],
    attributes: Mapping[str, Attribute],
) -> Figure:
    """Gaps per arm, seen beside held out: mean, 95 % interval, one dot per training seed.

    The hatched band is the middle 95 % of what a fair model scores on as many usable images.
    """
    neutral = table[table["kind"] == "neutral"]
    colours = palette(list(labels))
    parts = [p for p in SPLIT_NAMES if p in measured["arms"][next(iter(labels))]["neutral"]]
    figure, row = plt.subplots(1, len(attributes), figsize=(6.5, 2.7), sharey=True, squeeze=False)
    axes, width = row[0], 0.8 / len(labels)
    for axis, attribute in zip(axes, attributes, strict=True):
        for place, part in enumerate(parts):
            for number, arm in enumerate(labels):
                x = place - 0.4 + (number + 0.5) * width
                found = normalised(measured, arm, part, attribute)
                axis.fill_between([x - width / 2, x + width / 2], found["null_low"],
                                  found["null_high"], facecolor="none", hatch="//////",
                                  edgecolor="0.25", lw=0, zorder=2)  # fmt: skip
                axis.bar(x, found["value"], width * 0.92, color=colours[arm], alpha=0.55)
                axis.plot([x, x], [found["low"], found["high"]], color="black", lw=1)
                rows = neutral[(neutral["arm"] == arm) & (neutral["split"] == part)]
                seeds = rows.groupby("seed")[f"{attribute}:gap"].mean()
                axis.scatter(np.full(len(seeds), x + width * 0.22), seeds, s=7,
                             color=colours[arm], edgecolor="black", linewidth=0.4,
                             zorder=3)  # fmt: skip
        axis.set(title=title(attribute, attributes), ylim=(0, 1),
                 ylabel="gap, mean over professions" if axis is axes[0] else "")  # fmt: skip
        axis.set_xticks(range(len(parts)), [p.replace("_", " ") for p in parts])
        axis.grid(axis="x", visible=False)
    handles: list[Any] = [
        plt.Rectangle((0, 0), 1, 1, color=colours[a], alpha=0.55) for a in labels
    ]
    handles.append(plt.Rectangle((0, 0), 1, 1, fc="none", ec="0.25", hatch="//////", lw=0))
    names = [*labels.values(), "fair model at this N (95 %)"]
    figure.legend(handles, names, loc="upper center", ncol=3, bbox_to_anchor=(0.5, 0.02))
    figure.tight_layout()
    return figure


def corrected(
    measured: dict[str, Any],
    labels: dict[str, str],
    families: dict[str, list[str]],
    attributes: Mapping[str, Attribute],
) -> Figure:
    """Corrected gaps with 95 % intervals, seen (filled) and held out (open), coloured by family.

    The hatched band is the middle 95 % of fair models: the root of a mean square is not quite 0.
    """
    looks = family_styles(list(labels), families)
    panels = [*attributes, *pairs(attributes)]
    columns, rows = min(len(panels), 3), -(-len(panels) // 3)
    figure, axes = plt.subplots(
        rows, columns, sharey=True, squeeze=False,
        figsize=(6.5, 0.9 + rows * row_height(len(labels), 0.32, 0.28) * len(labels)),
    )  # fmt: skip
    for spare in axes.flat[len(panels) :]:
        spare.set_axis_off()
    for axis, attribute in zip(axes.flat, panels, strict=False):
        for number, arm in enumerate(labels):
            _, colour, mark = looks[arm]
            for offset, part in ((-0.18, "seen"), (0.18, "held_out")):
                if part not in measured["arms"][arm]["neutral"]:
                    continue
                found = normalised(measured, arm, part, attribute, corrected=True)
                y = number + offset
                axis.fill_betweenx([y - 0.16, y + 0.16], found["null_low"], found["null_high"],
                                   facecolor="none", hatch="//////", edgecolor="0.6", lw=0,
                                   zorder=0)  # fmt: skip
                axis.plot([found["low"], found["high"]], [y, y], color=colour, lw=1.2)
                axis.scatter(found["value"], y, s=13, zorder=3, edgecolor=colour, marker=mark,
                             linewidth=0.9,
                             facecolor=colour if part == "seen" else "white")  # fmt: skip
        axis.set(title=title(attribute, attributes), xlim=(0, 1))
        axis.set_yticks(range(len(labels)), wrapped(labels))
        axis.tick_params(axis="y", labelsize=7 if len(labels) > 8 else 8)
        axis.grid(axis="y", visible=False)
        axis.set_ylim(len(labels) - 0.4, -0.6)
    figure.supxlabel("corrected gap (root mean square over professions), 95 % interval",
                     fontsize=plt.rcParams["axes.labelsize"])  # fmt: skip
    handles: list[Any] = [plt.Line2D([], [], marker="o", ls="", color="0.4"),
               plt.Line2D([], [], marker="o", ls="", color="0.4", mfc="white")]  # fmt: skip
    handles.append(plt.Rectangle((0, 0), 1, 1, fc="none", ec="0.6", hatch="//////", lw=0))
    named = list(dict.fromkeys(looks.values()))
    handles += [plt.Line2D([], [], marker=m, ls="-", color=c, ms=5) for _, c, m in named]
    names = ["seen", "held out", "fair model (95 %)", *(name for name, _, _ in named)]
    figure.legend(handles, names, loc="upper center", ncol=4, bbox_to_anchor=(0.5, 0))
    figure.tight_layout()
    return figure


def dose(
    measured: dict[str, Any],
    summaries: dict[str, Any],
    arms: Sequence[str],
    attributes: Mapping[str, Attribute],
) -> Figure | None:
    """Corrected gap against the number of training pictures; None with fewer than two arms.

    Arms that differ in that number only. Seen professions filled, held-out ones open; dotted: the
    base model's seen professions; hatched: the middle 95 % of fair models.
    """
    sizes = {a: summaries[a].get("cost", {}).get("images_trained", 0) for a in arms}
    sizes = {a: n for a, n in sorted(sizes.items(), key=lambda item: item[1]) if n > 0}
    if len(sizes) < 2:
        return None
    figure, row = plt.subplots(1, len(attributes), figsize=(6.5, 2.5), sharey=True, squeeze=False)
    axes = row[0]
    for axis, attribute in zip(axes, attributes, strict=True):
        fair = []
        for part, face, line, shift in (("seen", "C0", "-", 0.985),
                                        ("held_out", "white", "--", 1.015)):  # fmt: skip
            if any(part not in measured["arms"][a]["neutral"] for a in sizes):
                continue
            found = [normalised(measured, a, part, attribute, corrected=True) for a in sizes]
            x = np.array(list(sizes.values())) * shift
            for place, one in zip(x, found, strict=True):
                axis.plot([place] * 2, [one["low"], one["high"]], color="C0", lw=0.9)
            axis.plot(x, [one["value"] for one in found], ls=line, color="C0", marker="o", ms=5,
                      mfc=face, label=SPLIT_NAMES[part])  # fmt: skip
            fair += found
        if "seen" in measured["arms"].get("base", {"neutral": ()})["neutral"]:
            level = normalised(measured, "base", "seen", attribute, corrected=True)["value"]
            axis.axhline(level, color="black", lw=0.9, ls=":", label="base model")
        band = [(f["null_low"], f["null_high"]) for f in fair if not np.isnan(f["null_low"])]
        if band:
            axis.axhspan(min(low for low, _ in band), max(high for _, high in band),
                         facecolor="none", hatch="//////", edgecolor="0.6", lw=0, zorder=0,
                         label="fair model (95 %)")  # fmt: skip
        axis.set(title=title(attribute, attributes), ylim=(0, 1), xscale="log",
                 xlim=(min(sizes.values()) / 1.3, max(sizes.values()) * 1.3),
                 ylabel="corrected gap" if axis is axes[0] else "")  # fmt: skip
        axis.set_xticks(list(sizes.values()), [f"{n:,.0f}" for n in sizes.values()])
        axis.set_xticks([], minor=True)
        axis.set_xlabel("training pictures (equal numbers of steps)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="upper center", ncol=4,
                  bbox_to_anchor=(0.5, 0))  # fmt: skip
    figure.tight_layout()
    return figure


def fair_model(images: Sequence[int] = (5, 10, 40), prompts: int = 10) -> Figure:
    """How a fair model scores: the gap of one prompt, and its mean over prompts, at several N."""
    figure, axes = plt.subplots(1, 2, figsize=(6.5, 2.3), sharey=True)
    for axis, groups in zip(axes, (2, 5), strict=True):
        even = np.full(groups, 1 / groups)
        for place, number in enumerate(images):
            drawn = floors.simulate_fair([number] * prompts, even, draws=2000)
            values = metrics.gap(drawn, even)
            for offset, shown, colour in ((-0.18, values[:, 0], "0.7"),
                                          (0.18, values.mean(1), "C0")):  # fmt: skip
                low, middle, high = np.quantile(shown, [0.025, 0.5, 0.975])
                axis.plot([place + offset] * 2, [low, high], color=colour, lw=6,
                          solid_capstyle="butt")  # fmt: skip
                axis.plot(place + offset, middle, "_", color="black", ms=9)
        axis.set(title=f"{groups} groups", ylim=(0, 1), xlabel="images per prompt, N",
                 ylabel="gap" if axis is axes[0] else "")  # fmt: skip
        axis.set_xticks(range(len(images)), [str(n) for n in images])
        axis.grid(axis="x", visible=False)
    handles = [plt.Line2D([], [], color=c, lw=6) for c in ("0.7", "C0")]
    figure.legend(handles, ["one prompt", f"mean of {prompts} prompts"], loc="lower center",
                  ncol=2, bbox_to_anchor=(0.5, -0.1))  # fmt: skip
    figure.tight_layout()
    return figure
