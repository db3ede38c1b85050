"""Centre and scale: each column in units of its own spread."""

from dataclasses import dataclass

import numpy as np

SMALLEST = 1e-6
"""Standard deviation below which a column does not vary."""


@dataclass(frozen=True)
class Standardisation:
    """Mean and standard deviation of each column.

    Attributes
    ----------
    mean, deviation
        [columns], or [..., 1, columns] of several tables.

    Examples
    --------
    >>> table = np.array([[1.0, 5.0], [3.0, 5.0]])
    >>> Standardisation.of(table).apply(table)
    array([[-1.,  0.],
           [ 1.,  0.]])
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Standardisation":
        """Return that of `values` [..., rows, columns], ignoring NaN.

        A column that does not vary tells nothing and has deviation 1: a row that differs in it
        must not end up infinitely far away.
        """
        several = values.ndim > 2
        deviation = np.nanstd(values, -2, keepdims=several)
        return cls(
            np.nanmean(values, -2, keepdims=several),
            np.where(deviation < SMALLEST, 1.0, deviation),
        )

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return standardised values, [..., columns]."""
        return (values - self.mean) / self.deviation
