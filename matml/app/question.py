"""What the page asks: points, population and composition as text, and what is made of them."""

import re
from collections import ChainMap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import csv_text
from matml.core.text.table import read_text_table
from matml.kinetics.data.observations import kind_of
from matml.kinetics.data.units import alloy_column
from matml.kinetics.frames import Population
from matml.kinetics.listing import described_by_name, population_cards

AUTO, TYPICAL = "auto", "typical:"
"""Choices beside names: all populations that fit, mixed; the typical ranges of an equation."""
NAME = "alloy"
AMOUNT = re.compile(r"([A-Z][a-z]?)\s*[:=]?\s*(\d+(?:[.,]\d+)?)\s*%?")


@dataclass(frozen=True)
class Question:
    """What is calibrated from what.

    Attributes
    ----------
    points
        Text of a table, as in a spreadsheet or a CSV.
    prior
        `AUTO`, the name of a population, or `TYPICAL` and the name of an equation.
    composition
        Such as "C 0.4, Mn 0.7", in %.
    """

    points: str
    prior: str = AUTO
    composition: str = ""

    def table(self) -> pd.DataFrame:
        """Return the points as they were given, all text."""
        if not self.points.strip():
            raise MatmlError("no points yet: paste a table with its header, or drop a file")
        return read_text_table("points", self.points.encode())

    def amounts(self) -> dict[str, float]:
        """Return the composition in % by element.

        Raises
        ------
        MatmlError
            Where a part of it is no element with an amount, or an element is given twice.
        """
        rest = AMOUNT.sub("", self.composition).strip(" ,;\t\n")
        if rest:
            raise MatmlError(f"composition: {rest!r} is no amount; write it as C 0.4, Mn 0.7 (%)")
        found = AMOUNT.findall(self.composition)
        amounts = {element: float(number.replace(",", ".")) for element, number in found}
        if len(amounts) < len(found):
            raise MatmlError(f"composition: {self.composition!r} names an element twice")
        return amounts

    def kind(self) -> str:
        """Return the kind of the observations.

        Raises
        ------
        MatmlError
            As `kind_of`.
        """
        return kind_of(self._of_alloy())

    def _of_alloy(self) -> pd.DataFrame:
        """Return the points with a column `alloy`."""
        table = self.table()
        named = alloy_column(table)
        return table.assign(alloy=NAME) if named is None else table.rename({named: NAME}, axis=1)

    def priors(self) -> dict[str, Population]:
        """Return the populations to calibrate under, by the name that a command gives them."""
        kind = self.kind()
        if self.prior == AUTO:
            names = [name for name, of in learned().items() if of == kind]
            equation = next(iter(typical(kind)), None)
            if not names and equation is None:
                raise MatmlError(f"no equation describes {kind} observations")
            if not names:
                return {f"{TYPICAL}{equation}": Population.typical(str(equation), kind)}
        elif self.prior.startswith(TYPICAL):
            return {self.prior: Population.typical(self.prior.removeprefix(TYPICAL), kind)}
        else:
            names = [self.prior]
        return {name: Population.load(name) for name in names}

    def commands(self, priors: list[str]) -> list[str]:
        """Return the commands that repeat it, beside `points.csv` and `alloys.csv`."""
        given = [f"--prior {name}" for name in priors if not name.startswith(TYPICAL)]
        given = given or [f"--equation {name.removeprefix(TYPICAL)}" for name in priors]
        files = "--data points.csv" + (" --alloys alloys.csv" if self.amounts() else "")
        commands = [f"matml kinetics calibrate {' '.join(given)} {files} --out calibration"]
        if len(priors) == 1 and not priors[0].startswith(TYPICAL):
            commands.append(f"matml kinetics design {given[0]} {files} --out design")
        return commands

    def write(self, folder: Path, populations: Iterable[Population]) -> tuple[Path, Path | None]:
        """Write `points.csv` and, with a composition, `alloys.csv`; return their paths.

        Amounts stand in the columns that the populations take.
        """
        table, points = self._of_alloy(), folder / "points.csv"
        points.write_text(csv_text(table))
        if not (amounts := self.amounts()):
            return points, None
        row = dict(ChainMap(*(population.row_of(amounts) for population in populations)))
        alloys = folder / "alloys.csv"
        alloys.write_text(csv_text(pd.DataFrame([{"alloy": table[NAME].iloc[0], **row}])))
        return points, alloys


def learned() -> dict[str, str]:
    """Return the kinds of observations of the populations that come with matml, by name."""
    return {card["name"]: card["kind"] for card in population_cards()}


def typical(kind: str | None = None) -> dict[str, str]:
    """Return the titles of the equations that describe a kind, or of all, by name."""
    return {
        equation["name"]: equation["title"]
        for equation in described_by_name(None)
        if kind is None or kind in equation["observations"]
    }
