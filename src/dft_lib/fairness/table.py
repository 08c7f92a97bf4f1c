"""What people read: a report as a table, the list of metrics for help and documentation."""

from __future__ import annotations

from typing import Any

from dft_lib.fairness.files.reading import visible
from dft_lib.fairness.metrics import METRICS

_HEAD = f"{'value':>6}  {'95 % interval':^16}{'fair model':>12}"


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
        f"{'':24}{'mean over prompts':^37}  {'pooled counts' if number else 'pooled shares':^36}",
        f"{'metric':24}{_HEAD}  {_HEAD}{'fair':>8}{'worst':>7}",
    ]
    for name, one in report["per_prompt"].items():
        cells = []
        for entry in (one, report["pooled"][name]):
            span = f"{_show(entry['low'])} to {_show(entry['high'])}"
            span = span if entry["low"] is not None else "-"
            cells.append(
                f"{_show(entry['value']):>6}  {span:^16}{_show(entry['noise_floor']):>12}"
            )
        about = report["metrics"][name]
        ends = f"{_show(about['fair']):>8}{_show(about['worst']):>7}"
        lines.append(f"{name:24}{cells[0]}  {cells[1]}{ends}")
    lines += ["", *(f"note: {note}" for note in report["notes"])]
    lines += [
        "fair model: the mean score of a model that draws from the target, on as many images.",
        "fair, worst: the metric if the shares are the target, and if only one group is shown.",
    ]
    return "\n".join(visible(line) for line in lines)


def _show(x: float | None) -> str:
    return "-" if x is None else f"{x + 0.0:.3f}"


def metrics_as_text() -> str:
    """List all metrics for ``dft fairness --help``."""
    lines = ["metrics (fair value; value when one group only is shown, at a uniform target of K):"]
    for m in METRICS.values():
        lines += [f"  {m.name} ({m.fair:g}; {m.worst}){', with --ordered' if m.ordered else ''}",
                  f"      {m.what} ({m.source})"]  # fmt: skip
    return "\n".join(lines) + "\n"


def metrics_as_markdown() -> str:
    """List all metrics as the table of ``docs/measurement.md``."""
    lines = ["| name | fair | worst | what | source |", "|---|---|---|---|---|"]
    for m in METRICS.values():
        what = m.what + (" (ordered groups)" if m.ordered else "")
        lines.append(f"| `{m.name}` | {m.fair:g} | {m.worst} | {what} | {m.source} |")
    return "\n".join(lines) + "\n"
