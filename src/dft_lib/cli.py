"""The command ``dft``: the parts of the library that need no notebook."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dft_lib.fairness.counts import parse_target, read_counts
from dft_lib.fairness.files.reading import clean, split_names, visible
from dft_lib.fairness.metrics import METRICS
from dft_lib.fairness.report import fairness_report
from dft_lib.fairness.table import as_table, metrics_as_markdown, metrics_as_text

_FAIRNESS = """\
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
_START, _END = "<!-- dft metrics -->", "<!-- end of dft metrics -->"


def _pair(text: str) -> tuple[str, str]:
    column, sign, value = text.partition("=")
    if not sign or not column:
        raise argparse.ArgumentTypeError(f"{text!r}: write COLUMN=VALUE")
    return column.strip(), value.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dft", description="Diversity fine-tuning: measuring tools for the command line."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    fairness_ = commands.add_parser(
        "fairness", help="metrics, intervals and noise floors of counts in a CSV",
        description=_FAIRNESS, epilog=_EXAMPLES + metrics_as_text(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = fairness_.add_argument
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
    fairness_.set_defaults(run=fairness)
    listing = commands.add_parser("metrics", help="the list of metrics, as Markdown")
    listing.add_argument(
        "--write", type=Path, metavar="FILE.md", help="put it between the marks in FILE"
    )
    listing.set_defaults(run=metrics)
    export_ = commands.add_parser(
        "export", help="a trained LoRA for ComfyUI and AUTOMATIC1111's web UI",
        description="Write the LoRA of one trained model under the names that ComfyUI, "
        "AUTOMATIC1111's web UI and kohya's scripts read. (Stock diffusers reads the folder.)",
    )  # fmt: skip
    export_.add_argument("model", type=Path, help="the model's folder, e.g. models/dft/seed-0")
    export_.add_argument("out", type=Path, metavar="OUT.safetensors", help="the file to write")
    export_.set_defaults(run=export)
    deps_ = commands.add_parser("deps", help="why the next `dvc repro` will run which stages")
    deps_.add_argument("stage", nargs="?", help="a stage, e.g. finetune@dft; by default all")
    deps_.set_defaults(run=deps)
    return parser


def fairness(arguments: argparse.Namespace) -> str:
    """Run ``dft fairness`` and return what it prints."""
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


def metrics(arguments: argparse.Namespace) -> str:
    """Run ``dft metrics`` and return what it prints."""
    if arguments.write is None:
        return metrics_as_markdown().rstrip()
    before, start, rest = arguments.write.read_text(encoding="utf-8").partition(_START)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"{arguments.write} lacks the lines {_START} and {_END}")
    text = f"{before}{start}\n\n{metrics_as_markdown()}\n{end}{after}"
    arguments.write.write_text(text, encoding="utf-8")
    return f"{arguments.write}: {len(METRICS)} metrics"


def export(arguments: argparse.Namespace) -> str:
    """Run ``dft export`` and return what it prints."""
    from dft_lib.models import adapters  # imports torch: seconds

    if arguments.out.suffix != ".safetensors":
        raise ValueError(f"{arguments.out}: the name of the file must end in .safetensors")
    return f"wrote {adapters.export(arguments.model, arguments.out)}"


def deps(arguments: argparse.Namespace) -> str:
    """Run ``dft deps`` and return what it prints."""
    from dft_lib.runner.deps import explain  # other commands need no source tree

    return explain(arguments.stage)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; a mistake in its input ends in one sentence and exit status 1."""
    arguments = _parser().parse_args(argv)
    try:
        print(arguments.run(arguments), flush=True)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except MemoryError:
        sys.exit(f"dft {arguments.command}: too many prompts for the memory: lower --draws")
    except (ValueError, OSError) as error:
        sys.exit(f"dft {arguments.command}: {visible(str(error))}")


if __name__ == "__main__":
    main()
