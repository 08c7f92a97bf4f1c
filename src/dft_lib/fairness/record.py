"""What a metric is: a formula, and what a reader needs to know to read its values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

Formula = Callable[..., np.ndarray]  # called (counts, target)


@dataclass(frozen=True)
class Metric:
    """A metric: all that tables, help, the documentation and the study need to know of it.

    Adding one is adding a record to `dft_lib.fairness.metrics.METRICS`.

    Attributes
    ----------
    name : str
        As tables print it.
    function : callable
        (counts, target) -> values: of shape (..., K) one value per prompt, (...); with `squares`
        of shape (..., P, K) one value per study.
    fair : float
        The value at parity (shares equal the target) for a uniform target; see `fair_at`.
    worst : str
        The value when only one group is shown, as a formula in K at a uniform target; the number
        at any target: `worst_at`.
    what : str
        One line for readers.
    source : str
        Paper, section or equation.
    ordered : bool
        Makes sense for ordered groups only.
    of_group : bool
        `function` looks at one group: it takes ``group``, its position.
    squares : callable, optional
        (counts, target) -> unbiased squares per prompt. The metric is the root of their mean over
        prompts, and so are the ends of its interval.
    multiple_of : str, optional
        The metric that this one is a fixed multiple of: ``metrics.json`` gives that one only.
    brief : bool
        ``metrics.json`` gives it for cells of two attributes and for single prompts too.
    column : str, optional
        Its name in the study's tables per prompt (``results/<arm>.csv``); without one it is not
        in them.

    Raises
    ------
    ValueError
        If `function` does not give the stated `fair` at parity, or gives it to one group only; if
        a metric with `squares`, which has no value per prompt, has a `column`.
    """

    name: str
    function: Formula
    fair: float
    worst: str
    what: str
    source: str
    ordered: bool = False
    of_group: bool = False
    squares: Formula | None = None
    multiple_of: str | None = None
    brief: bool = False
    column: str | None = None

    def __post_init__(self) -> None:
        even = np.array([0.5, 0.5])
        if not np.isclose(self.fair_at(even), self.fair):
            raise ValueError(
                f"metric {self.name!r}: fair is given as {self.fair:g}, but its function says "
                f"{self.fair_at(even):g} of even shares"
            )
        if np.isclose(self.worst_at(even), self.fair):
            raise ValueError(f"metric {self.name!r} calls a model fair that shows one group only")
        if self.squares is not None and self.column is not None:
            raise ValueError(f"metric {self.name!r} has no value per prompt, so no column there")

    def __call__(self, counts: ArrayLike, target: ArrayLike | None = None) -> np.ndarray:
        """Call `function`."""
        return self.function(counts, target)

    @property
    def better(self) -> str:
        """Say which values are fairer, "lower" or "higher"."""
        return "lower" if self.worst_at(np.array([0.5, 0.5])) > self.fair else "higher"

    def fair_at(self, target: np.ndarray) -> float:
        """Return the value at parity: shares equal the target, shape (K,)."""
        if self.squares is not None:  # of whole counts, which no target needs to allow
            return self.fair
        return float(np.round(self.function(target, target), 12))

    def worst_at(self, target: np.ndarray) -> float:
        """Return the value farthest from parity that showing one group only can give."""
        one = 2 * np.eye(len(target))  # two images each, which squares need
        values = self.function(np.stack([one, one], 1) if self.squares else one, target)
        return float(np.round(values[np.abs(values - self.fair_at(target)).argmax()], 12))
