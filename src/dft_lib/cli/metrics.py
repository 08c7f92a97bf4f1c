"""``dft metrics``: the list of metrics, as Markdown."""

from __future__ import annotations

import argparse
from pathlib import Path

from dft_lib.fairness.metrics import METRICS
from dft_lib.fairness.table import metrics_as_markdown

_START, _END = "<!-- dft metrics -->", "<!-- end of dft metrics -->"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--write", type=Path, metavar="FILE.md", help="put it between the marks in FILE"
    )


def run(arguments: argparse.Namespace) -> str:
    """Return what the command prints."""
    if arguments.write is None:
        return metrics_as_markdown().rstrip()
    before, start, rest = arguments.write.read_text(encoding="utf-8").partition(_START)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"{arguments.write} lacks the lines {_START} and {_END}")
    text = f"{before}{start}\n\n{metrics_as_markdown()}\n{end}{after}"
    arguments.write.write_text(text, encoding="utf-8")
    return f"{arguments.write}: {len(METRICS)} metrics"
