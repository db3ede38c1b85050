"""Structures in any form that a caller may have them in."""

import time
from functools import partial
from types import SimpleNamespace

import builders
import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Composition, Molecule, Structure

from matml.core.errors import MatmlError
from matml.core.parallel import Helpers
from matml.structures.crystal import cell_of
from matml.structures.crystals import CrystalSet, _make_all
from matml.structures.errors import BadCrystal
from matml.structures.given import given
from matml.structures.settings import GraphsSection, StructuresSection

SALT = builders.rocksalt()


class Atoms:
    """What is asked of ASE's class, which need not be installed."""

    __module__ = "ase.atoms"

    def __init__(self, structure, pbc=(True, True, True)):
        self.cell, self.pbc = structure.lattice.matrix, np.array(pbc)
        self.positions, self.numbers = structure.cart_coords, structure.atomic_numbers

    def get_scaled_positions(self):
        return self.positions @ np.linalg.inv(self.cell)


def forms(folder):
    """One crystal in every form."""
    path = folder / "salt.cif"
    path.write_text(SALT.to(fmt="cif"))
    plain = SALT.as_dict()
    asked = {"cell": SALT.lattice.matrix.tolist(), "positions": SALT.cart_coords.tolist()}
    return {
        "structure": SALT,
        "cif": SALT.to(fmt="cif"),
        "poscar": SALT.to(fmt="poscar"),
        "path": path,
        "text of a path": str(path),
        "dictionary": plain,
        "ase dictionary": asked | {"numbers": list(SALT.atomic_numbers), "pbc": [True] * 3},
        "arrays, as of todict": {name: np.array(value) for name, value in asked.items()}
        | {"numbers": np.array(SALT.atomic_numbers), "pbc": np.array([True] * 3)},
        "ase": Atoms(SALT),
    }


def test_a_crystal_is_the_same_in_every_form(tmp_path):
    items = forms(tmp_path)
    expected = CrystalSet.from_structures(SALT).table.iloc[0]
    for name, item in items.items():
        found = CrystalSet.from_structures(item)
        assert found.quarantine.empty, (name, found.quarantine["reason"].tolist())
        assert len(found) == 1, name
        own = found.table.iloc[0]
        assert (own["formula"], own["prototype"]) == ("NaCl", expected["prototype"]), name
        assert own["volume_per_atom_A3"] == pytest.approx(expected["volume_per_atom_A3"], rel=1e-5)
    together = CrystalSet.from_structures(list(items.values()))
    assert len(together) == len(items)


def test_names_and_index_are_kept(tmp_path):
    items = forms(tmp_path)
    table = pd.DataFrame({"structure": list(items.values())}, index=range(10, 10 + len(items)))
    assert CrystalSet.from_structures(table).table["id"].tolist() == [str(i) for i in table.index]
    named = table.assign(material_id=list(items))
    found = given(named)
    assert (found.ids, found.index.tolist()) == (list(items), table.index.tolist())
    assert given(items).ids == given(named.set_index("material_id")["structure"]).ids == list(items)
    assert given([SALT, SALT]).ids == given(pd.Series([SALT, SALT], index=["a", "a"])).ids


def test_labels_are_put_in_the_order_of_the_structures():
    crystals = given(pd.Series([SALT, SALT], index=["a", "b"]))
    assert crystals.aligned(pd.Series([2.0, 1.0], index=["b", "a"])).tolist() == [1.0, 2.0]
    assert crystals.aligned([1.0, 2.0]) == [1.0, 2.0]
    with pytest.raises(MatmlError, match="'b' has no value"):
        crystals.aligned(pd.Series([1.0, 2.0], index=["a", "c"]))
    with pytest.raises(MatmlError, match="some are given twice"):
        crystals.aligned(pd.Series([1.0, 2.0, 3.0], index=["a", "b", "b"]))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (Molecule("O", [[0, 0, 0]]), "is of the type Molecule, which has no cell"),
        (SimpleNamespace(structure=SALT), "whose `.structure` is a crystal"),
        (np.zeros(3), "is of the type ndarray; give a pymatgen Structure, ASE Atoms, a path"),
        ("BaTiO3", r"there is no such file \(a formula\? it has many crystals\)"),
        ("nowhere/salt.cif", "no such file; give"),
        (SALT.to(fmt="cif") + SALT.to(fmt="cif"), "holds 2 crystals; give one by one"),
        ({"a": 1}, r"is no crystal in a form that is read \(its keys: a\)"),
        (Atoms(SALT, [True, True, False]), r"pbc = \[True, True, False\]: not periodic"),
        (7, "is of the type int"),
        (Composition("NaCl"), r"is of the type Composition \(NaCl\), which has no sites"),
        ("3\n\nO 0 0 0\nH 0 0 1\nH 0 1 0\n", "no Lattice=.* not a periodic crystal"),
        ({"lattice": object(), "sites": []}, "holds what JSON cannot .*; give plain values"),
    ],
)
def test_what_is_no_crystal_is_named_by_what_it_looks_like(item, message):
    found = CrystalSet.from_structures([SALT, item])
    assert len(found) == 1
    said = found.quarantine.iloc[0]
    assert pd.Series([f"{said['reason']}; {said['remedy']}"]).str.contains(message).all(), said


def test_no_collection_and_no_column_are_errors():
    with pytest.raises(MatmlError, match="structures: is of the type NoneType; give"):
        given(None)
    with pytest.raises(MatmlError, match=r"no column of crystals \(poscar, .*\), only formula"):
        given(pd.DataFrame({"formula": ["NaCl"]}))


def test_what_another_process_cannot_use_is_told_here():
    """The helper itself meets the bad one: this process waits until it is ready."""
    overlapping = Structure(np.eye(3) * 4, ["Na", "Cl"], [[0, 0, 0], [0, 0, 0.01]])
    work = partial(_make_all, settings=StructuresSection(), graphs=GraphsSection())
    with Helpers(1, "structures") as helpers:
        while not helpers.ready:
            time.sleep(0.01)
        made = list(helpers.share(work, [[cell_of(each)] for each in (SALT, overlapping, SALT)]))
    assert [type(part[0]) for part in made] == [tuple, BadCrystal, tuple]
    assert "apart" in made[1][0].reason
