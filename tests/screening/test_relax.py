"""Relaxation: files, resuming and failures with a made-up potential; CHGNet itself."""

import importlib.util
import json

import numpy as np
import pytest
from click.testing import CliRunner
from pymatgen.core import Structure
from pymatgen.io.vasp import Poscar

from matml.cli.screening import candidates
from matml.core.errors import MatmlError
from matml.core.files import read_table, write_table
from matml.screening.generate import files as make
from matml.screening.generate import prototypes, relax
from matml.screening.generate.relax import DONE, Relaxed, relax_candidates
from matml.screening.generate.substitution import generate
from matml.screening.settings import ScreeningSection
from matml.structures.settings import STRUCTURES

INSTALLED = importlib.util.find_spec("chgnet") is not None
SETTINGS = ScreeningSection()


class Shrinking:
    """A made-up potential: every edge 2 % shorter, except where it fails."""

    name = "made up"
    fails_at: str = ""
    how: str = ""
    calls = 0

    def __init__(self, force: float, steps: int) -> None:
        self.force, self.steps = force, steps

    def __call__(self, structure: Structure) -> Relaxed:
        type(self).calls += 1
        stretch, converged = 0.98, True
        if structure.composition.reduced_formula == self.fails_at:
            if self.how == "raises":
                raise ValueError("isolated\natoms")
            if self.how == "interrupted":
                raise KeyboardInterrupt
            converged = self.how != "steps"
            stretch = {"explodes": 1.5, "nan": np.nan}.get(self.how, stretch)
        matrix = structure.lattice.matrix * stretch
        return Relaxed(
            Structure(matrix, structure.species, structure.frac_coords), converged, self.steps
        )


@pytest.fixture
def potential():
    class Fresh(Shrinking):
        calls = 0

    return Fresh


@pytest.fixture(scope="module")
def table():
    settings = ScreeningSection(anions=["F"])
    made, _ = generate(prototypes.built_in(), settings)
    return made.set_index("formula", drop=False).loc[["KMgF3", "RbCaF3", "KZnF3", "CsCaF3"]]


def volume(poscar):
    return Poscar.from_str(poscar).structure.volume


def test_cells_and_columns_follow_the_potential(table, tmp_path, potential):
    relaxed, summary = relax_candidates(table, SETTINGS, tmp_path, 1, potential)
    assert relaxed["formula"].tolist() == table["formula"].tolist()
    for old, new in zip(table.itertuples(), relaxed.itertuples(), strict=True):
        assert volume(new.poscar) == pytest.approx(0.98**3 * volume(old.poscar), rel=1e-5)
        length = Poscar.from_str(new.poscar).structure.lattice.a
        assert new.lattice_parameter_angstrom == pytest.approx(length, rel=1e-5)
        assert new.guessed_size_angstrom == old.guessed_size_angstrom
    assert set(relaxed["relaxed"]) == {"yes"}
    assert set(relaxed["relaxation_steps"]) == {SETTINGS.relax_steps}
    assert relaxed["relaxed_over_guessed_volume"].tolist() == pytest.approx([0.98**3] * 4)
    assert summary["n_relaxed"] == 4
    middle = summary["volume_change_percent"]["50 % of the candidates below"]
    assert middle == pytest.approx(100 * (0.98**3 - 1))
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raises", r"the potential failed (ValueError: isolated atoms)"),
        ("steps", "not converged"),
        ("explodes", "volume changed by a factor beyond 1.5"),
        ("nan", "the potential gives no finite structure"),
    ],
)
def test_what_fails_keeps_its_cell_and_is_marked(table, tmp_path, potential, how, said):
    potential.fails_at, potential.how = "KZnF3", how
    relaxed, summary = relax_candidates(table, SETTINGS, tmp_path, 1, potential)
    row, old = relaxed.loc["KZnF3"], table.loc["KZnF3"]
    assert row["relaxed"] == "no"
    assert row["relaxation_problem"] == said
    assert np.isnan(row["relaxed_over_guessed_volume"])
    for name in ("poscar", "lattice_parameter_angstrom"):
        assert row[name] == old[name]
    assert relaxed.drop("KZnF3")["relaxed"].eq("yes").all()
    assert (summary["n_relaxed"], summary["n_not_relaxed"]) == (3, 1)
    assert summary["problems"] == {said: 1}


def test_an_interrupted_run_goes_on(table, tmp_path, potential, monkeypatch):
    monkeypatch.setattr(relax, "SECONDS_BETWEEN_SAVES", -1)
    potential.fails_at, potential.how = "KZnF3", "interrupted"
    with pytest.raises(KeyboardInterrupt):
        relax_candidates(table, SETTINGS, tmp_path, 1, potential)
    assert len(read_table(tmp_path / DONE)) == 2
    potential.fails_at, potential.calls = "", 0
    again, _ = relax_candidates(table, SETTINGS, tmp_path, 1, potential)
    assert potential.calls == 2
    whole, _ = relax_candidates(table, SETTINGS, tmp_path / "whole", 1, potential)
    assert again.equals(whole)
    potential.calls = 0
    relax_candidates(table, SETTINGS, tmp_path, 1, potential)
    assert potential.calls == 0
    # other settings are another relaxation
    relax_candidates(table, ScreeningSection(relax_force=0.1), tmp_path, 1, potential)
    assert potential.calls == 4


def test_the_potential_is_asked_for_by_option_or_settings(
    tmp_path, monkeypatch, potential, dielectric
):
    seen, known = [], dielectric / "structures"

    def noted(made, settings, folder, threads):
        seen.append(len(made))
        return relax_candidates(made.head(3), settings, folder, 1, potential)

    monkeypatch.setattr(relax, "relax_candidates", noted)
    (tmp_path / "on.yaml").write_text("relax: true\nanions: [F]\n", encoding="utf-8")
    make.make_candidates(tmp_path / "on", None, known, tmp_path / "on.yaml")
    assert read_table(tmp_path / "on" / "candidates.parquet")["relaxed"].eq("yes").all()
    summary = json.loads((tmp_path / "on" / "summary.json").read_text())
    assert summary["relaxation"]["potential"] == "made up"
    make.make_candidates(tmp_path / "off", None, known, tmp_path / "on.yaml", relax=False)
    assert "relaxed" not in read_table(tmp_path / "off" / "candidates.parquet")
    assert len(seen) == 1


@pytest.mark.skipif(INSTALLED, reason="CHGNet is installed")
def test_without_chgnet_the_command_says_how_to_get_it(tmp_path, dielectric):
    place = ["--out", str(tmp_path / "made"), "--structures", str(dielectric / "structures")]
    result = CliRunner().invoke(candidates, [*place, "--relax"])
    assert isinstance(result.exception, MatmlError)
    assert "pip install 'matml[potential]'" in str(result.exception)
    assert not (tmp_path / "made").exists()


@pytest.mark.skipif(not INSTALLED, reason="needs CHGNet: pip install 'matml[potential]'")
def test_chgnet_brings_known_perovskites_nearer_to_dft(tmp_path, known_table):
    """On crystals like those CHGNet was trained on; their DFT cells are the embedded ones."""
    write_table(tmp_path / "known" / "structures.parquet", known_table, STRUCTURES)
    prototype = prototypes.from_family(known_table, "cubic perovskite")
    made, _ = generate(prototype, SETTINGS)
    dft = {member.formula: 5 * member.size**3 for member in prototype.members}
    known = ["SrTiO3", "BaTiO3", "KNbO3", "KZnF3", "RbCaF3", "CsCdCl3"]
    table = made.set_index("formula", drop=False).loc[known]
    relaxed, summary = relax_candidates(table, SETTINGS, tmp_path, 1)
    assert summary["n_relaxed"] == len(known)
    errors = [
        np.mean([abs(volume(rows.loc[name, "poscar"]) / dft[name] - 1) for name in known])
        for rows in (table, relaxed)
    ]
    assert errors[1] < 0.01
    assert errors[1] < 0.5 * errors[0]
    # the cube stays one
    lattice = Poscar.from_str(relaxed.loc["SrTiO3", "poscar"]).structure.lattice
    assert np.ptp(lattice.abc) < 1e-6
