"""Space group, idealised primitive cell and symmetry orbits, by one spglib search a crystal."""

import os
from functools import lru_cache

import numpy as np

# spglib's documented switch to exceptions; without it every call warns
os.environ.setdefault("SPGLIB_OLD_ERROR_HANDLING", "0")
# its C library prints each failed attempt; the exception says it already
os.environ.setdefault("SPGLIB_WARNING", "OFF")
import spglib

from matml.structures.errors import BadCrystal
from matml.structures.symmetry.carry_over import SearchedCrystals
from matml.structures.symmetry.cell import cell_volume, first_places
from matml.structures.symmetry.record import Symmetry

REFERENCE_VOLUME_A3 = 15.0
# rows: primitive vectors in the conventional ones (spglib's convention, transposed)
CENTRING = {
    "P": np.eye(3),
    "A": np.array([[1, 0, 0], [0, 0.5, 0.5], [0, -0.5, 0.5]]),
    "C": np.array([[0.5, -0.5, 0], [0.5, 0.5, 0], [0, 0, 1]]),
    "I": np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]]),
    "F": np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]),
    "R": np.array([[2, 1, 1], [-1, 1, 1], [-1, -2, 1]]) / 3,
}

CELLS = {name: round(1 / abs(np.linalg.det(basis))) for name, basis in CENTRING.items()}
"""Primitive cells in the conventional one."""
FROM_CENTRING = {name: np.linalg.inv(basis) for name, basis in CENTRING.items()}


def symmetrise(
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    numbers: np.ndarray,
    symprec: float,
    searched: SearchedCrystals | None = None,
) -> Symmetry:
    """Find the symmetry of a crystal; distances keep to within `symprec` of the original.

    The search runs on the cell scaled to 15 cubic angstrom per atom and rounded to 1e-5 angstrom
    and 1e-6 of an edge, elements taken as mere kinds. The result is therefore a function of the
    shape alone, and crystals of one shape (candidates made by substitution) share one search.

    Parameters
    ----------
    lattice, frac_coords, numbers
        Row vectors (3, 3) in angstrom, fractional positions (atoms, 3), atomic numbers (atoms,).
    symprec
        Tolerance at that scale, angstrom.
    searched
        What is known of other crystals already. With it, distances may differ by up to a few ten
        thousandths of an angstrom, and the order of atoms, with what came before.

    Raises
    ------
    BadCrystal
        Where spglib finds no consistent space group.
    """
    volume = cell_volume(lattice)
    scale = (REFERENCE_VOLUME_A3 * len(numbers) / volume) ** (1 / 3)
    # kinds are numbered by first appearance, so that substitution does not change the key
    rank: dict[int, int] = {}
    pattern = np.array([rank.setdefault(z, len(rank)) for z in numbers.tolist()])
    wrapped = np.round(frac_coords - np.floor(frac_coords), 6) % 1.0
    found = _search(
        np.round(lattice * scale, 5).tobytes(),
        wrapped.tobytes(),
        pattern.tobytes(),
        symprec,
        searched,
    )
    ideal_volume = cell_volume(found.lattice)
    wanted = volume * len(found.kind) / len(numbers)
    return Symmetry(
        lattice=found.lattice * (wanted / ideal_volume) ** (1 / 3),
        frac_coords=found.frac_coords,
        kind=np.array(list(rank))[found.kind],
        orbit=found.orbit,
        wyckoff=found.wyckoff,
        space_group_number=found.space_group_number,
        centring=found.centring,
        n_conventional=found.n_conventional,
        displacement=found.displacement,
    )


@lru_cache(maxsize=4096)
def _search(
    lattice_bytes: bytes,
    frac_bytes: bytes,
    kind_bytes: bytes,
    symprec: float,
    searched: SearchedCrystals | None,
) -> Symmetry:
    """Symmetry of a normalised cell given as the bytes of its arrays."""
    lattice = np.frombuffer(lattice_bytes).reshape(3, 3)
    frac_coords = np.frombuffer(frac_bytes).reshape(-1, 3)
    kind = np.frombuffer(kind_bytes, dtype=np.int64)
    if searched and (found := searched.find(lattice, frac_coords, kind, symprec)) is not None:
        return found
    for tolerance in (symprec, symprec / 10, symprec / 100):
        try:
            # kinds start at 1: spglib takes them for atomic numbers
            dataset = spglib.get_symmetry_dataset((lattice, frac_coords, kind + 1), tolerance)
        except spglib.SpglibError:
            continue
        if dataset is not None and (found := _primitive(dataset, lattice, frac_coords)) is not None:
            if searched and tolerance == symprec:
                to_basis = FROM_CENTRING[dataset.international[0]]
                searched.add(dataset, frac_coords, kind, symprec, found, to_basis)
            return found
    raise BadCrystal(
        f"spglib finds no consistent space group at symprec {symprec:g} A",
        "check for nearly equal atoms or a strongly skewed cell, or change structures.symprec_A",
    )


def _primitive(
    dataset: "spglib.SpglibDataset", lattice: np.ndarray, frac_coords: np.ndarray
) -> Symmetry | None:
    """The primitive cell of spglib's idealised conventional cell; None where it is inconsistent."""
    centring = dataset.international[0]
    basis = CENTRING.get(centring)
    to_primitive = dataset.std_mapping_to_primitive
    labels, chosen = first_places(to_primitive)
    if basis is None or len(to_primitive) != CELLS[centring] * len(labels):
        return None
    # both maps number the same primitive atoms; orbits are known for the atoms of the input
    input_map = dataset.mapping_to_primitive
    known, source = first_places(input_map)
    if known != labels:
        return None
    raw_orbit = dataset.crystallographic_orbits[source]
    kinds = np.asarray(dataset.std_types)[chosen] - 1
    representatives, first = first_places(raw_orbit)
    orbit = np.searchsorted(representatives, raw_orbit)
    if len(set(zip(orbit.tolist(), kinds.tolist(), strict=True))) != len(representatives):
        return None
    to_basis = FROM_CENTRING[centring]
    ideal = np.asarray(dataset.std_positions)[chosen]
    std_lattice = np.asarray(dataset.std_lattice)
    # spglib: x_std = P x + p, and (a b c)_std = (a b c) P^-1, turned by its rotation matrix
    change = np.asarray(dataset.transformation_matrix)
    moved = (
        frac_coords @ change.T + dataset.origin_shift - ideal[np.searchsorted(labels, input_map)]
    )
    moved = moved @ to_basis
    atom_shift = np.linalg.norm((moved - np.round(moved)) @ basis @ std_lattice, axis=1).max()
    turned = np.linalg.inv(change).T @ lattice @ np.asarray(dataset.std_rotation_matrix).T
    lattice_shift = np.linalg.norm(turned - std_lattice, axis=1).max()
    frac = ideal @ to_basis
    frac -= np.floor(frac + 1e-12)
    return Symmetry(
        lattice=basis @ std_lattice,
        frac_coords=frac,
        kind=kinds,
        orbit=orbit,
        wyckoff=tuple(dataset.wyckoffs[source[index]] for index in first),
        space_group_number=int(dataset.number),
        centring="C" if centring == "A" else centring,
        n_conventional=len(to_primitive),
        displacement=float(max(atom_shift, lattice_shift)),
    )
