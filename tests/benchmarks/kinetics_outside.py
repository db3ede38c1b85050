"""Alloys inside and outside of the population's class, from few points: mixture, learned, neither.

    python tests/benchmarks/kinetics_outside.py FOLDER [--draws 4] [--shots 1 3 5 10]

FOLDER holds the measured sets (see `matml kinetics benchmark --real`). Inside: held-out folds of
each set. Outside: simulated low-alloy steels under the stainless ones, these under the simulated
ones. Each alloy's other observations are predicted from a few random ones by the learned prior
alone, by its mixture with the generic one (what `calibrate` does), and by least squares; the same
draws for all. Printed: mean over alloys of RMSE and of coverage of the 90 % band.
"""

import argparse
import tempfile
from pathlib import Path

import pandas as pd
import torch

from matml.bayes.importance_sampling import sample_posterior
from matml.kinetics.data.batch import to_tasks
from matml.kinetics.data.observations import Observations, read_observations
from matml.kinetics.data.prepare import simulate_dataset
from matml.kinetics.equations import equation_named
from matml.kinetics.evaluation.benchmark import draw_episodes, grouped_folds
from matml.kinetics.evaluation.pipeline import measured_sets
from matml.kinetics.inference.population import learn_population
from matml.kinetics.inference.predict import generic_least_squares, predict_draws
from matml.kinetics.settings import KineticsSection


def score(population, unseen: Observations, shots, draws):
    """Yield (shots, method, alloy, rmse, coverage, probability of being unlike)."""
    equation, kind = population.equation, population.kind
    tasks = to_tasks(unseen, equation, population.reference_temperature_K)
    for count in shots:
        episodes = draw_episodes(tasks, unseen.alloys, count, draws, 0)
        if episodes is None:
            continue
        support = episodes.support
        for method in ("learned", "mixture"):
            priors = population.prior.of(episodes.alloys, like_the_learned=method == "learned")
            posterior = sample_posterior(support, priors)
            window = population.prior.window
            if method == "mixture":
                window = population.prior.window_for(support, posterior)
            value, low, high = predict_draws(
                equation, kind, posterior.draws, posterior.noise, episodes.columns, 0, window
            )
            error, covered = episodes.errors(value), episodes.coverage(low, high)
            for row in range(len(error)):
                name = unseen.names[int(episodes.rows[row])]
                numbers = (error[row], covered[row], posterior.generic[row])
                yield count, method, name, *map(float, numbers)
        fit = generic_least_squares(support, equation, population.observable.typical_noise, 0)
        value = equation.predict(kind, fit.position[:, None], episodes.columns)
        for row, error in enumerate(episodes.errors(value).tolist()):
            yield count, "least squares", unseen.names[int(episodes.rows[row])], error, None, None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 3, 5, 10])
    parser.add_argument("--alloys", type=int, default=15, help="Of a class outside, at most.")
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3], help="Of 3, inside.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, files = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, points, alloys, equation in measured_sets(arguments.folder):
            data[name], files[name] = read_observations(points, alloys), (points, equation)
        place = Path(folder)
        simulate_dataset("ttt", KineticsSection(), place, 1)
        points = place / "observations.csv"
        data["low-alloy, simulated"] = read_observations(points, place / "alloys.csv")
        files["low-alloy, simulated"] = points, "c_curve"
        parts = []
        for known, other in (
            ("stainless_ttt", "low-alloy, simulated"),
            ("low-alloy, simulated", "stainless_ttt"),
            ("stainless_ttt", None),
            ("tempering", None),
        ):
            points, equation = files[known]
            held = [[]] if other else grouped_folds(data[known], 3, 0)
            for number, names in enumerate(held, start=1):
                if not other and number not in arguments.folds:
                    continue
                population, _ = learn_population(
                    data[known], equation_named(equation), 2.0, 0, held_out=names, origin=points
                )
                unseen = (
                    data[other].select(data[other].names[: arguments.alloys])
                    if other
                    else (data[known].select(names))
                )
                rows = score(population, unseen, arguments.shots, arguments.draws)
                columns = ["points", "method", "alloy", "rmse", "coverage", "unlike"]
                title = f"{other} under {known}" if other else f"{known}, inside"
                parts.append(pd.DataFrame(rows, columns=columns).assign(set=title))
    table = pd.concat(parts)
    table = table.groupby(["set", "points", "method", "alloy"], sort=False).mean()
    table = table.groupby(["set", "points", "method"], sort=False).mean().round(3)
    columns = ["rmse", "coverage", "unlike"]
    index = ["set", "points"]
    print(table.pivot_table(columns, index, "method", sort=False).to_string())


if __name__ == "__main__":
    main()
