"""``dft export``: a trained LoRA for ComfyUI and AUTOMATIC1111's web UI."""

from __future__ import annotations

import argparse
from pathlib import Path

from dft_lib.models import adapters

_DESCRIPTION = (
    "Write the LoRA of one trained model under the names that ComfyUI, AUTOMATIC1111's web UI and "
    "kohya's scripts read. (Stock diffusers reads the folder.)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = _DESCRIPTION
    parser.add_argument("model", type=Path, help="the model's folder, e.g. models/dft/seed-0")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors", help="the file to write")


def run(arguments: argparse.Namespace) -> str:
    """Return what the command prints."""
    if arguments.out.suffix != ".safetensors":
        raise ValueError(f"{arguments.out}: the name of the file must end in .safetensors")
    return f"wrote {adapters.export(arguments.model, arguments.out)}"
