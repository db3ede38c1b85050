import importlib
import math

import builders
import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from matml.structures.crystal import crystal_of
from matml.structures.errors import BadCrystal
from matml.structures.families import canonical_sites, classify
from matml.structures.prototypes import PROTOTYPES
from matml.structures.settings import StructuresSection
from matml.structures.symmetry.search import symmetrise

SETTINGS = StructuresSection()


def classified(structure):
    return crystal_of(structure, SETTINGS, [])


@pytest.mark.parametrize(
    ("structure", "prototype", "name"),
    [
        (builders.rocksalt(), "AB_cF8_225_a_b", "rocksalt"),
        (builders.caesium_chloride(), "AB_cP2_221_a_b", "CsCl"),
        (builders.caesium_chloride("Ni", "Al", 2.9), "AB_cP2_221_a_b", "CsCl"),
        (builders.cubic_abx3(), "ABC3_cP5_221_a_b_c", "cubic perovskite"),
        (builders.cubic_abx3("Sn", "O", "Ca", 4.8), "ABC3_cP5_221_a_b_c", "antiperovskite"),
        (builders.cubic_abx3("Ga", "C", "Mn", 3.9), "ABC3_cP5_221_a_b_c", "antiperovskite"),
        (builders.spinel(), "AB2C4_cF56_227_a_d_e", "spinel"),
        (builders.inverse_spinel(), "AB2C4_oI28_74_a_ce_hi", "inverse spinel (ordered, Imma)"),
        (builders.half_heusler(), "ABC_cF12_216_a_b_c", "half-Heusler"),
        (builders.heusler(), "ABC2_cF16_225_a_b_c", "Heusler"),
        (builders.fluorite(), "AB2_cF12_225_a_c", "fluorite"),
        (builders.fluorite("O", "Li", 4.62), "AB2_cF12_225_a_c", "antifluorite"),
        (builders.fluorite("Si", "Mg", 6.35), "AB2_cF12_225_a_c", "antifluorite"),
        (builders.rutile(), "AB2_tP6_136_a_f", "rutile"),
        (builders.wurtzite(), "AB_hP4_186_b_b", "wurtzite"),
        (builders.corundum(), "A2B3_hR30_167_c_e", "corundum"),
        (builders.chromium_silicide_pair(), "AB2C2_tI10_139_a_d_e", "ThCr2Si2"),
    ],
)
def test_textbook_crystals(structure, prototype, name):
    crystal = classified(structure)
    assert (crystal.prototype, crystal.common_name) == (prototype, name)


def test_perovskite_and_antiperovskite_are_two_families():
    perovskite = classified(builders.cubic_abx3())
    antiperovskite = classified(builders.cubic_abx3("Sn", "O", "Ca", 4.8))
    assert perovskite.prototype == antiperovskite.prototype
    assert perovskite.family != antiperovskite.family


def test_spinel_and_inverse_spinel_are_two_families():
    assert classified(builders.spinel()).family != classified(builders.inverse_spinel()).family


@pytest.mark.parametrize("silicide", ["Si", "P", "Ge", "As", "B", "Se", "Al"])
def test_intermetallics_are_not_split_by_electronegativity(silicide):
    structure = builders.chromium_silicide_pair()
    structure.replace_species({"Si": silicide})
    assert classified(structure).family == "AB2C2_tI10_139_a_d_e"


def test_sulfur_is_an_anion_in_a_sulfide_but_not_in_a_sulfate():
    """CaSO4-like: S sits next to O, so only the slot of O counts."""
    sulfide = classified(builders.rocksalt("Ca", "S", 5.7))
    assert sulfide.common_name == "rocksalt"
    scheelite = Structure.from_spacegroup(
        "I4_1/amd",
        Lattice.tetragonal(7.1, 6.4),
        ["Ca", "S", "O"],
        [[0, 0, 0], [0, 0, 0.5], [0, 0.18, 0.32]],
    )
    crystal = classified(scheelite)
    assert crystal.anonymous_formula == "ABC4"
    assert "A" not in crystal.family.partition("-anion")[2]
    assert "B" not in crystal.family.partition("-anion")[2]


@pytest.mark.parametrize("make", [builders.cubic_abx3, builders.spinel, builders.corundum])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_label_does_not_depend_on_cell_origin_orientation_or_order(make, seed):
    """The label is a function of the crystal, not of how it is written down."""
    generator = np.random.default_rng(seed)
    structure = make()
    expected = classified(structure)
    other = structure.get_primitive_structure() if seed else structure.copy()
    other.translate_sites(range(len(other)), generator.uniform(0, 1, 3))
    rotation, _ = np.linalg.qr(generator.standard_normal((3, 3)))
    order = generator.permutation(len(other))
    other = Structure(
        Lattice(other.lattice.matrix @ rotation),
        [other[i].specie for i in order],
        other.frac_coords[order],
    )
    found = classified(other)
    assert (found.prototype, found.family) == (expected.prototype, expected.family)
    assert found.n_sites == expected.n_sites


@pytest.fixture(scope="module")
def pymatgens():
    """pymatgen's prototypes, which take seconds to import: every process of tests collects."""
    return importlib.import_module("pymatgen.analysis.prototypes")


def test_prototypes_agree_with_pymatgen(monkeypatch, pymatgens):
    """Independent oracle: pymatgen's labels for structures of the AFLOW library."""
    # pymatgen calls a function here that its own dependency has deprecated
    monkeypatch.setattr(pymatgens, "gcd", math.gcd)
    compared = 0
    for entry in pymatgens.AFLOW_PROTOTYPE_LIBRARY[::2]:
        structure = entry["snl"].structure
        if len(structure) > 24:
            continue
        numbers = np.array([site.specie.Z for site in structure])
        found = symmetrise(structure.lattice.matrix, structure.frac_coords, numbers, 0.01)
        reference = SpacegroupAnalyzer(structure, symprec=0.01, angle_tolerance=-1)
        if reference.get_space_group_number() != found.space_group_number:
            continue  # our tolerance scales with the cell
        label = pymatgens.get_protostructure_label_from_spg_analyzer(reference)
        if "Invalid" in label:
            continue
        assert classify(found)[0] == pymatgens.get_prototype_from_protostructure(label), entry[
            "tags"
        ]
        compared += 1
    assert compared > 80


def test_names_of_the_table_agree_with_the_aflow_library(pymatgens):
    """Independent oracle: entries of the library get the name of their Strukturbericht symbol."""
    symbols = {
        "B1": "rocksalt", "B2": "CsCl", "B3": "zincblende", "B4": "wurtzite", "C1": "fluorite",
        "C2": "pyrite", "C3": "cuprite", "C4": "rutile", "C5": "anatase", "C6": "CdI2",
        "C7": "molybdenite", "C14": "hexagonal Laves (C14)", "C15": "cubic Laves (C15)",
        "C36": "hexagonal Laves (C36)", "C32": "AlB2", "C16": "CuAl2", "C21": "brookite",
        "C43": "baddeleyite", "D0_2": "skutterudite", "D0_5": "BiI3", "D0_9": "ReO3",
        "D0_11": "cementite", "D0_15": "AlCl3", "D0_19": "D0_19 (Ni3Sn)",
        "D0_22": "D0_22 (TiAl3)", "D5_1": "corundum", "D5_8": "stibnite", "E1_1": "chalcopyrite",
        "E2_1": "cubic perovskite", "H1_1": "spinel", "L1_2": "L1_2 (AuCu3)", "L2_1": "Heusler",
        "L1_0": "L1_0 (CuAu)", "C1_b": "half-Heusler", "A15": "A15 (Cr3Si)", "A4": "diamond",
        "E0_1": "matlockite (PbFCl)", "H2_4": "sulvanite", "H2_6": "stannite", "D2_d": "CaCu5",
    }  # fmt: skip
    checked = set()
    for entry in pymatgens.AFLOW_PROTOTYPE_LIBRARY:
        wanted = symbols.get(entry["tags"]["strukturbericht"])
        if wanted is None:
            continue
        try:
            assert classified(entry["snl"].structure).common_name == wanted, entry["tags"]
        except BadCrystal:
            continue
        checked.add(wanted)
    assert len(checked) >= 36


def test_at_least_thirty_prototypes_are_named():
    assert len(PROTOTYPES) >= 30
    for label, known in PROTOTYPES.items():
        slots = {c for c in label.split("_")[0] if c.isalpha()}
        for letters in [known.usual or "", *known.others]:
            assert set(letters) <= slots, label


def test_mirror_images_are_one_family():
    """Quartz in P3_121 and its mirror image in P3_221."""
    quartz = Structure.from_spacegroup(
        "P3_121",
        Lattice.hexagonal(4.913, 5.405),
        ["Si", "O"],
        [[0.47, 0, 1 / 3], [0.413, 0.266, 0.2144]],
    )
    # exchanging two axes of equal length turns the screw the other way round
    mirrored = Structure(quartz.lattice, quartz.species, quartz.frac_coords[:, [1, 0, 2]])
    one, other = classified(quartz), classified(mirrored)
    assert {one.space_group_number, other.space_group_number} == {152, 154}
    assert one.family == other.family
    assert one.common_name == other.common_name == "quartz"


def test_canonical_sites_puts_the_lowest_letters_first():
    """In Pm-3m the origin may move to the body centre: (b, a, d) is (a, b, c)."""
    given = ((1, "b", 0), (1, "a", 0), (3, "d", 2))
    assert canonical_sites(221, tuple(sorted(given))) == ("a_b_c", (0, 0, 2))


def test_idealised_cell_keeps_every_distance_within_the_tolerance():
    generator = np.random.default_rng(5)
    structure = builders.spinel().get_primitive_structure()
    structure.translate_sites(range(len(structure)), generator.uniform(0, 1, 3))
    noisy = Structure(
        structure.lattice,
        structure.species,
        structure.frac_coords + 3e-4 * generator.uniform(-1, 1, (len(structure), 3)),
    )
    crystal = classified(noisy)
    assert crystal.common_name == "spinel"
    ideal = Structure(Lattice(crystal.lattice), crystal.atomic_numbers, crystal.frac_coords)
    assert ideal.volume == pytest.approx(noisy.volume, rel=1e-9)
    first = np.sort(noisy.distance_matrix.ravel())
    second = np.sort(ideal.distance_matrix.ravel())
    np.testing.assert_allclose(first, second, atol=0.02)


def test_a_slightly_distorted_crystal_keeps_its_distances_and_its_family():
    """Ti moved by 0.03 angstrom: still a perovskite by name, no longer cubic as a crystal."""
    moved = builders.cubic_abx3()
    moved.translate_sites([1], [0, 0, 0.03], frac_coords=False)
    crystal = classified(moved)
    assert crystal.common_name == "cubic perovskite"
    assert crystal.orbit.max() + 1 == 4
    titanium = [i for i, z in enumerate(crystal.atomic_numbers) if z == 22]
    found = Structure(Lattice(crystal.lattice), crystal.atomic_numbers, crystal.frac_coords)
    nearest = sorted(n.nn_distance for n in found.get_neighbors(found[titanium[0]], 2.2))
    assert nearest[0] == pytest.approx(3.905 / 2 - 0.03, abs=2e-3)
    assert nearest[-1] == pytest.approx(3.905 / 2 + 0.03, abs=2e-3)


@pytest.mark.parametrize(
    ("anonymous", "space_group", "size"),
    [("AB2C2", 139, 97), ("ABC2D6", 225, 44), ("AB2C4", 227, 18)],
)
def test_sizes_of_families_in_the_embedded_data(repository, anonymous, space_group, size):
    """ThCr2Si2 and elpasolite types have the known sizes, spinel one less."""
    table = pd.read_csv(repository / "data/crystals/formation_energy.csv.gz")
    chosen = [Composition(f).anonymized_formula == anonymous for f in table["formula"]]
    found = [
        classified(Structure.from_str(text, fmt="poscar")).space_group_number
        for text in table.loc[chosen, "poscar"]
    ]
    assert found.count(space_group) == size
