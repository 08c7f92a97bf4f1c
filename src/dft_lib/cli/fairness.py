"""``dft fairness``: metrics, intervals and noise floors of any CSV of counts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dft_lib.fairness.counts import parse_target, read_counts
from dft_lib.fairness.files.reading import clean, split_names
from dft_lib.fairness.metrics import METRICS
from dft_lib.fairness.report import fairness_report
from dft_lib.fairness.table import as_table, metrics_as_text

_DESCRIPTION = """\
Compute fairness metrics of any CSV that counts, per prompt, how many images showed which
(perceived) group:

    occupation,woman,man
    nurse,231,19
    pilot,12,238

    dft fairness counts.csv --groups woman,man --by occupation

Every metric is given twice. "Mean over prompts" is the headline: each prompt's value, averaged.
"Pooled counts" adds the prompts up first, where nurses and pilots cancel. Beside each value stand
its 95 % interval (prompts resampled) and what a fair model scores on as many images: a value near
that says nothing against the model. parity_gap_corrected is the root of a mean square that has no
such floor: what is left of one shrinks with the number of prompts.

A file with a row for each image (prompt, perceived group) is counted. Shares are read too: of how
many images, says --images. A name that holds a comma is quoted, as in CSV.
"""
_EXAMPLES = """\
examples:
  dft fairness counts.csv --groups woman,man --by occupation --json
  dft fairness counts.csv --groups woman,man --by job --target woman=0.47,man=0.53
  dft fairness tones.csv --groups light,medium,dark --by prompt --ordered
  dft fairness all.csv --groups woman,man --by job --where model=base --seeds seed
  dft fairness shares.csv --groups male --rest female --by Profession
  dft fairness images.csv --groups woman,man --by prompt --answer perceived_gender
  dft fairness origin.csv --groups '"Asian, East","Asian, South",Black' --by job

"""


def _pair(text: str) -> tuple[str, str]:
    column, sign, value = text.partition("=")
    if not sign or not column:
        raise argparse.ArgumentTypeError(f"{text!r}: write COLUMN=VALUE")
    return column.strip(), value.strip()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description, parser.epilog = _DESCRIPTION, _EXAMPLES + metrics_as_text()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("csv", type=Path, metavar="COUNTS.csv", help="a row per prompt; other columns are ignored")
    add("--groups", required=True, metavar="A,B", help="the columns of all groups of the schema")
    add("--by", required=True, metavar="COLUMN", help="the prompt; its rows are added up")
    add("--target", metavar="A=.5,B=.5", help="the distribution called fair (default: uniform)")
    ordered = ", ".join(m.name for m in METRICS.values() if m.ordered)
    of_group = ", ".join(m.name for m in METRICS.values() if m.of_group)
    add("--ordered", action="store_true", help=f"the groups are ordered: add {ordered}")
    add("--delta-group", metavar="A", help=f"the group of {of_group} (default: the first)")
    add("--answer", metavar="COLUMN", help="for a row per image: the column of its group")
    add("--seeds", metavar="COLUMN", help="training seed: resampled as well as prompts")
    add("--where", type=_pair, action="append", default=[], metavar="COLUMN=VALUE",
        help="read only rows with this value (may be repeated)")  # fmt: skip
    add("--rest", metavar="NAME", help="for shares: a group that gets what is left to 1")
    add("--images", type=int, metavar="N", help="for shares: of how many images, per prompt")
    add("--draws", type=int, default=10_000, metavar="N", help="bootstrap resamples (%(default)s)")
    add("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> str:
    """Return what the command prints."""
    if arguments.draws < 100:
        raise ValueError("--draws: at least 100 resamples are needed for a 95 % interval")
    if arguments.images is not None and arguments.images < 1:
        raise ValueError("--images must be 1 or more")
    if len(dict(arguments.where)) < len(arguments.where):
        raise ValueError("--where: one value per column; filter the file for more")
    groups = [g for g in split_names(arguments.groups) if g]
    counts = read_counts(
        arguments.csv, groups, arguments.by, seeds=arguments.seeds, where=dict(arguments.where),
        rest=arguments.rest, images=arguments.images, answer=arguments.answer,
    )  # fmt: skip
    group = arguments.delta_group
    if group is not None:
        group = next((g for g in (clean(group), *split_names(group)) if g in counts.groups), None)
        if group is None:
            raise ValueError(
                f"--delta-group {arguments.delta_group!r} is not among {', '.join(counts.groups)}"
            )
    report = fairness_report(
        counts, parse_target(arguments.target, counts.groups), ordered=arguments.ordered,
        group=group, draws=arguments.draws,
    )  # fmt: skip
    if not arguments.json:
        return as_table(report)
    return json.dumps(report, indent=2, allow_nan=False).replace("\x7f", "\\u007f")
