"""Features of potentials: of any calculator of ASE, kept in a file, resumed, refused."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Poscar

ase = pytest.importorskip("ase", reason="ASE is not installed")

from ase.build import bulk  # noqa: E402
from ase.calculators.calculator import Calculator, all_changes  # noqa: E402
from ase.calculators.emt import EMT  # noqa: E402
from ase.calculators.lj import LennardJones  # noqa: E402
from ase.eos import EquationOfState  # noqa: E402

from matml.cli.properties.potential import potential as command  # noqa: E402
from matml.core.errors import MatmlError  # noqa: E402
from matml.core.files import read_table  # noqa: E402
from matml.potentials import Deformations, describe, load_potential  # noqa: E402
from matml.potentials.mechanics import EV_PER_A3, mechanics, shear_modulus, stiffness  # noqa: E402

EDGES = {"Cu": 3.61, "Al": 4.05, "Ni": 3.52, "Ag": 4.09}
NO_CHGNET = importlib.util.find_spec("chgnet") is None
NO_SEVENN = importlib.util.find_spec("sevenn") is None


def metal(symbol: str, edge: float | None = None) -> Structure:
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(edge or EDGES[symbol]), [symbol], [[0, 0, 0]]
    )


def metals(*symbols: str) -> dict[str, Structure]:
    return {symbol: metal(symbol) for symbol in symbols}


class Counting(EMT):
    """EMT that counts, fails at silver, and is interrupted where it is told to."""

    def __init__(self, interrupted_at: str = "") -> None:
        super().__init__()
        self.seen: list[str] = []
        self.interrupted_at = interrupted_at

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        symbol = atoms.get_chemical_formula()
        if symbol == self.interrupted_at:
            raise KeyboardInterrupt
        self.seen.append(symbol)
        if symbol.startswith("Ag"):
            raise ValueError("no\nsilver")
        super().calculate(atoms, properties, system_changes)


class Hooke(Calculator):
    """An isotropic solid of bulk modulus 100 GPa and shear modulus 40 GPa, at rest at 4 A."""

    implemented_properties = ("energy", "stress")
    bulk, shear = 100.0, 40.0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        # primitive cell of an fcc metal with an edge of 4 A
        change = np.linalg.solve(Lattice.cubic(4).matrix, atoms.cell.array)
        strain = (change + change.T) / 2 - np.eye(3)
        trace = np.log(np.linalg.det(change))
        stress = self.bulk * trace * np.eye(3) + 2 * self.shear * (
            strain - np.trace(strain) / 3 * np.eye(3)
        )
        voigt = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        self.results = {"energy": 0.0, "stress": voigt / EV_PER_A3}


def test_a_known_solid_gets_its_moduli():
    atoms = bulk("Cu", a=4 * np.exp(0.002 / 3), cubic=True)
    atoms.calc = Hooke()
    found = mechanics(atoms, Deformations(shear=True))
    assert found["bulk_modulus_GPa"] == pytest.approx(100, rel=1e-9)
    # the logarithm of the volume is 0.002 too large
    assert found["relaxed_volume_ratio"] == pytest.approx(np.exp(-0.002), rel=1e-9)
    # Hooke's is 0, which no solid's is
    assert found["bulk_modulus_derivative"] == 1
    assert found["shear_modulus_GPa"] == pytest.approx(40, rel=0.01)


def test_bulk_modulus_is_that_of_energies_over_volumes():
    atoms = bulk("Al", a=4.0)
    atoms.calc = EMT()
    found = mechanics(atoms, Deformations())
    volumes, energies = [], []
    for stretch in np.linspace(0.99, 1.01, 9):
        other = atoms.copy()
        other.calc = EMT()
        other.set_cell(atoms.cell * stretch, scale_atoms=True)
        volumes.append(other.get_volume())
        energies.append(other.get_potential_energy())
    volume, _, modulus = EquationOfState(volumes, energies, "birchmurnaghan").fit()
    # at the minimum of the energy, which is not quite the volume given
    ratio = volume / atoms.get_volume()
    assert found["relaxed_volume_ratio"] == pytest.approx(ratio, abs=0.002)
    atoms.set_cell(atoms.cell * ratio ** (1 / 3), scale_atoms=True)
    found = mechanics(atoms, Deformations())
    assert found["bulk_modulus_GPa"] == pytest.approx(modulus * EV_PER_A3, rel=0.02)


def test_shear_modulus_of_a_cubic_crystal_is_hills_mean():
    c11, c12, c44 = 168.4, 121.4, 75.4  # copper; Simmons and Wang 1971
    matrix = np.diag([c11 - c12] * 3 + [c44] * 3)
    matrix[:3, :3] += c12
    voigt = (c11 - c12 + 3 * c44) / 5
    reuss = 5 / (4 / (c11 - c12) + 3 / c44)
    assert shear_modulus(matrix) == pytest.approx((voigt + reuss) / 2, rel=1e-12)


def test_stiffness_takes_strains_apart():
    random = np.random.default_rng(0).normal(size=(6, 6))
    known = random + random.T

    def stress(change: np.ndarray) -> np.ndarray:
        strain = change - np.eye(3)
        voigt = [*np.diag(strain), 2 * strain[1, 2], 2 * strain[0, 2], 2 * strain[0, 1]]
        return known @ voigt + 1

    assert stiffness(stress, np.ones(6), 0.01) == pytest.approx(known)


@pytest.mark.parametrize("calculator", [EMT(), LennardJones(sigma=2.3, epsilon=0.4, rc=9.0)])
def test_any_calculator_describes_crystals_whatever_their_cell(calculator):
    doubled = metal("Cu").copy()
    doubled.make_supercell([2, 1, 1])
    found = describe([metal("Cu"), doubled, metal("Ni")], calculator)
    assert found.quarantine.empty
    assert len(found.table) == 3
    numbers = found.table[found.features].to_numpy()
    assert np.isfinite(numbers).all()
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-9)
    assert found.features[0].startswith(type(calculator).__name__.lower())
    assert not np.allclose(numbers[0], numbers[2])


def test_a_broken_calculator_names_the_crystal_and_goes_on(tmp_path):
    found = describe(metals("Ag", "Al", "Cu"), Counting(), tmp_path / "emt.parquet")
    assert found.table["id"].tolist() == ["Al", "Cu"]
    row = found.quarantine.iloc[0]
    assert (row["id"], row["dropped"]) == ("Ag", "crystal")
    assert row["reason"] == "counting fails (ValueError: no silver)"
    assert len(read_table(tmp_path / "emt.parquet")) == 2


def test_an_unstable_and_a_disordered_crystal_are_quarantined():
    stretched = metal("Cu", 5.5)
    mixed = Structure(metal("Cu").lattice, [{"Cu": 0.5, "Ni": 0.5}] * 4, metal("Cu").frac_coords)
    found = describe({"far": stretched, "mixed": mixed, "Cu": metal("Cu")}, EMT())
    assert found.table["id"].tolist() == ["Cu"]
    reasons = dict(zip(found.quarantine["id"], found.quarantine["reason"], strict=True))
    assert "unstable" in reasons["far"]
    assert "GPa" in reasons["far"]
    assert "disordered" in reasons["mixed"]


def test_a_stopped_run_goes_on_and_nothing_is_computed_twice(tmp_path, monkeypatch):
    monkeypatch.setattr("matml.potentials.features.SECONDS_BETWEEN_SAVES", 0.0)
    path = tmp_path / "emt.parquet"
    with pytest.raises(KeyboardInterrupt):
        describe(metals("Al", "Cu", "Ni"), Counting("Cu"), path)
    assert read_table(path)["id"].tolist() == ["Al"]
    second = Counting()
    found = describe(metals("Al", "Cu", "Ni"), second, path)
    assert {*second.seen} == {"Cu", "Ni"}
    assert found.table["id"].tolist() == ["Al", "Cu", "Ni"]
    whole = describe(metals("Al", "Cu", "Ni"), Counting())
    pd.testing.assert_frame_equal(found.table, whole.table)
    # by another name it is the same crystal; others stay
    third = Counting()
    again = describe({"copper": metal("Cu")}, third, path)
    assert not third.seen
    assert again.table["id"].tolist() == ["copper"]
    assert {*read_table(path)["id"]} == {"copper", "Al", "Ni"}
    # by the same name another crystal
    describe({"copper": metal("Cu", 3.7)}, third, path)
    assert third.seen
    assert sorted(read_table(path)["id"]) == ["Al", "Ni", "copper"]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"potential": LennardJones()}, "not of lennardjones"),
        ({"potential": LennardJones(sigma=1.5)}, '"sigma": 1.5'),
        ({"how": Deformations(volume_change=0.02)}, "volume +-0.02"),
        ({"how": Deformations(shear=True)}, "six strains of 0.01"),
    ],
)
def test_features_of_another_potential_version_or_settings_are_refused(tmp_path, other, told):
    path = tmp_path / "features.parquet"
    describe(metals("Cu"), EMT(), path)
    before = path.read_bytes()
    with pytest.raises(MatmlError) as error:
        describe(metals("Cu"), **({"potential": EMT(), "out": path} | other))
    assert str(error.value).startswith(f"{path}: holds features of emt (ase ")
    assert told in str(error.value)
    assert path.read_bytes() == before


def test_another_version_is_refused_by_name(tmp_path, monkeypatch):
    path = tmp_path / "features.parquet"
    describe(metals("Cu"), EMT(), path)
    monkeypatch.setattr("importlib.metadata.version", lambda package: "99.0")
    with pytest.raises(MatmlError, match=r"not of emt \(ase 99\.0, EMT"):
        describe(metals("Cu"), EMT(), path)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "features.parquet"
    describe(metals("Cu", "Ni"), EMT(), path)
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    with pytest.raises(MatmlError, match="damaged"):
        describe(metals("Cu"), EMT(), path)


def test_a_factory_of_ones_own_is_a_potential(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "from ase.calculators.emt import EMT\n\ndef mine():\n    return EMT()\n"
    Path("own_calculators_a.py").write_text(text)
    Path("own_calculators_b.py").write_text(text + "# another text\n")
    first, second = (load_potential(f"own_calculators_{x}:mine") for x in "ab")
    assert first.name == second.name == "mine"
    assert first.version != second.version
    found = describe(metals("Cu"), "own_calculators_a:mine")
    assert "mine_bulk_modulus_GPa" in found.features


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no_such_module:make", "No module named 'no_such_module'"),
        ("matml.core.words:make", "cannot be made"),
        ("builtins:dict", "dict is no calculator of ASE"),
        ("mace", "known are chgnet, sevenn"),
        (3.0, "float is no calculator of ASE"),
    ],
)
def test_what_is_no_potential_is_told(name, told):
    with pytest.raises(MatmlError) as error:
        load_potential(name)
    assert told in str(error.value)


@pytest.mark.parametrize("value", [0.0, -0.03, 0.5, float("nan")])
def test_deformations_are_bounded(value):
    with pytest.raises(MatmlError, match="volume_change"):
        Deformations(value)


def test_without_its_package_a_potential_is_refused_with_the_remedy(monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: None if name in ("chgnet", "sevenn") else there(name),
    )
    with pytest.raises(MatmlError, match=r"chgnet: is not installed; .*matml\[potential\]"):
        load_potential("chgnet")
    with pytest.raises(MatmlError, match=r"sevenn: is not installed; .*matml\[sevenn\]"):
        load_potential("sevenn-l3i5")


def test_the_command_writes_features_and_quarantine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own_emt.py").write_text(
        "from ase.calculators.emt import EMT\n\ndef emt():\n    return EMT()\n"
    )
    for symbol, structure in metals("Al", "Cu").items():
        Path(f"{symbol}.vasp").write_text(Poscar(structure).get_str())
    Path("NaCl.vasp").write_text(
        Poscar(
            Structure.from_spacegroup(
                "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
            )
        ).get_str()
    )
    options = ["describe", "--structures", ".", "--potential", "own_emt:emt", "--out", "f.csv"]
    result = CliRunner().invoke(command, options, catch_exceptions=False)
    assert "2 of 3 crystals described by emt" in result.output, result.output
    assert "the first, NaCl.vasp: emt fails (NotImplementedError: No EMT-potential" in result.output
    table = read_table("f.csv", columns=["id", "content", "potential", "emt_bulk_modulus_GPa"])
    assert sorted(table["id"]) == ["Al.vasp", "Cu.vasp"]
    assert len(read_table("quarantine.csv")) == 1
    # another time everything is there
    result = CliRunner().invoke(command, options, catch_exceptions=False)
    assert "2 of 3 crystals" in result.output
    pd.testing.assert_frame_equal(read_table("f.csv"), table)


@pytest.mark.skipif(NO_CHGNET, reason="CHGNet is not installed")
def test_chgnet_describes_copper():
    doubled = metal("Cu").copy()
    doubled.make_supercell([2, 1, 1])
    found = describe([metal("Cu"), doubled], "chgnet")
    row = found.table.iloc[0]
    # DFT of the Materials Project: 145 GPa, -4.1 eV/atom
    assert 100 < row["chgnet_bulk_modulus_GPa"] < 190
    assert -4.4 < row["chgnet_energy_eV_per_atom"] < -3.7
    assert len([name for name in found.features if "embedding" in name]) == 64
    numbers = found.table[found.features].to_numpy()
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-3, abs=1e-3)


@pytest.mark.skipif(NO_SEVENN, reason="SevenNet is not installed")
def test_sevenn_describes_copper():
    found = describe([metal("Cu")], "sevenn")
    assert 100 < found.table["sevenn_bulk_modulus_GPa"].iloc[0] < 190
    assert "7net-0" in found.table["potential"].iloc[0]
