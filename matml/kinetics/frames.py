"""Kinetics from Python: tables in, tables out.

from matml.kinetics import Population

alloy = Population.load("tempering").calibrate(frame, composition={"C": 0.4, "Mn": 0.7})
alloy                                   # parameters with intervals, and doubts
alloy.plot("tempering.png")
alloy.predict(pd.DataFrame({"temperature_C": [550], "time_h": [2]}))
alloy.suggest(3)
alloy.reach("hardness_HRC = 45 +- 1")
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from matml.core.errors import MatmlError
from matml.core.settings import validate
from matml.core.text.notebook import as_html
from matml.core.text.words import plural
from matml.figures.static import draw_on, write
from matml.kinetics.data.batch import to_tasks
from matml.kinetics.data.columns import HOTTEST_K, ask_for_alloys
from matml.kinetics.data.observations import Observations, observations_of, text_of
from matml.kinetics.data.thermal_history import History, follow_paths
from matml.kinetics.data.units import ZERO_CELSIUS, alloy_column, in_usual_units
from matml.kinetics.design.choose import Cost as Price
from matml.kinetics.design.choose import design
from matml.kinetics.design.pipeline import region_of
from matml.kinetics.diagrams.drawn import diagrams
from matml.kinetics.equations import equation_named
from matml.kinetics.inference import population as base
from matml.kinetics.inference.calibrate import calibrate
from matml.kinetics.inference.calibration import Calibration
from matml.kinetics.inference.run_offsets import NO_OFFSETS, RunOffsets, with_run_numbers
from matml.kinetics.reach.furnace import Cost, Furnace
from matml.kinetics.reach.setting import NextTrial, reach
from matml.kinetics.reach.target import Target

DIGITS = 4
AMOUNTS = ("_wt_pct", "_at_pct")
MOST_TOLD = 10
"""Lines left out that are named one by one."""


@dataclass(frozen=True)
class Population(base.Population):
    """What is known of other alloys: the prior of a new one.

    `Population.load("tempering")` reads one that comes with matml, `load(path)` the
    `population.json` of `matml kinetics learn`; `Population.typical("kissinger")` is what an
    equation takes for granted where no other alloy was measured.
    """

    @classmethod
    def typical(cls, equation: str, kind: str | None = None) -> "Population":
        """Return the typical ranges of an equation, by its name or file, as a prior.

        `kind` of observation is needed where the equation describes several.
        """
        declared = equation_named(equation)
        return cls.generic(declared, declared.kind_or_only(kind, "kind="))

    def __repr__(self) -> str:
        title, table = self._described()
        return f"{title}\n{_shown(table.drop(columns='description'))}"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return as_html(*self._described())

    def _described(self) -> tuple[str, pd.DataFrame]:
        alloys = self.data_card.get("alloys", 0)
        learned = f"learned from {alloys} alloys" if alloys else "typical ranges, nothing learned"
        return f"{self.equation.title} ({self.kind}), {learned}", pd.DataFrame(self.describe())

    def calibrate(
        self,
        frame: pd.DataFrame,
        composition: Mapping[str, float] | None = None,
        name: str | None = None,
        seed: int = 0,
        judged: bool = True,
    ) -> "CalibratedAlloy":
        """Return one alloy calibrated from its observations.

        Parameters
        ----------
        frame
            As the CSV of `matml kinetics calibrate`, in any units that the columns name; a column
            `alloy` is not needed.
        composition
            Amounts in % by element ("C") or column ("C_wt_pct"), and other columns of the table
            of alloys, such as "reference_temperature_K".
        name
            Of the alloy, where the frame has none: says that all rows are of one.
        judged
            Whether observations and units are judged too; four times as fast without.

        Raises
        ------
        MatmlError
            Where the frame has no usable observation, those of several alloys, or a column that
            may name several.
        """
        if not isinstance(frame, pd.DataFrame):
            raise MatmlError(
                f"frame: is of the type {type(frame).__name__}; give a DataFrame, as of "
                "`pandas.read_csv`"
            )
        named = alloy_column(frame)
        if named is None:
            if name is None:
                remedy = "or give a column 'alloy' (in Python `name=`) where all rows are of one"
                ask_for_alloys(in_usual_units(text_of(frame), "frame").cells, "frame", remedy)
            frame = frame.assign(alloy=name or "alloy")
        else:
            frame = frame.rename({named: "alloy"}, axis=1)
        names = frame["alloy"].astype(str).str.strip().unique()
        if not len(names):
            raise MatmlError("the table has no row below its header; give one per observation")
        if len(names) != 1:
            raise MatmlError(f"the frame holds {len(names)} alloys ({', '.join(names)}); give one")
        alloys = pd.DataFrame([{"alloy": names[0]} | self.row_of(composition or {})])
        observations = observations_of(frame, alloys)
        offsets = RunOffsets.of_card(self.data_card) if "run" in frame else NO_OFFSETS
        result = calibrate(
            self, observations, observations.names[0], seed, offsets=offsets, judged=judged
        )
        left_out = [
            f"line {line.line}: {line.reason}"
            + (f" ({line.field} = {line.value})" if line.field else "")
            + "; left out"
            for line in observations.quarantine.head(MOST_TOLD).itertuples()
        ]
        if (more := len(observations.quarantine) - MOST_TOLD) > 0:
            left_out.append(f"{more} more lines are left out, too: `observations.quarantine`")
        idle = self._idle(composition or {})
        result.notes[:0] = [*observations.notes, *observations.warnings, *left_out, *idle]
        return CalibratedAlloy(self, result, observations)

    def row_of(self, composition: Mapping[str, float]) -> dict[str, float]:
        """Return a composition, as of `calibrate`, by the columns of the table of alloys."""
        return {self._column(key): value for key, value in composition.items()}

    def _idle(self, composition: Mapping[str, float]) -> list[str]:
        """Return a note on the amounts of a composition that nothing depends on, if any."""
        inputs = (i.name for o in self.equation.observables.values() for i in o.inputs)
        known = {*self.prior.features.columns, *inputs}
        amounts = [name for name in self.row_of(composition) if name.endswith(AMOUNTS)]
        idle = [name for name in amounts if name not in known]
        return [f"composition: {', '.join(idle)} counts for nothing here"] if idle else []

    def _column(self, key: str) -> str:
        """Return the column of the table of alloys that a key means: an element's is in percent."""
        known = self.prior.features.columns
        if key in known or len(key) > 2:
            return key
        return f"{key}_at_pct" if f"{key}_at_pct" in known else f"{key}_wt_pct"


@dataclass(frozen=True, repr=False)
class CalibratedAlloy:
    """A calibrated alloy.

    Attributes
    ----------
    population
        The prior.
    calibration
        All that is known of it.
    observations
        What it was calibrated from.
    """

    population: Population
    calibration: Calibration
    observations: Observations

    @property
    def parameters(self) -> pd.DataFrame:
        """Parameters with estimate, 90 % interval, prior, and what determined them."""
        return self.calibration.parameters()

    @property
    def notes(self) -> list[str]:
        """What the data could not determine, and what looks wrong."""
        return self.calibration.notes

    def __repr__(self) -> str:
        title, table = self._described()
        return "\n".join([title, _shown(table), *(f"- {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return as_html(*self._described(), self.notes)

    def _described(self) -> tuple[str, pd.DataFrame]:
        known = ["parameter", "unit", "median", "low_90", "high_90", "determined_by"]
        count = len(self.observations.points)
        title = (
            f"{self.calibration.alloy}: {self.calibration.population.equation.title}, "
            f"{count} {plural('observation', count)}"
        )
        return title, self.parameters[known]

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the frame with the measured column and its 90 % interval, `low_90`, `high_90`.

        Of a new measurement, with its own error.

        Parameters
        ----------
        frame
            Conditions in any units that the columns name, as in the observations.

        Raises
        ------
        MatmlError
            Where a condition is missing or no number.
        """
        calibration, observable = self.calibration, self.calibration.population.observable
        names = observable.column, "low_90", "high_90"
        if not len(frame):
            return frame.assign(**dict.fromkeys(names, pd.Series(dtype=float)))
        table = in_usual_units(text_of(frame), "frame")
        cells = table.cells
        paths: dict[str, History] = {}
        if "path" in cells:
            cells, paths, wrong = follow_paths(cells.assign(alloy=""), Path("frame"))
            if wrong:
                raise MatmlError(f"frame: line {wrong[0][1]}: {wrong[0][5]}; {wrong[0][6]}")
        points = cells.apply(lambda column: pd.to_numeric(column, errors="coerce"))
        points = points.drop(columns=[observable.column], errors="ignore")
        if observable.column == "time_s" and "ttt_fraction" in points:
            points = points.rename(columns={"ttt_fraction": "fraction"})
        for text in ("run", "path"):
            if text in cells:
                points[text] = cells[text]
        # what is to be predicted is left open by a value that is none of interest
        points = points.assign(alloy=calibration.alloy, sigma=np.nan, line=points.index + 2)
        points[observable.column] = 1.0
        asked = replace(self.observations, points=points, paths=paths)
        if calibration.offsets:
            asked, _ = with_run_numbers(asked, calibration.offsets, calibration.runs)
        population = calibration.population
        task = to_tasks(asked, population.equation, calibration.reference_temperature_K)
        columns = {name: column[0] for name, column in task.columns.items()}
        found = dict(zip(names, calibration.predict(columns), strict=True))
        if observable.unit.startswith("log10"):
            found = {name: 10 ** np.clip(value, -30, 30) for name, value in found.items()}
        return frame.assign(**found)

    def plot(
        self,
        path: str | Path | None = None,
        temperature_C: tuple[float, float] | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """Draw the diagram, return the matplotlib axes, and write it to a PNG or SVG.

        Parameters
        ----------
        temperature_C
            Lowest and highest temperature that it spans.
        ax
            Axes to draw on; by default new ones.

        Raises
        ------
        MatmlError
            For temperatures that do not rise, or that cannot be.
        """
        ends = None
        if temperature_C is not None:
            low, high = (float(value) + ZERO_CELSIUS for value in temperature_C)
            if not 0 < low < high <= HOTTEST_K:
                raise MatmlError(
                    f"temperature_C: from {temperature_C[0]:g} to {temperature_C[1]:g} °C; give "
                    f"two that rise, above {-ZERO_CELSIUS:g} and up to "
                    f"{HOTTEST_K - ZERO_CELSIUS:.0f} °C"
                )
            ends = low, high
        _, figure = next(diagrams(self.calibration, None, ends))
        if path is not None:
            write(figure, [Path(path)])
        if ax is None:
            from matplotlib import pyplot

            ax = pyplot.subplots(figsize=(6.4, 5.0), layout="constrained")[1]
        draw_on(ax, figure)
        return ax

    def suggest(
        self,
        count: int = 3,
        *,
        temperature_C: tuple[float, float] | None = None,
        time_s: tuple[float, float] | None = None,
        heating_rate_K_per_s: tuple[float, float] | None = None,
        longest_s: float | None = None,
        cost: tuple[float, float] | None = None,
    ) -> pd.DataFrame:
        """Return the experiments that are expected to tell most, best first.

        `variance_left` is the part of the variance over the ranges that is left after each. Ranges
        are those in which predictions matter; by default those of the population. `longest_s` is
        that of an experiment, `cost` what one costs and each hour of it, in any currency: those
        are proposed that tell most for it.
        """
        own, ranges = self.observations, (temperature_C, time_s, heating_rate_K_per_s)
        region, seed = region_of(self.population, ranges), self.calibration.seed
        priced = None if cost is None else Price(*cost)
        found = design(
            self.population, own.alloys, own, region, region, count, seed, longest_s, priced
        )
        return found.proposals

    def reach(
        self, target: str, *, cost: Cost = "trials", furnace: Mapping[str, float] | None = None
    ) -> NextTrial:
        """Return the next trial on the way to a target such as "hardness_HRC = 45 +- 1".

        `cost` is what to spare: "trials", "time" or "energy"; `furnace` holds the keys of the file
        of `matml kinetics reach --furnace`.
        """
        own, seed = self.observations, self.calibration.seed
        able = validate(Furnace, dict(furnace or {}), "furnace")
        wanted = Target.of(target)
        return reach(self.population, own.alloys, own, wanted, cost=cost, furnace=able, seed=seed)


def _shown(table: pd.DataFrame) -> str:
    form: Any = f"{{:.{DIGITS}g}}".format
    return table.to_string(index=False, float_format=form)
