"""How well a family is predicted from so many of its labels: a learning curve of one's own data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.text.notebook import as_html
from matml.properties.data.targets import LabelScale, Property

FEWEST_OTHERS = 3
"""Crystals that are predicted at least; with fewer an error says next to nothing."""


@dataclass(frozen=True, repr=False)
class LearningCurve:
    """Errors by number of labels, over random supports of one family.

    Attributes
    ----------
    item, method
        What is predicted, and how.
    crystals
        How many there are.
    draws
        One row per support: `labels`, `draw`, `error` (mean absolute error on the other crystals,
        in `item.error_unit`), `mean_error` (the same of the labels' mean), and `coverage` (share of
        the others inside their 90 % interval).
    """

    item: Property
    method: str
    crystals: int
    draws: pd.DataFrame

    @property
    def table(self) -> pd.DataFrame:
        """By number of labels: means over draws, and the lowest and highest tenth of the error."""
        groups = self.draws.groupby("labels")
        found = groups[["error", "mean_error", "coverage"]].mean()
        for name, share in (("error_low", 0.1), ("error_high", 0.9)):
            found[name] = groups["error"].quantile(share)
        return found.assign(draws=groups.size()).reset_index()

    def __repr__(self) -> str:
        return f"{self._title()}\n{self.table.to_string(index=False, float_format='{:.4g}'.format)}"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return as_html(self._title(), self.table)

    def _title(self) -> str:
        unit = f" in {self.item.error_unit}" if self.item.error_unit else ""
        return f"{self.item.title}, error{unit} by number of labels ({self.crystals} crystals)"

    def plot(self, ax: Any = None) -> Any:
        """Draw mean error and the middle 80 % of draws over labels; return the matplotlib axes.

        Parameters
        ----------
        ax
            Axes to draw in; by default new ones.
        """
        from matplotlib import pyplot

        ax = pyplot.subplots(figsize=(4.5, 3.5), layout="constrained")[1] if ax is None else ax
        table = self.table
        ax.plot(table["labels"], table["error"], "o-", label="matml")
        ax.fill_between(table["labels"], table["error_low"], table["error_high"], alpha=0.2)
        ax.plot(table["labels"], table["mean_error"], "s--", color="grey", label="labels' mean")
        unit = f" ({self.item.error_unit})" if self.item.error_unit else ""
        ax.set(
            xlabel="labels",
            ylabel=f"mean absolute error{unit}",
            title=f"{self.item.title}, {self.crystals} crystals",
        )
        ax.set_ylim(bottom=0)
        ax.legend()
        return ax


def learning_curve(
    predict: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    scale: LabelScale,
    values: np.ndarray,
    shots: Sequence[int],
    draws: int,
    seed: int,
    method: str,
) -> LearningCurve:
    """Return the errors of a method on a family's crystals.

    Parameters
    ----------
    predict
        From the numbers of labelled crystals and of others to the others' predictions and half
        widths of their 90 % intervals, standardised.
    scale, values
        Of the labels, [n].

    Raises
    ------
    MatmlError
        Where too few crystals are left beside the labels.
    """
    if max(shots) + FEWEST_OTHERS > len(values):
        raise MatmlError(
            f"shots: {max(shots)} labels of {len(values)} crystals leave fewer than "
            f"{FEWEST_OTHERS} to predict; give smaller numbers, or more crystals"
        )
    generator, rows = np.random.default_rng(seed), []
    standardised = scale.standardise(values)
    for labels in shots:
        for draw in range(draws if labels else 1):
            order = generator.permutation(len(values))
            known, others = np.sort(order[:labels]), np.sort(order[labels:])
            mean, half_width = predict(known, others)
            off = np.abs(mean - standardised[others])
            middle = standardised[known].mean() if labels else np.nan
            rows.append(
                {
                    "labels": labels,
                    "draw": draw,
                    "error": scale.deviation * off.mean(),
                    "mean_error": scale.deviation * np.abs(middle - standardised[others]).mean(),
                    "coverage": (off <= half_width).mean(),
                }
            )
    return LearningCurve(scale.property, method, len(values), pd.DataFrame(rows))
