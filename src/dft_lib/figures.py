"""The study's figures and tables: seaborn plots from the CSV and JSON under ``results/``.

Colours name arms, never groups, except in the tone figure, whose colours are the drawings' own
skin colours. Every figure says how many images, prompts and seeds stand behind it.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from dft_lib import shards
from dft_lib.paths import ROOT, show
from dft_lib.screening import REASONS
from dft_lib.world.render import SKIN

STYLE = ROOT / "paper" / "style.mplstyle"
SPLIT_NAMES = {"seen": "seen professions", "held_out": "held-out professions"}


def use_style() -> None:
    """Apply the one style file."""
    plt.style.use(STYLE)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as vector PDF and PNG without time stamps; return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.pdf", folder / f"{name}.png"]
    figure.savefig(paths[0], metadata={"CreationDate": None, "ModDate": None})
    figure.savefig(paths[1], metadata={"Software": None})
    return paths


def read_results(folder: Path, arms: list[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read the tables and summaries of the named arms.

    Raises
    ------
    FileNotFoundError
        If an arm has not been evaluated.
    """
    tables, summaries = [], {}
    for arm in arms:
        path = folder / f"{arm}.json"
        if not path.exists():
            raise FileNotFoundError(f"{show(path)} is missing: run notebook 04_evaluate for {arm}")
        summaries[arm] = json.loads(path.read_text(encoding="utf-8"))
        tables.append(pd.read_csv(folder / f"{arm}.csv", keep_default_na=True))
    table = pd.concat(tables, ignore_index=True)
    table["split"] = table["split"].fillna("")
    return table, summaries


def headline(summaries: dict[str, Any]) -> pd.DataFrame:
    """Condense the arms into one table: gaps (mean and range over seeds) and side effects."""
    rows = []
    for arm, summary in summaries.items():
        row: dict[str, Any] = {"arm": arm, "label": summary["label"]}
        for split in ("seen", "held_out", "person"):
            if split not in summary["neutral"]:
                continue
            part = summary["neutral"][split]
            for attribute in ("gender", "skin_tone"):
                for metric in ("gap", "min_max_ratio", "entropy"):
                    values = part[attribute][metric]["per_seed"]
                    row[f"{attribute}_{metric}_{split}"] = part[attribute][metric]["mean"]
                    if metric == "gap":
                        row[f"{attribute}_gap_{split}_min"] = min(values)
                        row[f"{attribute}_gap_{split}_max"] = max(values)
        row["role_accuracy"] = summary["role_accuracy"]["overall"]
        row["explicit_gender"] = summary["explicit"]["gender"]["mean"]
        row["explicit_skin_tone"] = summary["explicit"]["skin_tone"]["mean"]
        row["general"] = summary["general"]["mean"]
        row["seeds"] = len(summary["explicit"]["gender"]["per_seed"])
        row["images"] = summary["answers"]["images"]
        rows.append(row)
    return pd.DataFrame(rows)


def palette(arms: list[str]) -> dict[str, Any]:
    """Return one colour per arm; the base model is always grey."""
    colours = iter(sns.color_palette("colorblind", len(arms)))
    return {arm: (0.55, 0.55, 0.55) if arm == "base" else next(colours) for arm in arms}


# Of different lightness, each with its own mark: they stay apart without colour.
FAMILY_STYLES = (("#7a7a7a", "s"), ("#e08a00", "^"), ("#6fb2dc", "D"), ("#0b4f8a", "o"),
                 ("#b04a8f", "v"), ("#2f8f5b", "P"))  # fmt: skip


def family_styles(
    arms: list[str], families: dict[str, list[str]]
) -> dict[str, tuple[str, str, str]]:
    """Return each arm's family, colour and mark; arms of no family are "others"."""
    of = {arm: name for name, members in families.items() for arm in members}
    named = [name for name in families if any(arm in arms for arm in families[name])]
    if any(arm not in of and arm != "base" for arm in arms):
        named.append("others")
    looks = {name: FAMILY_STYLES[i % len(FAMILY_STYLES)] for i, name in enumerate(named)}
    return {
        arm: ("base model", "black", "X") if arm == "base"
        else (of.get(arm, "others"), *looks[of.get(arm, "others")])
        for arm in arms
    }  # fmt: skip


def wrapped(labels: dict[str, str], width: int = 22) -> list[str]:
    """Return labels on as many lines as they need, for the side of a plot."""
    return ["\n".join(textwrap.wrap(label, width)) or label for label in labels.values()]


def row_height(rows: int, most: float = 0.34, least: float = 0.25) -> float:
    """Return inches per row: fewer where there are many, and still room for small text."""
    return most if rows <= 8 else least


def profession_shares(
    table: pd.DataFrame, labels: dict[str, str], shown: list[str] | None = None
) -> Figure:
    """Share of usable images rated woman, per profession, seen and held out.

    Only the arms `shown` are drawn (all, if None), in the colours they have among `labels`.
    """
    colours = palette(list(labels))
    labels = {arm: labels[arm] for arm in shown or labels}
    neutral = table[(table["kind"] == "neutral") & table["arm"].isin(labels)]
    counts = neutral.groupby(["arm", "noun", "split"])[["gender:woman", "gender:man"]].sum()
    share = (counts["gender:woman"] / counts.sum(axis=1)).rename("share").reset_index()
    first = next(iter(labels))
    order = share[share["arm"] == first].groupby("noun")["share"].mean().sort_values().index
    height = 0.9 + 0.21 * len(order)
    figure, axes = plt.subplots(1, 2, figsize=(6.5, height), sharey=True)
    for axis, (split, title) in zip(axes, SPLIT_NAMES.items(), strict=True):
        part = share[share["split"] == split]
        wide = part.pivot(index="noun", columns="arm", values="share").reindex(order)
        axis.hlines(order, wide.min(axis=1), wide.max(axis=1), color="#d0d0d0", lw=2, zorder=1)
        for arm in labels:
            axis.scatter(wide[arm], order, s=22, color=colours[arm], zorder=2,
                         edgecolor="white", linewidth=0.4)  # fmt: skip
        axis.axvline(0.5, color="black", lw=0.8, ls=":")
        axis.set(title=title, xlim=(-0.03, 1.03), xlabel="share rated woman")
        axis.margins(y=0.03)
    handles = [plt.Line2D([], [], marker="o", ls="", color=colours[a]) for a in labels]
    figure.legend(handles, labels.values(), loc="upper center", ncol=min(len(labels), 4),
                  bbox_to_anchor=(0.5, 0))  # fmt: skip
    figure.tight_layout()
    return figure


def tone_distributions(table: pd.DataFrame, labels: dict[str, str], tones: list[str]) -> Figure:
    """Distribution of perceived skin tone per arm over all neutral prompts, light to dark."""
    neutral = table[table["kind"] == "neutral"]
    columns = [f"skin_tone:{t}" for t in tones]
    height = 0.75 + row_height(len(labels)) * len(labels)
    figure, axes = plt.subplots(1, 2, figsize=(6.5, height), sharey=True)
    names = wrapped(labels, 26)
    for axis, (split, title) in zip(axes, SPLIT_NAMES.items(), strict=True):
        counts = neutral[neutral["split"] == split].groupby("arm")[columns].sum()
        shares = counts.div(counts.sum(axis=1), axis=0).reindex(list(labels))
        left = np.zeros(len(shares))
        for tone, colour in zip(tones, SKIN["noto"], strict=True):
            width = shares[f"skin_tone:{tone}"].to_numpy()
            axis.barh(range(len(labels)), width, left=left, color=colour, height=0.72,
                      edgecolor="white", linewidth=0.5, label=tone)  # fmt: skip
            for y, (x, w) in enumerate(zip(left, width, strict=True)):
                if w >= 0.06:
                    dark = tones.index(tone) >= 3
                    axis.text(x + w / 2, y, f"{w:.2f}".lstrip("0"), ha="center", va="center",
                              fontsize=6.5, color="white" if dark else "black")  # fmt: skip
            left = left + width
        axis.set(title=title, xlim=(0, 1), xlabel="share of usable images")
        axis.set_yticks(range(len(labels)), names)
        axis.tick_params(axis="y", labelsize=7 if len(labels) > 8 else 8)
        axis.set_ylim(len(labels) - 0.5, -0.5)
        axis.grid(visible=False)
        for edge in np.arange(1, len(tones)) / len(tones):
            axis.axvline(edge, color="black", lw=0.6, ls=":")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="upper center", ncol=len(tones),
                  bbox_to_anchor=(0.5, 0))  # fmt: skip
    figure.tight_layout()
    return figure


def first_images(arm: Path, noun: str, count: int) -> np.ndarray:
    """Return the first images of a profession's neutral prompt by an arm's first model.

    Not picked: replicates 0, 1, ... of the lowest training seed, or of the base model.
    """
    models = [p for p in arm.iterdir() if p.is_dir()]
    first = min(models, key=lambda p: int(p.name.rpartition("-")[2]) if "-" in p.name else -1)
    found: list[np.ndarray] = []
    for path in shards.files(first):
        pictures, records = shards.read(path, verify=False)
        rows = (records["kind"] == "neutral") & (records["noun"] == noun)
        found += list(pictures[rows.to_numpy()])
        if len(found) >= count:
            break
    return np.stack(found[:count])


def first_rejected(folder: Path, index: pd.DataFrame, count: int) -> Figure:
    """Show the first images of a set that screening rejected; fewer leave white space."""
    rows = index.index[index["verdict"].isin(REASONS)][:count]
    pictures = shards.pick(folder, rows if len(rows) else [0])
    blank = np.full((count, *pictures.shape[1:]), 255, np.uint8)
    blank[: len(rows)] = pictures[: len(rows)]
    return sheet({"rejected": {"first rejected images": blank}})


def sheet(rows: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Show images side by side: ``{profession: {column label: (n, h, w, 3)}}``."""
    columns = list(next(iter(rows.values())))
    count = len(next(iter(next(iter(rows.values())).values())))
    figure, axes = plt.subplots(
        len(rows), len(columns), squeeze=False,
        figsize=(6.5, 0.25 + len(rows) * 6.5 / len(columns) / count * 1.12),
    )  # fmt: skip
    for r, (noun, cells) in enumerate(rows.items()):
        for c, (label, pictures) in enumerate(cells.items()):
            axis = axes[r][c]
            strip = np.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
            axis.imshow(np.concatenate(list(strip), axis=1), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.grid(visible=False)
            axis.spines[:].set_visible(False)
            if r == 0:
                axis.set_title(label)
            if c == 0:
                axis.set_ylabel(noun.replace(" ", "\n"), rotation=0, ha="right", va="center")
    figure.tight_layout(h_pad=0.1, w_pad=0.4)
    return figure


def losses(table: pd.DataFrame) -> Figure:
    """Training loss per seed, smoothed over 25 steps."""
    figure, axis = plt.subplots(figsize=(5, 2.2))
    for seed, rows in table.groupby("seed"):
        smooth = rows["loss"].rolling(25, min_periods=1).mean()
        axis.plot(rows["step"], smooth, lw=1, label=f"seed {seed}")
    axis.set(xlabel="step", ylabel="loss, mean of 25 steps")
    axis.legend()
    figure.tight_layout()
    return figure


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
