"""Who is shown: shares of groups per profession, per arm, and stage by stage in a training set."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from dft_lib.figures.style import SPLIT_NAMES, palette, row_height, wrapped
from dft_lib.study.attributes import Attribute

_SEEN = np.array([0.299, 0.587, 0.114])  # of red, green and blue in brightness (ITU-R BT.601)


def attribute_shares(
    table: pd.DataFrame, labels: dict[str, str], few: dict[str, str], attribute: Attribute
) -> Figure:
    """Draw who is shown, as the attribute's groups allow.

    Two groups: a share, so every profession fits (`profession_shares`, of a `few` arms).
    More, or a scale: bars over all professions (`distributions`, of all arms).
    """
    if len(attribute.groups) == 2 and not attribute.ordered:
        return profession_shares(table, few, attribute)
    return distributions(table, labels, attribute)


def profession_shares(table: pd.DataFrame, labels: dict[str, str], attribute: Attribute) -> Figure:
    """Share of usable images rated the first of two groups, per profession, seen and held out."""
    colours = palette(list(labels))
    neutral = table[(table["kind"] == "neutral") & table["arm"].isin(labels)]
    columns = [f"{attribute.name}:{group}" for group in attribute.groups]
    counts = neutral.groupby(["arm", "noun", "split"])[columns].sum()
    share = (counts[columns[0]] / counts.sum(axis=1)).rename("share").reset_index()
    first = next(iter(labels))
    order = share[share["arm"] == first].groupby("noun")["share"].mean().sort_values().index
    places = np.arange(len(order))  # not names: a missing share would be a missing name
    height = 0.9 + 0.21 * len(order)
    figure, axes = plt.subplots(1, 2, figsize=(6.5, height), sharey=True)
    for axis, (split, title) in zip(axes, SPLIT_NAMES.items(), strict=True):
        part = share[share["split"] == split]
        wide = part.pivot(index="noun", columns="arm", values="share")
        wide = wide.reindex(index=order, columns=list(labels))
        axis.hlines(places, wide.min(axis=1), wide.max(axis=1), color="#d0d0d0", lw=2, zorder=1)
        for arm in labels:
            axis.scatter(wide[arm], places, s=22, color=colours[arm], zorder=2,
                         edgecolor="white", linewidth=0.4)  # fmt: skip
        axis.axvline(0.5, color="black", lw=0.8, ls=":")
        axis.set(title=title, xlim=(-0.03, 1.03), xlabel=f"share rated {attribute.groups[0]}")
        axis.set_yticks(places, order)
        axis.margins(y=0.03)
    handles = [plt.Line2D([], [], marker="o", ls="", color=colours[a]) for a in labels]
    figure.legend(handles, labels.values(), loc="upper center", ncol=min(len(labels), 4),
                  bbox_to_anchor=(0.5, 0))  # fmt: skip
    figure.tight_layout()
    return figure


def distributions(table: pd.DataFrame, labels: dict[str, str], attribute: Attribute) -> Figure:
    """Shares of an attribute's groups per arm over all neutral prompts, in the groups' colours."""
    neutral = table[table["kind"] == "neutral"]
    columns = [f"{attribute.name}:{group}" for group in attribute.groups]
    colours = group_colours(attribute)
    height = 0.75 + row_height(len(labels)) * len(labels)
    figure, axes = plt.subplots(1, 2, figsize=(6.5, height), sharey=True)
    names = wrapped(labels, 26)
    for axis, (split, title) in zip(axes, SPLIT_NAMES.items(), strict=True):
        counts = neutral[neutral["split"] == split].groupby("arm")[columns].sum()
        shares = counts.div(counts.sum(axis=1), axis=0).reindex(list(labels))
        left = np.zeros(len(shares))
        for group, column in zip(attribute.groups, columns, strict=True):
            width, colour = shares[column].to_numpy(), colours[group]
            axis.barh(range(len(labels)), width, left=left, color=colour, height=0.72,
                      edgecolor="white", linewidth=0.5, label=group)  # fmt: skip
            dark = float(_SEEN @ np.array(to_rgb(colour))) < 0.5
            for y, (x, w) in enumerate(zip(left, width, strict=True)):
                if w >= 0.06:
                    axis.text(x + w / 2, y, f"{w:.2f}".lstrip("0"), ha="center", va="center",
                              fontsize=6.5, color="white" if dark else "black")  # fmt: skip
            left = left + width
        axis.set(title=title, xlim=(0, 1), xlabel="share of usable images")
        axis.set_yticks(range(len(labels)), names)
        axis.tick_params(axis="y", labelsize=7 if len(labels) > 8 else 8)
        axis.set_ylim(len(labels) - 0.5, -0.5)
        axis.grid(visible=False)
        for edge in np.arange(1, len(columns)) / len(columns):
            axis.axvline(edge, color="black", lw=0.6, ls=":")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="upper center",
                  ncol=min(len(columns), 5), bbox_to_anchor=(0.5, 0))  # fmt: skip
    figure.tight_layout()
    return figure


def group_colours(attribute: Attribute) -> dict[str, str]:
    """Return a colour per group: the lexicon's, or one of a palette (graded, if ordered)."""
    name = "crest" if attribute.ordered else "husl"
    own = sns.color_palette(name, len(attribute.groups)).as_hex()
    return {
        group: attribute.colours.get(group, str(colour))
        for group, colour in zip(attribute.groups, own, strict=True)
    }


def representation(table: pd.DataFrame, attribute: str) -> Figure:
    """Shares of an attribute's groups in the training sets, stage by stage."""
    part = table[table["attribute"] == attribute]
    sets = list(dict.fromkeys(part["set"]))
    figure, axes = plt.subplots(1, len(sets), figsize=(6.5, 2.3), sharey=True, squeeze=False)
    for axis, name in zip(axes[0], sets, strict=True):
        rows = part[part["set"] == name]
        sns.barplot(rows, x="group", y="share", hue="stage", palette="crest", ax=axis)
        groups = list(dict.fromkeys(rows["group"]))
        for i, group in enumerate(groups):
            target = rows.loc[rows["group"] == group, "target"].iloc[0]
            axis.hlines(target, i - 0.42, i + 0.42, color="black", lw=1, ls=":")
        axis.set(title=name, xlabel="", ylabel="share of images")
        axis.tick_params(axis="x", rotation=30 if len(groups) > 3 else 0)
        axis.grid(axis="x", visible=False)
        axis.legend(fontsize=6.5)
    figure.tight_layout()
    return figure
