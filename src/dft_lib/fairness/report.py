"""Every metric of a table of counts, per prompt and pooled, with interval and noise floor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dft_lib.fairness import floors, metrics, uncertainty
from dft_lib.fairness.counts import Counts
from dft_lib.fairness.uncertainty import Interval

SCHEMA = 1
CORRECTED = metrics.parity_gap_corrected.__name__
_CELLS = 20_000_000  # of simulated counts at once, about 160 MB


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
        The groups are ordered: add `wasserstein_1`.
    group : str, optional
        The group of `delta`; the first one unless given.
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
        ``per_prompt`` and ``pooled``: metric -> ``{"value", "low", "high", "noise_floor"}``,
        ``null_band``: the same names -> the middle 95 % of what a fair model scores, and
        ``notes``. None where a number is not defined.
    """
    t = metrics.check_target(target, len(counts.groups))
    draws = int(np.clip(5_000_000 // max(len(counts.prompts), 1), 1000, draws))
    place = counts.groups.index(group) if group is not None else 0
    named = metrics.metrics_for(ordered=ordered, group=place)
    measured = ~np.isnan(counts.values).any(-1)
    cells = np.nan_to_num(counts.values)
    images = cells.sum(-1)
    usable = images > 0
    prompts = cells[usable.any(1)]
    per_prompt, pooled = {}, {}
    independent = _per_prompt(images, usable) if shared_noise else images[usable]
    null = _null(independent, t, named, counts.whole, seed)
    whole_null = _null(np.array([independent.sum()]), t, named, counts.whole, seed)
    together = _resampled_counts(prompts, counts.whole, draws, seed)
    band: dict[str, Any] = {"per_prompt": {}, "pooled": {}}
    for name, metric in named.items():
        values = metric(prompts, t)
        per_prompt[name] = _entry(
            uncertainty.bootstrap_interval(values, draws=draws, seed=seed), null[name]
        )
        value = float(metric(_pooled(prompts, counts.whole), t)) if len(prompts) else math.nan
        low, high = math.nan, math.nan
        if len(prompts) > 1:
            low, high = np.nanquantile(metric(together, t), [0.025, 0.975])
        pooled[name] = _entry(Interval(value, low, high), whole_null[name])
        band["per_prompt"][name] = _pair(null[name])
        band["pooled"][name] = _pair(whole_null[name])
    undefined = Interval(math.nan, math.nan, math.nan)
    nothing = floors.Null(math.nan, math.nan, math.nan)
    corrected = _corrected(prompts, t, draws, seed) if counts.whole else undefined
    if math.isnan(corrected.value):
        null[CORRECTED] = nothing
    per_prompt[CORRECTED] = _entry(corrected, null[CORRECTED])
    pooled[CORRECTED] = _entry(undefined, nothing)
    band["per_prompt"][CORRECTED] = _pair(null[CORRECTED])
    band["pooled"][CORRECTED] = [None, None]
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
        "shares": [plain(x) for x in metrics.shares(_pooled(prompts, counts.whole))]
        if len(prompts)
        else [None] * len(counts.groups),
        "per_prompt": per_prompt,
        "pooled": pooled,
        "null_band": band,
        "notes": _notes(counts, images, usable),
    }


def _pooled(prompts: np.ndarray, whole: bool) -> np.ndarray:
    """Add counts up over prompts and seeds; of shares, every prompt weighs alike."""
    if whole:
        return prompts.sum((0, 1))
    return np.nanmean(metrics.shares(prompts), (0, 1))


def _resampled_counts(prompts: np.ndarray, whole: bool, draws: int, seed: int) -> np.ndarray:
    """Return pooled counts of resampled prompts, shape (draws, K)."""
    if len(prompts) < 2:
        return np.zeros((0, prompts.shape[-1]))
    cells = prompts if whole else np.nan_to_num(metrics.shares(prompts))
    number, seeds, _ = cells.shape
    rng = np.random.default_rng(seed)
    out = []
    chunk = max(1, 4_000_000 // number)
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        rows = rng.multinomial(number, np.full(number, 1 / number), size=size)
        columns = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=size)
        # a prompt measured under one seed only keeps it: nested seeds are not resampled
        if uncertainty.nested(cells.sum(-1) > 0):
            columns = np.ones_like(columns)
        by_seed = np.einsum("dp,psk->dsk", rows, cells, optimize=True)
        out.append(np.einsum("ds,dsk->dk", columns, by_seed))
    return np.concatenate(out)


def _per_prompt(images: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Return each prompt's mean number of usable images per seed, rounded."""
    number = usable.sum(1)
    mean = images.sum(1) / np.maximum(number, 1)
    return np.maximum(np.round(mean[number > 0]), 1).astype(int)


def _largest(t: np.ndarray) -> float:
    """Return the largest possible mean squared gap: everything in the rarest group."""
    worst = np.eye(len(t))[t.argmin()] - t
    return float(2 / (len(t) - 1) * (worst**2).sum())


def _corrected(prompts: np.ndarray, t: np.ndarray, draws: int, seed: int) -> Interval:
    """Interval of the corrected gap: on the unbiased squared scale, then the root."""
    squares = metrics.squared_gap(prompts, t)
    if (~np.isnan(squares).all(1)).sum() < 2:
        return Interval(math.nan, math.nan, math.nan)
    interval = uncertainty.mean_interval(squares, draws=draws, seed=seed)
    return interval.map(lambda x: math.sqrt(min(max(x, 0.0), _largest(t))))


def _null(
    images: np.ndarray, t: np.ndarray, named: dict[str, metrics.Metric], whole: bool, seed: int
) -> dict[str, floors.Null]:
    """Simulate a fair model once and read every metric off it."""
    unknown = floors.Null(math.nan, math.nan, math.nan)
    if not whole or not len(images) or images.sum() == 0:
        return dict.fromkeys([*named, CORRECTED], unknown)
    draws = int(np.clip(_CELLS // (len(images) * len(t)), 100, 2000))
    drawn = floors.simulate_fair(images, t, draws=draws, seed=seed)
    found = {name: floors.null_of(metric(drawn, t).mean(-1)) for name, metric in named.items()}
    corrected = metrics.parity_gap_corrected(drawn, t)
    return found | {CORRECTED: floors.null_of(np.atleast_1d(corrected))}


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
    notes = []
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
        said = ", ".join(f"{n} {c:g}" for n, c in dropped.items())
        notes.append(f"not among the groups, so not in any share: {said} images")
    single = int((images[usable] == 1).sum()) if counts.whole else 0
    if single:
        notes.append(f"{single} prompts with one image are left out of parity_gap_corrected")
    if len(counts.seeds) in (2, 3):
        notes.append(f"{len(counts.seeds)} seeds: their part of the intervals is rough")
    return notes


def as_table(report: dict[str, Any]) -> str:
    """Write a report as a table for people."""
    shares = zip(report["groups"], report["shares"], strict=True)
    names = ", ".join(f"{g} {s:.3f}" if s is not None else g for g, s in shares)
    number = report["images"]
    lines = [
        f"{report['rows']} rows, {report['prompts']} prompts"
        + (f", {number[0]} to {number[1]} images each" if number else "")
        + (f", {report['seeds']} seeds" if report["seeds"] > 1 else ""),
        f"pooled shares: {names}",
        "target: " + ", ".join(f"{x:g}" for x in report["target"]),
        "",
        f"{'':25}{'mean over prompts':^40}{'pooled counts' if number else 'pooled shares':^36}",
        f"{'metric':25}{'value':>7}  {'95 % interval':^16}{'fair model':>12}   "
        f"{'value':>7}  {'95 % interval':^16}{'fair model':>11}",
    ]
    for name, one in report["per_prompt"].items():
        cells = []
        for entry in (one, report["pooled"][name]):
            span = f"{_show(entry['low'])} to {_show(entry['high'])}"
            span = span if entry["low"] is not None else "-"
            cells.append(
                f"{_show(entry['value']):>7}  {span:^16}{_show(entry['noise_floor']):>12}"
            )
        lines.append(f"{name:25}{cells[0]}   {cells[1]}")
    lines += ["", *(f"note: {note}" for note in report["notes"])]
    lines += [
        "fair model: the mean score of a model that draws from the target, on as many images.",
        "1 is fair for min_max_ratio (for normalized_entropy at a uniform target), 0 for others.",
    ]
    return "\n".join(lines)


def _show(x: float | None) -> str:
    return "-" if x is None else f"{x + 0.0:.3f}"
