"""Batches that do not fit: halve what goes through a model at once, and go on.

What a study calls its batch stays what it was (the same images, the same gradient up to rounding);
only how many of them are on the device at once changes. So one profile serves a card of 24 GB and
one of 80 GB.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")
log = logging.getLogger(__name__)


class BatchSplitter:
    """Runs a batched call whole, or in parts once the device ran out of memory.

    Parameters
    ----------
    what : str
        What is computed, for the message.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.most: int | None = None  # None: no limit met yet

    def run(self, call: Callable[[slice], Result], count: int) -> list[Result]:
        """Return the results of `call` on parts that cover 0 to `count`, in order.

        Parameters
        ----------
        call : callable
            Takes a slice of the batch. After an out-of-memory error everything is called again
            with smaller parts, so it must be able to start over.
        count : int
            Size of the batch.

        Raises
        ------
        torch.OutOfMemoryError
            If even a single image does not fit.
        """
        while True:
            most = min(self.most or count, count)
            try:
                return [call(slice(i, min(i + most, count))) for i in range(0, count, most)]
            except torch.OutOfMemoryError:
                if most == 1:
                    raise
                self.most = most // 2
            # outside the handler, whose traceback keeps the failed call's tensors alive
            torch.cuda.empty_cache()
            log.warning(
                "%s: %d at once do not fit into the device's memory; going on with %d",
                self.what, most, self.most,
            )  # fmt: skip
