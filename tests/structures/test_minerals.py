"""Names of minerals and structure types, held against the crystals that are called by them."""

import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from matml.structures.errors import BadCrystal
from matml.structures.families import _pymatgen_table
from matml.structures.ingest import document_crystals, ingest
from matml.structures.io.documents import Document
from matml.structures.io.minerals import MEANINGS, Name, meaning_of, not_named, other_than_named
from matml.structures.settings import StructuresSection

RUTILE = Structure.from_spacegroup(
    136, Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
)
ANATASE = Structure.from_spacegroup(
    "I4_1/amd", Lattice.tetragonal(3.784, 9.514), ["Ti", "O"], [[0, 0, 0], [0, 0, 0.208]]
)
SYLVITE = Structure.from_spacegroup(
    225, Lattice.cubic(6.29), ["K", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)


def test_names_mean_what_the_aflow_library_says():
    compared = 0
    for entry in _pymatgen_table("aflow_prototypes"):
        name, aflow = entry["tags"].get("mineral") or "", entry["tags"]["aflow"]
        # pyrite is there twice, once with its few atoms out of place
        if meaning_of(name) is None or aflow == "AB2_aP12_1_4a_8a":
            continue
        formula = Structure.from_dict(entry["snl"]).composition.reduced_formula
        said = other_than_named(Name(name), formula, int(aflow.split("_")[2]))
        assert said is None
        compared += 1
    assert compared == 25


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Rutile#TiO2", "Rutile"),
        ("ANATASE", "Anatase"),
        ("TiO2 (anatase structure)", None),
        ("anatase structure TiO2", "Anatase"),
        ("α-quartz", "Alpha quartz"),
        ("rock-salt type NaCl 2", "Rock salt"),
        ("layered rutile", None),
        ("anatase on rutile", None),
        ("TiO2", None),
        ("perovskite", None),
    ],
)
def test_which_name_is_meant(text, name):
    found = meaning_of(text)
    assert (found and found.name) == name


@pytest.mark.parametrize(
    ("name", "formula", "group", "outcome"),
    [
        (Name("rutile"), "TiO2", 141, "as anatase"),
        (Name("Calcite"), "CaCO3", 62, "as aragonite"),
        (Name("Quartz", confirmed=True), "SiO2", 136, "as stishovite"),
        (Name("Halite"), "KCl", 225, "NaCl in space group 225"),
        (Name("Brucite"), "MgO2", 164, "is Mg(OH)2"),
        (Name("Hematite"), "Fe3O4", 227, "is Fe2O3"),
    ],
)
def test_what_is_certain(name, formula, group, outcome):
    reason, certain = other_than_named(name, formula, group)
    assert outcome in reason
    assert certain


@pytest.mark.parametrize(
    ("name", "formula", "group"),
    [
        # the formula confirms the sites; a comment may be stale; a type is of any elements
        (Name("Halite", confirmed=True), "KCl", 225),
        (Name("rutile", of_type=True, comment=True), "TiO2", 141),
        (Name("rutile", of_type=True), "TiO", 225),
        # distorted, or of a group that is no other polymorph's
        (Name("Rutile"), "TiO2", 58),
        (Name("Quartz"), "SiO2", 5),
    ],
)
def test_what_is_only_noted(name, formula, group):
    reason, certain = other_than_named(name, formula, group)
    assert name.text in reason
    assert not certain


@pytest.mark.parametrize(
    ("name", "formula", "group"),
    [
        (Name("Rutile"), "TiO2", 136),
        (Name("Halite"), "Na0.8K0.2Cl", 225),
        (Name("spinel"), "LiMn2O4", 227),
        (Name("spinel"), "Fe3O4", 227),
        (Name("corundum"), "Cr2O3", 167),
        (Name("Calcite#CaCO3", of_type=True), "LiNO3", 167),
        (Name("Siderite"), "Fe0.8Mg0.2CO3", 167),
        (Name("unobtainium"), "TiO2", 1),
    ],
)
def test_what_is_right(name, formula, group):
    assert other_than_named(name, formula, group) is None


def test_every_polymorph_is_told_from_the_others():
    for one in MEANINGS.values():
        for other in MEANINGS.values():
            if one.amounts == other.amounts and one.groups.isdisjoint(other.groups):
                assert other_than_named(Name(one.name), one.formula, min(other.groups))


def read(kind, text, **said):
    [(_, found)] = document_crystals(
        Document("x", "x", -1, kind, text, said=said), StructuresSection()
    )
    return found


def cif(structure, *lines):
    text = structure.to(fmt="cif")
    kept = [line for line in text.splitlines() if "_chemical_formula" not in line]
    return "\n".join([kept[1], *lines, *kept[2:]])


def test_names_of_a_cif_a_poscar_and_a_row():
    found = read("cif", cif(ANATASE, "_chemical_name_mineral Rutile"))
    assert isinstance(found, BadCrystal)
    assert found.reason == (
        "it is called 'Rutile', which is TiO2 in space group 136, but the crystal is TiO2 in space "
        "group 141, as anatase"
    )
    assert read("cif", cif(ANATASE, "_chemical_name_structure_type Anatase#TiO2")).notes == ""
    assert isinstance(read("cif", cif(SYLVITE, "_chemical_name_mineral Halite")), BadCrystal)
    formula = "_chemical_formula_sum 'K Cl'"
    assert "NaCl" in read("cif", cif(SYLVITE, "_chemical_name_mineral Halite", formula)).notes
    found = read("cif", cif(SYLVITE, "_chemical_name_systematic 'Sodium chloride'"))
    assert found.notes == "it is called 'Sodium chloride', but KCl holds no Na"
    assert isinstance(read("cif", cif(SYLVITE, "_pd_phase_name Halite")), BadCrystal)
    poscar = RUTILE.to(fmt="poscar").split("\n", 1)[1]
    assert "as rutile" in read("poscar", f"anatase TiO2\n{poscar}").notes
    assert read("poscar", f"rutile TiO2\n{poscar}").notes == ""
    assert isinstance(read("poscar", f"x\n{poscar}", mineral="anatase"), BadCrystal)


@pytest.mark.parametrize(
    ("name", "formula", "missing"),
    [
        ("Potassium chloride", "NaCl", "K"),
        ("magnesium hydroxide", "MgO2", "H"),
        ("Calcium sulfate hemihydrate", "CaSO4", "H"),
        ("Iron(III) trisulphide", "Fe2O3", "S"),
        ("Aluminum oxide - alpha", "Al2O3", ""),
        ("dialuminium trioxide", "Al2O3", ""),
        ("sodium chloride", "NaCl", ""),
        ("alumina, tabular, ironstone", "Al2O3", ""),
    ],
)
def test_elements_of_a_systematic_name_are_among_the_sites(name, formula, missing):
    said = not_named(name, formula)
    assert said == missing
    other = other_than_named(Name(name), formula, 1)
    assert (other is not None and not other[1] and f"no {missing}" in other[0]) == bool(missing)


def test_a_label_of_another_mineral_goes_to_quarantine(tmp_path):
    (tmp_path / "a.vasp").write_text(RUTILE.to(fmt="poscar"))
    (tmp_path / "b.vasp").write_text(ANATASE.to(fmt="poscar"))
    labels = tmp_path / "labels.csv"
    labels.write_text("file,mineral,hardness_HV\na.vasp,rutile,900\nb.vasp,rutile,600\n")
    ingest(
        [tmp_path / "a.vasp", tmp_path / "b.vasp"], tmp_path / "out", StructuresSection(), labels
    )
    [row] = pd.read_csv(tmp_path / "out" / "quarantine.csv").to_dict("records")
    assert row["id"] == "b.vasp"
    assert "as anatase" in row["reason"]
