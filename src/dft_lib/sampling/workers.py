"""Who does the work: this process, or the workers of a Ray cluster.

Both engines make the same bytes. A worker gets the recorded number of CPU threads (Ray's own
default of one thread would change them), makes whole shards, and writes them itself under a
temporary name that is renamed, so that a worker that dies leaves nothing behind and its shard is
made again elsewhere. No picture travels to the driver.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from dft_lib.study.base import Base

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
    def of(cls, base: Base) -> Engine:
        """Take the engine out of the parameter group ``base``."""
        return cls(base.engine, base.workers, base.threads, base.device)


class Stage(NamedTuple):
    """What is done to a shard: a function that loads whatever is needed, and where it runs.

    What it returns takes a shard's number. Both are sent to workers: no large objects in them.
    """

    open: Callable[[], Callable[[int], int]]
    on_gpu: bool


@contextmanager
def bar(label: str, unit: str, total: int, done: int) -> Iterator[Callable[[int], Any]]:
    """Show a progress bar that starts at what is done already."""
    with tqdm(total=total, initial=done, desc=label, unit=unit) as shown:
        yield shown.update


def run_on_ray(stages: Sequence[Stage], todo: list[int], engine: Engine) -> Iterator[int]:
    """Pass shards through stages on Ray; yield their numbers as they come out of the last one.

    Stages work at the same time: one shard is rated while the next is drawn. An address in
    ``RAY_ADDRESS`` names a running cluster; otherwise Ray starts on this machine. A worker that
    dies is replaced, and what it was doing is done again.

    Parameters
    ----------
    stages : sequence of Stage
        What happens to a shard, in order.
    todo : list of int
        Numbers of the shards.
    engine : Engine
        How many workers each stage gets.

    Raises
    ------
    ValueError
        If Ray is not installed.
    """
    # Ray Data logs an error about itself at every start (ray-project/ray issue 53727)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
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
    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        numbers = ray.data.from_items(todo, override_num_blocks=len(todo))
        for stage in stages:
            numbers = numbers.map_batches(
                _Worker,
                fn_constructor_args=(stage.open, engine.threads),
                batch_size=1,
                num_cpus=engine.threads,
                num_gpus=int(stage.on_gpu and with_gpu),
                compute=ActorPoolStrategy(size=engine.workers, max_tasks_in_flight_per_actor=1),
            )
        for row in numbers.iter_rows():
            yield int(row["item"])
    finally:
        if started:
            ray.shutdown()


class _Worker:
    """One Ray actor: does one stage's work on shard after shard."""

    def __init__(self, open_stage: Callable[[], Callable[[int], int]], threads: int) -> None:
        torch.set_num_threads(threads)
        self.work = open_stage()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for number in batch["item"]:
            self.work(int(number))
        return batch
