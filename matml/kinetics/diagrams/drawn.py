"""All tables and figures of a calibrated alloy: the diagrams that suit what was observed of it."""

from collections.abc import Iterator

import pandas as pd

from matml.figures.figure import Figure
from matml.kinetics.data.columns import on_history
from matml.kinetics.data.units import ZERO_CELSIUS
from matml.kinetics.diagrams.cct import cooling_table
from matml.kinetics.diagrams.curves import curve_table, figure_of, has_curves, run_table
from matml.kinetics.diagrams.figures import cct_figure, level_figure, ttt_figure
from matml.kinetics.diagrams.quantities import LEVELS, STARTS, Subject
from matml.kinetics.diagrams.ttt import level_table, temperature_grid, time_table
from matml.kinetics.inference.calibration import Calibration


def diagrams(
    result: Calibration,
    rest: pd.DataFrame | None = None,
    temperature_K: tuple[float, float] | None = None,
) -> Iterator[tuple[pd.DataFrame, Figure]]:
    """Yield table and figure of each diagram; the figure's name is that of their files.

    Parameters
    ----------
    rest
        Observations of the alloy that it was not calibrated from, to be drawn along.
    temperature_K
        Lowest and highest temperature of a diagram; by default the data's, a little wider.
    """
    points = result.observations.points
    if result.population.kind in STARTS:
        return
    equation = result.population.equation
    simulated = result.observations.simulated
    subject = Subject(result.alloy, simulated, equation.title, len(points))
    along = on_history(points)
    if along.any():
        table = run_table(result)
        yield table, figure_of(result, subject, table, along=True)
    if has_curves(result):
        if not along.all():
            table = curve_table(result)
            yield table, figure_of(result, subject, table, along=False)
        return
    grid = temperature_grid(result, rest, temperature_K)
    if level := LEVELS.get(result.population.kind):
        table = level_table(result, grid)
        yield table, level_figure("ttt", subject, level, table, points, rest)
    else:
        table = time_table(result, grid)
        yield table, ttt_figure("ttt", subject, table, points, rest)
    if equation.name == "c_curve":
        table = cooling_table(result, grid)
        yield table, cct_figure("cct", subject, table, float(grid.max()) - ZERO_CELSIUS)
