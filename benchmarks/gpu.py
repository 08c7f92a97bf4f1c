"""Everything that is to be measured on a GPU, in one command.

    python benchmarks/gpu.py --peers PATH/examples/text_to_image

SD 1.5- and SDXL-size models with random weights (parameter counts asserted): LoRA and full
fine-tuning beside diffusers' scripts, generation beside the stock pipeline. Tables on the
terminal, JSON in ``benchmarks/results/``. About an hour and 30 GB of disk on an H100 (estimate);
``--small`` tries the command out on any machine in minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import generation
import timing
import torch
import training

from dft_lib.repro.paths import ROOT

# images/s on one H100: aims (docs/scaling.md)
AIMS = {("sd15", "lora"): 115.0, ("sdxl", "lora"): 21.0, ("sd15", "draw"): 5.8,
        ("sdxl", "draw"): 0.83}  # fmt: skip
SCRIPTS = {
    ("sd15", "lora"): "train_text_to_image_lora.py", ("sd15", "full"): "train_text_to_image.py",
    ("sdxl", "lora"): "train_text_to_image_lora_sdxl.py",
    ("sdxl", "full"): "train_text_to_image_sdxl.py",
}  # fmt: skip
BATCH = {("sd15", "lora"): 32, ("sd15", "full"): 16, ("sdxl", "lora"): 8, ("sdxl", "full"): 4,
         ("sd15", "draw"): 32,
         ("sdxl", "draw"): 8}  # fmt: skip
FLAGS = "--mixed_precision bf16 --allow_tf32 --dataloader_num_workers 8"


def ceiling(side: int = 8192, rounds: int = 20) -> float:
    """Return the TFLOP/s of large bf16 matrix products on random data."""
    kind = {"device": "cuda", "dtype": torch.bfloat16} if torch.cuda.is_available() else {}
    side = side if kind else 512
    one, other = torch.randn(side, side, **kind), torch.randn(side, side, **kind)
    for part in (3, rounds):
        start = time.perf_counter()
        for _ in range(part):
            one @ other
        if kind:
            torch.cuda.synchronize()
    return 2 * side**3 * rounds / (time.perf_counter() - start) / 1e12


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--peers", type=Path, help="folder with diffusers' training scripts")
    add("--peer-site", type=Path, help="folder with packages that only the peers need")
    add("--small", action="store_true", help="small models, few steps: does the command run?")
    add("--rounds", type=int, default=5)
    add("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    small = "-small" if arguments.small else ""
    print(f"large matrix products: {ceiling():.1f} TFLOP/s on {timing.machine()['machine']}")
    short = ["--steps", "14", "--rounds", "1", "--pictures-count", "16"] if small else [
        "--steps", "110", "--rounds", str(arguments.rounds)]  # fmt: skip
    reached = {}
    for (size, method), script in SCRIPTS.items():
        given = ["--size", size + small, "--method", method, *short, "--folder",
                 str(Path(tempfile.gettempdir()) / "dft-gpu"), "--out",
                 str(arguments.out / f"training-{size}{small}-{method}.json"),
                 "--batch", "4" if small else str(BATCH[size, method])]  # fmt: skip
        if arguments.peers:
            given += ["--peer", str(arguments.peers / script)]
        if arguments.peer_site:
            given += ["--peer-site", str(arguments.peer_site)]
        if torch.cuda.is_available():
            given += ["--launch=--mixed_precision bf16 --num_processes 1", f"--flags={FLAGS}",
                      "--compile"]  # fmt: skip
        reached[size, method] = training.main(given)[0]["images/s"]
    for size, steps, guidance in (("sd15", 25, 7.5), ("sdxl", 30, 5.0)):
        images = 4 if small else 4 * BATCH[size, "draw"]
        given = ["--size", size + small, "--steps", "2" if small else str(steps), "--guidance",
                 str(guidance), "--scheduler", "dpmsolver++", "--images", str(images), "--rounds",
                 "1" if small else str(arguments.rounds), "--batch",
                 "4" if small else str(BATCH[size, "draw"]), "--folder",
                 str(Path(tempfile.gettempdir()) / "dft-gpu"), "--out",
                 str(arguments.out / f"generation-{size}{small}.json")]  # fmt: skip
        given += ["--compile"] if torch.cuda.is_available() else []
        reached[size, "draw"] = generation.main(given)[0]["images/s"]
    if not small:
        for key, aim in AIMS.items():
            print(f"{' '.join(key)}: {reached[key]:.2f} images/s (aim on an H100: {aim})")


if __name__ == "__main__":
    main()
