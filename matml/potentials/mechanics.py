"""Physical descriptors of a crystal from the energies and stresses that a calculator gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from matml.core.errors import MatmlError

EV_PER_A3 = 160.2176634
"""GPa; the elementary charge of the SI."""
SOFTEST_GPA = 1.0
"""Least stiffness of a mode in the shear modulus: softer ones, and unstable ones, count as this."""
DERIVATIVES = (1.0, 9.0)
"""Bounds of the bulk modulus's derivative by pressure, 3 to 7 of nearly all solids: what is beyond
says that the potential is not smooth."""
FARTHEST = 0.2
"""Largest logarithm of relaxed over given volume; from the strains at hand nobody knows farther."""


@dataclass(frozen=True)
class Deformations:
    """How a crystal is deformed. Ions move with the cell; they are not relaxed.

    Attributes
    ----------
    volume_change
        Relative change of the volume, up and down, for the bulk modulus.
    shear
        Whether six strains are computed too, for the shear modulus: three times the work.
    strain
        Size of each of these.
    """

    volume_change: float = 0.03
    shear: bool = False
    strain: float = 0.01

    def __post_init__(self) -> None:
        for name, value in (("volume_change", self.volume_change), ("strain", self.strain)):
            if not 1e-4 <= value <= 0.2:
                raise MatmlError(f"{name} = {value:g}: must be from 0.0001 to 0.2")

    def __str__(self) -> str:
        said = f"volume +-{self.volume_change:g}"
        return f"{said}, six strains of {self.strain:g}" if self.shear else said


class Unstable(Exception):
    """A crystal that does not resist compression, so that there is nothing to describe."""


def mechanics(atoms: Any, how: Deformations) -> dict[str, float]:
    """Return descriptors of ASE's `Atoms` with a calculator.

    `energy_eV_per_atom`; `bulk_modulus_GPa` at the volume given, and its `bulk_modulus_derivative`
    by pressure, from the parabola through three pressures over the logarithm of the volume;
    `relaxed_volume_ratio`, relaxed over given volume, to first order; and with six strains
    `shear_modulus_GPa`, the mean of Voigt's and Reuss's (Hill 1952, 10.1088/0370-1298/65/5/307).

    Raises
    ------
    Unstable
        Where the bulk modulus is not positive.
    """
    energy = float(atoms.get_potential_energy()) / len(atoms)
    rest = np.asarray(atoms.get_stress(), float) * EV_PER_A3
    logarithms = np.log1p([-how.volume_change, 0.0, how.volume_change])
    pressures = [_pressure(_stress(atoms, np.eye(3) * np.exp(x / 3))) for x in logarithms[[0, 2]]]
    pressures.insert(1, _pressure(rest))
    curvature, slope, pressure = np.polyfit(logarithms, pressures, 2)
    modulus = -slope
    if not np.isfinite([energy, modulus]).all():
        raise Unstable("energy or stress is not a finite number")
    if modulus <= 0:
        raise Unstable(f"its bulk modulus is {modulus:.3g} GPa: the crystal is unstable there")
    found = {
        "energy_eV_per_atom": energy,
        "bulk_modulus_GPa": modulus,
        "bulk_modulus_derivative": np.clip(2 * curvature / modulus, *DERIVATIVES),
        "relaxed_volume_ratio": np.exp(np.clip(pressure / modulus, -FARTHEST, FARTHEST)),
    }
    if how.shear:
        found["shear_modulus_GPa"] = shear_modulus(
            stiffness(lambda change: _stress(atoms, change), rest, how.strain)
        )
    return {name: float(value) for name, value in found.items()}


def stiffness(
    stress: Callable[[np.ndarray], np.ndarray], rest: np.ndarray, strain: float
) -> np.ndarray:
    """Return the elastic matrix, [6, 6] in the unit of stress, in Voigt's order xx yy zz yz xz xy.

    Parameters
    ----------
    stress
        Of a deformation gradient, [3, 3].
    rest
        Stress without any, [6].
    """
    pairs = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
    columns = []
    for i, j in pairs:
        change = np.eye(3)
        # half of Voigt's shear on either side of the diagonal
        change[i, j] += strain / 2
        change[j, i] += strain / 2
        columns.append((stress(change) - rest) / strain)
    matrix = np.array(columns)
    return (matrix + matrix.T) / 2


def shear_modulus(matrix: np.ndarray) -> float:
    """Return the mean of Voigt's and Reuss's shear modulus of an elastic matrix, [6, 6]."""
    # Mandel's form, whose eigenvalues are the stiffnesses of modes
    weights = np.sqrt([1, 1, 1, 2, 2, 2])
    values, modes = np.linalg.eigh(matrix * np.outer(weights, weights))
    values = np.maximum(values, SOFTEST_GPA)
    stiff, soft = (((modes * own) @ modes.T) for own in (values, 1 / values))

    def shear_part(tensor: np.ndarray) -> float:
        """Return the mean over the five shears of an isotropic tensor's part."""
        return (np.trace(tensor) - tensor[:3, :3].sum() / 3) / 5

    return (shear_part(stiff) + 1 / shear_part(soft)) / 4


def _stress(atoms: Any, change: np.ndarray) -> np.ndarray:
    """Return the stress of deformed atoms in GPa, [6]."""
    deformed = atoms.copy()
    deformed.calc = atoms.calc
    deformed.set_cell(atoms.cell.array @ change, scale_atoms=True)
    return np.asarray(deformed.get_stress(), float) * EV_PER_A3


def _pressure(stress: np.ndarray) -> float:
    return -float(stress[:3].mean())
