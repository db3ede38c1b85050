"""Alloys inside and outside of the population's class, from few points: mixture, learned, neither.

    python tests/benchmarks/kinetics_outside.py FOLDER [--draws 4] [--shots 1 2 3 5 10]

FOLDER holds the measured sets (see `matml kinetics benchmark --real`). Outside, a whole class each:
low-alloy steels (simulated by published coefficients) under the stainless ones and these under
them; diagrams like those of tool steels (made up) under the stainless ones; recrystallisation under
glasses and the reverse (simulated from published parameters, no composition). Inside: held-out
folds of each measured set. Each alloy's other observations are predicted from a few random ones by
the learned prior alone, by its mixture with the generic one (what `calibrate` does), and by least
squares; the same draws for all. Printed: mean over alloys of RMSE and of coverage of the 90 % band;
then the mean over the sets outside of the mixture's RMSE over that of least squares.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from matml.bayes.importance_sampling import sample_posterior
from matml.kinetics.data.batch import to_tasks
from matml.kinetics.data.observations import Observations, observations_of, read_observations
from matml.kinetics.data.prepare import simulate_dataset
from matml.kinetics.equations import equation_named
from matml.kinetics.evaluation.benchmark import draw_episodes, grouped_folds
from matml.kinetics.evaluation.pipeline import measured_sets
from matml.kinetics.inference.population import learn_population
from matml.kinetics.inference.predict import generic_least_squares, predict_draws
from matml.kinetics.settings import KineticsSection

SIMULATED, TOOL = "low-alloy (simulated)", "like tool steels (made up)"
GLASS, CRYSTALLISED = "glasses (simulated)", "recrystallisation (simulated)"
PROCESSES = {GLASS: "crystallisation of glass", CRYSTALLISED: "static recrystallisation"}
OUTSIDE = (
    *(("stainless_ttt", SIMULATED), (SIMULATED, "stainless_ttt"), ("stainless_ttt", TOOL)),
    *((CRYSTALLISED, GLASS), (GLASS, CRYSTALLISED)),
)
"""Learned from, and calibrated."""


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
            priors = population.prior.of(
                episodes.alloys, support, like_the_learned=method == "learned"
            )
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


def like_tool_steels(count: int = 12, seed: int = 7) -> Observations:
    """Return made-up TTT diagrams with slow, high noses, as chromium-rich tool steels have."""
    generator, equation = np.random.default_rng(seed), equation_named("c_curve")
    points, alloys = [], []
    for number in range(count):
        values = {
            "nose_half_time_s": np.exp(generator.uniform(np.log(300), np.log(30_000))),
            "nose_temperature_K": generator.uniform(970, 1030),
            "nose_width_K": generator.uniform(25, 60),
            "undercooling_depth_K": generator.uniform(60, 200),
            "avrami_exponent": generator.uniform(1.5, 3.5),
        }
        kelvin = values["nose_temperature_K"] + np.linspace(-90, 50, 11)
        for fraction in (0.01, 0.99):
            columns = {"temperature_K": torch.tensor(kelvin)}
            columns["fraction"] = torch.full_like(columns["temperature_K"], fraction)
            log10_time = equation.predict("ttt", equation.standardise(values), columns).numpy()
            log10_time = log10_time + generator.normal(0, 0.04, len(kelvin))
            points += [
                (f"tool {number}", at, 10**time, fraction)
                for at, time in zip(kelvin, log10_time, strict=True)
                if time < 6
            ]
        ranges = {"C": (0.4, 1.5), "Cr": (4, 12), "Mo": (0.5, 1.5), "V": (0.3, 1.0)}
        amounts = {f"{name}_wt_pct": generator.uniform(*ends) for name, ends in ranges.items()}
        alloys.append({"alloy": f"tool {number}", **amounts})
    columns = ["alloy", "temperature_K", "time_s", "ttt_fraction"]
    return observations_of(pd.DataFrame(points, columns=columns), pd.DataFrame(alloys))


def simulated(name: str, place: Path) -> Path:
    """Write simulated observations and alloys into a folder; returns it."""
    settings, place = KineticsSection(), place / name
    if process := PROCESSES.get(name):
        table = pd.read_csv(settings.simulation.jmak_table)
        place.mkdir()
        table[table["process"] == process].to_csv(place / "published.csv", index=False)
        chosen = settings.simulation.model_copy(update={"jmak_table": place / "published.csv"})
        settings = settings.model_copy(update={"simulation": chosen})
    simulate_dataset("jmak" if process else "ttt", settings, place, 1)
    return place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 3, 5, 10])
    parser.add_argument("--alloys", type=int, default=15, help="Of a class outside, at most.")
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3], help="Of 3, inside.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, files = {TOOL: like_tool_steels()}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, points, alloys, equation in measured_sets(arguments.folder):
            data[name], files[name] = read_observations(points, alloys), (points, equation)
        for name in (SIMULATED, GLASS, CRYSTALLISED):
            place = simulated(name, Path(folder))
            data[name] = read_observations(place / "observations.csv", place / "alloys.csv")
            equation = "jmak" if name in PROCESSES else "c_curve"
            files[name] = place / "observations.csv", equation
        parts = []
        for known, other in (*OUTSIDE, ("stainless_ttt", None), ("tempering", None)):
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
    table = table.groupby(["set", "points", "method"], sort=False).mean()
    columns = ["rmse", "coverage", "unlike"]
    wide = table.pivot_table(columns, ["set", "points"], "method", sort=False)
    print(wide.round(3).to_string())
    outside = wide[~wide.index.get_level_values("set").str.endswith("inside")]
    ratio = outside["rmse"].div(outside["rmse"]["least squares"], axis=0)[["learned", "mixture"]]
    ratio = ratio.assign(coverage=outside["coverage"]["mixture"])
    print("\noutside, mean over sets: RMSE over that of least squares, coverage of the mixture")
    print(ratio.groupby("points").mean().round(3).to_string())


if __name__ == "__main__":
    main()
