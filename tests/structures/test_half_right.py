"""Files that are right but for one fact: read as they are meant, or refused by the fact."""

import gzip
import json
import os
import zipfile

import builders
import pytest

from matml.core.errors import MatmlError
from matml.core.files import read_table
from matml.screening.data.reader import read_chunks
from matml.structures.crystal import Crystal
from matml.structures.errors import BadCrystal
from matml.structures.ingest import document_crystals
from matml.structures.ingest import ingest as run_ingest
from matml.structures.io import parse
from matml.structures.io.declared import parse_formula, plain_formula
from matml.structures.io.documents import Document, Documents
from matml.structures.io.read import read_inputs
from matml.structures.io.space_groups import number_of_symbol
from matml.structures.settings import StructuresSection
from matml.structures.symmetry.subgroups import subgroups

SETTINGS = StructuresSection()
CELL = "".join(
    f"_cell_{name} {value}\n"
    for name, value in zip(
        ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"),
        (5.64,) * 3 + (90,) * 3,
        strict=True,
    )
)
XYZ = "label fract_x fract_y fract_z"


def cif(rows, columns="label type_symbol fract_x fract_y fract_z", head=""):
    loop = "loop_\n" + "".join(f"_atom_site_{name}\n" for name in columns.split())
    return f"data_x\n{head}{CELL}_space_group_name_H-M_alt 'F m -3 m'\n{loop}" + "\n".join(rows)


FRACT = "label type_symbol fract_x fract_y fract_z"
SALT = ["Na1 Na 0 0 0", "Cl1 Cl 0.5 0.5 0.5"]
MATRIX = [[4, 0, 0], [0, 4, 0], [0, 0, 4]]
SITES = [
    {"species": [{"element": "Cs", "occu": 1}], "abc": [0, 0, 0]},
    {"species": [{"element": "Cl", "occu": 1}], "abc": [0.5, 0.5, 0.5]},
]


def optimade(**changes):
    species = [
        {"name": name, "chemical_symbols": [name], "concentration": [1]} for name in ("Cs", "Cl")
    ]
    attributes = {
        "lattice_vectors": MATRIX,
        "cartesian_site_positions": [[0, 0, 0], [2, 2, 2]],
        "species_at_sites": ["Cs", "Cl"],
        "species": species,
        "elements": ["Cl", "Cs"],
        "elements_ratios": [0.5, 0.5],
        "chemical_formula_anonymous": "AB",
    } | changes
    return json.dumps({"id": "1", "type": "structures", "attributes": attributes})


BOND = (
    "\nloop_\n_geom_bond_atom_site_label_1\n_geom_bond_atom_site_label_2\n_geom_bond_distance\n{}\n"
)


def xyz(rows, layout="species:S:1:pos:R:3"):
    head = f'2\nLattice="4 0 0 0 4 0 0 0 4" Properties={layout}\n'
    return head + "\n".join(rows)


def crystals_of(kind, text):
    return [found for _, found in document_crystals(Document("x", "x", -1, kind, text), SETTINGS)]


REFUSED = {
    "fractions are angstroms": (
        "cif", cif(["Na1 Na 0 0 0", "Cl1 Cl 2.82 2.82 2.82"]), "lies 2.82 cells away"),
    "far away": (
        "cif", cif(["Na1 Na 1e20 0 0", SALT[1]], head="_chemical_formula_sum 'Na Cl'\n"),
        "lies 1e+20 cells away"),
    "hydroxyl by its label": (
        "cif", cif(["Mg1 0 0 0", "O-H 0.5 0.5 0.5"], XYZ), "label O-H stands for a group"),
    "hydroxyl of type O": (
        "cif", cif(["Mg1 Mg 0 0 0", "OH1 O 0.5 0.5 0.5"]), "OH1 is of type O, but its label sta"),
    "water of type O": (
        "cif", cif(["Mg1 Mg 0 0 0", "H2O O 0.5 0.5 0.5"]), "H2O is of type O, but its label sta"),
    "a label of another nonmetal": (
        "cif", cif(["Pb1 Pb 0 0 0", "S1 O 0.5 0.5 0.5"]), "S1 is of type O, but its label says S"),
    "atom types without sites": (
        "cif", cif(SALT) + "\nloop_\n_atom_type_symbol\nNa1+\nCl1-\nH1+\n",
        "the sites hold Cl, Na, but _atom_type_symbol lists Na1+, Cl1-, H1+"),
    "sites without an atom type": (
        "cif", cif(SALT) + "\nloop_\n_atom_type_symbol\nNa\n", "but _atom_type_symbol lists Na"),
    "Z alone": (
        "cif", cif(SALT, head="_cell_formula_units_Z 8\n"),
        "Na4 Cl4 in the cell, which are not Z = 8 equal formula units"),
    "subscripts": ("cif", cif(SALT, head="_chemical_formula_sum 'K₂O'\n"), "formula 'K₂O'"),
    "a loop of formulas": (
        "cif", cif(SALT) + "\nloop_\n_chemical_formula_sum\n'Na Cl'\n'K Cl'\n", "formula 'K Cl'"),
    "density in kg/m^3": (
        "cif", cif(SALT, head="_exptl_crystal_density_diffrn 2164\n"),
        "give 2.164 g/cm^3, but a density of 2164.000 kg/m^3, as it seems,"),
    "occupancies by multiplicity": (
        "cif", cif(["Cu1 Cu 0 0 0 .0208", "F1 F .25 .25 .25 .0417"], f"{FRACT} occupancy"),
        "proportional to the numbers of equivalent positions on every site (0.0208 for 4, 0.0417"),
    "occupancies by multiplicity against the formula": (
        "cif", cif(["Cu1 Cu 0 0 0 .33", "F1 F .25 .25 .25 .67", "O1 O .5 0 0 .33"],
                   f"{FRACT} occupancy",
                   "_chemical_formula_sum 'Cu F2 O'\n_cell_formula_units_Z 4\n"),
        "SHELX write those of full sites; the sites give Cu1.32"),
    "magnetic symmetry alone": (
        "cif", cif(SALT, head="_space_group_magn.name_BNS 'F m -3 m'\n").replace(
            "_space_group_name_H-M_alt 'F m -3 m'\n", ""), "only the magnetic symmetry is given"),
    "a CIF by name, JSON by content": ("cif", '{"@class": "Structure"}', "holds JSON, and cannot"),
    "a POSCAR by name, a CIF by content": ("poscar", f"# x\n{cif(SALT)}", "holds a CIF, and"),
    "a CIF by name, a POSCAR by content": (
        "cif", "x\n1.0\n4 0 0\n0 4 0\n0 0 4\nPo\n1\nDirect\n0 0 0\n", "holds a POSCAR, and"),
    "a pointer": ("xyz", "version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    "SHELX": ("cif", "TITL x\nCELL 0.7 4 4 4 90 90 90\nLATT 4\nSFAC NA\n", "an input of SHELX"),
    "weight": (
        "cif", cif(SALT, head="_chemical_formula_weight 74.55\n"),
        "weigh 233.77 u, 3.14 times the declared formula weight of 74.55"),
    "weight and Z": (
        "cif", cif(SALT, head="_chemical_formula_weight 58.44\n_cell_formula_units_Z 2\n"),
        "but Z = 2"),
    "modulated": ("cif", cif(SALT, head="_cell_modulation_dimension 1\n"), "is modulated"),
    "crowd": ("cif", cif([f"Na{n} Na .1 .2 .3" for n in range(100)]), "100 positions lie within"),
    "number of elements": ("json", optimade(nelements=3), "nelements = 2, but 3 is declared"),
    "elements": ("json", optimade(elements=["Br", "Cs"]), "but ['Br', 'Cs'] is declared"),
    "ratios": ("json", optimade(elements_ratios=[0.25, 0.75]), "but [0.25, 0.75] is declared"),
    "anonymous": ("json", optimade(chemical_formula_anonymous="A2B"), "AB, but A2B is declared"),
    "hill": ("json", optimade(chemical_formula_hill="BrCs"), "formula 'BrCs'"),
    "descriptive": ("json", optimade(chemical_formula_descriptive="CsBr"), "formula 'CsBr'"),
    "space group": (
        "json", json.dumps({"structure": {"lattice": {"matrix": MATRIX}, "sites": SITES},
                            "symmetry": {"number": 225}}),
        "space group 225 is declared, but the sites have space group 221 (P m -3 m)"),
    "symbol": (
        "json", json.dumps({"lattice": {"matrix": MATRIX}, "sites": SITES, "spacegroup": "Fm-3m"}),
        "space group Fm-3m is declared"),
    "Hall symbol": ("json", optimade(space_group_symbol_hall="-F 4 2 3"), "Hall symbol -F 4 2 3"),
    "OPTIMADE's space group": ("json", optimade(space_group_it_number=225), "space group 225"),
    "crystal system": (
        "json", json.dumps({"atoms": {"lattice": {"matrix": MATRIX}, "sites": SITES},
                            "crys": "hexagonal", "spg_number": "221"}),
        "space group 221 and the crystal system hexagonal are declared, which contradict"),
    "a CIF's crystal system": (
        "cif", cif(SALT, head="_symmetry_cell_setting hexagonal\n"),
        "system hexagonal is declared, but the space-group symbol 'F m -3 m' is of space"),
    "composition": (
        "json", json.dumps({"structure": {"lattice": {"matrix": MATRIX}, "sites": SITES},
                            "formula_pretty": "CsCl", "composition": {"Cs": 1, "Br": 1}}),
        "the formula 'Cs1 Br1' is declared"),
    "chemical system": (
        "json", json.dumps({"structure": {"lattice": {"matrix": MATRIX}, "sites": SITES},
                            "chemsys": "Br-Cs"}),
        "the sites hold Cs1 Cl1, but chemsys = Br-Cs is declared"),
    "fractions against angstroms": (
        "json", optimade(fractional_site_positions=[[0, 0, 0], [0.5, 0.5, 0.4]]),
        "site 2 is at [0.5, 0.5, 0.4] in fractions of the cell and at [2.0, 2.0, 2.0] A, 0.4 A"),
    "an underscore in JSON": (
        "json", json.dumps({"lattice": {"matrix": MATRIX},
                            "sites": [SITES[0], {**SITES[1], "abc": ["0_5", "0.5", "0.5"]}]}),
        "'0_5' is not a number"),
    "Wyckoff multiplicity": (
        "cif", cif(["Na1 Na 0 0 0 4a", "Cl1 Cl 0.5 0.5 0.5 8c"], f"{FRACT} Wyckoff_symbol"),
        "site Cl1 has 4 positions in the cell, but a multiplicity of 8 is declared"),
    "Wyckoff letters": (
        "cif", cif(["Na1 Na 0 0 0 c", "Ca1 Ca .25 .25 .25 b"], f"{FRACT} Wyckoff_symbol"),
        "sites Ca1 and Na1 have 8 and 4 positions in the cell, but the Wyckoff letters b and c"),
    "an empty site": (
        "cif", cif(["Na1 Na 0 0 0 1", "Cl1 Cl .5 .5 .5 0"], f"{FRACT} occupancy"),
        "site Cl1 has occupancy 0, and no formula tells"),
    "places in a CIF": (
        "cif", cif(["Na1 Na 0 0 0 0 0 0", "Cl1 Cl .5 .5 .5 1.41 2.82 2.82"],
                   f"{FRACT} Cartn_x Cartn_y Cartn_z"),
        "site 2 is at [0.5, 0.5, 0.5] in fractions of the cell, but at [1.41, 2.82, 2.82] A"),
    "Cartesian axes in an oblique cell": (
        "cif", cif(["Na1 Na 0 0 0"], "label type_symbol Cartn_x Cartn_y Cartn_z",
                   ).replace("alpha 90", "alpha 80"), "how their axes lie in the oblique cell"),
    "a site that is lost": (
        "cif", cif(SALT) + "\nloop_\n_atom_site_aniso_label\n_atom_site_aniso_U_11\nK1 1\n",
        "_atom_site_aniso_label names K1, which is none of the 2 sites"),
    "a bond to nothing": (
        "cif", cif(SALT) + "\nloop_\n_geom_bond_atom_site_label_1\n"
        "_geom_bond_atom_site_label_2\nNa1 O9\n", "names O9, which is none of the 2 sites"),
    "electrons": (
        "cif", cif(SALT, head="_exptl_crystal_F_000 200\n"), "112 electrons, but F(000) = 200"),
    "two numbers": (
        "cif", cif(SALT, head="_symmetry_Int_Tables_number 221\n_space_group_IT_number 225\n"),
        "the space-group number 221 (2 atoms) give different crystals"),
    "symmetry deep inside": (
        "json", json.dumps({"output": {"structure": {"lattice": {"matrix": MATRIX},
                                                     "sites": SITES},
                                       "spacegroup": {"symbol": "Fm-3m"}}}),
        "space group Fm-3m is declared"),
    "anonymous formula": (
        "json", json.dumps({"structure": {"lattice": {"matrix": MATRIX}, "sites": SITES},
                            "formula_anonymous": "AB2"}),
        "the sites hold Cs1 Cl1, but formula_anonymous = AB2"),
    "numbers against symbols": (
        "json", json.dumps({"numbers": [55, 17], "symbols": ["Cs", "Br"], "cell": MATRIX,
                            "positions": [[0, 0, 0], [2, 2, 2]], "pbc": [True] * 3}),
        "numbers say Cs Cl, but symbols say Cs Br"),
    "an asymmetric unit": (
        "json", optimade(site_coordinate_span="asymmetric_unit"), "not those of a whole cell"),
    "Wyckoff letters of OPTIMADE": (
        "json", optimade(wyckoff_positions=["a"]), "1 wyckoff_positions for 2 species_at_sites"),
    "a species that weighs another": (
        "json", optimade(species=[
            {"name": "Cs", "chemical_symbols": ["Cs"], "concentration": [1]},
            {"name": "Cl", "chemical_symbols": ["Cl"], "concentration": [1], "mass": [79.9]}]),
        "the species 'Cl' holds Cl of 35.45 u, but a mass of 79.9 u is declared"),
    "a species of another name": (
        "json", optimade(species=[
            {"name": "Cs", "chemical_symbols": ["Rb"], "concentration": [1]},
            {"name": "Cl", "chemical_symbols": ["Cl"], "concentration": [1]}]),
        "the species 'Cs' holds Rb, another element"),
    "attached atoms": (
        "json", optimade(species=[
            {"name": "Cs", "chemical_symbols": ["Cs"], "concentration": [1]},
            {"name": "Cl", "chemical_symbols": ["Cl"], "concentration": [1], "attached": ["H"]}]),
        "site_attachments: atoms are attached"),
    "assemblies": (
        "json", optimade(assemblies=[{"sites_in_groups": [[0], [1]],
                                      "group_probabilities": [0.5, 0.5]}]), "alternatives"),
    "a bond that is too short": (
        "cif", cif(SALT) + BOND.format("Na1 Cl1 2.1(1)"),
        "sites Na1 and Cl1 lie 2.820 A apart, but a bond of 2.100 A is listed"),
    "a bond that is no number": (
        "cif", cif(SALT) + BOND.format("Na1 Cl1 long"), "of Na1 and Cl1 is 'long', not a number"),
    "a measured density": (
        "cif", cif(SALT, head="_exptl_crystal_density_meas 4.32\n"),
        "give 2.164 g/cm^3, but 4.320 g/cm^3 were measured"),
    "no sites": ("json", json.dumps({"lattice": {"matrix": MATRIX}, "sites": []}), "no sites"),
    "lines of JSON": ("json", 2 * (json.dumps({"lattice": {}, "sites": []}) + "\n"), "Extra data"),
    "a moiety": (
        "cif", cif(SALT, head="_chemical_formula_sum 'Na Cl'\n"
                              "_chemical_formula_moiety '2(Na 1+), S 2-'\n"),
        "the formula '2(Na 1+), S 2-' is declared"),
    "an XYZ's formula": (
        "xyz", xyz(["Cs 0 0 0", "Cl 2 2 2"], 'species:S:1:pos:R:3 formula="Na Cl"'), "'Na Cl'"),
    "unknown positions": ("json", optimade(structure_features=["unknown_positions"]), "not known"),
    "no position": (
        "json", json.dumps({"lattice": {"matrix": MATRIX},
                            "sites": [SITES[0], {"species": SITES[1]["species"]}]}),
        "site 2 has no position"),
    "more lines than the count": (
        "xyz", xyz(["Cs 0 0 0", "Cl 2 2 2", "Cs 2 2 0"]), "more lines follow ('Cs 2 2 0')"),
    "an order of site symmetry": (
        "cif", cif(["Na1 Na 0 0 0 48", "Cl1 Cl .5 .5 .5 24"], f"{FRACT} site_symmetry_order"),
        "site Cl1 has 4 positions in the cell, but a site-symmetry order of 24 is declared"),
    "an order that is called multiplicity": (
        "cif", cif(["Na1 Na 0 0 0 48", "Cl1 Cl .5 .5 .5 24"], f"{FRACT} symmetry_multiplicity"),
        "site Na1 has 4 positions in the cell, but a multiplicity of 48 is declared"),
    "lengths in bohr": (
        "xyz", xyz(["Cs 0 0 0", "Cl 2 2 2"], "species:S:1:pos:R:3 units=bohr"),
        "units = bohr is declared, but lengths are read in angstrom"),
    "a key twice": (
        "json", '{"lattice": {"matrix": 1, "matrix": 2}, "sites": []}',
        "the key 'matrix' is given twice in one object"),
    "number against name": (
        "xyz", xyz(["Cs 55 0 0 0", "Cl 35 2 2 2"], "species:S:1:Z:I:1:pos:R:3"),
        "called Cl, but its atomic number is given as 35"),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_a_contradiction_is_refused_with_both_values(fault):
    kind, text, reason = REFUSED[fault]
    [found] = crystals_of(kind, text)
    assert isinstance(found, BadCrystal)
    assert reason in found.reason
    assert found.remedy


def pymatgen(**more):
    return json.dumps({"lattice": {"matrix": MATRIX}, "sites": SITES} | more)


def ase(cell):
    positions = {"numbers": [55, 17], "positions": [[0, 0, 0], [2, 2, 2]], "pbc": [True] * 3}
    return json.dumps(positions | {"cell": cell})


READ = {
    "SHELXL-97's multiplicity": (
        "cif", cif(["Na1 Na 0 0 0 48", "Cl1 Cl .5 .5 .5 48"], f"{FRACT} symmetry_multiplicity"),
        "NaCl", ""),
    "SHELXL's orders": (
        "cif", cif(["Na1 Na 0 0 0 48", "Cl1 Cl .5 .5 .5 48"], f"{FRACT} site_symmetry_order"),
        "NaCl", ""),
    "occupancy": (
        "cif", cif(["Na1 Na 0 0 0 .", "Cl1 Cl 0.5 0.5 0.5 1"],
                   "label type_symbol fract_x fract_y fract_z occupancy"),
        "NaCl", "site Na1 has no occupancy ('.' or '?'), read as 1"),
    "weight": ("cif", cif(SALT, head="_chemical_formula_weight 58.443\n"), "NaCl", ""),
    "charge": ("json", pymatgen(charge=1), "CsCl", "a charge of 1 is declared"),
    "a symmetry that its sites have, too": (
        "json", json.dumps({"structure": json.loads(pymatgen()), "symmetry": {"number": 99}}),
        "CsCl", "space group 99 is declared, the sites have 221"),
    "symmetry": (
        "json", json.dumps({"structure": json.loads(pymatgen()),
                            "symmetry": {"number": 221.0, "symbol": "Pm-3m",
                                         "crystal_system": "Cubic"}}),
        "CsCl", ""),
    "symmetry in words": (
        "cif", cif(["Na1 Na 0 0 0 4a", "Cl1 Cl .5 .5 .5 4b"], f"{FRACT} Wyckoff_symbol",
                   "_space_group_crystal_system cubic\n"), "NaCl", ""),
    "two groups of one crystal": (
        "cif", cif(SALT, head="_space_group_IT_number 216\n"), "NaCl",
        "and the space-group number 216 are of different groups, but give the same crystal"),
    "an empty site": (
        "cif", cif([*(f"{row} 1" for row in SALT), "K1 K .25 .25 .25 0"], f"{FRACT} occupancy",
                   "_chemical_formula_sum 'Na Cl'\n"),
        "NaCl", "site K1 has occupancy 0 and was left out, as in the formula"),
    "OPTIMADE": ("json", optimade(), "CsCl", ""),
    "OPTIMADE's places": (
        "json", optimade(fractional_site_positions=[[0, 1, 0], [0.5, 0.5, -0.5]],
                         space_group_it_number=221, space_group_symbol_hall="-P 4 2 3"),
        "CsCl", ""),
    "OPTIMADE 1.3": (
        "json", optimade(cartesian_site_positions=None, wyckoff_positions=["a", "b"],
                         fractional_site_positions=[[0, 0, 0], [0.5, 0.5, 0.5]],
                         site_coordinate_span="unit_cell", assemblies=[],
                         species=[{"name": "Cs", "chemical_symbols": ["Cs"], "concentration": [1],
                                   "mass": [132.9], "attached": ["H"], "nattached": [0]},
                                  {"name": "Cl", "chemical_symbols": ["Cl"], "concentration": [1],
                                   "mass": [36.966]}]),
        "CsCl", ""),
    "bonds": (
        "cif", cif(SALT) + BOND.format("Na1 Cl1 2.82(1)\nCl1 Cl1 3.99\nNa1 Cl1 ?"), "NaCl", ""),
    "ions and a measured density": (
        "cif", cif(SALT, head="_exptl_crystal_density_meas 1.9\n_chemical_formula_sum 'Na Cl'\n"
                              "_chemical_formula_moiety 'Na 1+, Cl 1-'\n"), "NaCl", ""),
    "edges": ("json", ase([4, 4, 4]), "CsCl", ""),
    "edges and angles": ("json", ase([4, 4, 4, 90, 90, 90]), "CsCl", ""),
    "a long line": ("cif", cif(SALT, head=f"_publ_section_title '{'x' * 200_000}'\n"), "NaCl", ""),
    "a text with data_": (
        "cif", cif(SALT, head="_publ_comment\n;\ndata_old\n_cell_length_a 9\n;\n"), "NaCl", ""),
}  # fmt: skip


@pytest.mark.parametrize("fact", READ)
def test_what_is_plain_is_read_and_what_was_understood_is_said(fact):
    kind, text, formula, note = READ[fact]
    [found] = crystals_of(kind, text)
    assert isinstance(found, Crystal)
    assert found.formula == formula
    assert note in found.notes
    assert bool(found.notes) == bool(note)


@pytest.mark.parametrize("symbols", ["Cs Cl", "Li H"])
def test_fractions_that_are_called_cartesian_are_told(symbols):
    """Of light atoms they do not even overlap."""
    text = POSCAR.format(symbols, "0.5 0.5 0.5").replace("Cs Cl\n1", f"{symbols}\n1")
    [found] = crystals_of("poscar", text.replace("Direct", "Cartesian"))
    assert isinstance(found, BadCrystal)
    assert "0.866 A apart" in found.reason
    assert "positions fractions, called Cartesian? say so (Direct" in found.remedy


@pytest.mark.parametrize(
    ("head", "rows", "columns"),
    [
        # hydrogens are listed, or a formula says that there are none
        ("", ["Mg1 Mg 0 0 0", "OH1 O .25 .25 .25", "H1 H .36 .36 .36"], FRACT),
        ("_chemical_formula_sum 'Mg O'\n", ["Mg1 Mg 0 0 0", "OH1 O .5 .5 .5"], FRACT),
        ("_chemical_formula_sum 'Mg O'\n", ["Mg1 Mg 0 0 0", "W1 O .5 .5 .5"], FRACT),
        # sites of one letter that are no elements, and a site shared with another anion
        ("", ["B1 Mg 0 0 0", "O1 O .5 .5 .5"], FRACT),
        ("", ["Mg1 Mg 0 0 0 1", "O1 O .5 .5 .5 .8", "O2 F .5 .5 .5 .2"], f"{FRACT} occupancy"),
        # as the formula says, or shared sites
        (
            "_chemical_formula_sum 'Mg0.5 O'\n",
            ["Mg1 Mg 0 0 0 .5", "O1 O .25 .25 .25 .5"],
            f"{FRACT} occupancy",
        ),
        ("", ["Fe1 Fe 0 0 0 .5", "Co1 Co 0 0 0 .5"], f"{FRACT} occupancy"),
        ("_cell_formula_units_Z 2\n", SALT, FRACT),
        ("_cell_formula_units_Z 8\n_chemical_formula_weight 29.22\n", SALT, FRACT),
        ("loop_\n_atom_type_symbol\nNa+\nCl-\n", SALT, FRACT),
        ("_space_group_IT_coordinate_system_code 1\n", SALT, FRACT),
    ],
)
def test_what_looks_like_a_contradiction_and_is_none_is_read(head, rows, columns):
    [found] = crystals_of("cif", cif(rows, columns, head))
    assert isinstance(found, Crystal), found
    assert "formula" not in found.notes


def test_a_formula_that_is_not_understood_is_noted():
    for text in ("Na Cl x H2 O", "K1 Cl1 Xx1"):
        [found] = crystals_of("cif", cif(SALT, head=f"_chemical_formula_sum '{text}'\n"))
        assert f"the formula '{text}' is not understood" in found.notes
    [found] = crystals_of("cif", cif(SALT, head="_chemical_formula_analytical 'Na.9 K.1 Cl'\n"))
    assert found.notes == "the analytical formula 'Na.9 K.1 Cl' has K, of which there is no site"
    both = "_chemical_formula_sum 'Na Cl'\n_chemical_formula_moiety '(Na Cl)n'\n"
    [found] = crystals_of("cif", cif(SALT, head=both))
    assert found.notes == ""


@pytest.mark.parametrize("code", ["1", "2"])
def test_the_code_of_the_setting_tells_the_origin(code):
    rows = ["Mg1 Mg .125 .125 .125", "Al1 Al .5 .5 .5", "O1 O .2625 .2625 .2625"]
    head = f"_space_group_IT_coordinate_system_code {code}\n"
    text = cif(rows, head=head).replace("5.64", "8.08").replace("F m -3 m", "F d -3 m")
    [found] = crystals_of("cif", text)
    assert isinstance(found, Crystal if code == "2" else BadCrystal)
    assert code == "1" or found.common_name == "spinel"


@pytest.mark.parametrize("write", [str, repr, lambda _: "Atoms(symbols='NaCl', pbc=True)"])
def test_printed_structures_in_a_table_are_told(tmp_path, write):
    text = write(builders.rocksalt()).replace('"', "'")
    (tmp_path / "t.csv").write_text(f'id,structure\na,"{text}"\n')
    [found] = read_inputs([tmp_path / "t.csv"], SETTINGS).items
    assert "as Python prints a structure" in found.bad.reason
    assert "to(fmt='cif')" in found.bad.remedy


def test_notes_stay_with_a_crystal_that_is_refused():
    columns = "label type_symbol fract_x fract_y fract_z occupancy"
    [found] = crystals_of("cif", cif(["Na1 Na 0 0 0 .", "D1 D 0.5 0.5 0.5 0.5"], columns))
    assert "isotope D" in found.reason
    assert "noted: site Na1 has no occupancy" in found.reason


def test_a_crystal_that_takes_too_long_is_refused_and_the_rest_goes_on(monkeypatch):
    def slow(text, max_sites):
        while "slow" in text:
            try:
                sum(range(1000))
            except Exception:  # as readers catch whatever they stumble on
                continue
        return read(text, max_sites)

    read = parse.READERS["cif"]
    monkeypatch.setitem(parse.READERS, "cif", slow)
    monkeypatch.setattr(parse.bounded_work.__wrapped__, "__defaults__", (0.2,))
    bad, good = crystals_of("cif", cif([*SALT, "# slow"]) + "\n" + cif(SALT))
    assert "takes more than 0.2 s of processor time" in bad.reason
    assert good.formula == "NaCl"


# ---- folders of anything


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "in {x}"
    place.mkdir()
    salt = builders.rocksalt().to(fmt="cif").encode()
    (place / "a.cif").write_bytes(salt)
    (place / "b.cif.gz").write_bytes(gzip.compress(salt))
    (place / "c.cif.gz").write_bytes(gzip.compress(salt)[:60])
    (place / "d.zip").write_bytes(b"no zip")
    (place / "e.tar.gz").write_bytes(b"anything")
    (place / "f.csv").write_text("id,id\n1,2\n")
    (place / "notes.txt").write_text("nothing")
    (place / os.fsdecode(b"B\xe9ryl.cif")).write_bytes(salt)
    with zipfile.ZipFile(place / "g.zip", "w") as archive:
        archive.writestr("deep/salt.cif", salt)
        archive.writestr("rows.csv", 'id,cif\nx,"{}"\n'.format(salt.decode().replace('"', '""')))
    return place


REASONS = {
    "c.cif.gz": "cannot be unpacked",
    "d.zip": "is not a readable zip",
    "e.tar.gz": ".gz is a kind of archive that is not read",
    "f.csv": "column 'id' appears twice",
}


def test_all_commands_read_a_folder_alike(folder, tmp_path):
    said = Documents()
    chunks = list(read_chunks([folder], SETTINGS, size=3, said=said))
    streamed = [document for chunk in chunks for document in chunk.documents]
    assert str(streamed) == str(read_inputs([folder], SETTINGS).items)
    names = {document.id for document in streamed if document.bad is None}
    assert names == {"Béryl.cif", "a.cif", "b.cif.gz", "deep/salt.cif", "rows/x"}
    refused = {document.id: document.bad.reason for document in streamed if document.bad}
    assert refused.keys() == REASONS.keys()
    for name, reason in REASONS.items():
        assert reason in refused[name]
    assert said.ignored == ["notes.txt"]
    summary = run_ingest([folder], tmp_path / "out", SETTINGS, threads=1)
    assert summary["accepted"] == 5
    assert summary["quarantined_crystals"] == 4
    table = read_table(tmp_path / "out" / "structures.parquet")
    assert set(table["id"]) == names


def test_what_a_zip_unpacks_to_is_bounded(folder):
    [found] = read_inputs(
        [folder / "g.zip"], SETTINGS.model_copy(update={"max_zip_MB": 1e-4})
    ).items
    assert "more than 0.0001 MB" in found.bad.reason


def test_what_packed_members_of_a_zip_unpack_to_is_bounded(tmp_path):
    packed = gzip.compress(cif([*SALT, "#" * 400_000]).encode())
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w") as archive:
        for number in range(5):
            archive.writestr(f"{number}.cif.gz", packed)
    settings = SETTINGS.model_copy(update={"max_zip_MB": 1.0})
    *good, last = read_inputs([tmp_path / "bomb.zip"], settings).items
    assert len(good) == 2
    assert "unpacks to more than 1 MB, reached at 2.cif.gz" in last.bad.reason


def test_tables_of_any_dialect_hold_candidates(tmp_path):
    poscar = builders.rocksalt().to(fmt="poscar")
    text = f'id;poscar;weight\r\na;"{poscar}";1,5\r\nb;"{poscar}";2,5\r\n'.replace("\n", "\r\n")
    (tmp_path / "t.csv").write_bytes(text.encode("utf-16"))
    said = Documents()
    [chunk] = read_chunks([tmp_path / "t.csv"], SETTINGS, said=said)
    assert [document.id for document in chunk.documents] == ["t/a", "t/b"]
    assert chunk.extra["weight"].tolist() == ["1.5", "2.5"]
    assert any("semicolons" in note for note in said.notes)


CSCL = {"lattice_mat": MATRIX, "elements": ["Cs", "Cl"], "cartesian": False}
POSCAR = "{}\n1\n4.5 0 0\n0 4.5 0\n0 0 4.5\nCs Cl\n1 1\nDirect\n0 0 0\n{}\n"
P1 = cif(["Cs1 Cs 0 0 0", "Cl1 Cl 2.25 2.25 2.25"], head="_chemical_formula_sum 'Cs Cl'\n")


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        ("json", {"structure": {"lattice": {"matrix": MATRIX}, "sites": SITES}, "volume": 100}, 64),
        ("json", {"structure": {"lattice": {"matrix": MATRIX}, "sites": SITES}, "density": 9}, 4.3),
        ("json", {**CSCL, "coords": [[0] * 3, [0.5] * 3], "abc": [6] * 3}, "a = 6 is declared"),
        ("json", {**CSCL, "coords": [[0] * 3, [2.2] * 3]}, "2.2 cells away"),
        ("json", optimade(nsites="3"), "but 3 are declared"),
        ("poscar", POSCAR.format("CsCl", "2.25 2.25 2.25"), "site 2 lies 2.25 cells away"),
        ("cif", P1.replace("F m -3 m", "P 1"), "2.25 cells away"),
        (
            "cif",
            cif(SALT, head="loop_\n_atom_type_symbol\n_atom_type_number_in_cell\nNa1+ 8\nCl 4\n"),
            "but Na8 Cl4 are declared",
        ),
    ],
)
def test_what_is_declared_beside_the_sites_is_checked(kind, text, told):
    [result] = crystals_of(kind, text if isinstance(text, str) else json.dumps(text))
    assert isinstance(result, BadCrystal)
    assert str(told) in result.reason


def test_a_stale_formula_in_the_first_line_of_a_poscar_is_said():
    [stale] = crystals_of("poscar", POSCAR.format("Na4 Cl4", "0.5 0.5 0.5"))
    [good] = crystals_of("poscar", POSCAR.format("Cs1 Cl1", "0.5 0.5 0.5"))
    assert "first line says 'Na4 Cl4', the sites give Cs1 Cl1" in stale.notes
    assert good.notes == ""


@pytest.mark.parametrize(("title", "noted"), [(" Cs  Cl ", False), ("Cs Br", True), ("Cs", True)])
def test_symbols_in_the_first_line_of_a_poscar_have_no_ratio(title, noted):
    """ASE writes them there."""
    text = POSCAR.format(title, "0.5 0.5 0.5").replace("1 1\n", "1 2\n") + ".5 0 .5\n"
    [found] = crystals_of("poscar", text)
    assert ("the sites give Cs1 Cl2" in found.notes) == noted


def test_label_rows_are_not_put_on_another_crystal_than_their_file(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.vasp").write_text(POSCAR.format(name, "0.5 0.5 0.5"))
    labels = tmp_path / "labels.csv"
    table = ",id,file,formation_energy_eV_per_atom\n0,a.vasp,b.vasp,1\n1,b.vasp,b.vasp,\u22122\n"
    labels.write_text(table)
    inputs = [tmp_path / "a.vasp", tmp_path / "b.vasp"]
    found = run_ingest(inputs, tmp_path / "out", SETTINGS, labels)
    quarantine = read_table(tmp_path / "out" / "quarantine.csv")
    assert quarantine["reason"].tolist() == [
        "id 'a.vasp' names another crystal than file 'b.vasp': 'b.vasp'"
    ]
    assert "column Unnamed: 0" in str(found)  # left out, and said
    labels.write_text("id,formation_energy_eV_per_atom\n")
    with pytest.raises(MatmlError, match="has no row"):
        run_ingest(inputs, tmp_path / "out", SETTINGS, labels)


def test_a_row_of_another_formula_or_symmetry_is_not_its_crystal(tmp_path):
    poscar = POSCAR.format("x", "0.5 0.5 0.5")
    rows = [
        ("good", "ClCs", "Pm-3m"),
        ("cell", "Cs4 Cl4", "221"),
        ("words", "caesium chloride", "?"),
        ("formula", "NaCl", ""),
        ("group", "CsCl", "225.0"),
    ]
    text = "".join(f'{name},"{poscar}",{formula},{group}\n' for name, formula, group in rows)
    (tmp_path / "t.csv").write_text("id,poscar,composition,spacegroup\n" + text)
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "id,formula,space_group,band_gap_eV\ngood,CsBr,221,8\ncell,CsCl,Pm-3m,8\n"
        "formula,NaCl,,8\nwords,,225,8\n"
    )
    run_ingest([tmp_path / "t.csv"], tmp_path / "out", SETTINGS, labels, threads=1)
    table = read_table(tmp_path / "out" / "structures.parquet").set_index("material_id")
    assert table["band_gap_eV"].fillna(0).to_dict() == {"good": 0, "cell": 8, "words": 0}
    told = read_table(tmp_path / "out" / "quarantine.csv").set_index("id")["reason"]
    assert told["t/formula"] == "the formula 'NaCl' is declared, but the crystal is CsCl"
    assert "space group 225 is declared" in told["t/group"]
    assert told["good"] == "the formula 'CsBr' is declared, but the crystal is CsCl"
    assert told["words"].startswith("space group 225 is declared, but the sites have")
    assert told["formula"].startswith("its crystal cannot be used: the formula 'NaCl'")


def test_a_row_of_another_density_is_not_its_crystal(tmp_path):
    """A measured density is a little lower than the crystal's, by its pores; others are labels."""
    poscar = POSCAR.format("x", "0.5 0.5 0.5")
    rows = {"calculated": 3.07, "pores": 2.5, "kg/m3": 3070, "none": "", "other": 9.1}
    text = "".join(f'{name},"{poscar}",{density}\n' for name, density in rows.items())
    (tmp_path / "t.csv").write_text("id,poscar,density\n" + text)
    labels = tmp_path / "labels.csv"
    labels.write_text("id,density_g_cm3,band_gap_eV\ncalculated,3,8\npores,1.1,8\n")
    run_ingest([tmp_path / "t.csv"], tmp_path / "out", SETTINGS, labels, threads=1)
    table = read_table(tmp_path / "out" / "structures.parquet").set_index("material_id")
    assert table["density"].fillna(0).to_dict() == {
        "calculated": 3.07, "pores": 2.5, "kg/m3": 3070, "none": 0
    }  # fmt: skip
    assert table["band_gap_eV"].fillna(0).to_dict() == dict.fromkeys(table.index, 0) | {
        "calculated": 8
    }
    told = read_table(tmp_path / "out" / "quarantine.csv").set_index("id")["reason"]
    assert told["t/other"] == ("density = 9.1 is declared, but the crystal has 3.068 g/cm^3")
    assert told["pores"].startswith("density_g_cm3 = 1.1 is declared, but the crystal has")


def test_subgroups_keep_the_translations():
    """Numbers of the International Tables, volume A1: their translationengleiche subgroups."""
    assert subgroups(2) == {1, 2}
    assert subgroups(225) >= {139, 166, 71, 69, 12, 202, 209, 216}
    assert not subgroups(225) & {221, 123, 62}
    assert len(subgroups(221) & set(range(195, 231))) == 5


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("K0.7Na0.3Cl1", {"K": 0.7, "Na": 0.3, "Cl": 1}),
        ("Fe0.95O", {"Fe": 0.95, "O": 1}),
        ("CaSO4.2H2O", {"Ca": 1, "S": 1, "O": 6, "H": 4}),
        ("CaSO4.0.5H2O", {"Ca": 1, "S": 1, "O": 4.5, "H": 1}),
        ("MgCl2.6(H2O)", {"Mg": 1, "Cl": 2, "H": 12, "O": 6}),
        ("3CaO.Al2O3.6H2O", {"Ca": 3, "O": 12, "Al": 2, "H": 12}),
        ("Ca S O4 . 2H2 O", {"Ca": 1, "S": 1, "O": 6, "H": 4}),
        ("2(Cl1.5 Cs0.5)", {"Cl": 3, "Cs": 1}),
        ("La.7Sr.3MnO3", None),
        ("MgO.2Al2O3", None),
    ],
)
def test_a_dot_is_a_decimal_point_or_adds_water_or_the_formula_is_not_plain(text, amounts):
    found = parse_formula(text)
    assert found == (amounts and pytest.approx(amounts))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((1.2, 1.9, 2.3), "are they logarithms (log10, of 15.8 to 200 GPa or ln, of 3.32 to 9.97"),
        ((3.1, 4.6, 5.5), "are they logarithms (ln, of 22.2 to 245 GPa)?"),
        ((1.2, 1.9, 23), ""),
        ((16, 80, 200), ""),
    ],
)
def test_logarithms_of_moduli_are_told(tmp_path, values, told):
    for name, a in zip("abc", (5.4, 5.64, 5.9), strict=True):
        (tmp_path / f"{name}.vasp").write_text(builders.rocksalt(a=a).to(fmt="poscar"))
    labels = tmp_path / "labels.csv"
    rows = [f"{name}.vasp,{value}" for name, value in zip("abc", values, strict=True)]
    labels.write_text("\n".join(["file,bulk_modulus_GPa", *rows]))
    notes = run_ingest([tmp_path], tmp_path / "out", SETTINGS, labels, threads=1)["notes"]
    assert told in " ".join(notes)
    assert bool(told) == any("logarithms" in note for note in notes)


FCC = "0 0 0\n0 .5 .5\n.5 0 .5\n.5 .5 0\n"
CENTRED = "_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'x+1/2,y+1/2,z'\n'x+1/2,y,z+1/2'\n"
ANATASE_AT_ORIGIN_2 = (
    "data_x\n_space_group_name_H-M_alt 'I 41/a m d S'\n_cell_length_a 3.784\n"
    "_cell_length_b 3.784\n_cell_length_c 9.514\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
    "_cell_angle_gamma 90\nloop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n"
    "_atom_site_fract_z\nTi1 0 .75 .125\nO1 0 .75 .333\n"
)


def one(kind, text):
    [(_, found)] = document_crystals(Document("x", "x", -1, kind, text), SETTINGS)
    return found


@pytest.mark.parametrize(
    ("kind", "text", "reason", "remedy"),
    [
        # a centring that is not closed made Na3Cl3, without a word
        (
            "cif",
            cif(["Na1 Na 0 0 0", "Cl1 Cl .5 0 0"], head=f"loop_\n{CENTRED}"),
            "form no group: with their products they are 4",
            "give all operations",
        ),
        ("cif", ANATASE_AT_ORIGIN_2, "all atoms are nearer", "are the coordinates by the other"),
        ("cif", cif([*SALT, "Du1 . .2 .2 .2"]), "'Du1', which is not a chemical", "put the real"),
        (
            "cif",
            cif(["Ti1 Ba 0 0 0", "O1 O .5 .5 .5"], head="_chemical_formula_sum 'Ba Ti O2'\n"),
            "site Ti1 is of type Ba, but its label says Ti",
            "correct the label or the type",
        ),
        # chlorine below a blank line, and no velocities of sodium
        (
            "poscar",
            f"x\n1\n5.64 0 0\n0 5.64 0\n0 0 5.64\nNa\n4\nDirect\n{FCC}\n{FCC}",
            "4 sites by the counts, and below a blank line (line 13) 4 rows of numbers up to 0.5",
            "correct the counts",
        ),
        (
            "json",
            json.dumps({"@class": "Slab", "lattice": {"matrix": MATRIX}, "sites": SITES}),
            "is a Slab",
            "give a bulk crystal",
        ),
        ("json", optimade(structure_features=["disorder"]), "every site holds one", "fetch"),
        ("json", optimade(nperiodic_dimensions=2), "nperiodic_dimensions 2: not", "give a bulk"),
    ],
)
def test_more_half_right_files_are_refused(kind, text, reason, remedy):
    found = one(kind, text)
    assert isinstance(found, BadCrystal)
    assert reason in found.reason
    assert remedy in found.remedy


def test_operations_given_twice_and_velocities_are_read():
    twice = f"loop_\n{CENTRED}'x,y,z'\n'x,y+1/2,z+1/2'\n"
    salt = ["Na1 Na 0 0 0", "Cl1 Cl .5 0 0"]
    text = cif(salt, head=twice).replace("_space_group_name_H-M_alt 'F m -3 m'\n", "")
    assert one("cif", text).common_name == "rocksalt"
    rows = f"{FCC}\n" + "0.01 -0.02 0\n" * 4
    poscar = f"x\n1\n4.05 0 0\n0 4.05 0\n0 0 4.05\nAl\n4\nDirect\n{rows}"
    assert one("poscar", poscar).common_name == "face-centred cubic"


def test_labels_and_isotopes_that_a_formula_settles_are_noted():
    head = "_chemical_formula_sum 'Na Cl'\n"
    notes = one("cif", cif(["Mn1 23Na 0 0 0", "Cl1 Cl .5 .5 .5"], head=head)).notes
    assert "its label says Mn; read as Na, as in the formula" in notes
    assert "isotopes are not distinguished, read as Na" in notes


def test_labels_beside_crystals_in_json_by_rows_do_not_vanish(tmp_path):
    structure = {"lattice": {"matrix": MATRIX}, "sites": SITES}
    rows = [{"structure": structure, "gap_eV": 1.5}, {"structure": structure, "gap_eV": 2.5}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    columns = {name: {str(k): row[name] for k, row in enumerate(rows)} for name in rows[0]}
    (tmp_path / "columns.json").write_text(json.dumps(columns))
    found = run_ingest([tmp_path], tmp_path / "out", SETTINGS, threads=1)
    assert found["labels"] == {"gap_eV": 4}
    # a database's entry: what it tells of its crystal is compared
    entries = [{**rows[0], "volume": 80.0}]
    assert isinstance(one("json", json.dumps(entries)), BadCrystal)
    (tmp_path / "entries").mkdir()
    (tmp_path / "entries/x.json").write_text(json.dumps([*entries, {**rows[1], "volume": 64.0}]))
    found = run_ingest([tmp_path / "entries"], tmp_path / "2", SETTINGS, threads=1)
    assert (found["accepted"], found["quarantined_crystals"], found["labels"]) == (1, 1, {})


def test_what_is_no_crystal_among_named_ones_is_told_by_its_name():
    structure = {"lattice": {"matrix": MATRIX}, "sites": SITES}
    text = json.dumps({"a": structure, "b": structure, "meta": {"by": "me"}})
    found = dict(document_crystals(Document("x", "x", -1, "json", text), SETTINGS))
    assert [isinstance(item, Crystal) for item in found.values()] == [True, True, False]
    assert list(found) == ["x#a", "x#b", "x#meta"]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (cif(["Na1 Na 0 0 0 .5", SALT[1] + " 1"], f"{FRACT} occupany"), "site_occupancy meant"),
        (cif(["Na1 Na 0 0 0 .5", SALT[1] + " 1"], f"{FRACT} occ"), "site_occupancy meant"),
        (cif(SALT, head="_chemical_formula_summ 'K Cl'\n"), "is _chemical_formula_sum meant?"),
        (cif(SALT, head="_exptl_crystal_density_diffrn_su 0.1\n_cell_length_a_su 1\n"), ""),
        (cif(["Ca1 Ca3+ 0 0 0", "O1 O2- .5 .5 .5"]), "that are given sum to +4 in the cell"),
        (cif(["Ca1 Ca2+ 0 0 0", "O1 O-2 .5 .5 .5"]), ""),
        (cif(["Ca1 Ca 0 0 0", "O1 O2- .5 .5 .5"]), ""),
        (cif(SALT) + "\nloop_\n_atom_type_symbol\n_atom_type_oxidation_number\nNa 2\nCl -1\n",
         "sum to +4"),
        (cif(["Na1 Na 0 0 0", "H1 H .5 .5 .5"], head="_chemical_formula_sum 'D Na'\n"), "counts D"),
        (cif(SALT, head="_pd_phase_name MgO\n"), "is called 'MgO', but the crystal is NaCl"),
        (cif(SALT, head="_pd_phase_name 'NaCl (BCC)'\n"), ""),
        (cif(SALT, head="_chemical_formula_sum\n;\nCl\nNa\n;\n"), ""),
    ],
)  # fmt: skip
def test_what_a_cif_says_besides_is_held_against_the_sites(text, note):
    found = one("cif", text)
    assert note in found.notes
    assert bool(note) == bool(found.notes)


def test_a_formula_over_several_lines_is_compared():
    text = cif(SALT, head="_chemical_formula_sum\n;\nCl\nK\n;\n")
    assert "the formula" in one("cif", text).reason


@pytest.mark.parametrize("edge", [564, 1e5])
def test_a_cell_in_another_unit_is_refused_at_once(edge, within):
    with within(3):
        assert "volume per atom" in one("cif", cif(SALT).replace("5.64", str(edge))).reason


def test_oxidation_states_of_json_are_summed():
    sites = [
        {"species": [{"element": symbol, "occu": 1, "oxidation_state": charge}], "abc": place}
        for symbol, charge, place in (("Cs", 1, [0, 0, 0]), ("Cl", -2, [0.5, 0.5, 0.5]))
    ]
    found = one("json", json.dumps({"lattice": {"matrix": MATRIX}, "sites": sites}))
    assert "oxidation states removed; the oxidation numbers that are given sum to -1" in found.notes


def test_rows_of_an_ase_database_that_do_not_fit_its_ids_are_told():
    row = ase([[4, 0, 0], [0, 4, 0], [0, 0, 4]])
    text = json.dumps({"1": row, "2": row, "ids": [1], "nextid": 3})
    assert "`ids` lists 1 rows, but there are 2" in one("json", text).reason


def test_sheets_in_a_vacuum_are_told(tmp_path):
    sheet = "MoS2\n1\n3.16 0 0\n-1.58 2.7366 0\n0 0 {}\nMo S\n1 2\nDirect\n"
    sheet += "1/3 2/3 .5\n2/3 1/3 .578\n2/3 1/3 .422\n"
    sheet = sheet.replace("1/3", ".333333333").replace("2/3", ".666666667")
    (tmp_path / "sheet.vasp").write_text(sheet.format(20))
    [note] = run_ingest([tmp_path], tmp_path / "out", SETTINGS, threads=1)["notes"]
    assert "1 crystal with a gap of more than 10 A without atoms: sheet.vasp (16.9 A)" in note


def test_two_rows_for_one_crystal_do_not_overwrite_one_another(tmp_path):
    (tmp_path / "salt.cif").write_text(cif(SALT))
    labels = tmp_path / "labels.csv"
    labels.write_text("id,bulk_modulus_GPa\nsalt,24\nsalt.cif,30\n")
    run_ingest([tmp_path / "salt.cif"], tmp_path / "out", SETTINGS, labels, threads=1)
    assert read_table(tmp_path / "out" / "structures.parquet")["bulk_modulus_GPa"].tolist() == [24]
    told = (tmp_path / "out" / "quarantine.csv").read_text()
    assert "names the crystal of row 2, 'salt', again, with bulk_modulus_GPa = 24, here 30" in told


@pytest.mark.parametrize(
    "symbol",
    ["P 4(2)/m n m", "P 4~2~/m n m", "P4<sub>2</sub>/mnm", "P 42/m 21/n 2/m", "P4_2/mnm (No. 136)"],
)
def test_symbols_as_they_are_typeset_and_in_full_are_known(symbol):
    assert number_of_symbol(symbol) == 136


@pytest.mark.parametrize(
    ("text", "own", "amounts"),
    [
        ("NACL", "K Cl", {"Na": 1, "Cl": 1}),
        ("Kcl", "Na Cl", {"K": 1, "Cl": 1}),
        ("K Cl ?", "Na Cl", {"K": 1, "Cl": 1}),
        ("TI O2", "Ti O", {"Ti": 1, "O": 2}),
        ("CA CO3", "Ca C O", {"Ca": 1, "C": 1, "O": 3}),
        ("CO2", "C O", {"C": 1, "O": 2}),
        ("H2 O", "O", {"H": 2, "O": 1}),
        ("POTASSIUM CHLORIDE", "K Cl", None),
        ("Na Cl x H2 O", "Na Cl", None),
        ("(Na Cl)n", "Na Cl N", None),
    ],
)
def test_a_formula_without_its_capitals_is_read_by_the_sites(text, own, amounts):
    assert plain_formula(text, set(own.split())) == amounts
