"""What a known column is worth as input of a property learned from its labels alone.

    python tests/benchmarks/own_inputs.py --results results [--json FILE]

`--results` is the folder of a run (`snakemake structures` is enough). One property of the embedded
tables plays the user's own, its companion (the other modulus; gap and refractive index) the column
that is known of every crystal. Supports are drawn within test families of the shipped model, and
over all of them. The networks have seen the property on *other* families, which flatters both
columns alike: read the ratio. Errors on the learned scale; intervals over families, or over draws
where supports are pooled.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import RidgeCV

from matml.core.files import read_table, write_json
from matml.core.statistics import bootstrap_interval
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.structures.crystals import CrystalSet
from matml.structures.settings import STRUCTURES

PAIRS = (
    ("shear_modulus_GPa", "bulk_modulus_GPa"),
    ("bulk_modulus_GPa", "shear_modulus_GPa"),
    ("refractive_index", "band_gap_eV"),
    ("band_gap_eV", "refractive_index"),
)
LINEAR = {"band_gap_eV"}
SHOTS, POOLED, DRAWS, FEWEST, MOST = (5, 10, 20), (10, 25, 100), 5, 5, 100
WITHOUT, WITH = "without the column", "with it"


def episodes(table: pd.DataFrame, known: np.ndarray) -> Iterator[tuple]:
    """Yield setting, family or draw, labels, support and query."""
    random = np.random.default_rng(0)
    for family, rows in table.groupby("family").indices.items():
        rows = rows[known[rows]]
        for shots in SHOTS:
            for _ in range(DRAWS if len(rows) >= shots + FEWEST else 0):
                order = random.permutation(rows)
                yield "within a family", family, shots, order[:shots], order[shots:][:MOST]
    for shots in POOLED:
        for draw in range(4 * DRAWS):
            order = random.permutation(np.flatnonzero(known))
            yield "pooled", str(draw), shots, order[:shots], order[shots:][:MOST]


def predict(
    predictor: FewShotPredictor, crystals: EncodedCrystals, goal: str, column: str, episode: tuple
) -> dict[str, np.ndarray]:
    """Return what each method says of the query, on the learned scale."""
    *_, support, query = episode
    table = crystals.crystals.table
    labels = table[goal].to_numpy(float)[support]
    own = predictor.fitted("own", scale="linear" if goal in LINEAR else "log")
    found, scale = {}, (lambda x: x) if goal in LINEAR else np.log10
    for name, inputs in ((WITHOUT, ()), (WITH, (column,))):
        fitted = replace(own, inputs=inputs)
        adapted = fitted.adapted_to(crystals[support], labels, check_units=False)
        found[name] = scale(adapted.predict(crystals[query])[0])
    values = np.log10(table[[column]].to_numpy(float))
    both = np.hstack([crystals.descriptors, values])
    trees = ExtraTreesRegressor(200, max_features=0.3, random_state=0)
    found["extra-trees, column and descriptors"] = trees.fit(both[support], scale(labels)).predict(
        both[query]
    )
    ridge = RidgeCV(np.logspace(-3, 2, 6)).fit(values[support], scale(labels))
    found["ridge on the column"] = ridge.predict(values[query])
    return found


def main() -> None:
    """Print the errors and their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    predictor = FewShotPredictor.load()
    table = read_table(options.results / "structures/structures.parquet", STRUCTURES)
    table = table[table["family"].isin(predictor.card["test_families"])]
    table = table[table["duplicate_of"].fillna("") == ""]
    records = []
    for goal, column in PAIRS:
        own = table[table[goal].gt(0) & table[column].gt(0)]
        own = own.reset_index(drop=True)
        crystals = predictor.encode(CrystalSet.from_table(own, predictor.encoder.graphs))
        truth = own[goal].to_numpy(float)
        truth = truth if goal in LINEAR else np.log10(truth)
        for episode in episodes(own, np.ones(len(own), bool)):
            setting, task, shots, _, query = episode
            for method, found in predict(predictor, crystals, goal, column, episode).items():
                error = float(np.abs(found - truth[query]).mean())
                key = {"property": goal, "setting": setting, "task": task, "shots": shots}
                records.append({**key, "method": method, "error": error})
    scores = pd.DataFrame(records)
    keys = ["property", "setting", "shots"]
    tasks = scores.pivot_table("error", [*keys, "task"], "method")
    for key, group in tasks.groupby(level=keys):
        gain = (group[WITHOUT] - group[WITH]).to_numpy()
        low, high = bootstrap_interval(gain)
        errors = ", ".join(f"{name} {group[name].mean():.4f}" for name in group)
        print(
            *key, f"({len(group)} tasks): {errors}; "
            f"lower by {gain.mean():.4f} [{low:.4f}, {high:.4f}], "
            f"ratio {group[WITH].mean() / group[WITHOUT].mean():.2f}"
        )  # fmt: skip
    if options.json:
        write_json(options.json, records)


if __name__ == "__main__":
    main()
