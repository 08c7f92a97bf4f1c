"""One training on several processes: each takes its share of every batch.

Started by ``accelerate launch`` (`dft_lib.training.launch`). Batches are keyed by step: every
process
knows all of a batch and takes its own part; gradients are added up before the optimizer's step.
That is data-parallel training without a data loader to split, and the sum is one process's
gradient up to rounding, for any number of processes. It is added after the backward pass, not in
it: then a process may cut its part smaller when memory runs out without the others waiting for
it (`dft_lib.models.memory`).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist

_BUCKET = 2**26  # numbers added at once: 256 MiB in full precision


def world() -> tuple[int, int]:
    """Return this process's rank and how many processes train together (0 and 1 if alone)."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def share(count: int) -> slice:
    """Return this process's part of a batch of `count`; parts differ by one at most."""
    rank, size = world()
    return slice(count * rank // size, count * (rank + 1) // size)


def add_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add up the gradients of all processes, in place; a missing one counts as zero."""
    if world()[1] == 1:
        return
    waiting: list[torch.Tensor] = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        waiting.append(parameter.grad)
        if sum(g.numel() for g in waiting) >= _BUCKET:
            _add(waiting)
            waiting = []
    if waiting:
        _add(waiting)


def add(values: list[float], device: torch.device) -> list[float]:
    """Return numbers added over all processes."""
    if world()[1] == 1:
        return values
    kind = torch.float64 if device.type != "mps" else torch.float32
    together = torch.tensor(values, dtype=kind, device=device)
    dist.all_reduce(together)
    return together.tolist()


def _add(gradients: list[torch.Tensor]) -> None:
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
