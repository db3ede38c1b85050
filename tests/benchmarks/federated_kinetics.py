"""What laboratories gain that learn one kinetic population together and keep their data.

    python tests/benchmarks/federated_kinetics.py FOLDER [--laboratories 4] [--partitions 3]

FOLDER holds the measured sets (see `matml kinetics benchmark --real`). The composition groups of
the tempering series are dealt to laboratories, several times; in grouped folds each held-out series
is calibrated from a few random observations under what its own laboratory learned alone from its
other series (without and with composition), under what all learned together by sums, and under what
`matml kinetics learn` makes of the pooled data. All on the same draws; intervals: bootstrap over
composition groups, paired.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from matml.federated.kinetics import FEWEST_ALLOYS, Laboratory, begin, learn_together, population
from matml.kinetics.data.batch import to_tasks
from matml.kinetics.data.observations import read_observations
from matml.kinetics.equations import equation_named
from matml.kinetics.evaluation.benchmark import draw_episodes, grouped_folds
from matml.kinetics.evaluation.compared import METHODS, Fold
from matml.kinetics.evaluation.methods import HEAVY_TAILED
from matml.kinetics.evaluation.pipeline import measured_sets
from matml.kinetics.inference.population import fit_training_alloys

SHOTS = 1, 2, 3, 5


def dealt(groups, laboratories, seed):
    """Return the laboratory of each composition group: as many groups each, at random."""
    order = np.random.default_rng([seed, 11]).permutation(sorted(set(groups)))
    return {group: number % laboratories for number, group in enumerate(order)}


def together(parts, equation, kind, reference):
    """Return the population that some laboratories learn by sums."""
    start = begin(equation, kind, reference, "benchmark")
    own = [Laboratory(start, part, str(number)) for number, part in enumerate(parts)]
    return population(learn_together(start, own)).prior


def score(observations, equation, laboratories, partition, folds, draws):
    """Yield rows: alloy, group, method, shots, mean error and coverage over the draws."""
    kind, cards = observations.kind, observations.alloys
    place = dealt(cards["composition_group"], laboratories, partition)
    at = cards.set_index("alloy")["composition_group"].map(place)
    for held in grouped_folds(observations, folds, partition):
        training = fit_training_alloys(observations, equation, 2.0, without=held)
        reference, known = training.reference_temperature_K, training.observations
        parts = [
            known.select([n for n in known.names if at[n] == number])
            for number in range(laboratories)
        ]
        parts = [part for part in parts if len(part.names) >= FEWEST_ALLOYS]
        shared = together(parts, equation, kind, reference)
        priors = {
            "together, by sums": lambda _, shared=shared: shared,
            "pooled data, with composition": lambda _, training=training: (
                training.composition_prior(2.0, 0)
            ),
        }
        alone = {}
        for number in {at[name] for name in held}:
            own = [name for name in known.names if at[name] == number]
            if len(own) >= FEWEST_ALLOYS:
                alone[number] = fit_training_alloys(
                    known, equation, 2.0, without=[n for n in known.names if n not in own]
                )
        for number, own in alone.items():
            unseen = observations.select([name for name in held if at[name] == number])
            methods = priors | {
                "alone": lambda _, own=own: own.composition_prior(2.0, 0, use_composition=False),
                "alone, with composition": lambda _, own=own: own.composition_prior(2.0, 0),
            }
            tasks = to_tasks(unseen, equation, reference)
            for method, prior in methods.items():
                heavy = {HEAVY_TAILED: prior(None)}
                fold = Fold(equation, kind, own.gaussian.prior, heavy, {}, 0.0)
                for shots in SHOTS:
                    episodes = draw_episodes(tasks, unseen.alloys, shots, draws, 0)
                    if episodes is None:
                        continue
                    predict = METHODS[HEAVY_TAILED](fold, episodes.support, episodes.alloys, 0)
                    value, low, high = predict(episodes.columns)
                    table = pd.DataFrame(
                        {
                            "row": episodes.rows.numpy(),
                            "error": episodes.errors(value).numpy(),
                            "coverage": episodes.coverage(low, high).numpy(),
                        }
                    )
                    means = table.groupby("row").mean()
                    rows = unseen.alloys.iloc[means.index]
                    yield from means.assign(
                        alloy=rows["alloy"].to_numpy(),
                        group=rows["composition_group"].to_numpy(),
                        method=method,
                        shots=shots,
                        partition=partition,
                    ).to_dict("records")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--laboratories", type=int, default=4)
    parser.add_argument("--partitions", type=int, default=3)
    parser.add_argument("--folds", type=int, default=6)
    parser.add_argument("--draws", type=int, default=4)
    given = parser.parse_args()
    [(_, data, alloys, equation)] = [s for s in measured_sets(given.folder) if s[0] == "tempering"]
    observations, declared = read_observations(data, alloys), equation_named(equation)
    rows = []
    for partition in range(given.partitions):
        rows += score(
            observations, declared, given.laboratories, partition, given.folds, given.draws
        )
        print(f"partition {partition + 1} of {given.partitions}", flush=True)
    table = pd.DataFrame(rows)
    keys = ["alloy", "group", "shots"]
    means = table.pivot_table(index=keys, columns="method", values="error").reset_index()
    covered = table.groupby(["method", "shots"])["coverage"].mean()
    series = means["alloy"].nunique()
    print(f"{series} series, {given.laboratories} laboratories: RMSE in HRC (coverage)")
    for method in table["method"].unique():
        cells = [
            f"{own[method].mean():.2f} ({covered[method, shots]:.2f})"
            for shots, own in means.groupby("shots")
        ]
        print(f"{method:32s}", *cells)
    for other in ("alone", "alone, with composition"):
        for shots, own in means.groupby("shots"):
            groups = own.groupby("group")[["together, by sums", other]].mean()
            ratio = groups["together, by sums"].sum() / groups[other].sum()
            pairs = groups.to_numpy()
            low, high = bootstrap_ratio(pairs)
            print(f"together / {other}, {shots} points: {ratio:.3f} [{low:.3f}, {high:.3f}]")


def bootstrap_ratio(pairs, draws=2000):
    """Return the 95 % interval of a ratio of means, pairs resampled."""
    picks = np.random.default_rng(0).integers(len(pairs), size=(draws, len(pairs)))
    sums = pairs[picks].sum(1)
    return np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])


if __name__ == "__main__":
    main()
