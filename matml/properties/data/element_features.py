"""Element features that let a network say something sensible of an element rare in training."""

from functools import cache

import numpy as np
from pymatgen.core import Element

from matml.structures.elements import MAX_ATOMIC_NUMBER as LARGEST_ATOMIC_NUMBER

SHELLS = {"s": 2, "p": 6, "d": 10, "f": 14}

TABULATED = {
    "electronegativity": ("X", False),
    "atomic_radius_A": ("Atomic radius", True),
    "metallic_radius_A": ("Metallic radius", True),
    "van_der_waals_radius_A": ("Van der waals radius", True),
    "mendeleev_number": ("Mendeleev no", False),
    "molar_volume_cm3": ("Molar volume", True),
    "melting_point_K": ("Melting point", True),
    "boiling_point_K": ("Boiling point", True),
    "bulk_modulus_GPa": ("Bulk modulus", True),
    "shear_modulus_GPa": ("Rigidity modulus", True),
    "young_modulus_GPa": ("Youngs modulus", True),
    "electron_affinity_eV": ("Electron affinity", False),
}
"""Feature: (key in pymatgen's element table, whether its logarithm is taken)."""


def feature_names() -> list[str]:
    """Return the names of the columns of `element_features`."""
    names = [f"log {name}" if log else name for name, (_, log) in TABULATED.items()]
    names += ["log first_ionization_energy_eV", "log second_ionization_energy_eV"]
    names += ["log atomic_number", "period", "group_sine", "group_cosine", "group"]
    names += [f"valence_{shell}" for shell in SHELLS] + [f"holes_{shell}" for shell in SHELLS]
    return [*names, "valence_electrons", "lowest_oxidation_state", "highest_oxidation_state"]


@cache
def element_features() -> np.ndarray:
    """Return standardised features of the elements, [95, features], by atomic number.

    Row 0 is zero. Where pymatgen's table (the data behind `Element`) has no value, the mean over
    the tabulated elements nearest in period and group is taken. Columns have mean 0 and standard
    deviation 1 over the 94 elements.
    """
    elements = [Element.from_Z(z) for z in range(1, LARGEST_ATOMIC_NUMBER + 1)]
    table = np.array([_raw_features(element) for element in elements], dtype=float)
    place = np.array([[3.0 * element.row, element.group] for element in elements])
    for column in table.T:
        missing = np.flatnonzero(np.isnan(column))
        known = np.flatnonzero(~np.isnan(column))
        for row in missing:
            distance = np.abs(place[known] - place[row]).sum(1)
            nearest = known[np.argsort(distance, kind="stable")[:3]]
            column[row] = column[nearest].mean()
    table = (table - table.mean(0)) / table.std(0)
    return np.vstack([np.zeros(table.shape[1]), table]).astype(np.float32)


@cache
def atomic_radii() -> np.ndarray:
    """Return pymatgen's atomic radius per atomic number, [95], angstrom; index 0 is unused.

    Elements without one (the noble gases and some actinides) get the value between those of their
    neighbours in atomic number: it only sets the scale of a distance.
    """
    numbers = range(LARGEST_ATOMIC_NUMBER + 1)
    radii = {z: Element.from_Z(z).data.get("Atomic radius") for z in numbers[1:]}
    known = {z: r for z, r in radii.items() if isinstance(r, int | float) and np.isfinite(r)}
    return np.interp(numbers, list(known), [float(r) for r in known.values()])


def _raw_features(element: Element) -> list[float]:
    """Return one element's features in their own units; NaN where the table has no value."""
    # `Element.data` and not the attributes: those warn for every value that is missing
    data = element.data
    features = []
    for key, logarithm in TABULATED.values():
        value = _number(data.get(key))
        if logarithm:
            value = np.log(value) if value > 0 else np.nan
        features.append(value)
    energies = data.get("Ionization energies") or []
    for order in (0, 1):
        value = _number(energies[order]) if len(energies) > order else np.nan
        features.append(np.log(value))
    angle = 2 * np.pi * element.group / 18
    features += [np.log(element.Z), element.row, np.sin(angle), np.cos(angle), element.group]
    outer = _outer_shells(data["Electronic structure"]["0"])
    features += [outer[shell] for shell in SHELLS]
    features += [(SHELLS[shell] - outer[shell]) % SHELLS[shell] for shell in SHELLS]
    states = data.get("Common oxidation states") or data.get("Oxidation states") or [0]
    return [*features, sum(outer.values()), min(states), max(states)]


def _number(value: object) -> float:
    """Return a tabulated value as a float, NaN where it is missing or text."""
    return float(value) if isinstance(value, int | float) else np.nan


def _outer_shells(configuration: str) -> dict[str, int]:
    """Return the electrons outside the noble-gas core, by angular momentum."""
    electrons = dict.fromkeys(SHELLS, 0)
    for shell in configuration.split("."):
        if not shell.startswith("["):
            electrons[shell[1]] += int(shell[2:])
    return electrons
