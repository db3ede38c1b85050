"""What a potential's features are worth beside the default, on families that nothing has seen.

    python tests/benchmarks/potentials.py --results results --features chgnet.parquet [--json FILE]

`--results` is the folder of a whole run; `--features`, repeatable, tables of `matml potential
describe` (several are put side by side). Two settings:

A, a known property of a new family. Test families of the run, which no training stage has seen;
and training families in turn: a fold of them is left out of the stacks, and their networks'
predictions are those of the members that left the same fold out. The stacks of both methods are
fitted in the same way to the same crystals.

B, a property of one's own within a family: the label process with and without the features, and
baselines on descriptors alone. The networks have seen the property on *other* families, which
flatters the label process; it is run without what they say, too, as are the baselines.

Errors are of log10; ratios of means over families, with bootstrap intervals over families.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import RidgeCV

from matml.core.files import read_table, write_json
from matml.core.settings import read_section
from matml.properties.data.descriptors import describe
from matml.properties.data.split import labelled_members
from matml.properties.dataset import Workbench
from matml.properties.features.columns import FeatureColumns, feature_names, joined
from matml.properties.features.learn import FeatureStack
from matml.properties.features.method import WithFeatures
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.methods.make import make
from matml.properties.methods.method import Episode, Trained
from matml.properties.methods.registry import STACK
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.properties.settings import PropertiesSection
from matml.properties.stack.base_models import Inputs
from matml.properties.stack.fit import fit_stack, network_predictions

SHOTS, DRAWS, OWN_DRAWS, FEWEST = (0, 5, 10, 20), 10, 5, 5
DEFAULT, ALONE, BOTH = "default", "with features", "default + features, weighed"
OWN, OWN_FEATURES = "label process", "label process + features"
BEST = "extra-trees, descriptors"
"""Baseline with the lowest error of those that know nothing of the property."""
BLIND, BLIND_FEATURES = "the same without networks", "without networks, + features"


@dataclass(frozen=True)
class Known:
    """A run, its inputs and its features; crystals without these left out."""

    bench: Workbench
    inputs: Inputs
    settings: PropertiesSection
    features: pd.DataFrame
    has: np.ndarray


def open_run(results: Path, files: list[Path], name: str, without: list[str]) -> Known:
    """Return a run whose labels of one property are those of crystals with features."""
    folder = results / "properties"
    settings = read_section(PropertiesSection, results / "settings/properties.yaml")
    bench = Workbench.open(results / "structures", results / "graphs", folder, settings)
    members = [folder / f"members/{i}" for i in range(bench.split.members)]
    inputs = Inputs(describe(bench.crystals), network_predictions(bench, members, settings, "cpu"))
    tables = [joined(read_table(path), bench.crystals.table) for path in files]
    features = pd.concat(tables, axis=1)
    features = features[[c for c in feature_names(features) if not c.endswith(tuple(without))]]
    has = features.notna().all(axis=1).to_numpy()
    targets = bench.targets.copy()
    targets[~has, bench.names.index(name)] = np.nan
    table = bench.crystals.table.copy()
    table.loc[~has, name] = np.nan
    crystals = replace(bench.crystals, table=table)
    return Known(
        replace(bench, crystals=crystals, targets=targets), inputs, settings, features, has
    )


def splits(bench: Workbench) -> Iterator[tuple[str, Workbench, list[str]]]:
    """Yield setting, run and the families that are asked for."""
    own = bench.split
    yield "unseen by all", bench, list(own.test)
    for fold in range(own.cross_folds):
        held = [family for family, number in own.folds.items() if number == fold]
        rest = {f: n - (n > fold) for f, n in own.folds.items() if n != fold}
        split = replace(own, test=(*own.test, *held), folds=rest)
        yield "left out in turn", replace(bench, split=split), held


def new_families(known: Known, name: str) -> Iterator[dict]:
    """Yield the errors of setting A."""
    column, table = known.bench.names.index(name), known.bench.crystals.table
    deviation = float(known.bench.standardisation.deviation[column])
    single = labelled_members(table, name).to_numpy()
    for setting, bench, families in splits(known.bench):
        rows_of = {f: np.flatnonzero((bench.families == f) & single) for f in families}
        rows_of = {f: rows for f, rows in rows_of.items() if len(rows) >= 2 * FEWEST}
        if not rows_of:
            continue
        held_out = np.isin(bench.families, [*bench.split.test, *bench.split.validation])
        training = np.flatnonzero(known.has & ~held_out & ~np.isnan(bench.targets[:, column]))
        columns = FeatureColumns.of(known.features.iloc[training])
        scaled = np.zeros((len(table), len(columns.names)))
        place = np.flatnonzero(known.has)
        ids = known.features.iloc[place].assign(id=table["id"].iloc[place].to_numpy())
        scaled[place] = columns.scaling.of_table(ids)
        extended = columns.put(known.inputs, scaled)
        default = fit_stack(bench, known.inputs, column, known.settings, seed=0)
        own = fit_stack(bench, extended, column, known.settings, seed=0)
        trained = Trained(column, stack=lambda fitted=default: fitted)
        stack = FeatureStack(name, "", columns, own, training, scaled[training], "")
        methods = {
            DEFAULT: make(STACK, trained),
            ALONE: make(STACK, Trained(column, stack=lambda fitted=own: fitted)),
            BOTH: WithFeatures(trained, stack),
        }
        for family, rows in rows_of.items():
            crystals = replace(
                bench.crystals.subset(rows),
                table=table.iloc[rows]
                .reset_index(drop=True)
                .assign(**known.features.iloc[rows].reset_index(drop=True)),
            )
            pools = {}
            for title, method in methods.items():
                inputs = (extended if title == ALONE else known.inputs)[rows]
                nothing = np.zeros((1, len(rows), 0))
                said = inputs.predictions[None]
                near = np.zeros(len(rows))
                encoded = EncodedCrystals(crystals, inputs.descriptors, nothing, said, near)
                pools[title] = method.over(encoded)
            labels = bench.targets[rows, column]
            for shots in [k for k in SHOTS if len(rows) >= k + FEWEST]:
                episodes = []
                for draw in range(DRAWS if shots else 1):
                    order = np.random.default_rng([draw, shots]).permutation(len(rows))
                    support, query = order[:shots], order[shots:]
                    episodes.append(Episode(support, labels[support], query))
                for title, pool in pools.items():
                    error, inside = [], []
                    for episode, (mean, spread) in zip(
                        episodes, pool.predict(episodes), strict=True
                    ):
                        off = np.abs(mean - labels[episode.query])
                        width = methods[title].half_width(spread, shots, np.zeros(len(off)))
                        error.append(off.mean() * deviation)
                        inside.append((off <= width).mean())
                    yield {
                        "setting": setting,
                        "family": family,
                        "shots": shots,
                        "method": title,
                        "error": float(np.mean(error)),
                        "inside": float(np.mean(inside)),
                    }


def own_property(known: Known, results: Path, name: str) -> Iterator[dict]:
    """Yield the errors of setting B."""
    predictor = FewShotPredictor.load(results / "model")
    table = known.bench.crystals.table
    single = labelled_members(table, name).to_numpy() & known.has
    columns = list(known.features.columns)
    for family in [*known.bench.split.test, *known.bench.split.validation]:
        rows = np.flatnonzero((known.bench.families == family) & single)
        if len(rows) < 10 + FEWEST:
            continue
        crystals = replace(
            known.bench.crystals.subset(rows),
            table=table.iloc[rows]
            .reset_index(drop=True)
            .assign(**known.features.iloc[rows].reset_index(drop=True)),
        )
        encoded, values = predictor.encode(crystals), table[name].to_numpy(float)[rows]
        truth = np.log10(values)
        features = FeatureColumns.of(crystals.table[columns]).scaling.of_table(crystals.table)
        both = np.hstack([encoded.descriptors, features])
        fitted = predictor.fitted("own", scale="log")
        blind = replace(
            encoded, embeddings=0 * encoded.embeddings, outputs=np.zeros_like(encoded.outputs)
        )
        ways = (
            (OWN, (), encoded),
            (OWN_FEATURES, columns, encoded),
            (BLIND, (), blind),
            (BLIND_FEATURES, columns, blind),
        )
        for draw in range(OWN_DRAWS):
            order = np.random.default_rng([draw, 10]).permutation(len(rows))
            support, query = order[:10], order[10:]
            said = {}
            for title, inputs, seen in ways:
                varying = tuple(c for c in inputs if np.ptp(crystals.table[c].iloc[support]) > 0)
                adapted = replace(fitted, inputs=varying).adapted_to(
                    seen[support], values[support], check_units=False
                )
                said[title] = np.log10(adapted.predict(seen[query])[0])
            known_of = {"descriptors": encoded.descriptors, "features, too": both}
            for title, x in (known_of | {"features alone": features}).items():
                trees = ExtraTreesRegressor(200, max_features=0.3, random_state=0)
                said[f"extra-trees, {title}"] = trees.fit(x[support], truth[support]).predict(
                    x[query]
                )
                centre, scale = x[support].mean(0), x[support].std(0)
                z = (x - centre) / np.where(scale > 1e-9, scale, 1)
                ridge = RidgeCV(np.logspace(-1, 4, 6)).fit(z[support], truth[support])
                said[f"ridge, {title}"] = ridge.predict(z[query])
            said["mean of the labels"] = np.full(len(query), truth[support].mean())
            for title, found in said.items():
                error = float(np.abs(found - truth[query]).mean())
                yield {
                    "setting": "own property",
                    "family": family,
                    "shots": 10,
                    "method": title,
                    "error": error,
                }


def tell(scores: pd.DataFrame, against: str) -> list[dict]:
    """Print errors and their ratios to a method's; return the records."""
    records, random = [], np.random.default_rng(0)
    wide = scores.pivot_table("error", ["setting", "shots", "family"], "method")
    everywhere = wide.reset_index().assign(setting="all families")
    if len(wide.index.unique("setting")) > 1:
        wide = pd.concat([wide, everywhere.set_index(["setting", "shots", "family"])])
    for (setting, shots), group in wide.groupby(level=["setting", "shots"]):
        draws = random.integers(0, len(group), (4000, len(group)))
        for method in group:
            errors, base = group[method].to_numpy(), group[against].to_numpy()
            ratios = errors[draws].mean(1) / base[draws].mean(1)
            low, high = np.percentile(ratios, [2.5, 97.5])
            record = {
                "setting": setting,
                "shots": int(shots),
                "families": len(group),
                "method": method,
                "error": errors.mean(),
                "ratio": errors.mean() / base.mean(),
                "low": low,
                "high": high,
            }
            records.append(record)
            print(
                f"{setting:16s} K = {shots:2d} ({len(group):2d} families) {method:30s} "
                f"{errors.mean():.4f}, over that of {against} {record['ratio']:.3f} "
                f"[{low:.3f}, {high:.3f}]"
            )
    return records


def main() -> None:
    """Print the errors and their ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--features", type=Path, action="append", required=True)
    parser.add_argument("--property", default="bulk_modulus_GPa")
    parser.add_argument("--without", action="append", default=[], help="End of a column's name.")
    parser.add_argument("--only", choices=["A", "B"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = open_run(options.results, options.features, options.property, options.without)
    records = []
    if options.only != "B":
        scores = pd.DataFrame(new_families(known, options.property))
        records += tell(scores, DEFAULT)
        print("coverage of 90 % intervals")
        print(
            scores.pivot_table("inside", "method", "shots").to_string(float_format="{:.3f}".format)
        )
    if options.only != "A":
        scores = pd.DataFrame(own_property(known, options.results, options.property))
        records += tell(scores, OWN)
        tell(scores, BEST)
    if options.json:
        write_json(options.json, records)


if __name__ == "__main__":
    main()
