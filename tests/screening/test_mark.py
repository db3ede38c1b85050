"""Copies among all scored candidates, told from a file, whatever the sizes of its parts."""

import itertools

import numpy as np
import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from matml.screening.select import deduplicate as mark
from matml.screening.select.deduplicate import CELLS, mark_copies
from matml.structures import duplicates
from matml.structures.duplicates import Matcher, Scaled, copies, first_equal
from matml.structures.elements import structure_of


def halide(x, elements, edge):
    """An A2BX6 with one free coordinate, in its primitive cell."""
    metal, cation, halogen = elements
    axes = x * np.vstack([np.eye(3), -np.eye(3)])
    return Structure(
        Lattice(edge / 2 * (1 - np.eye(3))),
        [metal, cation, cation, *[halogen] * 6],
        edge * np.vstack([np.zeros(3), np.full(3, 0.25), np.full(3, 0.75), axes]),
        coords_are_cartesian=True,
        to_unit_cell=True,
    )


def cells(structures):
    return pd.DataFrame(
        {
            "prototype": "A6B2C_cF36_225_e_c_a",
            "formula": [s.composition.reduced_formula for s in structures],
            "lattice": [s.lattice.matrix.ravel() for s in structures],
            "frac_coords": [s.frac_coords.ravel() for s in structures],
            "atomic_numbers": [np.array(s.atomic_numbers) for s in structures],
            "occupancy": [np.ones(len(s)) for s in structures],
        }
    )


@pytest.fixture(scope="module")
def table():
    generator = np.random.default_rng(0)
    kinds = [("Pt", "K", "Cl"), ("Sn", "Cs", "Br"), ("Te", "Rb", "I"), ("Ir", "Na", "F")]
    structures = [
        halide(0.24 + 0.004 * generator.random(), kinds[n % 4], 9.5 + generator.random())
        for n in generator.permutation(40)
    ]
    structures[7] = halide(0.24, ("Os", "K", "Cl"), 9.7)
    # the same formula, cation and metal exchanged: no copy
    structures[11] = halide(0.24, ("K", "Pt", "Cl"), 9.7)
    structures[20] = structures[20].copy().apply_strain(0.005, inplace=False)
    order = generator.permutation(len(structures[30]))
    structures[30] = Structure.from_sites([structures[30][i] for i in order])
    return cells(structures)


@pytest.mark.parametrize(("group", "at_once"), [(1000, 1000), (7, 1000), (7, 5), (1, 1)])
def test_the_file_says_what_the_whole_table_says(table, tmp_path, monkeypatch, group, at_once):
    monkeypatch.setattr(mark, "AT_ONCE", at_once)
    scores = pd.DataFrame({"id": np.arange(len(table)), "score": np.linspace(0, 1, len(table))})
    for name, rows in (("scores", scores), ("cells", table[CELLS])):
        parquet.write_table(
            pyarrow.Table.from_pandas(rows), tmp_path / f"{name}.parquet", row_group_size=group
        )
    expected = copies(table)
    assert mark_copies(tmp_path / "scores.parquet", tmp_path / "cells.parquet") == expected.sum()
    found = pd.read_parquet(tmp_path / "scores.parquet")
    assert found["is_copy"].tolist() == expected.tolist()
    pd.testing.assert_frame_equal(found.drop(columns="is_copy"), scores)
    # one of each of the four and the two others
    assert (~expected).sum() >= 5
    assert not expected[7]


def pairs(structures):
    cells = [(s.lattice.matrix, s.frac_coords, s.atomic_numbers) for s in structures]
    return [Scaled.of(*cell) for cell in cells]


def disguised(structure, generator):
    """The same crystal: turned, moved, in another order and another basis, atoms a little off."""
    turn = np.array([[0, 1, 0], [-1, -1, 0], [0, 0, -1]])
    order = generator.permutation(len(structure))
    coords = (structure.frac_coords[order] + generator.random(3)) @ np.linalg.inv(turn)
    rotation = Rotation.random(random_state=1).as_matrix()
    lattice = turn @ structure.lattice.matrix @ rotation
    coords += generator.normal(size=coords.shape) @ np.linalg.inv(lattice) * 0.02
    return Structure(Lattice(lattice), [structure.species[i] for i in order], coords)


def polytype(layers, seed):
    """Zinc sulphide, its layers stacked at random."""
    generator, place, species, coords = np.random.default_rng(seed), 0, [], []
    for layer in range(layers):
        plane = [(0, 0), (1 / 3, 2 / 3), (2 / 3, 1 / 3)][place]
        species += ["Zn", "S"]
        coords += [[*plane, layer / layers], [*plane, (layer + 0.75) / layers]]
        place = (place + int(generator.choice([1, 2]))) % 3
    return Structure(Lattice.hexagonal(3.82, 3.12 * layers), species, coords)


@pytest.mark.parametrize("quick", [True, False])
def test_equal_is_what_the_matcher_of_pymatgen_finds_equal(table, monkeypatch, quick):
    if not quick:
        monkeypatch.setattr(duplicates, "_laid_alike", lambda one, other: False)
    matcher = StructureMatcher(
        primitive_cell=False, attempt_supercell=False, ltol=0.1, stol=0.15, angle_tol=3
    )
    generator = np.random.default_rng(0)
    crystals = [polytype(layers, seed) for layers in (2, 3, 4) for seed in range(4)]
    crystals += [disguised(crystal, generator) for crystal in crystals[::3]]
    crystals += [
        structure_of(*table.loc[row, ["lattice", "frac_coords", "atomic_numbers"]])
        for row in (0, 7, 11, 20, 30)
    ]
    cells, found = pairs(crystals), []
    for (a, one), (b, other) in itertools.combinations(enumerate(crystals), 2):
        if one.composition == other.composition:
            found.append(Matcher().equal(cells[a], cells[b], strain=np.inf))
            assert found[-1] == matcher.fit(one, other), (a, b)
    assert 10 < sum(found) < len(found)


def test_strained_copies_are_crystals_of_their_own():
    salt = Structure(Lattice(2.82 * (1 - np.eye(3))), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    strained = [salt.copy().apply_strain(x, inplace=False) for x in (0.0, 0.01, -0.01, 0.002, 1.0)]
    found = first_equal([(s.lattice.matrix, s.frac_coords, s.atomic_numbers) for s in strained])
    # steps of 1 % in length are data, a fifth of a percent is the same crystal
    assert found == [(0, None), (1, None), (2, None), (0, None), (4, None)]


def test_polytypes_are_told_apart_in_bounded_work(within):
    layered = [polytype(44, seed) for seed in range(6)]
    layered.append(disguised(layered[3], np.random.default_rng(0)))
    with within(5):
        found = first_equal([(s.lattice.matrix, s.frac_coords, s.atomic_numbers) for s in layered])
    assert found == [(n, None) for n in (0, 1, 2, 3, 4, 5, 3)]


def test_what_is_undecided_is_said_and_kept(monkeypatch):
    monkeypatch.setattr(duplicates, "MOST_WORK", 100)
    crystals = [polytype(8, 0), disguised(polytype(8, 0), np.random.default_rng(0))]
    rows = cells(crystals).assign(id=["a", "b"], notes=["", "read oddly"])
    same, undecided = duplicates.find_duplicates(rows, threads=1)
    assert same == ["", ""]
    assert undecided == {1: "a"}
    duplicates.note_undecided(rows, undecided)
    assert rows["notes"].tolist() == [
        "", "read oddly; may equal a: too many ways to lay one on the other, both are kept"
    ]  # fmt: skip
    assert duplicates.copies(rows).tolist() == [False, False]
