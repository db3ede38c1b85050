"""A screening's result from Python: the shortlist and what is said of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from matml.core.errors import as_path
from matml.core.files import read_json, read_table
from matml.core.text.notebook import as_html
from matml.properties.data.targets import split_unit

SHOWN = ["rank", "id", "formula", "prediction", "low", "high", "in_domain", "duplicate_of"]
MOST_ROWS = 10


@dataclass(frozen=True, repr=False)
class Shortlist:
    """What `matml screen` wrote into a folder.

        found = Shortlist.load("my/screening")
        found                       # the best, and what is said of them
        found.plot()

    Attributes
    ----------
    folder
        Where it lies.
    table
        `shortlist.csv`, best first.
    summary
        `summary.json`: counts, units, objectives, notes.
    """

    folder: Path
    table: pd.DataFrame
    summary: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> "Shortlist":
        """Read the folder that `matml screen --out` wrote.

        Raises
        ------
        MatmlError
            Where it holds no shortlist, or a damaged one.
        """
        folder = as_path(folder, "shortlist")
        remedy = "give the folder that `matml screen --out` wrote"
        summary = read_json(folder / "summary.json", remedy=remedy)
        return cls(folder, read_table(folder / "shortlist.csv"), summary)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def notes(self) -> list[str]:
        """What is said of it, in sentences."""
        return self.summary["notes"]

    @property
    def files(self) -> list[Path]:
        """CIFs of the best, in order."""
        return sorted((self.folder / "candidates").glob("*.cif"))

    def __repr__(self) -> str:
        best = self._best().to_string(index=False, float_format="{:.4g}".format)
        return "\n".join([self._title(), best, *(f"- {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return as_html(self._title(), self._best(), self.notes)

    def _title(self) -> str:
        wanted = " and ".join(self.summary["objectives"])
        return f"Shortlist ({wanted}): {len(self)} of {self.summary['n_ranked']:,} candidates"

    def _best(self) -> pd.DataFrame:
        shown = [name for name in SHOWN if name in self.table]
        return self.table[shown].head(MOST_ROWS)

    def plot(self, ax: Any = None, number: int = 20) -> Any:
        """Draw the best with their 90 % intervals, best on top; return the matplotlib axes.

        Parameters
        ----------
        ax
            Axes to draw in; by default new ones.
        number
            How many are drawn.
        """
        from matplotlib import pyplot

        best = self.table.head(number).iloc[::-1]
        if ax is None:
            size = 5.0, 1.2 + 0.22 * len(best)
            ax = pyplot.subplots(figsize=size, layout="constrained")[1]
        places, values = np.arange(len(best)), best["prediction"]
        ends = np.stack([values - best["low"], best["high"] - values])
        ax.errorbar(values, places, xerr=ends, fmt="o", ms=4, lw=1)
        ax.set_yticks(places, best["formula"])
        title, unit = split_unit(self.summary["property"])
        ax.set_xlabel(f"{title} ({unit})" if unit else title)
        ax.set_title(f"First {len(best)} of the shortlist, 90 % intervals")
        return ax
