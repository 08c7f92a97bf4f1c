"""Fairness against side effects: which arms are beaten by none on both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from matplotlib.transforms import Bbox

from dft_lib.evaluation.scales import normalised
from dft_lib.figures.style import SPLIT_NAMES, family_styles
from dft_lib.study.attributes import Attribute, title

SMALL = 6.5  # points
Point = tuple[float, float]


LINEAR = 0.1  # up to here the horizontal axis is linear


def front(points: Mapping[str, Point]) -> list[str]:
    """Return the names that no other point beats, from left to right.

    A point is beaten by one that is as small on both axes and smaller on one. Points that are not
    defined (NaN) are left out; equal points beat each other not.
    """
    known = {n: p for n, p in points.items() if not any(math.isnan(x) for x in p)}
    best = [
        name for name, (x, y) in known.items()
        if not any(a <= x and b <= y and (a < x or b < y) for a, b in known.values())
    ]  # fmt: skip
    return sorted(best, key=lambda name: (known[name], name))


def place_labels(
    anchors: Sequence[Point], sizes: Sequence[Point], room: Bbox, *, mark: float = 5.0
) -> list[Point]:
    """Return centres of labels beside their marks, without overlap where there is room.

    Greedy, the most crowded mark first; around each, rings of growing radius. All in one unit.

    Parameters
    ----------
    anchors : sequence of (x, y)
        Centres of the marks.
    sizes : sequence of (width, height)
        Of the labels.
    room : matplotlib.transforms.Bbox
        Labels stay inside.
    mark : float
        Width of a mark; labels keep off all of them.
    """
    marks = np.asarray(anchors, dtype=float).reshape(-1, 2)
    blocked = [Bbox.from_bounds(x - mark / 2, y - mark / 2, mark, mark) for x, y in marks]
    distance = np.hypot(*(marks[:, None] - marks[None]).transpose(2, 0, 1))
    crowd = (distance < 8 * mark).sum(1)
    found: dict[int, Point] = {}
    for i in sorted(range(len(marks)), key=lambda i: (-crowd[i], i)):
        (x, y), (width, height) = marks[i], sizes[i]
        choices: list[tuple[int, Point, Bbox]] = []
        for ring in range(24):
            for angle in np.deg2rad([45, 135, 315, 225, 0, 90, 180, 270, 22, 68, 112, 158, 202,
                                     248, 292, 338]):  # fmt: skip
                radius = mark * (0.72 + 0.4 * ring)
                along, up = math.cos(angle), math.sin(angle)
                cx = x + along * radius + float(np.clip(1.6 * along, -1, 1)) * width / 2
                cy = y + up * radius + float(np.clip(1.6 * up, -1, 1)) * height / 2
                box = Bbox.from_bounds(cx - width / 2, cy - height / 2, width, height)
                inside = (room.x0 <= box.x0 and box.x1 <= room.x1
                          and room.y0 <= box.y0 and box.y1 <= room.y1)  # fmt: skip
                if inside:
                    choices.append((box.count_overlaps(blocked), (cx, cy), box))
                    if choices[-1][0] == 0:
                        break
            if choices and choices[-1][0] == 0:
                break
        _, found[i], box = min(choices, key=lambda c: c[0], default=(0, (x, y), room))
        blocked.append(box)
    return [found[i] for i in range(len(marks))]


def losses(measured: dict[str, Any], arms: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return each arm's loss of explicit prompts followed, with interval; NaN where unknown."""
    found = {}
    for arm in arms:
        entry = measured["arms"][arm]["side_effects"].get("explicit_loss") or {}
        found[arm] = {k: math.nan if entry.get(k) is None else entry[k]
                      for k in ("value", "low", "high")}  # fmt: skip
    return found


def pareto(
    measured: dict[str, Any],
    labels: dict[str, str],
    families: dict[str, list[str]],
    attributes: Mapping[str, Attribute],
) -> Figure:
    """Corrected gap against the loss of explicit prompts followed: lower left is better.

    A row per part (seen, held out), a column per attribute; arms are numbered as in the key.
    The horizontal axis is logarithmic above 0.1 where an arm lies far out. Whiskers: 95 %
    intervals; line: the front over point estimates, which knows no intervals;
    hatched: the middle 95 % of fair models.
    """
    looks = family_styles(list(labels), families)
    parts = [p for p in SPLIT_NAMES if p in measured["arms"][next(iter(labels))]["neutral"]]
    figure, axes = plt.subplots(len(parts), len(attributes), sharex=True, squeeze=False,
                                figsize=(6.5, 0.5 + 2.55 * len(parts)))  # fmt: skip
    shared = losses(measured, list(labels))
    drawn: list[tuple[Axes, dict[str, Point]]] = []
    for row, part in zip(axes, parts, strict=True):
        for axis, attribute in zip(row, attributes, strict=True):
            gaps = {a: normalised(measured, a, part, attribute, corrected=True) for a in labels}
            points = {a: (shared[a]["value"], gaps[a]["value"]) for a in labels}
            _panel(axis, points, shared, gaps, looks)
            axis.set_title(f"{title(attribute, attributes)}, {SPLIT_NAMES[part]}")
            axis.set_ylabel("corrected gap" if axis is row[0] else "")
            drawn.append((axis, points))
    figure.supxlabel("explicit prompts no longer followed (base model minus arm), mean of "
                     "attributes", fontsize=plt.rcParams["axes.labelsize"])  # fmt: skip
    figure.tight_layout()
    for axis, points in drawn:
        _number(figure, axis, points)
    _keys(figure, labels, looks)
    return figure


def _panel(
    axis: Axes,
    points: dict[str, Point],
    shared: dict[str, dict[str, float]],
    gaps: dict[str, dict[str, float]],
    looks: dict[str, tuple[str, str, str]],
) -> None:
    fair = [(g["null_low"], g["null_high"]) for g in gaps.values()]
    if not np.isnan(fair).all():
        axis.axhspan(np.nanmin(fair), np.nanmax(fair), facecolor="none", edgecolor="0.75",
                     hatch="//////", lw=0, zorder=0)  # fmt: skip
    for arm, (x, y) in points.items():
        _, colour, mark = looks[arm]
        for xs, ys in (([shared[arm]["low"], shared[arm]["high"]], [y, y]),
                       ([x, x], [gaps[arm]["low"], gaps[arm]["high"]])):  # fmt: skip
            axis.plot(xs, ys, color=colour, lw=0.5, alpha=0.45, zorder=1)
        axis.scatter(x, y, s=20, color=colour, marker=mark, edgecolor="white", linewidth=0.4,
                     zorder=4)  # fmt: skip
    known = np.array([p for p in points.values() if not np.isnan(p).any()]).reshape(-1, 2)
    ends = [v for a in points for v in (shared[a]["low"], shared[a]["high"])]
    ends = [v for v in [*ends, *known[:, 0], 0.0] if not math.isnan(v)]
    tops = [v for a in points for v in (gaps[a]["high"], gaps[a]["value"]) if not math.isnan(v)]
    width, height = max(max(ends) - min(ends), 0.02), max([*tops, 0.1])
    left, right = min(ends) - 0.06 * width, max(ends) + 0.06 * width
    if right > 2 * LINEAR:  # one arm far out must not press the others together
        axis.set_xscale("symlog", linthresh=LINEAR, linscale=2)
        ticks = [t for t in (0, 0.05, LINEAR, 0.3, 1) if t <= right]
        axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlim(max(left, -0.03), right)
    axis.set_ylim(-0.04 * height, 1.08 * height)
    steps = [points[name] for name in front(points)]
    if steps:
        path = [(steps[0][0], 1.08 * height), steps[0]]
        for (_, y), (x, lower) in pairwise(steps):
            path += [(x, y), (x, lower)]
        path.append((right, steps[-1][1]))
        axis.plot(*zip(*path, strict=True), color="0.25", lw=0.9, ls="--", zorder=2)
    axis.axvline(0, color="0.5", lw=0.7, ls=":", zorder=0)


def _number(figure: Figure, axis: Axes, points: dict[str, Point]) -> None:
    """Write each arm's number beside its mark, with a thin line where it stands further off."""
    unit = figure.dpi / 72
    numbers = {arm: str(k) for k, arm in enumerate(points, 1)}
    known = [arm for arm, p in points.items() if not np.isnan(p).any()]
    if not known:
        return
    anchors = axis.transData.transform([points[arm] for arm in known]) / unit
    sizes = [(0.68 * SMALL * len(numbers[arm]) + 0.6, 0.95 * SMALL) for arm in known]
    window = axis.get_window_extent()
    centres = place_labels([(x, y) for x, y in anchors], sizes, Bbox(window.get_points() / unit))
    for arm, anchor, centre in zip(known, anchors, centres, strict=True):
        away = np.subtract(centre, anchor)
        far = math.hypot(*away) > 11
        text = axis.annotate(
            numbers[arm], points[arm], xytext=away, textcoords="offset points", ha="center",
            va="center_baseline", fontsize=SMALL, zorder=5,
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "0.35", "shrinkA": 2.5,
                        "shrinkB": 2} if far else None,
        )  # fmt: skip
        text.set_path_effects([patheffects.withStroke(linewidth=1.4, foreground="white")])


def _keys(figure: Figure, labels: dict[str, str], looks: dict[str, tuple[str, str, str]]) -> None:
    """Put the families and what the lines mean below the panels, and below them the numbers."""
    families = list(dict.fromkeys(looks.values()))
    handles: list[Any] = [
        *(plt.Line2D([], [], marker=m, ls="", color=c, ms=5) for _, c, m in families),
        plt.Line2D([], [], color="0.25", lw=0.9, ls="--"),
        plt.Rectangle((0, 0), 1, 1, fc="none", ec="0.75", hatch="//////", lw=0),
    ]
    names = [*(name for name, _, _ in families), "beaten by none", "fair model (95 %)"]
    rows = math.ceil(len(names) / 4)
    first = figure.legend(handles, names, loc="upper center", ncol=4, fontsize=7.5,
                          bbox_to_anchor=(0.5, 0))  # fmt: skip
    figure.add_artist(first)
    marks = [plt.Line2D([], [], marker=m, ls="", color=c, ms=4) for _, c, m in looks.values()]
    numbered = [f"{k}  {label}" for k, label in enumerate(labels.values(), 1)]
    below = -(0.12 + 0.17 * rows) / figure.get_figheight()
    figure.legend(marks, numbered, loc="upper center", ncol=3, fontsize=7, handletextpad=0.1,
                  labelspacing=0.25, columnspacing=1.0, bbox_to_anchor=(0.5, below))  # fmt: skip
