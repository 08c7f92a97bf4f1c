"""Who does the work: this process, or the workers of a Ray cluster.

Both engines make the same bytes. A worker gets the recorded number of CPU threads (Ray's own
default of one thread would change them), makes whole shards, and writes them itself under a
temporary name that is renamed, so that a worker that dies leaves nothing behind and its shard is
made again elsewhere. No picture travels to the driver.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

_PASSED_ON = ("PYTHONPATH", "HF_", "TRANSFORMERS_", "MALLOC_", "CUDA_HOME", "DFT_")


@dataclass(frozen=True)
class Engine:
    """Where shards are made.

    Attributes
    ----------
    name : {"process", "ray"}
        This process, or Ray Data.
    workers : int
        How many draw at the same time; with GPUs, one GPU each.
    threads : int
        CPU threads of each.
    device : {"auto", "cpu", "cuda"}
        Where they draw.
    """

    name: str
    workers: int
    threads: int
    device: str

    @classmethod
    def of(cls, base: Any) -> Engine:
        """Take the engine out of the parameter group ``base``."""
        return cls(base.engine, base.workers, base.threads, base.device)


@contextmanager
def bar(label: str, unit: str, total: int, done: int) -> Iterator[Callable[[int], Any]]:
    """Show a progress bar that starts at what is done already."""
    with tqdm(total=total, initial=done, desc=label, unit=unit) as shown:
        yield shown.update


def run_on_ray(
    drawing: Any, todo: list[int], engine: Engine, artist: type, critic: type
) -> Iterator[int]:
    """Make shards on Ray, rating one while the next is drawn; yield their numbers as they end.

    An address in ``RAY_ADDRESS`` names a running cluster; otherwise Ray starts on this machine.

    Raises
    ------
    ValueError
        If Ray is not installed.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy, DataContext
    except ImportError as error:
        raise ValueError(
            "base.engine is ray, but Ray is not installed: `make ray`, or make engine process"
        ) from error
    started = not ray.is_initialized()
    if started:
        variables = {k: v for k, v in os.environ.items() if k.startswith(_PASSED_ON)}
        variables |= {"OMP_NUM_THREADS": str(engine.threads)}
        here = {} if os.environ.get("RAY_ADDRESS") else {
            # CPUs are counted, not measured: enough for every artist and its critic
            "num_cpus": 2 * engine.workers * engine.threads, "include_dashboard": False,
        }  # fmt: skip
        ray.init(runtime_env={"env_vars": variables}, logging_level="ERROR",
                 log_to_driver=False, **here)  # fmt: skip
    with_gpu = engine.device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
    context = DataContext.get_current()
    context.enable_progress_bars = False
    try:
        shared = ray.put(drawing)
        numbers = ray.data.from_items(todo, override_num_blocks=len(todo))
        stages = [(artist, int(with_gpu))] + ([(critic, 0)] if drawing.open_rating else [])
        for stage, gpu in stages:
            numbers = numbers.map_batches(
                _Worker, fn_constructor_args=(stage, shared, engine.threads),
                batch_size=1,
                num_cpus=engine.threads, num_gpus=gpu,
                compute=ActorPoolStrategy(size=engine.workers, max_tasks_in_flight_per_actor=1),
            )  # fmt: skip
        for row in numbers.iter_rows():
            yield int(row["item"])
    finally:
        if started:
            ray.shutdown()


class _Worker:
    """One Ray actor: an artist or a critic."""

    def __init__(self, kind: Callable[[Any], Any], shared: Any, threads: int) -> None:
        import ray

        torch.set_num_threads(threads)
        self.worker = kind(ray.get(shared))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for number in batch["item"]:
            self.worker.shard(int(number))
        return batch
