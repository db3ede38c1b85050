"""One gross outlier among a few points of a measured alloy: its cost, with and without `--robust`.

    python tests/benchmarks/kinetics_outliers.py FOLDER [--points 6] [--draws 4]

FOLDER holds the measured sets (see `matml kinetics benchmark --real`). Each alloy of a held-out
fold is calibrated from a few random observations, as measured and with one of them moved by a
gross error (planted: 1.5 decades of time, 15 HRC), and its other observations are predicted. The
table has the mean over alloys with a 95 % bootstrap interval over composition groups, all methods
on the same draws.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from matml.kinetics.data.batch import to_tasks
from matml.kinetics.data.observations import read_observations
from matml.kinetics.equations import equation_named
from matml.kinetics.evaluation.benchmark import grouped_folds
from matml.kinetics.evaluation.pipeline import measured_sets
from matml.kinetics.inference.calibrate import ROBUST_DOF, calibrate, calibrate_without_outliers
from matml.kinetics.inference.population import learn_population

GROSS = {"ttt": 1.5, "hardness": 15.0}
METHODS = {
    "normal errors": (calibrate, math.inf),
    "without outliers": (calibrate_without_outliers, math.inf),
    "robust": (calibrate, ROBUST_DOF),
    "robust, without outliers": (calibrate_without_outliers, ROBUST_DOF),
}


def planted(own, kind, generator):
    """Return the observations with one of them grossly wrong, up or down."""
    points = own.points.copy()
    row, sign = generator.integers(len(points)), generator.choice([-1, 1])
    if kind == "ttt":
        points.loc[row, "time_s"] *= 10 ** (sign * GROSS[kind])
    else:
        points.loc[row, "hardness_HRC"] += sign * GROSS[kind]
    return replace(own, points=points)


def errors(name, points, alloys, equation, count, draws, folds):
    """Yield (group, alloy, planted, method, rmse, coverage) of one set's held-out alloys."""
    observations = read_observations(points, alloys)
    declared = equation_named(equation)
    every = grouped_folds(observations, 6, 0)
    for held in (every[number - 1] for number in folds):
        population, _ = learn_population(
            observations, declared, 2.0, 0, held_out=held, origin=points
        )
        for alloy in held:
            everything = observations.select([alloy])
            if len(everything.points) < count + 5:
                continue
            group = everything.alloys["composition_group"].iloc[0]
            for draw in range(draws):
                generator = np.random.default_rng([1, draw, observations.names.index(alloy)])
                order = generator.permutation(len(everything.points))
                few, rest = (
                    replace(everything, points=everything.points.iloc[part].reset_index(drop=True))
                    for part in (order[:count], order[count:])
                )
                wrong = planted(few, observations.kind, generator)
                for is_planted, data in ((False, few), (True, wrong)):
                    for method, (function, dof) in METHODS.items():
                        found = function(population, data, alloy, 0, point_dof=dof)
                        task = to_tasks(rest, declared, found.reference_temperature_K)
                        columns = {key: column[0] for key, column in task.columns.items()}
                        value, low, high = found.predict(columns)
                        truth = columns["target"].numpy()
                        rmse = float(np.sqrt(np.mean((value - truth) ** 2)))
                        covered = float(np.mean((low <= truth) & (truth <= high)))
                        yield group, alloy, is_planted, method, rmse, covered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--points", type=int, default=6)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--folds", type=int, nargs="*", default=[1, 2, 3, 4, 5, 6], help="Of 6.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name, points, alloys, equation in measured_sets(arguments.folder):
        rows = errors(
            name, points, alloys, equation, arguments.points, arguments.draws, arguments.folds
        )
        columns = ["group", "alloy", "planted", "method", "rmse", "coverage"]
        table = pd.DataFrame(rows, columns=columns)
        mean = table.groupby(["group", "alloy", "planted", "method"]).mean().reset_index()
        wide = mean.pivot_table(index=["group", "alloy"], columns=["planted", "method"])
        groups = wide.index.get_level_values("group").unique()
        generator = np.random.default_rng(0)
        again = [wide.loc[generator.choice(groups, len(groups))].mean() for _ in range(1000)]
        ends = pd.DataFrame(again).quantile([0.025, 0.975])
        print(f"{name}, {arguments.points} points, {len(wide)} alloys, {arguments.draws} draws")
        for is_planted in (False, True):
            for method in METHODS:
                key = ("rmse", is_planted, method)
                print(
                    f"  {'one gross outlier' if is_planted else 'as measured':18} {method:26}"
                    f"{wide[key].mean():8.3f} [{ends[key].iloc[0]:.3f}, {ends[key].iloc[1]:.3f}]"
                    f"  coverage {wide[('coverage', is_planted, method)].mean():.3f}"
                )
        for method in list(METHODS)[1:]:
            gain = [w["rmse", True, method] / w["rmse", True, "normal errors"] for w in again]
            low, high = np.quantile(gain, [0.025, 0.975])
            ratio = wide["rmse", True, method].mean() / wide["rmse", True, "normal errors"].mean()
            print(
                f"  with the outlier, {method} / normal errors: {ratio:.3f} [{low:.3f}, {high:.3f}]"
            )


if __name__ == "__main__":
    main()
