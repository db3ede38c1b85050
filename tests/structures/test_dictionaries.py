"""What dictionaries and extended XYZ declare of a site, and tables by pandas of their rows."""

import json

import pytest
from pymatgen.core import Lattice, Structure

from matml.core.errors import MatmlError
from matml.structures.errors import BadCrystal
from matml.structures.ingest import document_crystals, gather
from matml.structures.io.documents import Document, Documents
from matml.structures.io.read import read_inputs
from matml.structures.settings import StructuresSection

SETTINGS = StructuresSection()
SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.03), ["Li", "F"], [[0, 0, 0], [0.5] * 3])
HYDRIDE = Structure(SALT.lattice, ["Li"] * 4 + ["H"] * 4, SALT.frac_coords)


def read(value, kind="json"):
    text = value if isinstance(value, str) else json.dumps(value)
    [(_, found)] = document_crystals(Document("x", "x", -1, kind, text), SETTINGS)
    return found


def changed(change, structure=SALT):
    value = structure.as_dict()
    change(value)
    return value


def xyz(columns="", cells="", more="", structure=SALT):
    lattice = " ".join(map(str, structure.lattice.matrix.ravel()))
    rows = [f"{s.specie} {s.x} {s.y} {s.z} {cells}".strip() for s in structure]
    about = f'Lattice="{lattice}" Properties=species:S:1:pos:R:3{columns} {more}'
    return "\n".join([str(len(rows)), about, *rows, ""])


def ase(structure=SALT, **more):
    return {
        "cell": structure.lattice.matrix.tolist(),
        "pbc": [True] * 3,
        "numbers": list(structure.atomic_numbers),
        "positions": structure.cart_coords.tolist(),
        **more,
    }


def jarvis(**more):
    return {
        "jid": "JVASP-1",
        "atoms": {
            "lattice_mat": SALT.lattice.matrix.tolist(),
            "coords": SALT.frac_coords.tolist(),
            "elements": [site.specie.symbol for site in SALT],
            "cartesian": False,
            **more.pop("atoms", {}),
        },
        **more,
    }


WRONG = {
    "occupancy of a site's properties": (
        changed(lambda d: d["sites"][2].update(properties={"occupancy": 0.5})),
        "site 3 holds 1 atoms, but an occupancy of 0.5 is declared",
    ),
    "occupancy in a column": ((xyz(":occupancy:R:1", "0.75"), "xyz"), "an occupancy of 0.75"),
    "occupancy in ASE's words": ((xyz(more='occupancy="{}"'), "xyz"), "which is not read from"),
    "occupancy in ASE's data": (ase(data={"occupancy": {"0": {"Li": 0.5}}}), "data declares occ"),
    "heavy hydrogen by its mass": (
        ase(HYDRIDE, masses=[6.94] * 4 + [2.014] * 4),
        "site 5 holds the isotope D",
    ),
    "heavy hydrogen in a column": (
        (xyz(":masses:R:1", "2.014", structure=HYDRIDE), "xyz"),
        "a mass of 2.014 u is declared",
    ),
    "another element by its mass": ((xyz(":masses:R:1", "118.7"), "xyz"), "of 6.941 u, but a mass"),
    "a single layer": (jarvis(dimensionality="2D-monolayer"), "not periodic in all directions"),
    "a word for a truth": (jarvis(atoms={"cartesian": "False"}), "neither true nor false"),
    "edges that are none": (jarvis(atoms={"abc": "x"}), "no list of three numbers"),
    "another formula inside": (
        changed(lambda d: d.update(properties={"formula_pretty": "NaF"})),
        "the formula 'NaF' is declared",
    ),
    "another formula beside": (ase(key_value_pairs={"formula": "NaF"}), "'NaF' is declared"),
    "a direction that ends": ((xyz(more='periodic="T T F"'), "xyz"), "not periodic in all"),
    "a column without cells": ((xyz(":forces:R:3"), "xyz"), "line 3 has 4 values, but Properties"),
    "a site without occupancy": (
        changed(lambda d: d["sites"][1]["species"][0].pop("occu")),
        "site 2 has no list `species` of objects",
    ),
    "sites by name": (changed(lambda d: d.update(sites={"a": 1})), "`sites` no list"),
    "a short position": (ase(positions=[[0, 0]] + [[0, 0, 0]] * 7), "rows of three numbers"),
    "what is no crystal": ({"labels": [], "periodic": True}, "its keys: labels, periodic"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_contradicts_a_crystal_is_told(name):
    value, reason = WRONG[name]
    found = read(*value) if isinstance(value, tuple) else read(value)
    assert isinstance(found, BadCrystal), found.formula
    assert reason in found.reason
    assert found.remedy


@pytest.mark.parametrize(
    "value",
    [
        ase(masses=[6.015] * 4 + [18.998] * 4),
        (xyz(":occupancy:R:1", "1.0"), "xyz"),
        jarvis(dimensionality="3D-bulk", atoms={"abc": list(SALT.lattice.abc)}),
        # of layers that are stacked
        jarvis(dimensionality="2D-bulk"),
        changed(lambda d: d.update(properties={"formula_pretty": "LiF", "energy": -1.0})),
    ],
)
def test_what_agrees_is_read(value):
    found = read(*value) if isinstance(value, tuple) else read(value)
    assert found.formula == "LiF"
    assert found.notes == ""


def test_a_label_that_stayed_where_an_element_was_replaced_is_noted():
    found = read(changed(lambda d: d["sites"][4].update(label="N3")))
    assert found.notes == "site 5 holds F, but its label is N3"


TABLE = {"index": [0], "columns": ["structure", "e"], "data": [[SALT.as_dict(), 1.0]]}


@pytest.mark.parametrize("size", [64.0, 2e-5])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": []}, "`index` has 1 names, but `data` 0 rows"),
        ({"data": TABLE["data"] * 2}, "`index` has 1 names, but `data`"),
        ({"data": [[1, 2, 3]]}, "row 1 of `data` has 3 cells, the table 2 columns"),
        ({"data": [7]}, "row 1 of `data` has 7, no list of cells, the table 2 columns"),
        ({"columns": ["structure", "structure"]}, "the column 'structure' is given twice"),
        ({"columns": ["structure", ["e"]]}, "which is no name"),
    ],
)
def test_a_table_of_pandas_that_does_not_fit_is_refused(change, reason, size, tmp_path):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(TABLE | change))
    settings = StructuresSection(max_file_MB=size)
    refused = gather(read_inputs([path], settings), settings).quarantine
    nothing = "holds no entry" if size < 1 and change == {"data": []} else reason
    assert nothing in refused["reason"].iloc[-1]


def test_two_columns_of_crystals_are_told(tmp_path):
    path = tmp_path / "two.csv"
    path.write_text(f'id,cif,poscar\na,"{SALT.to(fmt="cif")}","{SALT.to(fmt="poscar")}"\n')
    found = read_inputs([path], SETTINGS)
    assert found.notes == ["two.csv: crystals are read from column poscar, not from cif"]


def test_numbers_that_are_not_read_are_shown(tmp_path):
    (tmp_path / "labels.csv").write_text("id,own,e\nx,~1.5,1\ny,\u22121,2\nz,2 3,3\nu,1-2,4\n")
    read_these = Documents([Document(n, n, -1, "json", json.dumps(SALT.as_dict())) for n in "xyzu"])
    found = gather(read_these, SETTINGS, tmp_path / "labels.csv")
    assert found.label_names == ["e"]
    assert "labels.csv: left out: own = '~1.5' in row 2 is not a number" in found.notes
    (tmp_path / "minus.csv").write_text("id,own\nx,\u22121\ny,\u22122\n")
    found = gather(read_these, SETTINGS, tmp_path / "minus.csv")
    assert found.table["own"].dropna().tolist() == [-1, -2]
    (tmp_path / "none.csv").write_text("id,own\nx,~24400\ny,~17600\n")
    with pytest.raises(MatmlError, match="own = '~24400' in row 2 is not a number"):
        gather(read_these, SETTINGS, tmp_path / "none.csv")
