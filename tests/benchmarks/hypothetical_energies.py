"""How far off are formation energies of hypothetical crystals, and what mends it? Prints a table.

    python tests/benchmarks/hypothetical_energies.py --results results [--json FILE]

Training crystals of families left out in turn, without any label of theirs, those above the hull
apart from the stable ones. What a way has to learn is learned from the other folds:

- as it is: the stack, with deviations that do not go with the prediction;
- deviation by prediction: the default of all crystals;
- energy above the known hull: a line in the predicted energy above the hull of the known crystals
  of other families, and an interval for each part of its range;
- declared, median or mean: what the errors of crystals above the hull are, for crystals that are
  declared to be hypothetical (the mean is kept: `method="gp_stack_hypothetical"`);
- declared, with energy above the known hull: a line in it, and in the prediction, for these.
"""

import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import click
import numpy as np
import pandas as pd
import torch

from matml.properties.data.descriptors import describe
from matml.properties.dataset import Workbench
from matml.properties.settings import PropertiesSection
from matml.properties.stack.base_models import Inputs
from matml.properties.stack.calibrate import ABOVE_HULL, trend_of
from matml.properties.stack.conformal import LEVEL, weighted_quantile
from matml.properties.stack.fit import ENERGY, learn, network_predictions, training_labels
from matml.screening.score.convex_hull import KnownHull

PARTS = (-np.inf, -0.05, 0.0, 0.05, 0.1, 0.2, np.inf)
"""Of the predicted energy above the known hull, eV/atom."""
SPAN = (-0.3, 0.6)
"""Beyond which the line in it is held."""
Way = Callable[[pd.DataFrame, pd.DataFrame], tuple[pd.Series, pd.Series]]


def unseen(results: Path) -> pd.DataFrame:
    """Return errors and deviations of training crystals of families left out in turn, eV/atom."""
    settings = PropertiesSection()
    bench = Workbench.open(
        results / "structures", results / "graphs", results / "properties", settings
    )
    members = [results / f"properties/members/{i}" for i in range(bench.split.members)]
    networks = network_predictions(bench, members, settings, "cpu")
    column = bench.names.index(ENERGY)
    inputs = Inputs(describe(bench.crystals), networks)
    known, table = training_labels(bench, inputs, column), bench.crystals.table
    learned = learn(known, ENERGY, column, settings, seed=0)
    trend = trend_of(learned.scores, len(learned.groups))
    training = bench.split.training_rows(bench.families)
    training = training[~np.isnan(bench.targets[training, column])]
    centre = bench.standardisation.mean[column]
    unit = bench.standardisation.deviation[column]
    parts = []
    for number, rows in enumerate(learned.groups):
        said = learned.scores[0][number]
        own = rows[said.query]
        parts.append(
            pd.DataFrame(
                {
                    "row": training[own],
                    "fold": known.folds[own],
                    "hypothetical": known.hull[own] > ABOVE_HULL,
                    "prediction": said.prediction * unit + centre,
                    "error": said.error * unit,
                    "plain": said.deviation * unit,
                    "deviation": said.deviation * trend.factor(said.prediction) * unit,
                    "weight": said.weights,
                }
            )
        )
    found = pd.concat(parts, ignore_index=True)
    fold = table["family"].map(bench.split.folds)
    hulls = {k: KnownHull.of(table[fold.notna() & (fold != k)]) for k in found["fold"].unique()}
    found["above"] = [
        own.prediction - hulls[own.fold].energy(table["atomic_numbers"].iloc[own.row])[0]
        for own in found.itertuples()
    ]
    return found


def scaled(deviation: str) -> Way:
    """Return the way that leaves predictions as they are."""

    def way(known: pd.DataFrame, asked: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
        ratio = (known["error"].abs() / known[deviation]).to_numpy()
        scale = weighted_quantile(ratio, known["weight"].to_numpy(), LEVEL)
        return asked["error"], asked[deviation] * scale

    return way


def by_hull(known: pd.DataFrame, asked: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Correct by the predicted energy above the known hull."""

    def line(rows: pd.DataFrame) -> np.ndarray:
        return np.stack([np.ones(len(rows)), rows["above"].clip(*SPAN)], 1)

    slope = np.linalg.lstsq(line(known), known["error"], rcond=None)[0]
    ratio = (known["error"] - line(known) @ slope).abs() / known["deviation"]
    part = pd.cut(known["above"], PARTS, labels=False)
    scales = ratio.groupby(part).quantile(LEVEL)
    widths = asked["deviation"] * pd.cut(asked["above"], PARTS, labels=False).map(scales)
    return asked["error"] - line(asked) @ slope, widths


def declared(average: str) -> Way:
    """Return the way that knows which crystals are hypothetical."""

    def way(known: pd.DataFrame, asked: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
        own = known[known["hypothetical"]]
        offset = own["error"].agg(average)
        scale = ((own["error"] - offset).abs() / own["deviation"]).quantile(LEVEL)
        return asked["error"] - offset, asked["deviation"] * scale

    return way


def declared_by_hull(known: pd.DataFrame, asked: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """The same, with a line in the energy above the known hull and in the prediction."""

    def line(rows: pd.DataFrame) -> np.ndarray:
        return np.stack([np.ones(len(rows)), rows["above"].clip(*SPAN), rows["prediction"]], 1)

    own = known[known["hypothetical"]]
    slope = np.linalg.lstsq(line(own), own["error"], rcond=None)[0]
    scale = ((own["error"] - line(own) @ slope).abs() / own["deviation"]).quantile(LEVEL)
    return asked["error"] - line(asked) @ slope, asked["deviation"] * scale


WAYS: dict[str, Way] = {
    "as it is": scaled("plain"),
    "deviation by prediction": scaled("deviation"),
    "energy above the known hull": by_hull,
    "declared, median": declared("median"),
    "declared, mean": declared("mean"),
    "declared, with energy above the known hull": declared_by_hull,
}


def measured(name: str, way: Way, crystals: pd.DataFrame) -> list[dict]:
    """Return a row for the crystals above the hull, and one for the stable ones."""
    error, width = pd.Series(0.0, crystals.index), pd.Series(0.0, crystals.index)
    for fold in crystals["fold"].unique():
        asked = crystals[crystals["fold"] == fold]
        error[asked.index], width[asked.index] = way(crystals[crystals["fold"] != fold], asked)
    rows = []
    for hypothetical in (True, False):
        own = crystals["hypothetical"] == hypothetical
        rows.append(
            {
                "way": name,
                "crystals": "above the hull" if hypothetical else "stable",
                "number": int(own.sum()),
                "bias": error[own].mean(),
                "median": error[own].median(),
                "error": error[own].abs().mean(),
                "coverage": float((error[own].abs() <= width[own]).mean()),
                "half width": width[own].mean(),
            }
        )
    return rows


@click.command()
@click.option("--results", required=True, type=click.Path(path_type=Path))
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(results: Path, json_file: Path | None) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    crystals = unseen(results)
    found = [row for name, way in WAYS.items() for row in measured(name, way, crystals)]
    table = pd.DataFrame(found)
    click.echo(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    if json_file is not None:
        table.to_json(json_file, orient="records")


if __name__ == "__main__":
    main()
