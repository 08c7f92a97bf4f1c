r"""Training speed beside peers' own scripts, in one run, interleaved.

    python -m pip install --no-deps --target SITE torchvision==0.28.0  # the peers' scripts need it
    python benchmarks/training.py --peer-site SITE \
      --peer PATH/examples/text_to_image/train_text_to_image_lora.py

The script is diffusers', unmodified, given by its path. Same model, pictures, batch, rank, trained
matrices, optimiser and number of steps; a fresh process per block. Three peers: started as its
README says (``accelerate launch``, which on a CPU takes one thread per physical core); started
plainly, on all threads; and that with every flag that helps (``--flags``) and our settings of the
memory allocator. Ours: cached latents and text embeddings, channels last. Steps are clocked from
the progress bars, the first ones left out; start-up, encoding of the cache included, is in
``first step, s`` and ``whole, s``.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import fixture
import numpy as np
import pandas as pd
import timing
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from dft_lib.image_sets import examples, latents
from dft_lib.models import adapters, conditioning, pipelines
from dft_lib.repro.paths import ROOT
from dft_lib.study.params import whole
from dft_lib.study.training import Training, training
from dft_lib.training import loop
from dft_lib.training.objectives import denoising_loss

WARM = 10
PEERS = ("peer, as its README starts it", "peer, all threads", "peer, all threads and flags")
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bf16, data sheets
SETTINGS: dict[str, Any] = {
    "text_encoder_lora": False, "caption_dropout": 0.0, "preservation_share": 0.0,
    "person_share": 0.0, "learning_rate": 1e-4, "warmup_steps": 0, "rank": 16,
}  # fmt: skip


def settings(arguments: argparse.Namespace) -> Training:
    defaults = whole.load(ROOT / "params.yaml").finetune
    changes = SETTINGS | {"method": arguments.method, "steps": arguments.steps,
                          "train_batch_size": arguments.batch}  # fmt: skip
    return training(defaults, changes, Training)


def ours(arguments: argparse.Namespace) -> None:
    """Read the same folder, encode it once, and train."""
    pipeline = pipelines.load(str(arguments.model), dtype=arguments.dtype)
    pipelines.tune(pipeline, channels_last=True, compile_above=None, images=0)
    pictures = np.stack(
        [
            np.asarray(Image.open(p, formats=("PNG",)))
            for p in sorted(arguments.pictures.glob("*.png"))
        ]
    )
    moments = latents.encode(pipeline, pictures)
    rows = pd.DataFrame({"kind": "profession", "text": "a photo of a pilot",
                         "weight": 1 / len(pictures)}, index=range(len(pictures)))  # fmt: skip
    if arguments.compile:
        pipeline.unet.compile(dynamic=False)
    with tempfile.TemporaryDirectory() as scratch:
        loop.train(
            pipeline, examples.examples(moments, rows), settings(arguments), study_seed=0, seed=0,
            state=Path(scratch) / "state.safetensors", checkpoint_every=10**9,
        )  # fmt: skip
        adapters.save(pipeline, Path(scratch) / "model", {},
                      whole_unet=arguments.method == "full")  # fmt: skip


def peer(arguments: argparse.Namespace, flags: list[str], out: Path) -> list[str]:
    lora = ["--rank", str(SETTINGS["rank"])] if arguments.method == "lora" else []
    return [
        timing.python(), str(Path(__file__).with_name("peer.py")), str(arguments.peer),
        "--pretrained_model_name_or_path", str(arguments.model),
        "--train_data_dir", str(arguments.pictures), "--caption_column", "text",
        "--resolution", str(arguments.side), "--center_crop",
        "--train_batch_size", str(arguments.batch), "--max_train_steps", str(arguments.steps),
        "--learning_rate", "1e-4", "--lr_warmup_steps", "0", "--seed", "0",
        "--output_dir", str(out), "--checkpointing_steps", "1000000", *lora, *flags,
    ]  # fmt: skip


def work(pipeline: Any, chosen: Training) -> int:
    """Return the FLOPs of one training step per picture that are *required* (cached latents)."""
    with FlopCounterMode(display=False) as counter:
        unet = pipeline.unet
        adapters.attach(pipeline, chosen)
        size, width = unet.config.sample_size, unet.config.cross_attention_dim
        given = conditioning.encode(pipeline, conditioning.tokenize(pipeline, ["a pilot"]))
        before = counter.get_total_flops()
        noisy = torch.zeros(1, 4, size, size, device=unet.device, dtype=unet.dtype)
        assert given.hidden.shape[-1] == width
        predicted = conditioning.predict(pipeline, noisy, torch.tensor([1]).to(unet.device), given)
        predicted.sum().backward()
        return counter.get_total_flops() - before


def same_loss(arguments: argparse.Namespace) -> float:
    """Compare our loss with the formula of the peer's script on one batch, in full precision.

    Written here from stock classes as the script has it: noise added by its scheduler, the U-Net
    called by itself, mean squared error.
    """
    pipeline = pipelines.load(str(arguments.model), dtype="float32", device="cpu")
    tokens = conditioning.tokenize(pipeline, ["a photo of a pilot"] * 2)
    rng = torch.Generator().manual_seed(0)
    side = pipeline.unet.config.sample_size
    clean, noise = (torch.randn(2, 4, side, side, generator=rng) for _ in range(2))
    timestep = torch.tensor([50, 700])
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    with torch.no_grad():
        given = conditioning.encode(pipeline, tokens)
        mine = denoising_loss(pipeline, schedule, clean, noise, timestep, given)
        added = None
        if given.pooled is not None:
            added = {"text_embeds": given.pooled, "time_ids": given.time_ids}
        predicted = pipeline.unet(
            schedule.add_noise(clean, noise, timestep), timestep, given.hidden,
            added_cond_kwargs=added, return_dict=False,
        )[0]  # fmt: skip
        velocity = schedule.config.prediction_type == "v_prediction"
        target = schedule.get_velocity(clean, noise, timestep) if velocity else noise
        theirs = F.mse_loss(predicted.float(), target.float(), reduction="mean")
    return abs(float(mine) - float(theirs))


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--peer", type=Path, help="the peer's script")
    add("--peer-site", type=Path, help="folder with packages that only the peer needs")
    add("--size", choices=fixture.SIZES, default="tiny")
    add("--method", choices=("lora", "full"), default="lora")
    add("--batch", type=int, default=32)
    add("--steps", type=int, default=60)
    add("--rounds", type=int, default=3)
    add("--pictures-count", type=int, default=512)
    add("--flags", default="--dataloader_num_workers 1", help="flags of the peer that help it")
    add("--launch", default="", help="flags of accelerate launch, for the first peer")
    add("--compile", action="store_true", help="compile our U-Net")
    add("--folder", type=Path, default=Path(tempfile.gettempdir()) / "dft-benchmarks")
    add("--out", type=Path, help="JSON file for the results")
    add("--arm", choices=("ours",), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    arguments.device = "cuda" if torch.cuda.is_available() else "cpu"
    arguments.dtype = "bfloat16" if arguments.device == "cuda" else "float32"
    arguments.model = fixture.model(
        arguments.size, arguments.folder, getattr(torch, arguments.dtype)
    )
    pipeline = pipelines.load(str(arguments.model), device="cpu", dtype=arguments.dtype)
    arguments.side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    arguments.pictures = fixture.picture_folder(
        arguments.folder, arguments.side, arguments.pictures_count
    )
    if arguments.arm == "ours":
        ours(arguments)
        return []
    flops = work(pipeline, settings(arguments))
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    malloc = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "1000000000",
              "MALLOC_TOP_PAD_": "268435456"}  # fmt: skip
    mine = [timing.python(), __file__, "--arm", "ours", "--size", arguments.size, "--method",
            arguments.method, "--batch", str(arguments.batch), "--steps", str(arguments.steps),
            "--pictures-count", str(arguments.pictures_count), "--folder",
            str(arguments.folder)] + ["--compile"] * arguments.compile  # fmt: skip
    flags = arguments.flags.split()
    launch = [timing.python(), "-m", "accelerate.commands.launch", *arguments.launch.split()]
    found: dict[str, list[dict[str, float]]] = {"ours": []}
    if arguments.peer:
        found |= {name: [] for name in PEERS}
    site = {"PEER_SITE": str(arguments.peer_site)} if arguments.peer_site else {}
    for name in timing.interleaved(list(found), arguments.rounds):
        with tempfile.TemporaryDirectory() as out:
            if name == "ours":
                command, extra = mine, threads | malloc
            else:
                given = flags if name == PEERS[2] else []
                command = peer(arguments, given, Path(out))
                extra = site | (threads | malloc if name == PEERS[2] else threads)
                if name == PEERS[0]:
                    command, extra = [*launch, *command[1:]], site
            found[name].append(timing.watch(command, warm=WARM, environment=extra))
            print(name, {k: round(v, 3) for k, v in found[name][-1].items()}, flush=True)
    peak = next((v for k, v in PEAK.items() if k in timing.machine()["machine"]), None)
    rows = []
    for name, blocks in found.items():
        speed = arguments.batch / statistics.median(b["step"] for b in blocks)
        row: dict[str, Any] = {"arm": name, "images/s": speed}
        row["first step, s"] = statistics.median(b["first"] for b in blocks)
        row["whole, s"] = statistics.median(b["whole"] for b in blocks)
        row["memory, GiB"] = max(b["memory"] for b in blocks)
        if peak:
            row["MFU"] = speed * flops / peak
        if name != "ours":
            for key, field in (("ours is faster by", "step"), ("whole run by", "whole")):
                row[key] = timing.ratio([b[field] for b in found["ours"]],
                                        [b[field] for b in blocks])  # fmt: skip
        rows.append(row)
    about = timing.machine() | {
        "size": arguments.size, "method": arguments.method, "batch": arguments.batch,
        "steps": arguments.steps, "rounds": arguments.rounds, "dtype": arguments.dtype,
        "flags": arguments.flags, "GFLOP per image": round(flops / 1e9, 1),
    }  # fmt: skip
    if arguments.size in ("tiny", "sd15-small", "sdxl-small"):
        about["loss, ours minus theirs"] = f"{same_loss(arguments):.1e}"
    timing.report(rows, about, arguments.out)
    if arguments.folder.name == "dft-benchmarks" and arguments.size == "tiny":
        shutil.rmtree(arguments.folder, ignore_errors=True)
    return rows


if __name__ == "__main__":
    main()
