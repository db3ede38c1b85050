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
from matml.screening.data.reader import CRYSTALS, SHORTLIST
from matml.screening.objectives import objective_words, parse_objectives

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
        """Read the folder that `matml screen --out` wrote; its `shortlist.csv` means the same.

        Raises
        ------
        MatmlError
            Where it holds no shortlist, or a damaged one.
        """
        folder = as_path(folder, "shortlist")
        if folder.name == SHORTLIST:
            folder = folder.parent
        remedy = "give the folder that `matml screen --out` wrote"
        summary = read_json(folder / "summary.json", remedy=remedy)
        return cls(folder, read_table(folder / SHORTLIST), summary)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def notes(self) -> list[str]:
        """What is said of it, in sentences."""
        return self.summary["notes"]

    @property
    def files(self) -> dict[str, Path]:
        """CIFs of the best, in order, by id: as a model and `LabelNext` take them."""
        named = self.table[self.table["cif"].notna()]
        files = (self.folder / CRYSTALS / name for name in named["cif"])
        return dict(zip(named["id"].astype(str), files, strict=True))

    def __repr__(self) -> str:
        best = self._best().to_string(index=False, float_format="{:.4g}".format)
        return "\n".join([self._title(), best, *(f"- {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return as_html(self._title(), self._best(), self.notes)

    def _title(self) -> str:
        wanted = " and ".join(map(objective_words, self.summary["objectives"]))
        return f"Shortlist ({wanted}): {len(self)} of {self.summary['n_ranked']:,} candidates"

    def _best(self) -> pd.DataFrame:
        shown = [name for name in SHOWN if name in self.table]
        return self.table[shown].head(MOST_ROWS)

    def plot(self, ax: Any = None, number: int = 20) -> Any:
        """Draw the best with their 90 % intervals, best on top; return the matplotlib axes.

        Of several objectives each property has axes of its own, side by side, and a list of them is
        returned. Dotted: ends of windows, and targets.

        Parameters
        ----------
        ax
            Axes to draw the leading property in; by default new ones for all.
        number
            How many are drawn.
        """
        from matplotlib import pyplot

        best = self.table.head(number).iloc[::-1]
        wanted = parse_objectives(self.summary["objectives"], self.summary["logarithmic"])
        names = list(dict.fromkeys(item.property for item in wanted))
        places = [ax]
        if ax is None:
            size = 1.5 + 3.5 * len(names), 1.2 + 0.22 * len(best)
            options: Any = {"figsize": size, "layout": "constrained", "sharey": True}
            places = list(pyplot.subplots(1, len(names), squeeze=False, **options)[1][0])
        for place, name in zip(places, names, strict=False):
            self._draw(place, best, name)
            own = [item for item in wanted if item.property == name]
            for edge in {edge for item in own for edge in (item.low, item.high)}:
                if np.isfinite(edge):
                    place.axvline(edge, color="0.5", linestyle=":", zorder=0)
        title = f"First {len(best)} of the shortlist, 90 % intervals"
        if len(places) == 1:
            places[0].set_title(title)
            return places[0]
        places[0].figure.suptitle(title)
        return places

    def _draw(self, ax: Any, best: pd.DataFrame, name: str) -> None:
        """Draw one property of some candidates."""
        leading = name == self.summary["property"]
        columns = (
            ["prediction", "low", "high"] if leading else [name, f"{name}_low", f"{name}_high"]
        )
        values, low, high = (best[column] for column in columns)
        places, ends = np.arange(len(best)), np.stack([values - low, high - values])
        ax.errorbar(values, places, xerr=ends, fmt="o", ms=4, lw=1)
        ax.set_yticks(places, best["formula"])
        title, unit = split_unit(name)
        unit = self.summary["properties"].get(name, unit)
        ax.set_xlabel(f"{title} ({unit})" if unit else title)
