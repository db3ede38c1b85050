"""Real crystals, few enough for tests: whole families of the embedded tables."""

import gzip

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Structure

from matml.structures.crystals import CrystalSet

LABELS = {
    "formation_energy": ["formation_energy_eV_per_atom"],
    "elastic": ["bulk_modulus_GPa", "shear_modulus_GPa"],
}


@pytest.fixture(scope="session")
def crystals(pytestconfig):
    """About 350 crystals: cubic ones of few atoms, so that families are well filled."""
    tables = []
    for name in LABELS:
        with gzip.open(pytestconfig.rootpath / f"data/crystals/{name}.csv.gz") as file:
            tables.append(pd.read_csv(file).assign(source=name))
    table = pd.concat(tables, ignore_index=True)
    sites = table["poscar"].str.split("\n").str[6].str.split().map(lambda n: sum(map(int, n)))
    table = table[sites.between(2, 5)].groupby("source").head(220).reset_index(drop=True)
    structures = [Structure.from_str(text, fmt="poscar") for text in table["poscar"]]
    labels = table[[label for columns in LABELS.values() for label in columns]]
    made = CrystalSet.from_structures(
        structures, ids=table["source"] + "/" + table["material_id"], labels=labels
    )
    assert len(made) == len(table)
    return made


@pytest.fixture(scope="session")
def names():
    """Properties that the fixture's crystals carry."""
    return [label for columns in LABELS.values() for label in columns]


@pytest.fixture(scope="session")
def targets(crystals, names):
    """Standardised targets."""
    from matml.properties.stages import learned_values
    from matml.properties.targets import Standardisation

    values = learned_values(crystals.table, names)
    return Standardisation.of(values).apply(values).astype(np.float32)
