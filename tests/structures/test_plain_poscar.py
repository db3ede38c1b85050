"""The plain reader gives what pymatgen gives, on real files, and leaves the rest to it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.io.vasp import Poscar

from matml.structures.crystal import crystal_of, document_crystals
from matml.structures.io.parse import parse
from matml.structures.io.plain_poscar import plain_cell
from matml.structures.io.read import Document
from matml.structures.settings import StructuresSection

DATA = Path(__file__).parents[2] / "data" / "crystals"
SALT = """NaCl
1.0
0 2.8 2.8
2.8 0 2.8
2.8 2.8 0
Na Cl
1 1
direct
0 0 0 Na
0.5 0.5 0.5 Cl
"""


@pytest.fixture(scope="module")
def texts():
    return pd.read_csv(DATA / "elastic.csv.gz")["poscar"][::8].tolist()


def test_cells_are_those_of_pymatgen(texts):
    assert len(texts) > 140
    for text in texts:
        structure = Poscar.from_str(text).structure
        lattice, positions, numbers = plain_cell(text, 1000)
        np.testing.assert_array_equal(lattice, structure.lattice.matrix)
        np.testing.assert_array_equal(positions, structure.frac_coords)
        assert numbers.tolist() == list(structure.atomic_numbers)


def test_crystals_are_the_same_either_way(texts):
    settings = StructuresSection()
    for text in texts[:40]:
        [(_, quick)] = document_crystals(Document("a", "a", -1, "poscar", text), settings)
        [(_, structure, notes)] = parse("poscar", text, 1000)
        slow = crystal_of(structure, settings, notes)
        for name, value in vars(slow).items():
            assert np.array_equal(getattr(quick, name), value), name


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.0", "-43.9"),
        ("1.0", "2"),
        ("direct", "Cartesian"),
        ("direct", "Selective dynamics\ndirect"),
        ("Na Cl", "Na Qq"),
        ("Na Cl\n", ""),
        ("1 1", "1 2"),
        ("0 0 0 Na", "0 0 0 K"),
        ("0.5 0.5 0.5", "0.5 0.5 x"),
        ("2.8 2.8 0\n", "2.8 2.8\n"),
        ("0.5 Cl\n", "0.5 Cl\n\n0 0 0\n0 0 0\n"),
    ],
)
def test_what_is_not_plain_is_left_to_pymatgen(old, new):
    assert plain_cell(SALT, 10) is not None
    assert old in SALT
    assert plain_cell(SALT.replace(old, new), 10) is None


def test_too_many_sites_are_left_to_the_check():
    assert plain_cell(SALT, 1) is None
