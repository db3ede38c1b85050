"""Geometry of perovskites ABX3 from ionic radii: formability factors and the cubic cell."""

import math

from pymatgen.core import Lattice, Structure

NAME = "cubic perovskite"
# site A in the cuboctahedron of twelve X, site B in the octahedron of six X
COUNTS = {"A": 1, "B": 1, "X": 3}
COORDINATIONS = {"A": 12, "B": 6, "X": 6}


def tolerance_factor(radius_a: float, radius_b: float, radius_x: float) -> float:
    """Goldschmidt's t = (r_A + r_X) / (sqrt(2) (r_B + r_X)); radii in angstrom.

    V. M. Goldschmidt, Naturwissenschaften 14 (1926) 477. One for ideal contact of both A-X and
    B-X in the cubic cell.

    >>> round(tolerance_factor(1.44, 0.605, 1.40), 3)  # SrTiO3
    1.002
    """
    return (radius_a + radius_x) / (math.sqrt(2) * (radius_b + radius_x))


def octahedral_factor(radius_b: float, radius_x: float) -> float:
    """The ratio r_B / r_X; rigid spheres need at least sqrt(2) - 1 = 0.414 for an octahedron."""
    return radius_b / radius_x


def bartel_tau(radius_a: float, radius_b: float, radius_x: float, charge_a: int) -> float:
    """Bartel's tau = r_X/r_B - n_A [n_A - (r_A/r_B) / ln(r_A/r_B)]; NaN where r_A <= r_B.

    n_A is the oxidation state of A. tau < 4.18 means perovskite, right for 92 % of 576 compounds:
    C. J. Bartel et al., Science Advances 5 (2019) eaav0693.
    """
    if radius_a <= radius_b:
        return math.nan
    ratio = radius_a / radius_b
    return radius_x / radius_b - charge_a * (charge_a - ratio / math.log(ratio))


def contact_lattice_parameter(radius_a: float, radius_b: float, radius_x: float) -> float:
    """Cubic lattice parameter in angstrom from radii alone.

    The mean of the two contact lengths, 2 (r_B + r_X) along the edge and sqrt(2) (r_A + r_X)
    along the face diagonal; they agree where the tolerance factor is one.
    """
    return radius_b + radius_x + (radius_a + radius_x) / math.sqrt(2)


def cubic_cell() -> tuple[Structure, list[str]]:
    """The ideal Pm-3m cell, drawn as SrTiO3 at 3.905 angstrom, and the site name of each atom."""
    structure = Structure(
        Lattice.cubic(3.905),
        ["Sr", "Ti", "O", "O", "O"],
        [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]],
    )
    return structure, ["A", "B", "X", "X", "X"]
