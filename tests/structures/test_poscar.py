"""POSCARs: what pymatgen reads is read alike, what contradicts itself is refused by name."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Poscar

from matml.structures.crystal import crystal_of
from matml.structures.errors import BadCrystal
from matml.structures.ingest import document_crystals
from matml.structures.io.documents import Document
from matml.structures.io.parse import parse
from matml.structures.io.poscar import read_poscar
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
TWO = SALT + SALT.replace("Na Cl", "K Br").replace(" Na\n", "\n").replace(" Cl\n", "\n")


@pytest.fixture(scope="module")
def texts():
    return pd.read_csv(DATA / "elastic.csv.gz")["poscar"][::8].tolist()


def test_cells_are_those_of_pymatgen(texts):
    assert len(texts) > 140
    for text in texts:
        structure = Poscar.from_str(text).structure
        lattice, positions, numbers, notes = read_poscar(text, 1000)
        np.testing.assert_array_equal(lattice, structure.lattice.matrix)
        np.testing.assert_array_equal(positions, structure.frac_coords)
        assert numbers.tolist() == list(structure.atomic_numbers)
        assert notes == []


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
        ("1.0", "-43.904"),
        ("1.0", "2 2 2"),
        ("1.0", "2"),
        ("direct", "Selective dynamics\ndirect"),
        ("0 0 0 Na", "0 0 0 T F T Na"),
        ("Na Cl", "Na_pv/1a2b3c Cl"),
        ("0.5 Cl\n", "0.5 Cl\n\n0 0 0\n0 0 0\n"),
        ("\n", "\r"),
        ("\n", "\r\n"),
        ("NaCl", "\ufeffNaCl"),
        ("1 1\n", "1 1 ! of each\n"),
        ("direct", "Direct configuration=     1"),
    ],
)
def test_dialects_hold_the_same_crystal(old, new):
    assert old in SALT
    lattice, positions, numbers, _ = read_poscar(SALT.replace(old, new), 10)
    plain = read_poscar(SALT, 10)
    scale = 2 if new.startswith("2") else 1
    np.testing.assert_allclose(lattice, scale * plain[0], atol=1e-5)
    np.testing.assert_allclose(positions, plain[1])
    assert numbers.tolist() == [11, 17]


@pytest.mark.parametrize("scale", ["1.0", "2.5", "-72.0", "1.1 1.2 1.3"])
def test_cartesian_positions_are_scaled_like_the_lattice(scale):
    head = f"CsCl\n{scale}\n4 0 0\n0 5 0\n0 0 6\nCs Cl\n1 1\n"
    direct = read_poscar(head + "Direct\n0 0 0\n.5 .5 .5\n", 10)
    cartesian = read_poscar(head + "Cartesian\n0 0 0\n2 2.5 3\n", 10)
    for one, other in zip(direct[:3], cartesian[:3], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    if scale.startswith("-"):
        assert abs(np.linalg.det(direct[0])) == pytest.approx(72)


def test_what_was_understood_is_said():
    *_, numbers, notes = read_poscar(SALT.replace("Na Cl", "NA CL"), 10)
    assert numbers.tolist() == [11, 17]
    assert notes == [
        "NA in the line of symbols read as Na",
        "CL in the line of symbols read as Cl",
    ]
    *_, numbers, notes = read_poscar(SALT.replace("Na Cl\n", ""), 10)
    assert numbers.tolist() == [11, 17]
    assert notes == ["elements read from the lines of the sites: Na Cl"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Na Cl", "Na Qq", "site 2 holds Qq, which is not a chemical element"),
        ("Na Cl", "Na D", "isotope D"),
        ("Na Cl", "Na Cl K", r"names 3 elements \(Na Cl K\) but gives 2 numbers of atoms \(1 1\)"),
        ("1 1\n", "1 1 1\n", r"names 2 elements .* gives 3 numbers"),
        ("1 1\n", "2\n", r"names 2 elements .* gives 1 number "),
        ("1 1\n", "1 2\n", "declares 3 sites but lists 2"),
        ("1 1\n", "1 0\n", "add up to 1 sites, but more positions follow"),
        ("0 0 0 Na", "0 0 0 K", "site 1 is Na by the line of symbols, but its own line says K"),
        ("0.5 0.5 0.5", "0.5 0.5 x", "line 10 of the POSCAR is '0.5 0.5 x Cl', not 3 numbers"),
        ("2.8 2.8 0\n", "2.8 2.8\n", "line 5 of the POSCAR is '2.8 2.8', not 3 numbers"),
        ("direct\n", "", "neither Direct nor Cartesian"),
        ("direct\n", "\n", "neither Direct nor Cartesian"),
        (
            "direct\n",
            "Direct configuration=     1\n0 0 0\n.5 .5 .5\nDirect configuration=     2\n",
            "XDATCAR",
        ),
        ("1.0", "one", "not a scale"),
        ("1.0", "1 -1 1", "not a scale"),
        ("1.0", "1 1", "not a scale"),
        ("0.5 Cl\n", "0.5 Cl\n0 0 0.5\n", "more positions follow"),
        ("0.5 Cl\n", "0.5 Cl\n\nDirect configuration=   2\n0 0 0\n", "a second crystal"),
        ("Na Cl\n", "\n", "line 6 of the POSCAR is empty"),
    ],
)
def test_contradictions_are_refused_by_name(old, new, reason):
    assert old in SALT
    with pytest.raises(BadCrystal, match=reason):
        read_poscar(SALT.replace(old, new, 1), 100)


def test_a_second_crystal_does_not_vanish():
    with pytest.raises(BadCrystal, match="line 11") as caught:
        read_poscar(TWO, 100)
    assert "NaCl" in caught.value.reason
    assert "a file of its own" in caught.value.remedy


def test_flags_are_no_fluorine():
    text = SALT.replace("Na Cl\n", "").replace(" Na\n", " F F F\n").replace(" Cl\n", " F F F\n")
    with pytest.raises(BadCrystal, match="does not name its elements"):
        read_poscar(text, 10)


def test_too_many_sites_are_told():
    with pytest.raises(BadCrystal, match="declares 2 sites, more than 1"):
        read_poscar(SALT, 1)


def test_written_by_pymatgen_reads_back(texts):
    for text in texts[:20]:
        structure = Poscar.from_str(text).structure
        written = Poscar(structure, selective_dynamics=[[True] * 3] * len(structure)).get_str()
        lattice, positions, numbers, _ = read_poscar(written, 1000)
        back = Structure(Lattice(lattice), numbers, positions)
        assert back.composition == structure.composition
        np.testing.assert_allclose(back.distance_matrix, structure.distance_matrix, atol=1e-6)
