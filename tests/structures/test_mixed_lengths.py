"""A cell in bohr with positions in angstrom, and the reverse: told by their symmetry."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from matml.structures.crystal import Crystal
from matml.structures.errors import BadCrystal
from matml.structures.ingest import document_crystals
from matml.structures.io.documents import Document
from matml.structures.io.poscar import read_poscar
from matml.structures.settings import StructuresSection
from matml.structures.symmetry.mixed_lengths import refuse_mixed_lengths

DATA = Path(__file__).parents[2] / "data" / "crystals"
BOHR_A = 0.529177
CELL, POSITIONS = "is the cell in bohr", "are the positions in bohr"


@pytest.fixture(scope="module")
def cells():
    """Each twelfth of the embedded crystals: lattice, fractional positions, atomic numbers."""
    names = ("formation_energy", "elastic", "dielectric")
    texts = pd.concat([pd.read_csv(DATA / f"{name}.csv.gz")["poscar"] for name in names])
    found = [read_poscar(text, 1000)[:3] for text in texts[::12]]
    return [cell for cell in found if len(cell[2]) > 1]


def told(lattice, places, numbers, scale=1.0):
    try:
        refuse_mixed_lengths(lattice, places, numbers.tolist(), scale)
    except BadCrystal as bad:
        return bad.reason
    return ""


def test_no_embedded_crystal_is_accused(cells):
    assert not [said for cell in cells if (said := told(*cell))]


@pytest.mark.parametrize(("factor", "question"), [(BOHR_A, CELL), (1 / BOHR_A, POSITIONS)])
def test_mixtures_are_told(cells, factor, question):
    found = [
        told(lattice / factor if factor < 1 else lattice, places * factor, numbers)
        for lattice, places, numbers in cells
    ]
    # of all 6,148 with two atoms or more: 94 and 87 % of those that nothing else refuses
    assert sum(map(bool, found)) > 0.8 * len(cells)
    assert all(question in said for said in found if said)


@pytest.mark.parametrize("scale", [1.02, 0.98, 4.6])
def test_positions_that_were_scaled_before_are_told(cells, scale):
    assert not [said for cell in cells if (said := told(*cell, scale))]
    some = cells[::8]
    found = [told(lattice, places * scale, numbers, scale) for lattice, places, numbers in some]
    assert sum(f"scaled by {scale:g}" in said for said in found) > 0.8 * len(some)


def anatase(cell_unit, position_unit):
    """POSCAR, extended XYZ, ASE's dictionary and OPTIMADE of anatase, by kind of file."""
    cell = np.diag([3.784, 3.784, 9.514]) / cell_unit
    titanium = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.25], [0.5, 0, 0.75]])
    up = np.array([0, 0, 0.208])
    places = (
        np.concatenate([titanium, (titanium + up) % 1, (titanium - up) % 1])
        @ np.diag([3.784, 3.784, 9.514])
        / position_unit
    )
    names = ["Ti"] * 4 + ["O"] * 8
    rows = [" ".join(map(str, row)) for row in places.tolist()]
    vectors = [" ".join(map(str, row)) for row in cell.tolist()]
    atoms = "\n".join(f"{name} {row}" for name, row in zip(names, rows, strict=True))
    ase = {"cell": cell.tolist(), "positions": places.tolist(), "pbc": True, "symbols": names}
    kinds = [
        {"name": name, "chemical_symbols": [name], "concentration": [1]} for name in ("Ti", "O")
    ]
    attributes = {
        "lattice_vectors": cell.tolist(),
        "cartesian_site_positions": places.tolist(),
        "species_at_sites": names,
        "species": kinds,
    }
    return {
        "poscar": "\n".join(["TiO2", "1", *vectors, "Ti O", "4 8", "Cartesian", *rows]),
        "xyz": f'12\nLattice="{" ".join(vectors)}" Properties=species:S:1:pos:R:3\n{atoms}\n',
        "json": json.dumps(ase),
        "optimade": json.dumps({"type": "structures", "id": "1", "attributes": attributes}),
    }


@pytest.mark.parametrize("kind", ["poscar", "xyz", "json", "optimade"])
@pytest.mark.parametrize(
    ("units", "question"), [((1, 1), ""), ((BOHR_A, 1), CELL), ((1, BOHR_A), POSITIONS)]
)
def test_every_format_is_looked_at(kind, units, question):
    text = anatase(*units)[kind]
    document = Document("x", "x", -1, kind.replace("optimade", "json"), text)
    [(_, found)] = document_crystals(document, StructuresSection())
    if question:
        assert question in found.reason
        assert "space group 141" in found.reason
        assert found.remedy == "give cell and positions in angstrom"
    else:
        assert isinstance(found, Crystal)
        assert found.common_name == "anatase"


def test_a_cell_that_is_none_is_left_to_its_own_check():
    """The search for symmetry panics there, which nothing catches."""
    lattice = np.array([[4e13, 2e-3, 1.2], [2e-1, 4e-1, 1.2], [3e-3, 2e-3, 1.2]])
    places = np.array([[0, 0, 0], [0, 0.23, 0.44], [0, 0.85, 0.71]])
    refuse_mixed_lengths(lattice, places, [8, 8, 22])
    lines = ["x", "1", *(" ".join(map(str, row)) for row in lattice), "O Ti", "2 1", "Cartesian"]
    lines += ["0 0 0", "0 0.4 1.1", "0 1.2 2"]
    document = Document("x", "x.vasp", -1, "poscar", "\n".join(lines))
    ((_, found),) = document_crystals(document, StructuresSection())
    assert isinstance(found, BadCrystal)
