"""Small networks with one head per attribute, shared by the trained raters of the emoji world.

Weights are one safetensors file per rater; its metadata names the rater's heads and thresholds,
so a file cannot be read with the wrong groups.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from dft_lib.raters.base import Answer, answer
from dft_lib.repro.paths import show
from dft_lib.repro.tensors import save_tensors

Heads = dict[str, tuple[str, ...]]


class HeadedNetwork(nn.Module):
    """A trunk of features and one linear head per attribute."""

    def __init__(self, trunk: nn.Module, width: int, heads: Heads) -> None:
        super().__init__()
        self.trunk = trunk
        self.groups = heads
        self.heads = nn.ModuleDict({name: nn.Linear(width, len(g)) for name, g in heads.items()})

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return logits per head, each of shape (n, number of groups)."""
        features = self.trunk(x)
        return {name: head(features) for name, head in self.heads.items()}


def conv_trunk(width: int = 128) -> nn.Module:
    """Four strided convolutions on (n, 3, 64, 64) in [-1, 1], then mean and max over space."""

    class _Pool(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)

    layers: list[nn.Module] = []
    channels = (3, 24, 48, 96, width)
    for a, b in zip(channels, channels[1:], strict=False):
        layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(8, b), nn.SiLU()]
        layers += [nn.Conv2d(b, b, 3, padding=1, groups=b // 8), nn.SiLU()]
    return nn.Sequential(*layers, _Pool(), nn.Linear(2 * width, width), nn.SiLU())


def dense_trunk(inputs: int, width: int = 192) -> nn.Module:
    """Two dense layers on standardised features of shape (n, inputs)."""
    return nn.Sequential(
        nn.LayerNorm(inputs), nn.Dropout(0.2), nn.Linear(inputs, width), nn.SiLU(),
        nn.Dropout(0.2), nn.Linear(width, width), nn.SiLU(),
    )  # fmt: skip


class NetworkRater:
    """A rater whose answers come from a `HeadedNetwork`.

    Parameters
    ----------
    name : str
        See `dft_lib.study.wall.RATERS`.
    network : HeadedNetwork
        In evaluation mode.
    features : callable
        Turns uint8 pictures (n, h, w, 3) into the network's input tensor.
    minimum : dict
        Smallest best score per head that counts as an answer; 0 where missing.
    """

    def __init__(
        self,
        name: str,
        network: HeadedNetwork,
        features: Callable[[np.ndarray], torch.Tensor],
        minimum: dict[str, float],
    ) -> None:
        self.name, self.network = name, network.eval()
        self.features, self.minimum = features, minimum
        self.attributes = tuple(network.groups)

    @torch.inference_mode()
    def features_of(self, pixels: np.ndarray, batch: int = 128) -> np.ndarray:
        """Return the last hidden layer, float32 of shape (n, width): a space for distances."""
        parts = [
            self.network.trunk(self.features(pixels[i : i + batch])).numpy()
            for i in range(0, len(pixels), batch)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

    @torch.inference_mode()
    def rate(self, pixels: np.ndarray, batch: int = 128) -> dict[str, Answer]:
        """Rate pictures; see `dft_lib.raters.base.Rater.rate`."""
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.attributes}
        for i in range(0, len(pixels), batch):
            for name, logits in self.network(self.features(pixels[i : i + batch])).items():
                parts[name].append(logits.softmax(1).numpy())
        answers = {}
        for name, groups in self.network.groups.items():
            scores = np.concatenate(parts[name]) if parts[name] else np.zeros((0, len(groups)))
            answers[name] = answer(scores, groups, self.minimum.get(name, 0.0))
        return answers


def save(path: Path, network: HeadedNetwork, minimum: dict[str, float]) -> None:
    """Write a network's weights with its heads and thresholds."""
    # One metadata key: safetensors writes several in an order that differs between processes.
    about = json.dumps({"heads": network.groups, "minimum": minimum})
    save_tensors(path, {k: v.half() for k, v in network.state_dict().items()}, {"rater": about})


def load(
    path: Path, trunk: Callable[[], nn.Module], width: int
) -> tuple[HeadedNetwork, dict[str, float]]:
    """Read a network written by `save`; returns it and its thresholds.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing or is not a rater.
    """
    if not path.exists():
        raise FileNotFoundError(f"{show(path)} is missing: run `dvc pull data.dvc` first")
    try:
        with safe_open(path, "pt") as stream:
            about = json.loads((stream.metadata() or {})["rater"])
            tensors = {k: stream.get_tensor(k).float() for k in stream.keys()}  # noqa: SIM118
        heads = {k: tuple(v) for k, v in about["heads"].items()}
        network = HeadedNetwork(trunk(), width, heads)
        network.load_state_dict(tensors)
        return network, about["minimum"]
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"{show(path)} is not a rater's weight file ({error}); run `dvc checkout data.dvc`"
        ) from error
