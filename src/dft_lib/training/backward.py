"""Forward and backward pass of a batch, in as many parts as memory and processes ask for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from dft_lib.models.conditioning import Conditioning
from dft_lib.models.memory import BatchSplitter
from dft_lib.training import parallel
from dft_lib.training.objectives import Objective, Step

Mixup = tuple[np.ndarray, torch.Tensor]


class Backward:
    """Leaves the gradient of a batch's mean loss in the parameters.

    Parameters
    ----------
    goal : Objective
        What is minimised.
    embed : callable
        From caption numbers to embeddings.
    optimizer : torch.optim.Optimizer
        Whose parameters get the gradient.
    device, dtype : torch.device, torch.dtype
        Of the model; in less than full precision under autocast.

    Raises
    ------
    ValueError
        If several processes train, and the objective needs the batch whole.
    """

    def __init__(
        self,
        goal: Objective,
        embed: Callable[[np.ndarray], Conditioning],
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        if parallel.world()[1] > 1 and not goal.splits:
            raise ValueError("this recipe needs every batch whole: set finetune.processes to 1")
        self.goal, self.embed, self.optimizer = goal, embed, optimizer
        self.learning = [p for group in optimizer.param_groups for p in group["params"]]
        self.device, self.dtype, self.splitter = device, dtype, BatchSplitter("training")

    def __call__(self, step: Step, caption: np.ndarray, mixup: Mixup | None) -> list[float]:
        """Return the batch's loss and the objective's other numbers.

        Parameters
        ----------
        step : Step
            The whole batch, without its captions.
        caption : numpy.ndarray
            int64 (n,): the captions' numbers.
        mixup : tuple or None
            Each example's partner, int64 (n,), and how much of its own embedding stays, (n,).
        """
        mine = parallel.share(len(caption))
        call = partial(self._part, step, caption, mixup, mine.start)
        if self.goal.splits:
            parts = self.splitter.run(call, mine.stop - mine.start)
        else:
            parts = [call(mine)]
        parallel.add_gradients(self.learning)
        return parallel.add([sum(values) for values in zip(*parts, strict=True)], self.device)

    def _part(
        self, step: Step, caption: np.ndarray, mixup: Mixup | None, first: int, part: slice
    ) -> list[float]:
        if part.start == 0:  # also after a part was too large: start over
            self.optimizer.zero_grad(set_to_none=True)
        rows = slice(first + part.start, first + part.stop)
        share = (part.stop - part.start) / len(caption)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            given = self.embed(caption[rows])
            if mixup is not None:
                partner, own = mixup
                if share == 1:  # all partners are encoded already
                    other = given[torch.from_numpy(partner)]
                else:
                    other = self.embed(caption[partner[rows]])
                given = given.blend(other, own[rows])
            loss, logged = self.goal(step.part(rows, given))
        (loss * share).backward()
        return [share * float(loss.detach()), *(share * logged[k] for k in self.goal.columns[1:])]
