"""``dft deps``: why the next ``dvc repro`` will run which stages."""

from __future__ import annotations

import argparse

from dft_lib.repro.paths import require_own_tree
from dft_lib.runner.deps import explain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("stage", nargs="?", help="a stage, e.g. finetune@dft; by default all")


def run(arguments: argparse.Namespace) -> str:
    """Return what the command prints.

    Raises
    ------
    ValueError
        With one sentence, in another work tree than this library's, or if a module is missing.
    """
    require_own_tree()
    try:
        return explain(arguments.stage)
    except ImportError as error:
        raise ValueError(str(error)) from error
