"""The command ``dft``: the parts of the library that need no notebook.

A command is a module of this package with `add_arguments` and `run`, and a line in `COMMANDS`.
Only the module that is asked for is imported: `deps` shall not wait for what `export` loads.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from dft_lib.fairness.files.reading import visible

COMMANDS = {
    "fairness": "metrics, intervals and noise floors of counts in a CSV",
    "metrics": "the list of metrics, as Markdown",
    "export": "a trained LoRA for ComfyUI and AUTOMATIC1111's web UI",
    "deps": "why the next `dvc repro` will run which stages",
}


def _parser(asked: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dft", description="Diversity fine-tuning: measuring tools for the command line."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name == asked:
            module = import_module(f"dft_lib.cli.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; a mistake in its input ends in one sentence and exit status 1."""
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser(words[0] if words else None).parse_args(words)
    try:
        print(arguments.run(arguments), flush=True)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except MemoryError:
        sys.exit(f"dft {arguments.command}: too many prompts for the memory: lower --draws")
    except (ValueError, OSError) as error:
        sys.exit(f"dft {arguments.command}: {visible(str(error))}")
