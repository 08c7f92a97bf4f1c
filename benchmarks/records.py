"""A hundred thousand records through synthesis: memory, a kill -9, a restart, verification.

    python benchmarks/records.py [--records 100000] [--images-per-cell 57]

A model of Stable Diffusion 1.5's structure with a few thousand weights draws 64 x 64 noise in one
step, so what is measured is everything but the model: expanding the grid, noise, records, PNG,
shards, rating (a stub), resuming. The grid is the photograph lexicon's. Half-way the drawing
process is killed, then started again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import fixture
import pandas as pd
import psutil
import timing
import torch

from dft_lib.repro import shards
from dft_lib.repro.files import write_table
from dft_lib.repro.paths import ROOT
from dft_lib.sampling import drawing
from dft_lib.study import lexicon, prompts
from dft_lib.study.params import whole

BATCH, SHARD = 128, 1024


def rating() -> drawing.Rate:
    """Return a stub of a panel."""
    return lambda pictures: pd.DataFrame({"rated_mean": pictures.mean((1, 2, 3)).round(3)})


def drawing_of(folder: Path, model: Path) -> drawing.Drawing:
    """Return what is drawn."""
    base = whole.load(ROOT / "params.yaml").base.model_copy(
        update={"batch_size": BATCH, "num_inference_steps": 1, "study_seed": 0}
    )
    torch.set_num_threads(base.threads)
    grid = pd.read_parquet(folder / "grid.parquet")
    images = int(grid["images"].sum())
    return drawing.Drawing(
        partial(drawing.open_model, base, str(model), images=images), grid,
        folder / "shards", SHARD, {"arm": ""}, rating, folder / "ratings",
    )  # fmt: skip


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--records", type=int, default=100_000)
    add("--images-per-cell", type=int, default=57)
    add("--folder", type=Path, help="work folder (default: a temporary one)")
    add("--out", type=Path)
    add("--draw", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    model = fixture.model("sd15-small", folder, torch.float32)
    if arguments.draw:
        drawing.draw_shards(drawing_of(folder, model))
        return
    start = time.perf_counter()
    settings = whole.load_profile("sd15").prompts.model_copy(
        update={"images_per_cell": arguments.images_per_cell}
    )
    grid = prompts.training_grid(lexicon.load("lexicon_photos"), settings, ["gender", "skin_tone"])
    grid = grid[grid["images"].cumsum() <= arguments.records].reset_index(drop=True)
    write_table(folder / "grid.parquet", grid)
    total = int(grid["images"].sum())
    made = time.perf_counter() - start
    command = [sys.executable, __file__, "--draw", "--folder", str(folder)]
    memory: list[tuple[int, float]] = []
    seconds = []
    for run in (1, 2):
        start = time.perf_counter()
        process = psutil.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        before, first = len(list((folder / "shards").glob("*.parquet"))), None
        while process.poll() is None:
            time.sleep(0.5)
            count = len(list((folder / "shards").glob("*.parquet")))
            if first is None and count > before:
                first = time.perf_counter() - start
            memory.append(
                (count, process.memory_info().rss / 2**20 if process.is_running() else 0)
            )
            if run == 1 and count * SHARD > total / 2:
                process.send_signal(signal.SIGKILL)
                process.wait()
        seconds.append((time.perf_counter() - start, first))
    start = time.perf_counter()
    digest, images = hashlib.sha256(), 0
    paths = shards.files(folder / "shards")
    for path in paths:
        pictures, records = shards.read(path)  # every picture against its checksum
        images += len(pictures)
        digest.update("".join(records["sha256"]).encode())
    verified = time.perf_counter() - start
    assert images == total, (images, total)
    task = drawing_of(folder, model)
    start = time.perf_counter()
    assert task.todo() == []
    nothing = time.perf_counter() - start
    start = time.perf_counter()
    index = drawing.read_ratings(task)
    read = time.perf_counter() - start
    assert len(index) == total and index["rated_mean"].notna().all()
    steady = [m for count, m in memory if count >= 3 and m > 0]
    fifth = max(len(steady) // 5, 1)
    result = timing.machine() | {
        "records": total, "shards": len(paths), "prompts": len(grid), "grid_s": round(made, 1),
        "seconds_to_the_kill": round(seconds[0][0], 1),
        "seconds_after_it": round(seconds[1][0], 1),
        "restart_to_first_new_shard_s": round(seconds[1][1] or 0, 1),
        "finding_nothing_to_do_s": round(nothing, 2), "reading_the_index_s": round(read, 1),
        "memory_MiB_first_fifth": round(max(steady[:fifth])),
        "memory_MiB_last_fifth": round(max(steady[-fifth:])),
        "verified_s": round(verified, 1), "store_MiB": round(
            sum(p.stat().st_size for p in paths) / 2**20),
        "sha256": digest.hexdigest()[:16],
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
