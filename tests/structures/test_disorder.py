"""Disordered crystals: shared, partly empty and split sites as one virtual crystal."""

import json
import re

import builders
import numpy as np
import pytest
import torch
from disordered_cifs import written
from pymatgen.core import Element, Lattice, Structure

from matml.properties.data.batches import GraphBatches
from matml.properties.data.descriptors import describe
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.structures.crystal import Crystal
from matml.structures.crystals import CrystalSet
from matml.structures.disorder.atoms import fractions, sites_of
from matml.structures.duplicates import copies
from matml.structures.elements import structure_of
from matml.structures.graphs.build import cells_of, graph_of
from matml.structures.graphs.graph import crystal_graph
from matml.structures.graphs.occupied import occupied
from matml.structures.ingest import document_crystals
from matml.structures.io.documents import Document
from matml.structures.io.read import read_inputs
from matml.structures.settings import GraphsSection, StructuresSection

MOST_SITES = 24
"""Of a primitive cell that disordered CIFs are written from."""
CELL = (
    "data_x\n_cell_length_a {0}\n_cell_length_b {0}\n_cell_length_c {0}\n"
    "_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90\n"
)
ROCKSALT_A, CAESIUM_CHLORIDE_A = 5.64, 3.35
"""Edges of NaCl as it is, and under pressure."""
COLUMNS = "label type_symbol fract_x fract_y fract_z occupancy"


def cif(rows, head="", columns=COLUMNS, group="F m -3 m"):
    loop = "loop_\n" + "".join(f"_atom_site_{name}\n" for name in columns.split())
    cell = CELL.format(CAESIUM_CHLORIDE_A if group.startswith("P") else ROCKSALT_A)
    return f"{cell}_space_group_name_H-M_alt '{group}'\n{head}{loop}" + "\n".join(rows)


def read(text, kind="cif"):
    [(_, found)] = document_crystals(Document("x", "x", -1, kind, text), StructuresSection())
    return found


def occupancy(crystal):
    """Occupancies by symbol of every atom listed."""
    return list(
        zip(crystal.atomic_numbers.tolist(), crystal.occupancy.round(4).tolist(), strict=True)
    )


CL = "Cl1 Cl .5 .5 .5 1"
GROUPS = f"{COLUMNS} disorder_assembly disorder_group"
SHARED = {"matrix": (np.eye(3) * 4.12).tolist()}
READ = {
    "shared": (
        cif(["Na1 Na 0 0 0 .5", "K1 K 0 0 0 .5", CL]),
        "K0.5Na0.5Cl",
        [(11, 0.5), (19, 0.5), (17, 1)],
    ),
    "partial": (cif(["Na1 Na 0 0 0 .75", CL]), "Na0.75Cl", [(11, 0.75), (17, 1)]),
    "shared and partial": (
        cif(["Na1 Na 0 0 0 .6", "Mg1 Mg 0 0 0 .2", CL]),
        "Na0.6Mg0.2Cl",
        [(11, 0.6), (12, 0.2), (17, 1)],
    ),
    "thirds of two digits": (
        cif(
            ["Na1 Na 0 0 0 .33", "K1 K 0 0 0 .33", "Rb1 Rb 0 0 0 .33", CL],
            "_chemical_formula_sum 'K0.33 Na0.33 Rb0.33 Cl'\n",
        ),
        "K0.333Rb0.333Na0.333Cl",
        [(11, 0.3333), (19, 0.3333), (37, 0.3333), (17, 1)],
    ),
    "sixths of two digits": (
        cif([f"{s}1 {s} 0 0 0 .17" for s in ("Li", "Na", "K", "Rb", "Cs", "Tl")] + [CL]),
        "Cs0.167K0.167Rb0.167Na0.167Li0.167Tl0.167Cl",
        [(z, 0.1667) for z in (3, 11, 19, 37, 55, 81)] + [(17, 1)],
    ),
    "split in six of two digits": (
        cif(["Na1 Na 0 0 .05 .17", CL], group="P m -3 m"),
        "NaCl",
        [(11, 1.0), (17, 1)],
    ),
    "a vacancy of two digits": (
        cif(["Na1 Na 0 0 0 .6", "K1 K 0 0 0 .39", CL]),
        "K0.39Na0.6Cl",
        [(11, 0.6), (19, 0.39), (17, 1)],
    ),
    "a vacancy of three digits": (
        cif(["Na1 Na 0 0 0 .333", "K1 K 0 0 0 .334", "Rb1 Rb 0 0 0 .323", CL]),
        "K0.334Rb0.323Na0.333Cl",
        [(11, 0.333), (19, 0.334), (37, 0.323), (17, 1)],
    ),
    "a trace": (
        cif(["Na1 Na 0 0 0 .9998", "K1 K 0 0 0 .0002", CL]),
        "K0.0002NaCl",
        [(11, 0.9998), (19, 0.0002), (17, 1)],
    ),
    "rounded to three digits": (
        cif(["Na1 Na 0 0 0 .333", "K1 K 0 0 0 .333", "Rb1 Rb 0 0 0 .333", CL]),
        "K0.333Rb0.333Na0.333Cl",
        [(11, 0.3333), (19, 0.3333), (37, 0.3333), (17, 1)],
    ),
    "a little over one": (
        cif(["Na1 Na 0 0 0 .667", "K1 K 0 0 0 .334", CL]),
        "K0.334Na0.666Cl",
        [(11, 0.6663), (19, 0.3337), (17, 1)],
    ),
    "places that differ a little": (
        cif(["Na1 Na 0 0 0 .5", "K1 K 0 0 .012 .25", CL], group="P 4 m m"),
        "K0.25Na0.5Cl",
        [(11, 0.5), (19, 0.25), (17, 1)],
    ),
    "split about a mirror": (
        cif(["Na1 Na 0 0 .05 .5", CL], group="P 4/m m m"),
        "NaCl",
        [(11, 1.0), (17, 1)],
    ),
    "declared to be split nearby": (
        cif(
            ["Na1 Na 0 0 .008 .5 2", "Cl1 Cl .5 .5 .5 1 1"],
            columns=f"{COLUMNS} site_symmetry_multiplicity",
            group="P 4/m m m",
        ),
        "NaCl",
        [(11, 1.0), (17, 1)],
    ),
    "a vacancy with its own row": (
        cif(["Na1 Na 0 0 0 .75", "Vac1 Vac 0 0 0 .25", CL]),
        "Na0.75Cl",
        [(11, 0.75), (17, 1)],
    ),
    "alternatives": (
        cif(
            ["Na1 Na 0 0 0 .7 A 1", "K1 K 0 0 0.04 .3 A 2", "Cl1 Cl .5 .5 .5 1 . ."],
            columns=GROUPS,
            group="P 4 m m",
        ),
        "K0.3Na0.7Cl",
        [(11, 0.7), (19, 0.3), (17, 1)],
    ),
    "charges": (
        cif(["Na1 Na1+ 0 0 0 .5", "K1 K1+ 0 0 0 .5", "Cl1 Cl1- .5 .5 .5 1"]),
        "K0.5Na0.5Cl",
        [(11, 0.5), (19, 0.5), (17, 1)],
    ),
    "formula and Z": (
        cif(
            ["Na1 Na 0 0 0 .5", "K1 K 0 0 0 .5", CL],
            "_chemical_formula_sum 'K0.5 Na0.5 Cl1'\n_cell_formula_units_Z 4\n",
        ),
        "K0.5Na0.5Cl",
        [(11, 0.5), (19, 0.5), (17, 1)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_a_disordered_cif_is_a_virtual_crystal(case):
    text, formula, wanted = READ[case]
    found = read(text)
    assert isinstance(found, Crystal), found
    assert (found.formula, sorted(occupancy(found))) == (formula, sorted(wanted))
    assert found.disordered
    assert "virtual crystal" in found.notes
    assert found.common_name in ("rocksalt", "CsCl", "")


BAD = {
    "two digits over": (
        cif(["Na1 Na 0 0 0 .7", "K1 K 0 0 0 .4", CL]),
        "one position holds Na 0.7, K 0.4, 1.1 atoms in all",
    ),
    "two of two digits": (
        cif(["Na1 Na 0 0 0 .51", "K1 K 0 0 0 .51", CL]),
        "one position holds Na 0.51, K 0.51, 1.02 atoms in all",
    ),
    "a full atom in the way": (
        cif(["Na1 Na 0 0 0 1", "K1 K 0 0 .1 .2", CL], group="P 4 m m"),
        "overlapping atoms: Na (site 1) and K0.2 (site 2) are 0.335 A apart",
    ),
    "alternatives that are always there": (
        cif(["Na1 Na 0 0 0 .7 A 1", "K1 K 0 0 0.04 .6 A 2"], columns=GROUPS, group="P 4 m m"),
        "the disorder groups 1 (0.7) and 2 (0.6) are alternatives of one another, but their",
    ),
    "half of it by symmetry": (
        cif(["Na1 Na 0 0 0.06 1 . -1", CL + " . ."], columns=GROUPS, group="P 4/m m m"),
        "the disorder groups -1 (1) are alternatives of one another",
    ),
    "too many nearby": (
        cif(["Na1 Na 0 0 .07 .8", CL], group="P 4/m m m"),
        "too near to be occupied at once, but 2 such positions hold 1.6 atoms together",
    ),
    "without end": (
        cif([f"Na{k} Na 0 0 {k / 6:.4f} .1" for k in range(6)] + [CL], group="P 4 m m"),
        "follow one another without end",
    ),
    "a trace that four digits do not tell": (
        cif(["Na1 Na 0 0 0 .99999", "K1 K 0 0 0 .00001", CL]),
        "disordered: site 1 holds Na0.99999 K1e-05",
    ),
    "next to nothing": (cif(["Na1 Na 0 0 0 .00001", CL]), "disordered: site 1 holds Na1e-05"),
    "deuterium": (cif(["H1 H 0 0 0 .5", "D1 D 0 0 0 .5", CL]), "the isotope D"),
    "another formula": (
        cif(
            ["Na1 Na 0 0 0 .5", "K1 K 0 0 0 .5", CL],
            "_chemical_formula_sum 'K1 Na3 Cl4'\n_cell_formula_units_Z 1\n",
        ),
        "but the formula 'K1 Na3 Cl4' with Z = 1 is declared",
    ),
    "another symmetry": (
        json.dumps(
            {
                "lattice": SHARED,
                "sites": [
                    {"species": [{"element": "Cs", "occu": 0.5}, {"element": "K", "occu": 0.5}],
                     "abc": [0, 0, 0]},
                    {"species": [{"element": "Cl", "occu": 1}], "abc": [0.5, 0.5, 0.5]},
                ],
                "spacegroup": "Fm-3m",
            }
        ),
        "space group Fm-3m is declared",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_meant_so_is_refused_by_name(case):
    text, reason = BAD[case]
    found = read(text, "json" if text.startswith("{") else "cif")
    assert reason in getattr(found, "reason", ""), found
    assert len(found.remedy) > 20


def shared(structure, symbol, content):
    made = structure.copy()
    made.replace_species({symbol: content})
    return made


def test_optimade_and_json_vacancies_are_read():
    structure = shared(builders.cubic_abx3(), "Sr", {"Sr": 0.5, "Ba": 0.25})
    [row] = CrystalSet.from_structures([structure]).table.to_dict("records")
    assert row["common_name"] == "cubic perovskite"
    assert row["formula"] == "Ba0.25Sr0.5TiO3"
    assert row["volume_per_atom_A3"] == pytest.approx(3.905**3 / 4.75)
    assert row["n_sites"] == 5
    assert read(json.dumps(structure.as_dict()), "json").formula == row["formula"]
    # a share that is said to be empty is no rounding, before and after its table
    thirds = {"Sr": 0.33, "Ba": 0.33, "Ca": 0.33}
    for vacant, wanted in (({}, 1.0), ({"X0+": 0.01}, 0.99)):
        mixed = shared(builders.cubic_abx3(), "Sr", thirds | vacant)
        crystals = CrystalSet.from_structures([mixed])
        (again,) = sites_of(crystals.table)
        assert again.atoms == pytest.approx(4 + wanted, abs=1e-3)


def test_sites_of_other_mixtures_are_told_apart():
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0.5]]
    half = Structure(Lattice.cubic(4.2), ["Fe", "Fe", "O", "O"], places)
    alike, other = half.copy(), half.copy()
    for structure, shares in ((alike, (0.5, 0.5)), (other, (0.4, 0.6))):
        for site, share in zip((0, 1), shares, strict=True):
            structure.replace(site, {"Fe": share, "Ni": 1 - share})
    table = CrystalSet.from_structures([alike, other]).table
    # of both the formula is the same, but only in one the sites are equal
    assert np.ptp(fractions(table), axis=0).max() == 0
    assert table["n_sites"].tolist() == [2, 4]


def virtual_salt(share=0.5, supercell=1):
    structure = shared(builders.rocksalt(), "Na", {"Na": share, "K": 1 - share})
    return structure.copy().make_supercell(supercell) if supercell != 1 else structure


def test_copies_are_told_by_what_their_sites_hold():
    structures = [
        virtual_salt(),
        virtual_salt(0.5, [2, 1, 1]),
        virtual_salt(0.6),
        builders.rocksalt(),
    ]
    crystals = CrystalSet.from_structures(structures)
    assert copies(crystals.table).tolist() == [False, True, False, False]
    spinel = builders.spinel()
    tetrahedral, octahedral = spinel.copy(), spinel.copy()
    for made, (one, two) in ((tetrahedral, (0.5, 0.75)), (octahedral, (0.9, 0.95))):
        made.replace_species({"Mg": {"Mg": one, "Al": 1 - one}, "Al": {"Mg": 1 - two, "Al": two}})
    table = CrystalSet.from_structures([tetrahedral, octahedral, tetrahedral]).table
    assert len(set(table["formula"])) == 1
    assert copies(table).tolist() == [False, False, True]


def test_the_crystal_comes_back_from_its_table():
    structure = virtual_salt(0.3)
    crystals = CrystalSet.from_structures([structure])
    back = crystals.structure(0)
    assert back.composition.fractional_composition.almost_equals(
        structure.composition.fractional_composition
    )
    assert len(back) == 2
    [twice] = CrystalSet.from_structures([back.to(fmt="cif")]).table.to_dict("records")
    assert twice["formula"] == crystals.table.loc[0, "formula"]
    assert fractions(crystals.table)[0, [11, 19, 17]] == pytest.approx([0.15, 0.35, 0.5])


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return CrystalNetwork(1).double().eval()


def embedding(network, crystals):
    with torch.no_grad():
        return network.embedding(
            GraphBatches(crystals, dtype=np.float64).batch(range(len(crystals)))
        ).numpy()


@pytest.mark.parametrize(
    "make", [builders.rocksalt, builders.cubic_abx3, builders.spinel, builders.rutile]
)
def test_a_site_shared_by_an_element_with_itself_is_its_site(network, make):
    crystals = CrystalSet.from_structures([make()])
    lattice, coords, numbers, orbit, _ = cells_of(crystals.table)[0]
    plain = crystals.graphs
    sites = crystal_graph(lattice.reshape(3, 3), coords.reshape(-1, 3), numbers, orbit)
    owner = np.repeat(np.arange(len(sites.atomic_number)), 2)
    shares = np.tile([0.3, 0.7], len(sites.atomic_number))
    double = occupied(sites, owner, sites.atomic_number[owner], shares)
    twice = type(plain).from_graphs(plain.ids, [double], plain.settings)
    # float32 on disk is the only difference
    assert embedding(network, CrystalSet(crystals.table, twice)) == pytest.approx(
        embedding(network, crystals), abs=1e-6
    )


def test_supercells_and_full_cells_of_a_virtual_crystal_are_alike(network):
    small, large = (CrystalSet.from_structures([virtual_salt(0.3, n)]) for n in (1, [2, 1, 2]))
    assert embedding(network, small) == pytest.approx(embedding(network, large), abs=1e-10)
    # each atom an orbit of its own
    table = small.table.assign(orbit=[np.arange(len(own)) for own in small.table["orbit"]])
    apart = CrystalSet.from_table(table, GraphsSection())
    assert embedding(network, apart) == pytest.approx(embedding(network, small), abs=1e-10)


def test_a_trace_changes_a_crystal_by_a_trace(network):
    ordered, *mixed = (
        CrystalSet.from_structures([s])
        for s in (builders.rocksalt(), virtual_salt(0.999), virtual_salt(0.99), virtual_salt(0.9))
    )
    pure = embedding(network, ordered)
    apart = [np.abs(embedding(network, own) - pure).max() for own in mixed]
    assert 0 < apart[0] < apart[1] < apart[2]
    assert apart[0] < 0.02 * apart[2]
    composition = slice(0, 60)
    near, far = (describe(own)[0, composition] for own in (mixed[0], mixed[2]))
    pure = describe(ordered)[0, composition]
    assert np.abs(near - pure)[:28].max() < 0.02 * np.abs(far - pure)[:28].max() + 1e-9


def test_empty_sites_count_in_the_graph_by_their_share():
    crystals = CrystalSet.from_structures([shared(builders.rocksalt(), "Na", {"Na": 0.25})])
    [cell] = cells_of(crystals.table)
    graph = graph_of(cell, GraphsSection())
    assert graph.node_multiplicity.tolist() == [0.25, 1]
    full = CrystalSet.from_structures([builders.rocksalt()])
    [cell] = cells_of(full.table)
    whole = graph_of(cell, GraphsSection())
    assert (graph.edge_source == whole.edge_source).all()
    assert (graph.edge_target == whole.edge_target).all()
    sodium = graph.atomic_number[graph.edge_source] == 11
    wanted = whole.edge_weight * np.where(sodium, 0.25, 1)
    wanted /= np.bincount(whole.edge_target, wanted)[whole.edge_target]
    np.testing.assert_allclose(graph.edge_weight, wanted, rtol=1e-12)


def test_ordered_crystals_are_as_they_were():
    """Occupancies of one change nothing: the same graph with and without the column."""
    table = CrystalSet.from_structures([builders.spinel(), builders.rutile()]).table
    assert not table["disordered"].any()
    plain = CrystalSet.from_table(table.drop(columns=["occupancy", "disordered"]), GraphsSection())
    given = CrystalSet.from_table(table, GraphsSection())
    for name, array in plain.graphs.gather([0, 1]).items():
        assert np.array_equal(array, given.graphs.gather([0, 1])[name])
    assert np.array_equal(describe(plain), describe(given))


@pytest.fixture(scope="module")
def fitted(shipped):
    """The shipped model of formation energies."""
    return shipped.fitted("formation_energy_eV_per_atom")


def test_partly_empty_sites_are_out_of_the_domain_until_one_is_labelled(fitted):
    known = [builders.cubic_abx3(), builders.cubic_abx3("Ba", a=4.03)]
    mixed = shared(builders.cubic_abx3(), "Sr", {"Sr": 0.5, "Ba": 0.5})
    empty = shared(builders.cubic_abx3(), "Sr", {"Sr": 0.5})
    table = fitted.adapt(known, [-3.5, -3.5]).predict_table([*known, mixed, empty])
    assert table["disordered"].tolist() == [False, False, True, True]
    assert table["labelled"].tolist() == [True, True, False, False]
    assert table["outside"].tolist()[:3] == ["", "", ""]
    assert "sites partly empty, and in no labelled crystal" in table["outside"][3]
    # half strontium, half barium lies between both, and so does its prediction
    low, high = sorted(table["prediction"][:2])
    assert low - 0.1 < table["prediction"][2] < high + 0.1
    taught = fitted.adapt([*known, empty], [-3.5, -3.5, -2.9])
    assert "partly empty" not in taught.predict_table([empty])["outside"][0]


@pytest.fixture(scope="module")
def prototypes():
    """Crystals of the embedded data, one of each prototype that is met."""
    settings = StructuresSection()
    found = {}
    for document in read_inputs(settings.inputs, settings).items[::4]:
        [(_, crystal)] = document_crystals(document, settings)
        if isinstance(crystal, Crystal) and crystal.n_sites <= MOST_SITES:
            found.setdefault(crystal.prototype, crystal)
    cells = ((c.lattice, c.frac_coords, c.atomic_numbers) for c in found.values())
    return [structure_of(*cell) for cell in cells]


def test_of_300_cifs_of_real_prototypes_nearly_all_are_read_and_predicted(prototypes, fitted):
    texts, refused = [], []
    for name, text, amounts in written(prototypes, 300):
        found = read(text)
        if not isinstance(found, Crystal):
            refused.append((name, found.reason))
            continue
        assert found.disordered
        assert "virtual crystal" in found.notes
        own = np.bincount(found.atomic_numbers, weights=found.occupancy, minlength=119)
        wanted = np.zeros(119)
        for symbol, share in amounts.items():
            wanted[Element(symbol).Z] = share
        # occupancies are written with three digits
        assert own / own.sum() == pytest.approx(wanted, abs=4e-3), name
        texts.append(text)
    assert len(texts) >= 0.95 * 300
    # elements exchanged at random do not fit everywhere, and that is said
    for _, reason in refused:
        assert re.match("overlapping atoms: |disordered: ", reason)
    table = fitted.adapt([], []).predict_table(texts)
    assert table["disordered"].all()
    assert np.isfinite(table[["prediction", "low", "high", "distance"]]).all(axis=None)
    assert table["prediction"].between(-6, 3).all()
