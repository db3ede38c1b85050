"""What matml writes and reads again, spoilt: refused in one line, or read as it was written.

Some hundred files in every run of the tests; more by hand: ``MATML_FUZZ=10000 pytest tests/fuzz``.
"""

import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from matml.core.provenance import verify_checksums, write_checksums
from matml.kinetics.data.observations import read_observations
from matml.kinetics.equations import equation_named
from matml.kinetics.inference.population import Population, learn_population
from matml.meta.checkpoint import content
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.properties.predictor.from_files import load_adapted, save_adapted
from matml.properties.predictor.layout import SHIPPED
from matml.structures.crystals import CrystalSet
from matml.structures.graphs.build import build_graphs
from matml.structures.graphs.store import ARRAYS, GraphStore
from matml.structures.ingest import ingest
from matml.structures.settings import GraphsSection, StructuresSection

sys.path.insert(0, str(Path(__file__).parent))
from bounds import SPOILT, refused_or_read
from mutations import spoil_bytes, spoil_json

ROOT = Path(__file__).parents[2]


def whole(value: Any) -> Any:
    """Content that compares by ==."""
    if isinstance(value, pd.DataFrame):
        return json.dumps(value.to_dict("list"), default=whole)
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value


def of_graphs(folder: Path) -> Any:
    store = GraphStore.open(folder / "graphs")
    return store.ids, store.settings, [whole(getattr(store, name)) for name in ARRAYS]


def of_crystals(folder: Path) -> Any:
    return whole(CrystalSet.open(folder / "structures", folder / "graphs").table)


def of_population(folder: Path) -> Any:
    found = Population.load(folder / "population.json")
    # what is saved again says all that was read
    found.save(folder / "again.json")
    return (folder / "again.json").read_text()


def of_checksums(folder: Path) -> Any:
    return verify_checksums(folder / "structures")


def of_model(folder: Path) -> Any:
    found = FewShotPredictor.load(folder / "model")
    weights = [member.pretrained.state_dict() for member in found.encoder.members]
    return found.card, found.recipe, content([found.training, weights])


def of_adapted(folder: Path) -> Any:
    found = load_adapted(folder / "adapted")
    return whole(found.support.table), found.support_values.tolist(), found.property_name


@dataclass(frozen=True)
class Written:
    """Files that are read together, and their content."""

    files: tuple[str, ...]
    read: Callable[[Path], Any]


KINDS = {
    "graphs": Written(("graphs/graphs.safetensors", "graphs/index.parquet"), of_graphs),
    "crystals": Written(("structures/structures.parquet",), of_crystals),
    "population": Written(("population.json",), of_population),
    "adapted": Written(("adapted/card.json", "adapted/support.parquet"), of_adapted),
    "checksums": Written(("structures/checksums.json",), of_checksums),
    "model": Written(
        (
            *("model/card.json", "model/card.json", "model/training.safetensors"),
            *("model/member-0/pretrained.safetensors", "model/member-1/residual_gp.safetensors"),
            *("model/bulk_modulus_GPa.safetensors", "model/bulk_modulus_GPa-stack.safetensors"),
        ),
        of_model,
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Crystals, graphs, a population and a model, as commands write them."""
    folder = tmp_path_factory.mktemp("written")
    table = pd.read_csv(ROOT / "data/crystals/elastic.csv.gz").head(12)
    table.to_csv(folder / "crystals.csv", index=False)
    ingest([folder / "crystals.csv"], folder / "structures", StructuresSection(), threads=1)
    build_graphs(folder / "structures", folder / "graphs", GraphsSection(), threads=1)
    write_checksums(folder / "structures", folder / "structures/checksums.json")
    rows = [
        f"{alloy},{kelvin},{1e3 * 2.0**-n * second},{share}"
        for n, alloy in enumerate(["A", "B", "C", "D"])
        for kelvin, second in ((900, 1.0), (1000, 0.1))
        for share, second in ((0.2, 0.6 * second), (0.5, second), (0.8, 1.6 * second))
    ]
    crystals = CrystalSet.open(folder / "structures", folder / "graphs").subset(range(4))
    values = crystals.table["bulk_modulus_GPa"].to_numpy()
    predictor = FewShotPredictor.load()
    save_adapted(
        predictor.adapt(crystals, values, "bulk_modulus_GPa", check_units=False), folder / "adapted"
    )
    (folder / "points.csv").write_text(
        "\n".join(["alloy,temperature_K,time_s,fraction_transformed", *rows]) + "\n"
    )
    points = read_observations(folder / "points.csv")
    population, _ = learn_population(
        points, equation_named("jmak"), 2.0, 0, held_out=[], origin=folder / "points.csv"
    )
    population.save(folder / "population.json")
    for path in SHIPPED.rglob("*"):
        if path.is_file():
            target = folder / "model" / path.relative_to(SHIPPED)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_spoilt_results_are_refused_or_read_as_written(kind, folder):
    written = KINDS[kind]
    good = written.read(folder)
    rng = random.Random(f"{kind} 13")
    for number in range(SPOILT // len(KINDS)):
        path = folder / written.files[number % len(written.files)]
        content = path.read_bytes()
        if path.suffix == ".json":
            spoilt = spoil_json(content.decode(), rng).encode()
        else:
            spoilt = spoil_bytes(content, rng)
        path.write_bytes(spoilt)
        try:
            found = refused_or_read(lambda _: written.read(folder), path)
        finally:
            path.write_bytes(content)
        assert found is None or found == good
