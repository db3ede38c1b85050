"""Speed from pymatgen structures to adapted predictions with intervals; prints a breakdown.

    python tests/benchmarks/prediction_speed.py --model results/model [--json FILE]

Structures are the small cells of the embedded tables, in random order, as pymatgen reads them: none
is known to the process before. The predictor is the default one, adapted to ten of them. Rates are
per second of processor time of one process, whatever else runs on the machine; twice that is what
two processors can do at most. With `--processes` the same is measured by the clock, too, start of
the processes included, which says something on an idle machine only; and once more with `--rounds`
times as many structures, each round with cells 0.1 % larger: prototypes then occur again, as they
do where candidates are screened, and starting weighs less.
"""

import itertools
import json
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import click
import numpy as np
import pandas as pd
from pymatgen.core import Structure

DATA = Path(__file__).parents[2] / "data" / "crystals"
SHOTS = 10


class Clock:
    """Seconds of processor time by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, phase: str, function: Callable, *arguments: Any) -> Any:
        """Return what the function does, and add its time to the phase."""
        begin = time.process_time()
        result = function(*arguments)
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.process_time() - begin
        return result


def small_cells(most_atoms: int, count: int | None) -> tuple[list[Structure], float]:
    """Structures of the embedded tables, and the seconds of processor time to read them."""
    texts = [
        text
        for path in sorted(DATA.glob("*.csv.gz"))
        for text in pd.read_csv(path)["poscar"]
        if sum(map(int, text.split("\n")[6].split())) <= most_atoms
    ]
    order = np.random.default_rng(0).permutation(len(texts))[:count]
    begin = time.process_time()
    structures = [Structure.from_str(texts[i], fmt="poscar") for i in order]
    return structures, time.process_time() - begin


def larger(structure: Structure, factor: float) -> Structure:
    """The structure with its cell's edges multiplied by `factor`."""
    found = structure.copy()
    found.scale_lattice(found.volume * factor**3)
    return found


def forget() -> None:
    """Forget the symmetry of all crystals met so far."""
    from matml.structures.symmetry import search as symmetry

    symmetry._search.cache_clear()


def graph_phases(structures: list[Structure], predictor) -> dict[str, float]:
    """Seconds from structures to graphs, by phase."""

    from matml.structures.check import check_geometry
    from matml.structures.crystal import cell_of, symmetries
    from matml.structures.disorder.sites import Sites
    from matml.structures.families import classify
    from matml.structures.graphs.build import graph_of

    forget()
    clock, settings = Clock(), predictor.encoder.structures
    for structure in structures:
        lattice, frac, numbers, *_ = clock.run("elements and coordinates", cell_of, structure)
        sites = Sites(frac, numbers)
        clock.run("checks", check_geometry, lattice, frac @ lattice, sites, settings)
        shape, ideal = clock.run("symmetry", symmetries, lattice, frac, numbers, settings)
        clock.run("family", classify, shape)
        occupancy = np.ones(len(ideal.kind))
        cell = ideal.lattice, ideal.frac_coords, ideal.kind, ideal.orbit, occupancy
        clock.run("neighbours and graph", graph_of, cell, predictor.encoder.graphs)
    return clock.seconds


@click.command()
@click.option("--model", type=click.Path(exists=True, path_type=Path), help="Shipped by default.")
@click.option("--property", "names", multiple=True, default=("bulk_modulus_GPa",))
@click.option("--most-atoms", type=int, default=10, show_default=True)
@click.option("--count", type=int, help="Structures; all small cells by default.")
@click.option("--processes", type=int, default=1, show_default=True)
@click.option("--rounds", type=int, default=5, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write tidy records.")
def main(model, names, most_atoms, count, processes, rounds, json_file) -> None:
    """Measure prediction from structures."""
    import torch

    from matml.properties.data.batches import GraphBatches
    from matml.properties.data.descriptors import describe
    from matml.properties.networks.pretrain import predict
    from matml.properties.predictor.few_shot import FewShotPredictor
    from matml.structures.crystals import CrystalSet

    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    structures, reading = small_cells(most_atoms, count)
    number, records = len(structures), []
    predictor = FewShotPredictor.load(model)

    def say(name: str, seconds: float, setting: str, number: int = number) -> None:
        click.echo(f"  {name:<58}{1e3 * seconds / number:8.3f} ms{number / seconds:8.0f}/s")
        records.append((setting, name, number / seconds))

    click.echo(f"{number} structures of at most {most_atoms} atoms; processor time of one process")
    click.echo("Phases")
    say("reading POSCAR (not counted below)", reading, "phase")
    for phase, seconds in graph_phases(structures, predictor).items():
        say(phase, seconds, "phase")
    forget()
    clock = Clock()
    made = partial(
        CrystalSet.from_structures,
        settings=predictor.encoder.structures,
        graph_section=predictor.encoder.graphs,
    )
    crystals = clock.run("structures to graphs", made, structures)
    batches, rows = GraphBatches(crystals), np.arange(number)
    network = predictor.encoder.members[0].pretrained
    predict(network, batches, rows[:512])
    clock.run("one network, graphs to predictions", predict, network, batches, rows)
    clock.run("descriptors", describe, crystals)
    told = f"{len(predictor.encoder.members)} networks, descriptors, distances"
    encoded = clock.run(told, predictor.encode, crystals)
    for phase, seconds in clock.seconds.items():
        say(phase, seconds, "phase")
    plain = clock.seconds["structures to graphs"]
    plain += clock.seconds["one network, graphs to predictions"]
    click.echo("In all")
    say("structures to the plain network's predictions", plain, "plain network")
    for name in names:
        column = predictor.recipe.properties.index(name)
        centre = predictor.standardisation.mean[column]
        labels = np.linspace(-0.5, 0.5, SHOTS) * predictor.standardisation.deviation[column]
        adapted = predictor.adapt(
            structures[:SHOTS], _values(name, centre + labels), name, check_units=False
        )
        clock = Clock()
        adapted.adapted.predict(encoded[np.arange(min(number, 512))])
        clock.run(f"{name}: {adapted.method}", adapted.adapted.predict, encoded)
        forget()
        clock.run(f"{name}: all, {adapted.method}", adapted.predict, structures)
        for phase, seconds in clock.seconds.items():
            say(phase, seconds, name)
        if processes > 1:
            many = [larger(each, 1 + i / 1000) for i in range(rounds) for each in structures]
            for given, used in itertools.product((structures, many), (1, processes)):
                forget()
                begin = time.perf_counter()
                adapted.predict(given, used)
                seconds = time.perf_counter() - begin
                told = f"{name}: {len(given)} by the clock, processes: {used}"
                say(told, seconds, name, len(given))
    if json_file:
        written = [
            {
                "benchmark": "prediction_speed",
                "setting": setting,
                "method": method,
                "is_default": True,
                "shots": SHOTS,
                "metric": "structures_per_second",
                "value": value,
                "low": None,
                "high": None,
                "n_tasks": number,
                "seed": 0,
            }
            for setting, method, value in records
        ]
        json_file.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


def _values(name: str, scaled: np.ndarray) -> np.ndarray:
    """Labels in the property's unit."""
    from matml.properties.data.targets import find_property

    return find_property(name).from_scale(scaled)


if __name__ == "__main__":
    main()
