"""Build the emoji world step by step: ``python -m dft_lib.world.build STEP``.

Steps, in order: ``corpus``, ``autoencoder``, ``raters``, ``tiny_sd``, ``report``: the files of
`dft_lib.world.steps`. Each reads what the earlier ones left in ``world/build/`` and resumes its
own training from a checkpoint there; nothing outside that folder changes. ``publish`` then copies
model and raters to ``data/`` and the report to ``world/results/``, which git tracks and the study
reads.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
from importlib import import_module

import torch

from dft_lib.repro import workspace
from dft_lib.repro.paths import DATA, WORLD, enter
from dft_lib.world import settings, stored

STEPS = ("corpus", "autoencoder", "raters", "tiny_sd", "report")


def publish() -> None:
    """Copy what the study uses to ``data/``, and the report, file by file, to git's folder."""
    for name in ("tiny-sd", "raters"):
        workspace.replace(stored.BUILD / name, DATA / name)
    for path in sorted((stored.BUILD / "report").iterdir()):
        shutil.copyfile(path, WORLD / "results" / path.name)


def main() -> None:
    """Run one step, or publish."""
    enter()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=(*STEPS, "publish"))
    step = parser.parse_args().step
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(os.cpu_count() or 1)
    if step == "publish":
        publish()
    else:
        import_module(f"dft_lib.world.steps.{step}").run(settings.load())


if __name__ == "__main__":
    main()
