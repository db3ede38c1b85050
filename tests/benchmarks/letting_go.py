"""Does the default notice that what it learned is wrong here, and let go? Prints a table.

    python tests/benchmarks/letting_go.py --results results [--model results/model] [--draws 5]

Families that no training stage has seen, for each property: their labels as they are; against
another reference (plus 2.5 standard deviations); by another method (1.6 times and plus 0.8); and
another property under the same name (the volume per atom, brought to the spread of the labels).
Errors are in standard deviations of the property. "best other" is the lowest mean error of: the
default with right labels; and on the labels at hand their mean, ridge and extra-trees. Intervals:
95 % bootstrap over families of the paired ratio of mean errors.
"""

import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import click
import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import ExtraTreesRegressor

from matml.core.standardise import Standardisation
from matml.gp.shifts import AS_LEARNED
from matml.properties import FewShotPredictor, FittedPredictor
from matml.properties.baselines.support_only import support_ridge
from matml.properties.data.split import labelled_members
from matml.properties.methods.method import Episode, Pool
from matml.structures.crystals import CrystalSet

SHOTS = (2, 5, 10, 20, 50, 100)
LEFT = 8
"""Crystals that are left to predict, at least."""
RIGHT = "as they are"
OTHERS = ("mean", "ridge", "trees")


def changes(volume: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the labels [n], standardised, in each way in which they are given."""
    shape = (volume - volume.mean()) / volume.std()
    return {
        RIGHT: labels,
        "another reference": labels + 2.5,
        "another method": 1.6 * labels + 0.8,
        "another property": shape * labels.std() + labels.mean() + 1,
    }


def episode(
    fitted: FittedPredictor,
    pool: Pool,
    kept: Pool,
    x: np.ndarray,
    labels: np.ndarray,
    right: np.ndarray,
    drawn: tuple[np.ndarray, np.ndarray],
) -> dict[str, float]:
    """Return what the methods make of an episode; `kept` is the default that cannot let go."""
    a, q = drawn
    # errors of labels that another method spreads wider are larger
    spread = float(labels.std() / right.std())

    def error(prediction: np.ndarray | float, truth: np.ndarray = labels) -> float:
        return float(np.abs(prediction - truth[q]).mean())

    ((mean, deviation),) = pool.predict([Episode(a, labels[a], q)])
    width = fitted.method.half_width(deviation, len(a), np.zeros(len(q)))
    trees = ExtraTreesRegressor(100, max_features=0.3, random_state=0).fit(x[a], labels[a])
    return {
        "default": error(mean),
        "coverage": float((np.abs(mean - labels[q]) <= width).mean()),
        "no letting go": error(kept.predict([Episode(a, labels[a], q)])[0][0]),
        "right": spread * error(pool.predict([Episode(a, right[a], q)])[0][0], right),
        "mean": error(labels[a].mean()),
        "ridge": error(support_ridge(x[a][None], labels[a][None], [x[q]])[0]),
        "trees": error(trees.predict(x[q])),
    }


@click.command()
@click.option("--results", required=True, type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path), help="By default the shipped one.")
@click.option("--draws", default=5, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(results: Path, model: Path | None, draws: int, json_file: Path | None) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    predictor = FewShotPredictor.load(model)
    crystals = CrystalSet.open(results / "structures", results / "graphs")
    table = crystals.table
    rows: list[dict] = []
    for name in predictor.properties:
        fitted = predictor.fitted(name)
        scale = Standardisation.of(predictor.training["descriptors"].numpy())
        single = labelled_members(table, name).to_numpy()
        for family in predictor.held_out_families:
            own = np.flatnonzero((table["family"] == family).to_numpy() & single)
            if len(own) < SHOTS[0] + LEFT:
                continue
            encoded = predictor.encode(crystals.subset(own))
            x = scale.apply(encoded.descriptors)
            right = fitted.scale.standardise(table[name].to_numpy(float)[own])
            volume = table["volume_per_atom_A3"].to_numpy(float)[own]
            pool = fitted.over(encoded)
            kept = replace(pool, stack=replace(pool.stack, cases=AS_LEARNED), method=None)
            for kind, labels in changes(volume, right).items():
                for shots in (k for k in SHOTS if k + LEFT <= len(own)):
                    key = {"property": name, "family": family, "labels": kind, "shots": shots}
                    for draw in range(draws):
                        order = np.random.default_rng([draw, shots]).permutation(len(own))
                        drawn = order[:shots], order[shots:]
                        rows.append(key | episode(fitted, pool, kept, x, labels, right, drawn))
    scores = pd.DataFrame(rows)
    families = scores.groupby(["labels", "shots", "property", "family"], as_index=False).mean()
    lines = []
    for (kind, shots), group in families.groupby(["labels", "shots"], sort=False):
        means = group.mean(numeric_only=True)
        # the right labels of another property are no bar
        bars = [*OTHERS, *([] if kind == "another property" else ["right"])]
        best = means[bars].idxmin()
        ratio, low, high = _ratio(group["default"].to_numpy(), group[best].to_numpy())
        lines.append(
            {
                "labels": kind,
                "K": shots,
                "families": len(group),
                **{m: f"{means[m]:.3f}" for m in ("default", "no letting go", "right", *OTHERS)},
                "best other": best,
                "ratio": f"{ratio:.2f} [{low:.2f}, {high:.2f}]",
                "coverage": f"{means['coverage']:.2f}",
            }
        )
    click.echo(pd.DataFrame(lines).to_string(index=False))
    if json_file is not None:
        scores.to_json(json_file, orient="records")


def _ratio(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Return the ratio of the means of paired errors with its bootstrap interval."""
    rows = np.random.default_rng(0).integers(len(first), size=(2000, len(first)))
    drawn = first[rows].mean(1) / second[rows].mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(first.mean() / second.mean()), float(low), float(high)


if __name__ == "__main__":
    main()
