"""Columns in a wrong unit: how often it is noticed, and how often a right alloy is accused.

    python tests/benchmarks/kinetics_units.py FOLDER [--points 5]

FOLDER holds the measured sets (see `matml kinetics benchmark --real`). Alloys of a held-out fold,
and simulated low-alloy steels under the population of stainless ones, are given as measured, and
with one column in another unit than its name says. Printed: how many are said to lie outside of
what the population has seen, how many are accused of another unit (of the right one, where it is
wrong), and how many are left without either.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from matml.kinetics.data.batch import to_tasks
from matml.kinetics.data.observations import read_observations
from matml.kinetics.data.prepare import simulate_dataset
from matml.kinetics.equations import equation_named
from matml.kinetics.evaluation.benchmark import grouped_folds
from matml.kinetics.evaluation.pipeline import measured_sets
from matml.kinetics.inference.diagnostics import range_notes, unit_notes
from matml.kinetics.inference.population import learn_population
from matml.kinetics.settings import KineticsSection

WRONG = {
    "as measured": ("temperature_K", 1.0, 0.0, ""),
    "Celsius called kelvin": ("temperature_K", 1.0, -273.15, "C"),
    "hours called seconds": ("time_s", 1 / 3600, 0.0, "h"),
    "minutes called seconds": ("time_s", 1 / 60, 0.0, "min"),
    "log10 of seconds called seconds": ("time_s", 1.0, 0.0, "log10"),
}


def judged(population, own):
    """Return (outside, units accused) of one alloy's observations."""
    prior = population.prior.of(own.alloys)
    reference, _ = population.reference_temperature(own)
    task = to_tasks(own, population.equation, reference)
    known, column = population.data_card, population.observable.column
    accused = unit_notes(task, prior, column, known, {})
    return bool(range_notes(own.points, known, {})), [
        note.split()[4].strip(",") for note in accused
    ]


def rows_of(title, population, alloys, points):
    """Yield one row per alloy and error."""
    for number, (name, everything) in enumerate(alloys):
        order = np.random.default_rng([7, number]).permutation(len(everything.points))[:points]
        for wrong, (column, factor, offset, unit) in WRONG.items():
            few = everything.points.iloc[sorted(order)].reset_index(drop=True)
            if unit == "log10":
                # a negative time is refused before
                few = few[few[column] > 1].reset_index(drop=True)
                few[column] = np.log10(few[column])
            else:
                few[column] = few[column] * factor + offset
            if few.empty:
                continue
            outside, accused = judged(population, replace(everything, points=few))
            yield title, wrong, name, outside, bool(accused), unit in accused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--points", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, points, alloys, equation in measured_sets(arguments.folder):
        data = read_observations(points, alloys)
        held = grouped_folds(data, 3, 0)[0]
        population, _ = learn_population(
            data, equation_named(equation), 2.0, 0, held_out=held, origin=points
        )
        own = [(alloy, data.select([alloy])) for alloy in held]
        rows += rows_of(f"{name}, held out", population, own, arguments.points)
        if name == "stainless_ttt":
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder)
                simulate_dataset("ttt", KineticsSection(), place, 1)
                other = read_observations(place / "observations.csv", place / "alloys.csv")
            own = [(alloy, other.select([alloy])) for alloy in other.names[:15]]
            rows += rows_of("low-alloy steels under stainless", population, own, arguments.points)
    table = pd.DataFrame(rows, columns=["set", "given", "alloy", "outside", "accused", "rightly"])
    table["neither"] = ~(table["outside"] | table["accused"])
    counts = table.groupby(["set", "given"], sort=False)
    print(
        counts[["outside", "accused", "rightly", "neither"]]
        .sum()
        .assign(alloys=counts.size())
        .to_string()
    )


if __name__ == "__main__":
    main()
