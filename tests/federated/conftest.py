"""Three laboratories with alloys (simulated), and `matml federated …` in an empty folder."""

import gzip

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from pymatgen.core import Structure

from matml.cli.main import cli
from matml.federated.kinetics import Laboratory, begin, learn_together
from matml.kinetics.data.observations import read_observations
from matml.kinetics.equations import equation_named
from matml.structures.crystals import CrystalSet

JMAK, REFERENCE = equation_named("jmak"), 900.0
NAMES = ("north", "east", "west")


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    """CSVs of three laboratories: twelve alloys with JMAK fractions, four each."""
    generator, folder = np.random.default_rng(0), tmp_path_factory.mktemp("laboratories")
    rows, alloys = [], []
    for number in range(12):
        half, energy = 300 * np.exp(0.6 * generator.normal()), 200 + 20 * generator.normal()
        name = f"X{number}"
        alloys.append({"alloy": name, "C_wt_pct": 0.1 + 0.05 * number})
        for kelvin in (870.0, 900.0, 930.0):
            here = half * np.exp(energy * 1e3 / 8.314 * (1 / kelvin - 1 / REFERENCE))
            for share in (0.5, 1.0, 2.0):
                fraction = 1 - 0.5 ** (share**1.8) + 0.02 * generator.normal()
                rows.append((name, kelvin, share * here, min(max(fraction, 0), 1)))
    table = pd.DataFrame(rows, columns=["alloy", "temperature_K", "time_s", "fraction_transformed"])
    cards = pd.DataFrame(alloys)
    for name, own in {name: cards[i::3] for i, name in enumerate(NAMES)}.items():
        table[table["alloy"].isin(own["alloy"])].to_csv(folder / f"{name}.csv", index=False)
        own.to_csv(folder / f"{name}-alloys.csv", index=False)
    table.to_csv(folder / "all.csv", index=False)
    cards.to_csv(folder / "all-alloys.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def held(parts):
    """Observations of a laboratory by its name, or of "all"."""
    return lambda name: read_observations(parts / f"{name}.csv", parts / f"{name}-alloys.csv")


@pytest.fixture(scope="session")
def start():
    return begin(JMAK, "fraction", REFERENCE, "test")


@pytest.fixture(scope="session")
def laboratories(held, start):
    return [Laboratory(start, held(name), name) for name in NAMES]


@pytest.fixture(scope="session")
def learned(start, laboratories):
    return learn_together(start, laboratories)


@pytest.fixture(scope="session")
def crystals(pytestconfig):
    """Sixty crystals of few atoms, with their formation energies."""
    with gzip.open(pytestconfig.rootpath / "data/crystals/formation_energy.csv.gz") as file:
        table = pd.read_csv(file)
    sites = table["poscar"].str.split("\n").str[6].str.split().map(lambda n: sum(map(int, n)))
    table = table[sites.between(2, 4)].head(60).reset_index(drop=True)
    return CrystalSet.from_structures(
        [Structure.from_str(text, fmt="poscar") for text in table["poscar"]],
        ids=table["material_id"],
        labels=table[["formation_energy_eV_per_atom"]],
    )


@pytest.fixture
def matml(tmp_path, monkeypatch):
    """Run a command there; returns what it said."""
    monkeypatch.chdir(tmp_path)

    def run(line):
        done = CliRunner().invoke(cli, ["federated", *line.split()], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return run
