"""Several processes for one training: ``accelerate launch -m dft_lib.training.launch MODEL.json``.

Notebook 03 does that by itself where ``finetune.processes`` is above 1: it holds the work folder,
encodes the latents, starts accelerate, waits, and publishes what the first process wrote.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from dft_lib.models import pipelines
from dft_lib.repro import workspace
from dft_lib.repro.files import write_text
from dft_lib.repro.paths import enter
from dft_lib.study.arms import ArmTraining, part
from dft_lib.study.base import Base
from dft_lib.study.training import Finetune
from dft_lib.training import parallel
from dft_lib.training.model import Model, fit


def command(path: Path, processes: int, threads: int) -> list[str]:
    """Return the command that starts `processes` on this host."""
    # --multi_gpu starts processes of torch.distributed, with GPUs or without
    return [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1",
        "--num_processes", str(processes), "--mixed_precision", "no", "--dynamo_backend", "no",
        "--main_process_port", "0", "--num_cpu_threads_per_process", str(threads),
        "-m", "dft_lib.training.launch", str(path),
    ]  # fmt: skip


def described(one: Model) -> dict[str, Any]:
    """Return what the processes are told, as JSON values."""
    return {
        "base": one.base.model_dump(), "settings": one.settings.model_dump(), "name": one.name,
        "arm": part(one.arm, ArmTraining), "seed": one.seed, "scratch": str(one.scratch),
        "out": str(one.out), "owner": workspace.me(),
    }  # fmt: skip


def launch(one: Model) -> None:
    """Make one model in several processes; return when it is written.

    Raises
    ------
    RuntimeError
        If a process failed; what was checkpointed is gone on from by the next run.
    """
    path = one.scratch / "model.json"
    # in their order, which is the groups' order: sorted, they would no longer fit the lexicon
    write_text(path, json.dumps(described(one)))
    torch.cuda.empty_cache()  # encoding latents took memory of the first GPU
    processes = one.settings.processes
    done = subprocess.run(command(path, processes, one.base.threads))
    if done.returncode:
        raise RuntimeError(
            f"training on {processes} processes ended with status {done.returncode}: see the "
            "error above; the next run goes on from the last checkpoint"
        )


def main() -> None:
    """Take part in making one model."""
    enter()
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    one = Model(
        Base.model_validate(given["base"]), Finetune.model_validate(given["settings"]),
        given["name"], ArmTraining.model_validate(given["arm"]), given["seed"],
        Path(given["scratch"]), Path(given["out"]),
    )  # fmt: skip
    device, _ = pipelines.choose_device(one.base.device, one.base.dtype)
    state = PartialState(cpu=device.type == "cpu")
    pipelines.start(one.base.threads, one.base.device, one.base.dtype)
    with workspace.ends_with(given["owner"]):
        fit(one, writes=parallel.world()[0] == 0)
    state.wait_for_everyone()
    state.destroy_process_group()


if __name__ == "__main__":
    main()
