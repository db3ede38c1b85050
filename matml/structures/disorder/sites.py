"""The sites of a cell by what they hold: an element, or a mixture of elements and vacancies."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from matml.structures.elements import RADII_A, element_of

Mixture: TypeAlias = tuple[tuple[int, float], ...]
"""Atomic numbers, each with its occupancy: the share of the cells in which it is on the site. The
most frequent stands first; what is missing to 1 is vacant."""
FIRST_MIXTURE = 1000
"""Kinds of sites from here on are mixtures, below they are atomic numbers."""
FULL = 5e-3
"""A site whose occupancies sum to 1 but for as much is full: many are given to two digits."""
DIGITS = 4
"""Of occupancies: sites that differ by less are alike."""
LEAST = 1e-4
"""Occupancy that these digits tell from none."""


class Sites(NamedTuple):
    """The sites of a cell.

    Attributes
    ----------
    frac_coords
        Positions, [sites, 3].
    kinds
        Atomic number of each, or `FIRST_MIXTURE` and more, [sites].
    mixtures
        What the kinds from `FIRST_MIXTURE` on hold; empty in an ordered crystal.
    """

    frac_coords: np.ndarray
    kinds: np.ndarray
    mixtures: Sequence[Mixture] = ()

    def held(self, kind: int) -> Mixture:
        """Return what sites of a kind hold."""
        return self.mixtures[kind - FIRST_MIXTURE] if kind >= FIRST_MIXTURE else ((kind, 1.0),)

    @property
    def atoms(self) -> float:
        """Atoms in the cell, on average."""
        if not self.mixtures:
            return len(self.kinds)
        return sum(occupancy(self.held(kind)) for kind in self.kinds.tolist())

    @property
    def radii_A(self) -> np.ndarray:
        """Covalent radius of each site, the mean over its atoms, [sites], angstrom."""
        if not self.mixtures:
            return RADII_A[self.kinds]
        held = [self.held(kind) for kind in self.kinds.tolist()]
        return np.array([sum(x * RADII_A[z] for z, x in own) / occupancy(own) for own in held])

    def name(self, site: int) -> str:
        """Return a site as a message names it."""
        return f"{in_words(self.held(int(self.kinds[site])))} (site {site + 1})"


def occupancy(held: Mixture) -> float:
    """Return the number of atoms on a site, on average."""
    return sum(share for _, share in held)


def in_words(held: Mixture) -> str:
    """Return what a site holds, such as `Fe`, `Fe0.5Ni0.5` or `Li0.25`."""
    if is_element(held):
        return element_of(held[0][0]).symbol
    return "".join(f"{element_of(z).symbol}{share:.3g}" for z, share in held)


def is_element(held: Mixture) -> bool:
    """Whether one element alone is always on the site."""
    return len(held) == 1 and held[0][1] == 1.0


def slack(shares: Iterable[float]) -> float:
    """Return by how much the occupancies of a site may miss 1 and yet be of a full one.

    Three or more that are given to two digits miss it by half of the last digit each, such as .33
    three times or .17 six times; two cannot.
    """
    given = list(shares)
    of_two_digits = all(abs(share - round(share, 2)) < 1e-9 for share in given)
    return FULL * len(given) - 1e-9 if len(given) > 2 and of_two_digits else FULL


def mixture_of(shares: Mapping[int, float], room: float | None = None) -> Mixture:
    """Return the mixture of occupancies by atomic number; nearly full is full.

    Parameters
    ----------
    room
        By how much a full site may miss 1; by default as of `slack`.
    """
    total, room = sum(shares.values()), slack(shares.values()) if room is None else room
    scale = 1 / total if abs(total - 1) <= room else 1.0
    rounded = ((z, round(share * scale, DIGITS)) for z, share in shares.items())
    return tuple(sorted(rounded, key=lambda part: (-part[1], part[0])))


def kind_of(held: Mixture, mixtures: list[Mixture]) -> int:
    """Return the kind of a site by what it holds; a new mixture is added to the list."""
    if is_element(held):
        return held[0][0]
    if held not in mixtures:
        mixtures.append(held)
    return FIRST_MIXTURE + mixtures.index(held)
