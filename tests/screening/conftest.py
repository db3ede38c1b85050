"""Known crystals straight from the embedded tables, in the columns of `structures.parquet`."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Structure
from pymatgen.io.vasp import Poscar

from matml.screening.select import run as shortlist
from matml.structures.graphs.build import build_graphs
from matml.structures.ingest import ingest
from matml.structures.settings import GraphsSection, StructuresSection

# the helpers are shared by the tests of this folder only
sys.path.insert(0, str(Path(__file__).parent))

from ridge_screening import PROPERTY, RidgePredictor, run

DATA = Path(__file__).parents[2] / "data" / "crystals"
TABLES = ["formation_energy", "elastic", "dielectric"]


def is_cubic_perovskite(structure: Structure) -> bool:
    """Five atoms in a cube with oxygen or a halogen at the three face centres or edges."""
    lattice = structure.lattice
    cubic = np.allclose(lattice.angles, 90, atol=0.1) and np.ptp(lattice.abc) < 0.02
    anions = {s for s, n in structure.composition.as_reduced_dict().items() if n == 3}
    return cubic and len(structure) == 5 and anions <= {"O", "F", "Cl", "Br", "I"}


def is_rocksalt(structure: Structure) -> bool:
    """Two atoms in the primitive cell of a face-centred cube."""
    lattice = structure.lattice
    close = np.allclose(lattice.angles, 60, atol=0.1) and np.ptp(lattice.abc) < 0.02
    if len(structure) != 2 or not close:
        return False
    apart = structure.get_distance(0, 1) / lattice.a
    return len(structure.composition) == 2 and abs(apart - np.sqrt(0.5)) < 1e-3


def rows_of(structures: dict[str, Structure], family: str, **labels: list[float]) -> pd.DataFrame:
    """Rows as `matml structures ingest` writes them, without any graph."""
    table = pd.DataFrame(
        [
            {
                "id": name,
                "formula": structure.composition.reduced_formula,
                "family": f"{family} label",
                "common_name": family,
                "prototype": family,
                "duplicate_of": "",
                "lattice": structure.lattice.matrix.ravel().tolist(),
                "frac_coords": structure.frac_coords.ravel().tolist(),
                "atomic_numbers": list(structure.atomic_numbers),
            }
            for name, structure in structures.items()
        ]
    )
    return table.assign(**labels)


@pytest.fixture(scope="session")
def embedded() -> dict[str, dict[str, Structure]]:
    """Structures of the embedded tables by family, then id."""
    found: dict[str, dict[str, Structure]] = {"cubic perovskite": {}, "rocksalt": {}}
    for name in TABLES:
        table = pd.read_csv(DATA / f"{name}.csv.gz")
        for material, poscar in zip(table["material_id"], table["poscar"], strict=True):
            amounts = sorted(poscar.split("\n")[6].split())
            if amounts not in (["1", "1", "3"], ["1", "1"]):
                continue
            structure = Poscar.from_str(poscar).structure
            for family, test in {
                "cubic perovskite": is_cubic_perovskite,
                "rocksalt": is_rocksalt,
            }.items():
                if test(structure):
                    found[family][f"{name}/{material}"] = structure
    return found


@pytest.fixture(scope="session")
def known_table(embedded) -> pd.DataFrame:
    """Cubic perovskites, rocksalts and a family of alloys."""
    alloys = {
        f"alloy/{a}{b}": Structure(np.eye(3) * 3.0, [a, b], [[0, 0, 0], [0.5, 0.5, 0.5]])
        for a, b in [("Ni", "Al"), ("Cu", "Zn"), ("Fe", "Al"), ("Ag", "Mg"), ("Au", "Zn")]
    }
    return pd.concat(
        [rows_of(structures, family) for family, structures in embedded.items()]
        + [rows_of(alloys, "caesium chloride")],
        ignore_index=True,
    )


@pytest.fixture(scope="session")
def dielectric(tmp_path_factory, embedded):
    """Perovskites and rocksalts of the embedded dielectric table, ingested, with graphs."""
    folder = tmp_path_factory.mktemp("known")
    table = pd.read_csv(DATA / "dielectric.csv.gz")
    wanted = {name.split("/")[1] for structures in embedded.values() for name in structures}
    table[table["material_id"].isin(wanted)].to_csv(folder / "dielectric.csv", index=False)
    ingest([folder / "dielectric.csv"], folder / "structures", StructuresSection(), threads=1)
    build_graphs(folder / "structures", folder / "graphs", GraphsSection(), threads=1)
    return folder


@pytest.fixture(scope="session")
def prepared(dielectric):
    """Support and fluoride candidates, made by the commands themselves."""
    settings = "anions: [F]\ntop: 7\nfewest_examples: 1\ndiversity: 0\n"
    (dielectric / "screening.yaml").write_text(settings, encoding="utf-8")
    run("candidates", "--structures", dielectric / "structures", "--out", dielectric / "candidates",
        "--config", dielectric / "screening.yaml")  # fmt: skip
    run("candidates", "support", "--structures", dielectric / "structures", "--property", PROPERTY,
        "--shots", 8, "--seed", 1, "--out", dielectric / "support.csv")  # fmt: skip
    return dielectric


@pytest.fixture
def ridge(monkeypatch):
    """`matml screen` with the ridge predictor in place of a trained one."""
    monkeypatch.setattr(shortlist, "load_predictor", lambda *_, **__: RidgePredictor())
