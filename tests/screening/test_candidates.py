"""Candidates: the known perovskites are found, with right charges, factors and cells."""

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner
from pydantic import ValidationError
from pymatgen.core import Composition, Element
from pymatgen.io.vasp import Poscar

from matml.cli.screening import candidates
from matml.core.errors import MatmlError
from matml.core.files import read_table, write_table
from matml.screening.generate import perovskites, prototypes
from matml.screening.generate.substitution import generate
from matml.screening.generate.volume import fit_volume, guess_sizes, site_radii
from matml.screening.settings import ScreeningSection
from matml.structures.settings import STRUCTURES


@pytest.fixture(scope="module")
def perovskite(known_table):
    return prototypes.from_family(known_table, "cubic perovskite")


@pytest.fixture(scope="module")
def made(perovskite):
    return generate(perovskite, ScreeningSection())


# radii of Shannon 1976, put in by hand
PUBLISHED = {
    "SrTiO3": ("Sr+2 Ti+4 O-2", (1.44, 0.605, 1.40), 1.002),
    "BaTiO3": ("Ba+2 Ti+4 O-2", (1.61, 0.605, 1.40), 1.062),
    "CsPbI3": ("Cs+1 Pb+2 I-1", (1.88, 1.19, 2.20), 0.851),
    "KMgF3": ("K+1 Mg+2 F-1", (1.64, 0.72, 1.33), 1.024),
}


@pytest.mark.parametrize("formula", PUBLISHED)
def test_known_perovskites_are_among_the_candidates(made, formula):
    charges, (a, b, x), tolerance = PUBLISHED[formula]
    row = made[0].set_index("formula").loc[formula]
    assert row["oxidation_states"] == charges
    assert row["extrapolated_radii"] == ""
    assert row["tolerance_factor"] == pytest.approx(tolerance, abs=5e-4)
    assert row["octahedral_factor"] == pytest.approx(b / x)
    charge = int(charges.split()[0][-1])
    tau = x / b - charge * (charge - (a / b) / math.log(a / b))
    assert row["bartel_tau"] == pytest.approx(tau)


def test_every_candidate_is_neutral_and_inside_the_windows(made):
    table, summary = made
    assert 1000 < len(table) < 3000
    assert table["material_id"].is_unique
    assert table["tolerance_factor"].between(0.81, 1.11).all()
    assert table["octahedral_factor"].between(0.37, 0.90).all()
    assert (table["electronegativity_gap"] >= 0).all()
    for charges in table["oxidation_states"]:
        a, b, x = (int(part[-2:]) for part in charges.split())
        assert a + b + 3 * x == 0
    counts = list(summary["counts"].values())[3:]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == len(table)


def test_ions_never_met_near_a_coordination_are_left_out(made):
    # Shannon knows Pt2+ with four and six neighbours only, Bi3+ with eight
    table = made[0]
    assert "Pt+2" not in set(table["extrapolated_radii"])
    assert "Bi+3" in set(table["extrapolated_radii"])
    strict, _ = generate(prototypes.built_in(), ScreeningSection(max_coordination_gap=0))
    assert set(strict["extrapolated_radii"]) == {""}
    assert set(strict["formula"]) < set(table["formula"])


def test_structures_are_perovskites_with_the_guessed_cell(made):
    row = made[0].set_index("formula").loc["SrTiO3"]
    structure = Poscar.from_str(row["poscar"]).structure
    assert structure.composition.reduced_formula == "SrTiO3"
    assert structure.lattice.a == pytest.approx(row["lattice_parameter_angstrom"], abs=1e-5)
    titanium = next(site for site in structure if site.specie == Element("Ti"))
    near = structure.get_neighbors(titanium, 0.55 * structure.lattice.a)
    assert [site.specie.symbol for site in near] == ["O"] * 6


def test_cell_guess_on_held_out_perovskites(perovskite):
    """Calibrated on half of the known crystals, the other half's DFT cells follow within 2 %."""
    rng = np.random.default_rng(0)
    members = {member.formula: member for member in perovskite.members}
    names = rng.permutation(sorted(members))
    seen, unseen = names[::2], names[1::2]
    half = prototypes.Prototype(
        perovskite.family,
        perovskite.parent,
        perovskite.site_of_atom,
        perovskite.sites,
        members=tuple(members[name] for name in seen),
    )
    radii = np.array([site_radii(members[name].ions) for name in unseen])
    truth = np.array([members[name].size for name in unseen])
    error = np.abs(guess_sizes(half, fit_volume(half), radii) / truth - 1)
    assert error.mean() < 0.02
    assert np.median(error) < 0.015


def test_cell_from_radii_alone_is_within_a_few_percent(perovskite):
    built_in = prototypes.built_in()
    radii = np.array([site_radii(member.ions) for member in perovskite.members])
    truth = np.array([member.size for member in perovskite.members])
    error = np.abs(guess_sizes(built_in, None, radii) / truth - 1)
    assert error.mean() < 0.025


def test_contact_length_is_exact_at_tolerance_factor_one():
    b, x = 0.6, 1.4
    a = math.sqrt(2) * (b + x) - x
    assert perovskites.contact_lattice_parameter(a, b, x) == pytest.approx(2 * (b + x))


@pytest.mark.parametrize("limit", [None, 3.9])
def test_a_filter_that_is_not_set_is_not_listed_as_one(limit):
    settings = ScreeningSection(bartel_tau_max=limit, tolerance_factor=[0.97, 0.99])
    table, summary = generate(prototypes.built_in(), settings)
    assert ("bartel_tau" in summary["counts"]) == (limit is not None)
    assert ("not used as a filter" in summary["sources"]["bartel_tau"]) == (limit is None)
    # told of each candidate in either case
    assert table["bartel_tau"].notna().any()
    assert limit is None or (table["bartel_tau"] < limit).all()


def test_bartel_tau_needs_the_larger_ion_on_a():
    assert math.isnan(perovskites.bartel_tau(0.6, 0.7, 1.4, 2))


def test_built_in_prototype_makes_the_same_compositions(made):
    table, summary = generate(prototypes.built_in(), ScreeningSection())
    assert set(table["formula"]) == set(made[0]["formula"])
    assert summary["volume"]["n_members"] == 0


def test_another_ionic_family_is_filled_the_same_way(known_table):
    prototype = prototypes.from_family(known_table, "rocksalt")
    assert [(s.name, s.coordination, s.is_anion) for s in prototype.sites] == [
        ("A", 6, False),
        ("X", 6, True),
    ]
    table, summary = generate(prototype, ScreeningSection())
    assert not {"tolerance_factor", "octahedral_factor", "bartel_tau"} & set(summary["sources"])
    assert {"NaCl", "MgO", "KBr"} <= set(table["formula"])
    assert "tolerance_factor" not in table
    assert summary["volume"]["length_error_percent_mean_leave_one_out"] < 4
    for formula in table["formula"]:
        assert sorted(Composition(formula).values()) == [1, 1]


def test_alloys_have_no_ions_to_exchange(known_table):
    with pytest.raises(MatmlError, match=r"0 of its 5 crystals.*'cubic perovskite' \(built in\)"):
        prototypes.from_family(known_table, "caesium chloride")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("perovskite", "cubic perovskite"), ("rock salt", "rocksalt"), ("Rock-Salt", "rocksalt"),
     ("rocksallt", "rocksalt")],
)  # fmt: skip
def test_a_family_of_nearly_that_name_is_proposed(known_table, name, meant):
    with pytest.raises(MatmlError, match=f"did you mean '{meant}'"):
        prototypes.from_family(known_table, name)


def test_unknown_family_lists_those_there_are(known_table):
    with pytest.raises(MatmlError, match=r"large families are: .*rocksalt"):
        prototypes.from_family(known_table, "spinell")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"anions": ["I"], "octahedral_factor": (0.85, 0.9)}, "after the step 'octahedral_factor'"),
        ({"max_candidates": 10}, "more than max_candidates = 10"),
    ],
)
def test_settings_that_leave_nothing_or_too_much(values, message):
    with pytest.raises(MatmlError, match=message):
        generate(prototypes.built_in(), ScreeningSection(**values))


@pytest.mark.parametrize("symbol", ["Qq", "pb", "X", ""])
def test_an_element_that_is_none_is_not_excluded_without_a_word(symbol):
    with pytest.raises(ValidationError, match=f"'{symbol}' is not an element"):
        ScreeningSection(exclude_elements=["Sr", symbol])


def test_command_writes_table_and_summary(tmp_path, known_table):
    write_table(tmp_path / "known" / "structures.parquet", known_table, STRUCTURES)
    arguments = ["--out", str(tmp_path / "made"), "--structures", str(tmp_path / "known")]
    result = CliRunner().invoke(candidates, arguments)
    assert result.exit_code == 0, result.output
    table = read_table(tmp_path / "made" / "candidates.parquet")
    summary = json.loads((tmp_path / "made" / "summary.json").read_text())
    assert summary["n_candidates"] == len(table)
    assert summary["n_compositions_known_in_family"] > 20
    assert summary["seconds"] < 15
