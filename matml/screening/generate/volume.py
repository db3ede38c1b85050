"""The size of a crystal guessed from its ionic radii, calibrated on known members of its family."""

from dataclasses import dataclass

import numpy as np

from matml.screening.generate import perovskites
from matml.screening.generate.ions import Ion
from matml.screening.generate.prototypes import Prototype

# angstrom: how far a radius must vary among the members before the data outweigh the prior
RADIUS_SCALE = 0.05


@dataclass(frozen=True)
class VolumeModel:
    """Cube root of the volume per atom as a linear function of the site radii.

    size = scale * mean radius + offset + coefficients . (radii - centre): a proportional guess,
    corrected by a ridge regression. Where the known members do not vary (all oxides, say), the
    correction stays zero and the proportional guess carries over to other anions.

    Attributes
    ----------
    scale
        Size over the mean ionic radius, dimensionless.
    errors
        Leave-one-out relative errors of the length, shape [M]; empty without members.
    """

    counts: np.ndarray
    scale: float
    offset: float
    centre: np.ndarray
    coefficients: np.ndarray
    errors: np.ndarray

    def sizes(self, radii: np.ndarray) -> np.ndarray:
        """Cube root of volume per atom, angstrom, shape [N], from site radii of shape [N, S]."""
        mean = radii @ self.counts / self.counts.sum()
        return self.scale * mean + self.offset + (radii - self.centre) @ self.coefficients


def site_radii(ions: tuple[Ion, ...]) -> list[float]:
    """The radii of ions on their sites, angstrom."""
    return [entry.radius for entry in ions]


def fit_volume(prototype: Prototype) -> VolumeModel | None:
    """Calibrate on the prototype's members, one per formula; None where it has none."""
    members = {member.formula: member for member in prototype.members}
    if not members:
        return None
    radii = np.array([site_radii(member.ions) for member in members.values()])
    sizes = np.array([member.size for member in members.values()])
    errors = []
    if len(sizes) > 1:
        for left_out in range(len(sizes)):
            kept = np.arange(len(sizes)) != left_out
            model = _fit(radii[kept], sizes[kept], prototype.counts)
            errors.append(model.sizes(radii[[left_out]])[0] / sizes[left_out] - 1)
    model = _fit(radii, sizes, prototype.counts)
    return VolumeModel(**{**model.__dict__, "errors": np.array(errors)})


def _fit(radii: np.ndarray, sizes: np.ndarray, counts: np.ndarray) -> VolumeModel:
    mean = radii @ counts / counts.sum()
    scale = float(np.median(sizes / mean))
    residual = sizes - scale * mean
    centre = radii.mean(axis=0)
    centred = radii - centre
    gram = centred.T @ centred + RADIUS_SCALE**2 * np.eye(radii.shape[1])
    coefficients = np.linalg.solve(gram, centred.T @ (residual - residual.mean()))
    return VolumeModel(counts, scale, float(residual.mean()), centre, coefficients, np.empty(0))


def guess_sizes(prototype: Prototype, model: VolumeModel | None, radii: np.ndarray) -> np.ndarray:
    """Cube root of volume per atom in angstrom, shape [N], of candidates with radii [N, S].

    Without a model the cell follows from the contact of the ions, which is known for the cubic
    perovskite only (five atoms in a cube).
    """
    if model is not None:
        return model.sizes(radii)
    lengths = [perovskites.contact_lattice_parameter(*row) for row in radii]
    return np.array(lengths) / np.cbrt(5)
