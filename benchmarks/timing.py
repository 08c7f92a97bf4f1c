"""Clocks, machines and tables that the speed benchmarks share."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import psutil
import torch

BAR = re.compile(r"(?:Steps|training):\s[^\r\n]*?(\d+)/(\d+) \[")


def machine() -> dict[str, str]:
    """Say what this was measured on."""
    name = f"{os.cpu_count()} CPUs, {platform.processor() or platform.machine()}"
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"model name\s*: (.*)", info.read_text())):
        name = f"{os.cpu_count()} CPUs, {found[1]}"
    if torch.cuda.is_available():
        name = f"{torch.cuda.get_device_name()}, {name}"
    return {
        "machine": name, "date": time.strftime("%Y-%m-%d"), "torch": torch.__version__,
        "diffusers": diffusers.__version__, "python": platform.python_version(),
    }  # fmt: skip


def _used(process: psutil.Process, gpu: bool) -> float:
    """Return the memory in use, GiB: of the GPU, or of a process and its children."""
    if gpu:
        text = subprocess.run(
            ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"],
            capture_output=True, text=True,
        ).stdout.split()  # fmt: skip
        return int(text[0]) / 1024 if text else 0.0
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**30


def watch(command: list[str], *, warm: int, environment: dict[str, str]) -> dict[str, float]:
    """Run a training command and clock the progress bar that it prints, whoever wrote it.

    Returns
    -------
    dict
        ``first``: seconds from start to the end of step 1; ``step``: seconds per step after
        `warm` steps; ``whole``: seconds in all; ``memory``: most GiB in use.

    Raises
    ------
    RuntimeError
        If the command fails.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **environment},
    )  # fmt: skip
    times: dict[int, float] = {}
    most, text, done = [0.0], "", threading.Event()
    gpu = torch.cuda.is_available() and shutil.which("nvidia-smi") is not None

    def measure() -> None:
        while not done.wait(0.3):
            try:
                most[0] = max(most[0], _used(psutil.Process(process.pid), gpu))
            except psutil.NoSuchProcess:
                return

    threading.Thread(target=measure, daemon=True).start()
    assert process.stderr is not None
    total, tail = 0, ""
    while block := os.read(process.stderr.fileno(), 65536):
        now = time.perf_counter() - start
        text = (text + block.decode(errors="replace"))[-4000:]
        tail = text
        for at, of in BAR.findall(text):
            total = max(total, int(of))
            times.setdefault(int(at), now)
    whole = time.perf_counter() - start
    done.set()
    if process.wait():
        raise RuntimeError(f"{' '.join(command)}\n{tail}")
    seen = sorted(k for k in times if k >= warm)
    if len(seen) < 2:
        raise RuntimeError(f"no progress bar was seen: {' '.join(command)}\n{tail}")
    return {
        "first": min(times[k] for k in times if k > 0),
        "step": (times[seen[-1]] - times[seen[0]]) / (seen[-1] - seen[0]),
        "whole": whole, "memory": most[0],
    }  # fmt: skip


def ratio(ours: list[float], other: list[float]) -> dict[str, float]:
    """Return how many times faster ours is, with a 95 % interval.

    Seconds of blocks that ran one after the other; blocks are resampled in pairs.
    """
    mine, theirs = np.array(ours), np.array(other)
    picks = np.random.default_rng(0).integers(0, len(mine), (2000, len(mine)))
    draws = np.median(theirs[picks], 1) / np.median(mine[picks], 1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": statistics.median(other) / statistics.median(ours),
            "low": float(low), "high": float(high)}  # fmt: skip


def interleaved(arms: list[str], rounds: int) -> list[str]:
    """Return the order of blocks: there and back again, so that a drift hits all alike."""
    order: list[str] = []
    for number in range(rounds):
        order += arms if number % 2 == 0 else arms[::-1]
    return order


def report(rows: list[dict[str, Any]], about: dict[str, Any], out: Path | None) -> None:
    """Print a table, and write it as JSON."""
    columns = list(dict.fromkeys(k for row in rows for k in row))
    cells = [[_shown(row.get(c)) for c in columns] for row in rows]
    print("\n" + " | ".join(columns) + "\n" + " | ".join("---" for _ in columns))
    for line in cells:
        print(" | ".join(line))
    print("; ".join(f"{k} {v}" for k, v in about.items()))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n", "utf-8")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"
    return f"{value:.3g}" if isinstance(value, float) else str("" if value is None else value)


def python() -> str:
    """Return this interpreter."""
    return sys.executable
