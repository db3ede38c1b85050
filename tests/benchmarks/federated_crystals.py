"""What laboratories gain that train one network together, each on other families of crystals.

    python tests/benchmarks/federated_crystals.py RESULTS [--laboratories 8] [--partitions 3]

RESULTS is the folder of a default run (its structures and graphs are used). Formation energy. In
partition p, fold p of five of the large families is for test and held by nobody (the next fold is
left out, too); all other families are dealt to laboratories at random. Every way takes the same
number of steps on the same number of crystals: each laboratory alone, the pooled data, and together
by rounds. After K labels of an unseen family each network is fine-tuned by the default run's Adam
steps. Brackets: 95 % bootstrap over unseen families, paired where ways are compared.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from matml.core.standardise import Standardisation
from matml.federated.networks import Rounds, train_together
from matml.properties.data.batches import GraphBatches
from matml.properties.data.split import draw_episodes, same_materials, split_families
from matml.properties.dataset import learned_properties, learned_values, without_labels
from matml.properties.networks.adaptation import fine_tuned_weights, predict_many
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.properties.networks.episodes import episode_batch
from matml.properties.networks.pretrain import Pretraining, predict, pretrain
from matml.structures.crystals import CrystalSet

PROPERTY, SHOTS, FOLDS = "formation_energy_eV_per_atom", (0, 5, 10), 5
RATE, STEPS = 3e-4, 10
PLAIN = Rounds(moments=False)
WAYS = {
    "averaged moments": Rounds(),
    "FedAvg": PLAIN,
    "Per-FedAvg, first order": replace(Rounds(), inner_rate=0.01),
}


def dealt(sizes, laboratories, seed):
    """Return the laboratory of each family: in random order to who has the fewest crystals."""
    held, place = np.zeros(laboratories, int), {}
    for family in np.random.default_rng([seed, 21]).permutation(sorted(sizes)):
        place[family] = int(held.argmin())
        held[place[family]] += sizes[family]
    return place


def errors(network, batches, episodes, scale):
    """Yield family, shots and mean absolute error in eV/atom of each episode."""
    for (family, shots), own in episodes.groupby(["family", "shots"]):
        queries = [np.asarray(rows, int) for rows in own["query"]]
        if shots == 0:
            found = [predict(network, batches, rows)[:, 0] for rows in queries]
        else:
            supports = [episode_batch(batches, rows, 0) for rows in own["support"]]
            weights = fine_tuned_weights(
                network, supports, learning_rate=RATE, checkpoints=[STEPS]
            )[STEPS]
            whole = [episode_batch(batches, rows, 0) for rows in queries]
            found = predict_many(network, weights, whole, 0)
        for rows, prediction in zip(queries, found, strict=True):
            wrong = np.abs(prediction - batches.labels(rows)[:, 0]).mean() * scale
            yield family, shots, wrong


def score(crystals, partition, laboratories, ways):
    """Yield rows: partition, way, family, shots, error."""
    table = crystals.table
    split = split_families(
        table, smallest_family=18, smallest_task=8, members=2, cross_folds=2, fold=partition
    )
    known = without_labels(crystals, same_materials(crystals, split), [PROPERTY])
    values = learned_values(known.table, learned_properties(known.table, [PROPERTY]))
    families = table["family"].to_numpy()
    rows = split.training_rows(families)
    rows = rows[~np.isnan(values[rows, 0])]
    # mean and deviation are sums, which laboratories can add up
    standard = Standardisation.of(values[rows])
    batches = GraphBatches(
        crystals, standard.apply(learned_values(table, learned_properties(table, [PROPERTY])))
    )
    scale = float(standard.deviation[0])
    episodes = draw_episodes(
        table, split.test, [PROPERTY], shots=SHOTS, draws=5, smallest_query=5, seed=partition
    )
    place = dealt(pd.Series(families[rows]).value_counts().to_dict(), laboratories, partition)
    held = {str(number): {} for number in range(laboratories)}
    for family, own in pd.Series(rows).groupby(families[rows]):
        held[str(place[family])][family] = own.to_numpy()
    steps = Rounds().rounds * Rounds().local_steps

    def alone(own, size):
        network = fresh(partition)
        epochs = max(1, round(steps * Rounds().batch_size * (size // 32) / len(own)))
        settings = Pretraining((1.0,), epochs, min(size, 128), seed=partition)
        pretrain(network, batches, own, settings)
        return network

    def together(settings):
        network = fresh(partition)
        train_together(network, batches, held, replace(settings, seed=partition))
        return network

    made = {"pooled": lambda: [alone(rows, 32 * laboratories)]}
    made |= {way: lambda own=own: [together(own)] for way, own in WAYS.items()}
    made["alone"] = lambda: [alone(np.concatenate([*own.values()]), 32) for own in held.values()]
    # by these two every way is judged
    for way in dict.fromkeys(["pooled", "alone", *(ways or made)]):
        begin = time.perf_counter()
        for network in made[way]():
            for family, shots, wrong in errors(network, batches, episodes, scale):
                yield {
                    "partition": partition,
                    "way": way,
                    "family": family,
                    "shots": shots,
                    "error": wrong,
                }
        print(f"partition {partition}, {way}: {time.perf_counter() - begin:.0f} s", flush=True)


def fresh(seed):
    """Return the default run's architecture with fresh weights."""
    torch.manual_seed(seed)
    return CrystalNetwork(1)


def told(table, draws=2000):
    """Print errors by way and shots, and what part of the gap from alone to pooled is closed."""
    weights = sum(p.numel() for p in CrystalNetwork(1).parameters())
    print(f"{weights:,} weights: {4 * weights:,} bytes a vector; 3 with the moments")
    generator = np.random.default_rng(0)
    for shots, own in table.groupby("shots"):
        means = own.pivot_table(index=["partition", "family"], columns="way", values="error")
        means = means.dropna(axis=1, how="all")
        for way in means:
            both = means[["alone", "pooled", way]].dropna().to_numpy()
            picks = both[generator.integers(len(both), size=(draws, len(both)))].mean(1)
            low, high = np.quantile(picks[:, 2], [0.025, 0.975])
            gap = (picks[:, 0] - picks[:, 2]) / (picks[:, 0] - picks[:, 1])
            closed = (both[:, 0] - both[:, 2]).sum() / (both[:, 0] - both[:, 1]).sum()
            low_gap, high_gap = np.quantile(gap, [0.025, 0.975])
            print(
                f"K = {shots:2d}  {way:24s} {both[:, 2].mean():.3f} [{low:.3f}, {high:.3f}] eV/atom"
                f", {len(both)} families; of the gap {closed:.0%} [{low_gap:.0%}, {high_gap:.0%}]"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--laboratories", type=int, default=8)
    parser.add_argument("--partitions", type=int, default=3)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--ways", nargs="*", default=(), choices=WAYS)
    parser.add_argument("--out", type=Path, help="CSV that rows are added to.")
    given = parser.parse_args()
    crystals = CrystalSet.open(given.results / "structures", given.results / "graphs")
    rows = []
    for partition in range(given.first, given.first + given.partitions):
        rows += score(crystals, partition, given.laboratories, given.ways)
        if given.out:
            pd.DataFrame(rows).to_csv(given.out, index=False)
    told(pd.DataFrame(rows))


if __name__ == "__main__":
    main()
