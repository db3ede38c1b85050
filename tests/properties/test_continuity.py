"""Predictions change by little where atoms move by little: the shipped model on real crystals.

Structures, graphs and descriptors are in double precision; the networks and the search of symmetry
(positions rounded to 1e-5 angstrom) are not, so that cells of one crystal agree to `RESOLUTION`
here, and to 1e-10 where a network in double precision sees their graphs (test_network.py).
"""

import gzip

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Structure

from matml.structures.crystals import CrystalSet

CRYSTALS, MOST_ATOMS = 100, 14
AMPLITUDES = np.array([0, 0.0025, 0.005, 0.0075, 0.01, 0.0125, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06])
"""Angstrom. Below 0.01 the crystal is snapped on to its symmetry, above it is as it is."""
STEEPEST = {
    "formation_energy_eV_per_atom": 0.5,
    "bulk_modulus_GPa": 1.25,
    "shear_modulus_GPa": 1.25,
    "band_gap_eV": 1.5,
    "refractive_index": 0.3,
}
"""Per angstrom, on the learned scale (moduli and index: log10), over `WINDOW`."""
WINDOW = 0.01
"""Angstrom; the crystal leaves its symmetry with a jump smaller than what so much changes."""
RESOLUTION = 1e-4


@pytest.fixture(scope="module")
def predictor(shipped):
    return shipped


@pytest.fixture(scope="module")
def structures(pytestconfig):
    """A hundred embedded crystals drawn at random; every fourth as a supercell."""
    texts = []
    for name in ("formation_energy", "elastic", "dielectric"):
        with gzip.open(pytestconfig.rootpath / f"data/crystals/{name}.csv.gz") as file:
            texts += pd.read_csv(file)["poscar"].tolist()
    texts = [t for t in texts if sum(map(int, t.split("\n")[6].split())) <= MOST_ATOMS]
    chosen = np.random.default_rng(0).choice(len(texts), CRYSTALS, replace=False)
    found = [Structure.from_str(texts[i], fmt="poscar") for i in chosen]
    return [s * (2, 1, 1) if i % 4 == 0 and len(s) <= 8 else s for i, s in enumerate(found)]


@pytest.fixture(scope="module")
def learned(predictor):
    """Returns predictions without labels on the learned scale, [crystals]; fitted once."""
    adapted = {name: predictor.adapt([], [], name) for name in STEEPEST}

    def values(name, encoded):
        return predictor.scale(name).property.to_scale(adapted[name].predict(encoded)[0])

    return values


@pytest.fixture(scope="module")
def paths(predictor, structures, learned):
    """Predictions along random displacements of all atoms, by property: [crystals, amplitudes]."""
    moved = []
    for number, structure in enumerate(structures):
        direction = np.random.default_rng(number).standard_normal((len(structure), 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        moved += [
            Structure(
                structure.lattice,
                structure.species,
                structure.cart_coords + amplitude * direction,
                coords_are_cartesian=True,
            )
            for amplitude in AMPLITUDES
        ]
    encoded = predictor.encode(moved)
    shape = len(structures), len(AMPLITUDES)
    orbits = np.diff(encoded.crystals.graphs.node_offset).reshape(shape)
    # symmetry is lost on the way, so that the test sees shells split
    assert (orbits[:, -1] > orbits[:, 0]).mean() > 0.5
    return {name: learned(name, encoded).reshape(shape) for name in STEEPEST}


@pytest.mark.parametrize("name", STEEPEST)
def test_the_slope_along_random_displacements_is_bounded(paths, name):
    """Of the energy so that a distortion of 0.01 angstrom changes it by less than 0.005 eV/atom."""
    steepest = 0.0
    for start, amplitude in enumerate(AMPLITUDES):
        for stop in np.flatnonzero(np.isclose(AMPLITUDES, amplitude + WINDOW)):
            change = np.abs(paths[name][:, stop] - paths[name][:, start]) / WINDOW
            assert change.max() < STEEPEST[name], (amplitude, change.argmax())
            steepest = max(steepest, change.max())
    assert steepest > 0


def test_supercells_and_cells_without_symmetry_predict_as_their_crystal(
    predictor, structures, learned
):
    chosen = [s for s in structures if len(s) <= 8][:40]
    table = CrystalSet.from_structures(chosen).table
    forms = {
        "supercells": [s * (1, 2, 1) for s in chosen],
        "P1": [Structure(s.lattice, s.species, s.frac_coords + 0.123) for s in chosen],
    }
    encoded = predictor.encode(chosen)
    expected = {name: learned(name, encoded) for name in STEEPEST}
    unreduced = CrystalSet.from_table(
        table.assign(orbit=[np.arange(n) for n in table["n_sites"]]), predictor.encoder.graphs
    )
    found = {name: predictor.encode(cells) for name, cells in forms.items()}
    found["every atom an orbit"] = predictor.encode(unreduced)
    for form, encoded in found.items():
        for name in STEEPEST:
            np.testing.assert_allclose(
                learned(name, encoded),
                expected[name],
                atol=RESOLUTION,
                err_msg=f"{form}, {name}",
            )
