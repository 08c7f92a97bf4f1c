"""Prompt grid to image shards: draw, record, rate, and never do the same shard twice.

The unit of work is a shard: a pure function of grid, settings and shard number. It does not
matter which worker makes it or when, so the engines (`dft_lib.sampling.workers`) may do as they
like.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from dft_lib.models import adapters, pipelines
from dft_lib.repro import seals, shards
from dft_lib.repro.files import write_table
from dft_lib.sampling import workers
from dft_lib.sampling.plan import Planner
from dft_lib.sampling.sampler import Sampler, SamplingSettings
from dft_lib.sampling.workers import Engine, Stage
from dft_lib.study import prompts
from dft_lib.study.base import Base

Rate = Callable[[np.ndarray], pd.DataFrame]


@dataclass(frozen=True)
class Drawing:
    """What is to be drawn and rated; sent as it is to every worker.

    Attributes
    ----------
    open_sampler : callable
        Loads what draws: the model, with adapters and intervention.
    grid : pandas.DataFrame
        From `dft_lib.study.prompts`.
    folder : pathlib.Path
        Where the shards go; belongs to this grid and these settings alone. Several machines must
        see it under the same path.
    shard_size : int
        Images per shard, a multiple of the batch size, so that a shard's bytes depend on nothing
        outside it.
    about : dict
        Fields added to every record (model, arm); how the images are drawn is added here.
    open_rating : callable, optional
        Loads raters; returns a function from pictures to one row of answers per picture.
    ratings : pathlib.Path, optional
        Where those answers go, a file per shard, and the seals of both (`dft_lib.repro.seals`).
    attributes : tuple of str
        What an intervention may have drawn: a column ``drawn_...`` each, "" if nothing.
    """

    open_sampler: Callable[[], Sampler]
    grid: pd.DataFrame
    folder: Path
    shard_size: int
    about: dict[str, Any]
    open_rating: Callable[[], Rate] | None = None
    ratings: Path | None = None
    attributes: tuple[str, ...] = ()

    def slices(self) -> list[slice]:
        """Return which images are in which shard."""
        return list(shards.slices(int(self.grid["images"].sum()), self.shard_size))

    def path(self, number: int) -> Path:
        """Return a shard's file."""
        return self.folder / f"shard-{number:05d}.parquet"

    def rated(self, number: int) -> Path:
        """Return the file of a shard's ratings."""
        return (self.ratings or self.folder) / f"rated-{number:05d}.parquet"

    def seal(self, number: int, kind: str) -> Path:
        """Return the file of a shard's, or its ratings', checksum."""
        return (self.ratings or self.folder) / f"{kind}-{number:05d}.sha256"

    def drawn(self, number: int) -> bool:
        """Say whether a shard is there as it was written; a damaged one is drawn again."""
        path, part = self.path(number), self.slices()[number]
        whole = seals.intact(self.seal(number, "shard"), path)
        return whole and shards.count(path) == part.stop - part.start

    def judged(self, number: int) -> bool:
        """Say whether a shard's ratings are there as they were written, for this very shard."""
        if not self.rated(number).exists():
            return False
        return seals.intact(self.seal(number, "rated"), self.rated(number), self.path(number))

    def todo(self) -> list[int]:
        """List the shards that are not drawn, or not rated. Reads every file there is."""
        return [
            number
            for number in range(len(self.slices()))
            if not self.drawn(number) or (self.open_rating is not None and not self.judged(number))
        ]


class Artist:
    """Draws shards; loads its model when there is a first one to draw."""

    def __init__(self, drawing: Drawing) -> None:
        self.drawing, self.parts = drawing, drawing.slices()
        self._sampler: Sampler | None = None

    @property
    def sampler(self) -> Sampler:
        """What draws.

        Raises
        ------
        ValueError
            If the shard size is no multiple of its batch size.
        """
        if self._sampler is None:
            self._sampler = self.drawing.open_sampler()
            size, wanted = self._sampler.settings.batch_size, self.drawing.shard_size
            if wanted % size:
                raise ValueError(
                    f"shard_size {wanted} is not a multiple of base.batch_size {size}; make it one"
                )
        return self._sampler

    def draw(self, number: int) -> tuple[np.ndarray, pd.DataFrame]:
        """Draw a shard; return its pictures and records."""
        sampler = self.sampler
        listed, records = prompts.requests(self.drawing.grid, self.parts[number])
        plans = [sampler.plan(request) for request in listed]
        records = records.assign(
            **self.drawing.about,
            drawn_prompt=[plan.prompt for plan in plans],
            **{f"drawn_{a}": [p.drawn.get(a, "") for p in plans] for a in self.drawing.attributes},
            **asdict(sampler.settings),
            threads=torch.get_num_threads(),
            device=sampler.pipeline.device.type,
            dtype=str(sampler.pipeline.unet.dtype).removeprefix("torch."),
        )
        drawn = np.concatenate([pictures for _, pictures in sampler.draw(listed)])
        # laid out as a shard's pictures are when read: raters' last bits depend on the layout
        return np.ascontiguousarray(drawn), records

    def shard(self, number: int) -> int:
        """Draw and write a shard that is not there; return its number."""
        if not self.drawing.drawn(number):
            self.write(number, *self.draw(number))
        return number

    def write(self, number: int, pictures: np.ndarray, records: pd.DataFrame) -> None:
        """Write a shard that was drawn, and its seal."""
        path = self.drawing.path(number)
        shards.write(path, pictures, records)
        seals.seal(self.drawing.seal(number, "shard"), path)


class Critic:
    """Rates shards."""

    def __init__(self, drawing: Drawing) -> None:
        assert drawing.open_rating is not None
        self.drawing = drawing
        self.rate = drawing.open_rating()

    def shard(self, number: int, pictures: np.ndarray | None = None) -> int:
        """Rate a shard and write the answers; pictures, if given, need not be read."""
        shard, rated = self.drawing.path(number), self.drawing.rated(number)
        if not self.drawing.judged(number):
            if pictures is None:
                pictures, _ = shards.read(shard)
            write_table(rated, self.rate(pictures))
            seals.seal(self.drawing.seal(number, "rated"), rated, shard)
        return number


def open_model(
    base: Base, model: str, *, images: int, adapter: Path | None = None,
    intervention: Planner | None = None,
) -> Sampler:  # fmt: skip
    """Load what draws; `images` is how many all workers together are going to draw."""
    pipeline = pipelines.load(model, device=base.device, dtype=base.dtype)
    if adapter is not None:
        adapters.load(pipeline, adapter)
    pipelines.tune(
        pipeline, channels_last=base.channels_last, compile_above=base.compile_above,
        images=images // base.workers,
    )  # fmt: skip
    return Sampler(pipeline, SamplingSettings.of(base), intervention)


def draw_shards(
    drawing: Drawing, *, engine: Engine | None = None, label: str = "images"
) -> list[Path]:
    """Draw every image of a grid into shards and rate them, skipping what is there.

    Parameters
    ----------
    drawing : Drawing
        What to draw.
    engine : dft_lib.sampling.workers.Engine, optional
        Who does it; by default this process.
    label : str
        Name of the progress bar.

    Returns
    -------
    list of pathlib.Path
        The shards in grid order.

    Raises
    ------
    ValueError
        If the shard size is no multiple of the batch size.
    """
    drawing.folder.mkdir(parents=True, exist_ok=True)
    parts, todo = drawing.slices(), drawing.todo()
    done = sum(p.stop - p.start for p in parts) - sum(parts[n].stop - parts[n].start for n in todo)
    with workers.bar(label, "image", int(drawing.grid["images"].sum()), done) as advance:
        if todo and engine is not None and engine.name == "ray":
            for number in workers.run_on_ray(_stages(drawing), todo, engine):
                advance(parts[number].stop - parts[number].start)
        elif todo:
            for number in _here(drawing, todo):
                advance(parts[number].stop - parts[number].start)
    return [drawing.path(number) for number in range(len(parts))]


def read_ratings(drawing: Drawing) -> pd.DataFrame:
    """Return the records of all shards beside their ratings, in grid order."""
    numbers = range(len(drawing.slices()))
    return pd.concat(
        [
            pd.concat(
                [shards.read_records(drawing.path(n)), pd.read_parquet(drawing.rated(n))], axis=1
            )
            for n in numbers
        ],
        ignore_index=True,
    )


def _stages(drawing: Drawing) -> list[Stage]:
    """Return the work as it is sent to workers, with the grid in a file that they read."""
    path = (drawing.ratings or drawing.folder.parent) / "grid.parquet"
    write_table(path, drawing.grid)
    lean = replace(drawing, grid=drawing.grid.head(0))
    stages = [Stage(partial(_open, Artist, lean, path), True)]
    if drawing.open_rating is not None:
        stages.append(Stage(partial(_open, Critic, lean, path), False))
    return stages


def _open(kind: type[Artist | Critic], lean: Drawing, grid: Path) -> Callable[[int], int]:
    return kind(replace(lean, grid=pd.read_parquet(grid))).shard


def _here(drawing: Drawing, todo: list[int]) -> Any:
    """Draw and rate in this process, one shard after the other.

    Where a GPU draws, a thread compresses, writes and rates the last shard meanwhile. On a CPU
    both would want the same cores.
    """
    artist, critic = Artist(drawing), Critic(drawing) if drawing.open_rating else None

    def finish(number: int, pictures: np.ndarray | None, records: pd.DataFrame | None) -> int:
        if pictures is not None and records is not None:
            artist.write(number, pictures, records)
        return critic.shard(number, pictures) if critic else number

    threads = torch.get_num_threads()  # which a new thread would not inherit
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,)) as thread:
        waiting: Future[int] | None = None
        for number in todo:
            there = drawing.drawn(number)
            pictures, records = (None, None) if there else artist.draw(number)
            if not torch.cuda.is_available():
                yield finish(number, pictures, records)
                continue
            if waiting is not None:
                yield waiting.result()
            waiting = thread.submit(finish, number, pictures, records)
        if waiting is not None:
            yield waiting.result()
