"""Every metric of a table of counts, per prompt and pooled, with interval and noise floor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dft_lib.fairness import floors, uncertainty
from dft_lib.fairness.counts import Counts
from dft_lib.fairness.metrics import metrics_for
from dft_lib.fairness.record import Metric
from dft_lib.fairness.shares import check_target, shares
from dft_lib.fairness.uncertainty import Interval

SCHEMA = 1
_CELLS = 20_000_000  # of simulated counts in all
_NOTHING = Interval(math.nan, math.nan, math.nan)
_UNKNOWN = floors.Null(math.nan, math.nan, math.nan)


def fairness_report(
    counts: Counts,
    target: ArrayLike | None = None,
    *,
    ordered: bool = False,
    group: str | None = None,
    shared_noise: bool = False,
    draws: int = 10_000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute all metrics of `counts`.

    Parameters
    ----------
    counts : Counts
        From `read_counts`.
    target : array_like, optional
        Shape (K,); uniform unless given.
    ordered : bool
        The groups are ordered: add the metrics of ordered groups.
    group : str, optional
        The group of metrics that look at one (`delta`); the first one unless given.
    shared_noise : bool
        The seeds' images of one prompt start from the same noise, as in the study, and so repeat
        each other. The fair model is then counted once per prompt instead of once per cell.
    draws, seed : int
        Of bootstrap and simulation; fewer resamples are drawn above 500 prompts.

    Returns
    -------
    dict
        ``schema, groups, target, rows, prompts, prompts_without_images, seeds, images``
        (smallest and largest number per prompt, None for shares), ``shares`` (pooled),
        ``metrics``: name -> ``{"fair", "worst", "better", "what", "source"}`` at this target,
        ``per_prompt`` and ``pooled``: metric -> ``{"value", "low", "high", "noise_floor"}``,
        ``null_band``: the same names -> the middle 95 % of what a fair model scores, and
        ``notes``. None where a number is not defined.
    """
    t = check_target(target, len(counts.groups))
    draws = int(np.clip(5_000_000 // max(*counts.values.shape[:2], 1), 1000, draws))
    place = counts.groups.index(group) if group is not None else 0
    named = metrics_for(ordered=ordered, group=place)
    measured = ~np.isnan(counts.values).any(-1)
    cells = np.nan_to_num(counts.values)
    images = cells.sum(-1)
    usable = images > 0
    prompts = cells[usable.any(1)]
    independent = _per_prompt(images, usable) if shared_noise else images[usable]
    null = _null(independent, t, named, counts.whole, seed)
    whole_null = _null(np.array([independent.sum()]), t, named, counts.whole, seed)
    pooled = _pooled(prompts, counts.whole)
    together = _resampled_counts(prompts, counts.whole, draws, seed)
    entries: dict[str, Any] = {"per_prompt": {}, "pooled": {}}
    band: dict[str, Any] = {"per_prompt": {}, "pooled": {}}
    for name, metric in named.items():
        found = {
            "per_prompt": (_mean(metric, prompts, t, counts.whole, draws, seed), null[name]),
            "pooled": (_of_pooled(metric, pooled, together, t), whole_null[name]),
        }
        for part, (interval, fair) in found.items():
            known = fair if not math.isnan(interval.value) else _UNKNOWN
            entries[part][name] = _entry(interval, known)
            band[part][name] = _pair(known)
    number = images[usable]
    return {
        "schema": SCHEMA,
        "groups": list(counts.groups),
        "target": [round(float(x), 6) for x in t],
        "rows": counts.rows,
        "prompts": len(counts.prompts),
        "prompts_without_images": int((measured.any(1) & ~usable.any(1)).sum()),
        "seeds": len(counts.seeds),
        "images": [int(number.min()), int(number.max())] if counts.whole and len(number) else None,
        "shares": [plain(x) for x in shares(pooled)]
        if len(prompts)
        else [None] * len(counts.groups),
        "metrics": {name: _about(metric, t) for name, metric in named.items()},
        **entries,
        "null_band": band,
        "notes": _notes(counts, images, usable),
    }


def _pooled(prompts: np.ndarray, whole: bool) -> np.ndarray:
    """Add counts up over prompts and seeds; of shares, every prompt weighs alike."""
    if whole or not len(prompts):
        return prompts.sum((0, 1))
    return np.nanmean(shares(prompts), (0, 1))


def _resampled_counts(prompts: np.ndarray, whole: bool, draws: int, seed: int) -> np.ndarray:
    """Return pooled counts of resampled prompts, shape (draws, K)."""
    if len(prompts) < 2:
        return np.zeros((0, prompts.shape[-1]))
    cells = prompts if whole else np.nan_to_num(shares(prompts))
    number, seeds, groups = cells.shape
    rng = np.random.default_rng(seed)
    out = []
    # so many draws at once that neither rows x prompts nor by_seed outgrows 160 MB
    chunk = max(1, min(4_000_000 // number, 20_000_000 // (seeds * groups)))
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        rows = rng.multinomial(number, np.full(number, 1 / number), size=size)
        columns = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=size)
        # a prompt measured under one seed only keeps it: nested seeds are not resampled
        if uncertainty.nested(cells.sum(-1) > 0):
            columns = np.ones_like(columns)
        by_seed = np.einsum("dp,psk->dsk", rows, cells, optimize=True)
        out.append(np.einsum("ds,dsk->dk", columns, by_seed))
        del by_seed  # before the next one is made
    return np.concatenate(out)


def _per_prompt(images: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Return each prompt's mean number of usable images per seed, rounded."""
    number = usable.sum(1)
    mean = images.sum(1) / np.maximum(number, 1)
    return np.maximum(np.round(mean[number > 0]), 1).astype(int)


def _mean(
    metric: Metric, prompts: np.ndarray, t: np.ndarray, whole: bool, draws: int, seed: int
) -> Interval:
    """Mean over prompts; of a metric with squares, its root, within what is possible."""
    if metric.squares is None:
        return uncertainty.bootstrap_interval(metric(prompts, t), draws=draws, seed=seed)
    squares = metric.squares(prompts, t)
    if not whole or (~np.isnan(squares).all(1)).sum() < 2:
        return _NOTHING
    interval = uncertainty.mean_interval(squares, draws=draws, seed=seed)
    return interval.map(lambda x: min(math.sqrt(max(x, 0.0)), metric.worst_at(t)))


def _of_pooled(
    metric: Metric, pooled: np.ndarray, together: np.ndarray, t: np.ndarray
) -> Interval:
    """Return a metric of the pooled counts, and of the resampled ones, shape (draws, K)."""
    if metric.squares is not None or not pooled.sum() > 0:
        return _NOTHING
    low, high = math.nan, math.nan
    if len(together):
        low, high = np.nanquantile(metric(together, t), [0.025, 0.975])
    return Interval(float(metric(pooled, t)), float(low), float(high))


def _null(
    images: np.ndarray, t: np.ndarray, named: dict[str, Metric], whole: bool, seed: int
) -> dict[str, floors.Null]:
    """Simulate a fair model once and read every metric off it."""
    if not whole or not len(images) or images.sum() == 0:
        return dict.fromkeys(named, _UNKNOWN)
    draws = int(np.clip(_CELLS // (len(images) * len(t)), 100, 2000))
    found: dict[str, list[np.ndarray]] = {name: [] for name in named}
    for drawn in floors.fair_studies(images, t, draws=draws, seed=seed):
        for name, metric in named.items():
            values = np.atleast_1d(metric(drawn, t))
            found[name].append(values if metric.squares is not None else values.mean(-1))
    return {name: floors.null_of(np.concatenate(values)) for name, values in found.items()}


def _about(metric: Metric, t: np.ndarray) -> dict[str, Any]:
    """Return what a reader needs to know of a metric, at the target."""
    return {
        "fair": plain(metric.fair_at(t)), "worst": plain(metric.worst_at(t)),
        "better": metric.better, "what": metric.what, "source": metric.source,
    }  # fmt: skip


def plain(x: float) -> float | None:
    """Return a number for JSON: six decimals, None for NaN."""
    return None if math.isnan(x) else round(float(x), 6)


def _entry(interval: Interval, null: floors.Null) -> dict[str, float | None]:
    return {
        "value": plain(interval.value),
        "low": plain(interval.low),
        "high": plain(interval.high),
        "noise_floor": plain(null.floor),
    }


def _pair(null: floors.Null) -> list[float | None]:
    return [plain(null.low), plain(null.high)]


def _notes(counts: Counts, images: np.ndarray, usable: np.ndarray) -> list[str]:
    notes = [*counts.notes]
    prompts = int(usable.any(1).sum())
    if not counts.whole:
        notes.append("shares of an unknown number of images: no noise floor, nothing corrected")
    empty = len(counts.prompts) - prompts
    if empty:
        notes.append(f"{empty} prompts without a usable image are left out of every mean")
    if not prompts:
        notes.append("no prompt has a usable image: nothing can be said")
    elif prompts == 1:
        notes.append("one prompt: no interval over prompts, and parity_gap_corrected is undefined")
    elif prompts < uncertainty.FEWEST_PROMPTS:
        notes.append(f"{prompts} prompts: too few for an interval of parity_gap_corrected")
    elif prompts < 20:
        notes.append(f"{prompts} prompts: intervals cover less often than they say")
    if 0 < prompts < 6:
        notes.append(
            f"a paired sign-flip test over {prompts} prompts cannot reach p < .05 "
            f"(smallest p {uncertainty.smallest_p(prompts):g})"
        )
    dropped = {n: c for n, c in counts.ignored.items() if c}
    if dropped:
        unit = "images" if counts.whole else "of all, in the mean"
        said = ", ".join(f"{n} {c:.6g}" for n, c in dropped.items())
        notes.append(f"not among the groups, so not in any share: {said} {unit}")
    single = int((images[usable] == 1).sum()) if counts.whole else 0
    if single:
        notes.append(f"{single} prompts with one image are left out of parity_gap_corrected")
    if len(counts.seeds) in (2, 3):
        notes.append(f"{len(counts.seeds)} seeds: their part of the intervals is rough")
    return notes
