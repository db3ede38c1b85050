"""Occupancies of a CIF that were multiplied by the multiplicities of their sites."""

import numpy as np

from matml.structures.disorder.sites import FULL

SAME_SHARE = 0.016
"""Relative difference of occupancies by multiplicity: 0.33 and 0.67 stand for thirds."""


def weighted(totals: np.ndarray, counts: np.ndarray, general: int) -> str:
    """Return how occupancies are those of full sites as refinement programs write them, else ''.

    FullProf multiplies them by the multiplicity over that of the general position, or by as many
    times this as makes the largest one 1; SHELX does so, too.

    Parameters
    ----------
    totals, counts
        Of each place in the cell, the sum of occupancies and the positions equivalent to it.
    general
        Multiplicity of the general position.
    """
    shares = totals / counts
    alike = bool(np.ptp(shares) <= SAME_SHARE * shares.max())
    of_general = abs(shares.max() * general - 1) <= SAME_SHARE
    if totals.min() > 1 - FULL or not alike or not (np.ptp(counts) or of_general):
        return ""
    places = sorted(set(zip(counts.tolist(), totals.round(5).tolist(), strict=True)))
    told = ", ".join(f"{total:g} for {count}" for count, total in places[:4])
    return (
        "the occupancies are proportional to the numbers of equivalent positions on every site "
        f"({told}), as FullProf and SHELX write those of full sites"
    )
