"""Properties: their units, and the scale on which they are learned."""

from dataclasses import dataclass

import numpy as np

from matml.core.errors import MatmlError


@dataclass(frozen=True)
class Property:
    """One property of a crystal.

    Parameters
    ----------
    name
        Column of the structures' table; ends in the unit where it has one.
    unit
        Unit of the value, '' where it has none.
    logarithmic
        Learned (and judged) as its decimal logarithm: for positive values over decades.
    caveat
        What a user of a prediction must know about the embedded labels.
    insulators
        Whether those labels are of insulators only.
    """

    name: str
    title: str
    unit: str
    logarithmic: bool = False
    caveat: str = ""
    insulators: bool = False

    @property
    def scale_in_words(self) -> str:
        """What is learned: the value or its logarithm."""
        return "log10 of the value" if self.logarithmic else "the value itself"

    @property
    def error_unit(self) -> str:
        """Unit in which errors are stated."""
        if self.logarithmic:
            return f"log10({self.unit})" if self.unit else "log10"
        return self.unit

    def to_scale(self, values: np.ndarray) -> np.ndarray:
        """Return values (in `unit`) on the learned scale; NaN stays NaN.

        Raises
        ------
        MatmlError
            Where a logarithmic property is not positive.
        """
        values = np.asarray(values, dtype=float)
        if not self.logarithmic:
            return values
        if (bad := values[values <= 0]).size:
            raise MatmlError(
                f"{self.name} = {bad[0]:g}: must be positive, since its logarithm is learned; "
                "correct the value or leave the label out"
            )
        return np.log10(values)

    def from_scale(self, values: np.ndarray | float) -> np.ndarray:
        """Return values of the learned scale in `unit`."""
        return 10.0 ** np.asarray(values) if self.logarithmic else np.asarray(values)


INSULATORS = (
    "The embedded labels are of insulators only: a metallic candidate gets a value too, and "
    "whether a candidate is a metal has to be checked by other means."
)

PROPERTIES = {
    item.name: item
    for item in (
        Property("formation_energy_eV_per_atom", "formation energy", "eV/atom"),
        Property("bulk_modulus_GPa", "bulk modulus", "GPa", logarithmic=True),
        Property("shear_modulus_GPa", "shear modulus", "GPa", logarithmic=True),
        Property("band_gap_eV", "band gap", "eV", caveat=INSULATORS, insulators=True),
        Property("refractive_index", "refractive index", "", True, INSULATORS, True),
    )
}
"""Those of the embedded data, by column name; others are a user's own."""


UNITS = {
    "eV_per_atom": "eV/atom",
    "meV_per_atom": "meV/atom",
    "kJ_per_mol": "kJ/mol",
    "W_per_mK": "W/(m K)",
    "J_per_molK": "J/(mol K)",
    "S_per_cm": "S/cm",
    "C_per_m2": "C/m^2",
    "A3": "Å³",
    "per_K": "1/K",
    "per_cm": "1/cm",
    **{
        unit: unit
        for unit in (
            "K",
            "C",
            "TPa",
            "GPa",
            "MPa",
            "Pa",
            "eV",
            "meV",
            "THz",
            "HV",
            "HRC",
            "A",
            "percent",
        )
    },
}
"""Ends of names of columns, and the units that they stand for."""


def split_unit(name: str) -> tuple[str, str]:
    """Return the words and the unit of a column's name, such as `melting_point_K`."""
    end = max((end for end in UNITS if name.endswith(f"_{end}")), key=len, default="")
    return (name.removesuffix(f"_{end}") if end else name).replace("_", " "), UNITS.get(end, "")


def own_property(name: str, unit: str | None = None, logarithmic: bool = False) -> Property:
    """Return a property of a user's own; its unit is by default what the end of the name says."""
    title, named = split_unit(name)
    return Property(name, title, named if unit is None else unit, logarithmic)


def find_property(name: str, unit: str | None = None, logarithmic: bool = False) -> Property:
    """Return a property by its column's name: a known one, else one of a user's own."""
    return PROPERTIES.get(name) or own_property(name, unit, logarithmic)


WIDE = 10.0
"""Largest over smallest label beyond which the logarithm is learned, for want of evidence."""


def spans_decades(labels: np.ndarray) -> bool:
    """Return whether labels are positive and so far apart that their logarithm is learned."""
    known = labels[np.isfinite(labels)]
    return bool(len(known) and known.min() > 0 and known.max() > WIDE * known.min())


@dataclass(frozen=True)
class LabelScale:
    """How labels of one property are standardised.

    Attributes
    ----------
    mean, deviation
        Over the training crystals, on the learned scale.
    """

    property: Property
    mean: float
    deviation: float

    def standardise(self, values: np.ndarray) -> np.ndarray:
        """Return values (in the property's unit) as the models take them."""
        return (self.property.to_scale(values) - self.mean) / self.deviation

    def learned(self, standardised: np.ndarray) -> np.ndarray:
        """Return standardised values on the learned scale."""
        return standardised * self.deviation + self.mean

    def restore(self, standardised: np.ndarray) -> np.ndarray:
        """Return standardised values in the property's unit."""
        return self.property.from_scale(self.learned(standardised))
