"""Whoever makes the shards, they are the same bytes; what dies is made again."""

import hashlib
import os
import signal
from functools import partial

import pandas as pd
import pytest
import torch

from dft_lib.sampling import drawing
from dft_lib.sampling.workers import Engine

ray = pytest.importorskip("ray", reason="Ray is not installed: make ray")
RAY = Engine("ray", workers=2, threads=2, device="cpu")


def grid_of(prompts, images):
    row = {"set": "x", "kind": "general", "noun": "dog", "fold": "", "gender": "", "skin_tone": ""}
    return pd.DataFrame(
        [row | {"prompt_id": i, "prompt": f"a {i}", "caption": i, "images": images}
         for i in prompts]
    )  # fmt: skip


def open_rating():
    return lambda pictures: pd.DataFrame({"rated_mean": pictures.mean((1, 2, 3))})


class Dies:
    """A sampler whose process is killed at its second batch, once per folder."""

    def __init__(self, sampler, folder):
        self.sampler, self.folder, self.batches = sampler, folder, 0

    def __getattr__(self, name):
        return getattr(self.sampler, name)

    def draw(self, listed):
        self.batches += 1
        if self.batches == 2:
            try:
                os.close(os.open(self.folder / "killed", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.sampler.draw(listed)


def open_dying(base, model, folder):
    return Dies(drawing.open_model(base, model, images=24), folder)


def task(open_sampler, folder, grid):
    return drawing.Drawing(
        open_sampler, grid, folder / "shards", 4, {"arm": ""}, open_rating, folder / "rated"
    )


def bytes_of(folder):
    files = [p for p in sorted(folder.rglob("*.parquet")) if p.name != "grid.parquet"]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_ray_makes_the_bytes_of_one_process_even_when_a_worker_is_killed(
    study, random_model, tmp_path
):
    base = study.base.model_copy(update={"batch_size": 4, "num_inference_steps": 3})
    grid = grid_of("abcdefgh", 3)  # 24 images, 6 shards
    one, many = tmp_path / "one", tmp_path / "many"
    open_model = partial(drawing.open_model, base, str(random_model), images=24)
    torch.set_num_threads(RAY.threads)
    drawing.draw_shards(task(open_model, one, grid))
    many.mkdir()
    dying = partial(open_dying, base, str(random_model), many)
    drawing.draw_shards(task(dying, many, grid), engine=RAY)
    assert (many / "killed").exists(), "no worker was killed"
    assert bytes_of(one) == bytes_of(many) and len(bytes_of(one)) == 12
    assert not list(many.rglob(".*.part"))
