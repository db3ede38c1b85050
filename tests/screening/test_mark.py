"""Copies among all scored candidates, told from a file, whatever the sizes of its parts."""

import numpy as np
import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from matml.screening.select import deduplicate as mark
from matml.screening.select.deduplicate import CELLS, mark_copies
from matml.structures import duplicates
from matml.structures.duplicates import copies, first_equal


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
    structures[20] = structures[20].copy().apply_strain(0.01, inplace=False)
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


def test_what_lies_alike_is_what_the_matcher_finds(table, monkeypatch):
    groups = [rows for _, rows in table.groupby("formula")]
    tasks = [
        list(zip(rows["lattice"], rows["frac_coords"], rows["atomic_numbers"], strict=True))
        for rows in groups
    ]
    fits = []
    fit = StructureMatcher.fit
    monkeypatch.setattr(StructureMatcher, "fit", lambda *given: fits.append(1) or fit(*given))
    quick = [first_equal(task) for task in tasks]
    asked = len(fits)
    monkeypatch.setattr(duplicates, "_laid_alike", lambda one, other: False)
    assert [first_equal(task) for task in tasks] == quick
    # only what lies differently was left to the matcher
    assert asked < 10 < len(fits) - asked
