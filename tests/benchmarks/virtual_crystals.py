"""What it costs that a crystal is disordered: ordered alloys against their virtual crystals.

    OMP_NUM_THREADS=1 python tests/benchmarks/virtual_crystals.py [--json records.json]

An ordered compound of the embedded data is mixed by letting two or more of its elements, cations
with cations or anions with anions, share all of their sites in their ratio. It counts where the
mixed sites are then one orbit, as of a solid solution: L1_0 and L1_2 become a face-centred,
Heusler alloys a body-centred cubic one. The shipped model, which has seen none of the families
taken, predicts the ordered crystals and their virtual ones with the same labels, those of the
ordered: what is lost is all that the order tells. Errors are means over families; a family's over
draws of its support.
"""

import json
from itertools import combinations
from pathlib import Path

import click
import numpy as np
import pandas as pd

from matml.core.statistics import tidy_record
from matml.properties.methods.method import Episode
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.structures.crystal import crystal_of
from matml.structures.crystals import CrystalSet
from matml.structures.elements import element_of, structure_of
from matml.structures.errors import BadCrystal
from matml.structures.families import anions_of
from matml.structures.ingest import gather
from matml.structures.io.read import read_inputs
from matml.structures.settings import GraphsSection, StructuresSection
from matml.structures.table import crystal_row

SYMPREC_A = 0.3
"""In the average structure atoms are on the sites of the higher symmetry."""
FEWEST = 8
SHOTS = (0, 5)
DRAWS = 20


def virtual_rows(row: pd.Series, settings: StructuresSection) -> list[dict]:
    """Return rows like those of `structures.parquet` for the virtual crystals of an ordered one."""
    numbers = np.asarray(row["atomic_numbers"])
    lattice, coords = np.reshape(row["lattice"], (3, 3)), np.reshape(row["frac_coords"], (-1, 3))
    anions = anions_of(lattice, coords, numbers)
    elements, amounts = np.unique(numbers, return_counts=True)
    found = []
    for size in range(2, len(elements) + 1):
        for places in map(list, combinations(range(len(elements)), size)):
            mixed = [element_of(int(z)) for z in elements[places]]
            if len({element.symbol in anions for element in mixed}) > 1:
                continue
            content = dict(
                zip(mixed, (amounts[places] / amounts[places].sum()).tolist(), strict=True)
            )
            structure = structure_of(lattice, coords, numbers)
            structure.replace_species(dict.fromkeys(mixed, content))
            try:
                crystal = crystal_of(structure, settings, [])
            except BadCrystal:
                continue
            shared = crystal.occupancy < 1
            if len(np.unique(crystal.orbit[shared])) == size:
                name = f"{row['id']}:{'-'.join(element.symbol for element in mixed)}"
                found.append(crystal_row(name, "", 0, "", crystal) | {"of": row["id"]})
    return found


def twins(families: list[str]) -> tuple[CrystalSet, CrystalSet]:
    """Return ordered crystals of some families and their virtual ones, row by row."""
    settings = StructuresSection()
    gathered = gather(read_inputs(settings.inputs, settings), settings).table
    table = gathered[gathered["family"].isin(families)]
    wide = StructuresSection(symprec_A=SYMPREC_A, family_symprec_A=SYMPREC_A)
    rows = [one for _, row in table.iterrows() for one in virtual_rows(row, wide)]
    virtual = pd.DataFrame(rows)
    ordered = table.set_index("id").loc[virtual["of"]].reset_index()
    return tuple(CrystalSet.from_table(own, GraphsSection()) for own in (ordered, virtual))


def scores(predictor: FewShotPredictor, name: str, kinds: dict, groups: pd.Series, seed: int):
    """Yield family, kind, number of labels, mean absolute error, coverage, share in the domain."""
    fitted = predictor.fitted(name)
    ordered = kinds["ordered"].crystals.table
    values = ordered[name].to_numpy(float)
    for family, rows in groups[np.isfinite(values)].groupby(groups).groups.items():
        if len(rows) < FEWEST:
            continue
        rows = np.asarray(rows)
        labels = fitted.scale.standardise(values[rows])
        generator = np.random.default_rng(seed)
        for shots in SHOTS:
            orders = [generator.permutation(len(rows)) for _ in range(DRAWS if shots else 1)]
            episodes = [Episode(o[:shots], labels[o[:shots]], o[shots:]) for o in orders]
            for kind, encoded in kinds.items():
                placed = fitted.domain.placed(encoded[rows])
                outside, _ = fitted.domain.outside(placed)
                error, inside = [], []
                pool = fitted.method.over(placed)
                for each, (mean, deviation) in zip(episodes, pool.predict(episodes), strict=True):
                    miss = np.abs(mean - labels[each.query])
                    width = fitted.method.half_width(deviation, shots, placed.distance[each.query])
                    error.append(miss.mean() * fitted.scale.deviation)
                    inside.append((miss <= width).mean())
                share = (np.array(outside) == "").mean()
                yield name, family, len(rows), kind, shots, np.mean(error), np.mean(inside), share


COLUMNS = ["property", "family", "n", "kind", "shots", "error", "covered", "in_domain"]


def report(table: pd.DataFrame, seed: int) -> list[dict]:
    """Print a table and return tidy records."""
    records = []
    wide = table.pivot_table(
        index=["property", "shots", "family"], columns="kind", values=COLUMNS[-3:]
    )
    for (name, shots), own in wide.groupby(level=["property", "shots"]):
        error = own["error"]
        # the ratio of means, and of means over families drawn anew
        generator = np.random.default_rng(seed)
        drawn = generator.integers(len(error), size=(2000, len(error)))
        virtual, ordered = (error[kind].to_numpy() for kind in ("virtual", "ordered"))
        ratio = virtual.mean() / ordered.mean()
        low, high = np.percentile(virtual[drawn].mean(1) / ordered[drawn].mean(1), [2.5, 97.5])
        covered, known = (own[what].mean() for what in ("covered", "in_domain"))
        click.echo(
            f"{name:30s} K={shots}: {len(error)} families, error {ordered.mean():.3f} -> "
            f"{virtual.mean():.3f}, ratio {ratio:.2f} [{low:.2f}, {high:.2f}]; 90 % intervals "
            f"cover {covered['ordered']:.2f} -> {covered['virtual']:.2f}; "
            f"in the domain {known['ordered']:.2f} -> {known['virtual']:.2f}"
        )
        for metric, values in (
            ("error, ordered", ordered),
            ("error, virtual", virtual),
            ("coverage of 90 % interval, virtual", own["covered"]["virtual"].to_numpy()),
        ):
            how = {"shots": int(shots), "is_default": True, "seed": seed}
            records.append(tidy_record("virtual crystals", name, "stack", metric, values, **how))
    return records


@click.command()
@click.option("--model", type=click.Path(exists=True, path_type=Path), help="Shipped by default.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write tidy records.")
@click.option("--table", "table_file", type=click.Path(path_type=Path), help="Write all families.")
def main(model: Path | None, seed: int, json_file: Path | None, table_file: Path | None) -> None:
    """Compare predictions of ordered crystals and of their virtual ones."""
    predictor = FewShotPredictor.load(model)
    ordered, virtual = twins(predictor.held_out_families)
    groups = ordered.table["family"] + " -> " + virtual.table["family"]
    click.echo(groups.value_counts().to_string())
    kinds = {"ordered": predictor.encode(ordered), "virtual": predictor.encode(virtual)}
    rows = [
        row for name in predictor.properties for row in scores(predictor, name, kinds, groups, seed)
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    if table_file:
        table.to_csv(table_file, index=False)
    records = report(table, seed)
    if json_file:
        json_file.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
