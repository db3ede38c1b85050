"""What may stand in a table of observations: columns, their units and ranges, and what is wrong."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError

ZERO_CELSIUS = 273.15
COLDEST_K, HOTTEST_K = ZERO_CELSIUS, 2000.0
"""Range of temperatures at which a diffusional transformation is measured; wide on purpose."""


@dataclass(frozen=True)
class Measured:
    """A measured column.

    Attributes
    ----------
    kind
        Of observation, as equations know it.
    low, high
        Physical range.
    reason, remedy
        Of a value outside.
    conditions
        Columns that the row must have: "temperature" stands for either scale.
    coldest_K
        Temperatures must lie above.
    strict
        Whether the ends of the range are outside.
    """

    kind: str
    low: float
    high: float
    reason: str
    remedy: str
    conditions: tuple[str, ...] = ("temperature", "time_s")
    coldest_K: float = COLDEST_K
    strict: bool = False

    def holds(self, value: float) -> bool:
        """Return whether a value is inside."""
        if self.strict:
            return self.low < value < self.high
        return self.low <= value <= self.high


FRACTION_REASON = "a fraction lies between 0 and 1"
TTT_POINT = Measured(
    "ttt",
    0.0,
    1.0,
    "the fraction of a TTT curve lies strictly between 0 and 1",
    "take 0.01 for a start curve",
    strict=True,
)

MEASURED = {
    "fraction_transformed": Measured("fraction", 0, 1, FRACTION_REASON, "give 0 to 1"),
    "hardness_HRC": Measured(
        "hardness",
        -20,
        80,
        "outside the Rockwell C scale",
        "Vickers or Brinell? convert to HRC",
    ),
    "grain_size_um": Measured(
        "grain_size",
        0.01,
        1e5,
        "no grain has that size in um",
        "millimetres, or an ASTM number? convert to um",
        ("temperature", "time_s", "initial_grain_size_um"),
    ),
    "ttt_fraction": TTT_POINT,
    "assumed_fraction": TTT_POINT,
    "martensite_fraction": Measured(
        "martensite", 0, 1, FRACTION_REASON, "give 0 to 1", ("temperature",), coldest_K=0.0
    ),
    "particle_radius_nm": Measured(
        "particle_radius",
        0.1,
        1e5,
        "no precipitate has that radius in nm",
        "micrometres, or a diameter? convert to a radius in nm",
    ),
    "peak_temperature_K": Measured(
        "peak_temperature",
        200.0,
        HOTTEST_K,
        "no calorimetric peak lies at that temperature in K",
        "Celsius? name the column peak_temperature_C",
        ("heating_rate_K_per_s",),
    ),
}
"""By column."""

INPUTS = {
    "initial_grain_size_um": (
        0.01,
        1e5,
        "is not a grain size in um",
        "give the size before, in um",
    ),
    "strain": (1e-3, 5.0, "is no true strain", "percent? divide by 100"),
    "strain_rate_per_s": (1e-6, 1e4, "is not a strain rate in 1/s", "per minute? divide by 60"),
    "heating_rate_K_per_s": (
        1e-6,
        1e7,
        "is not a heating rate in K/s",
        "per minute? name the column heating_rate_K_per_min",
    ),
}
"""Conditions by column: lowest, highest, reason and remedy of what is outside."""

APART = ("run", "path", "start_temperature_K", *INPUTS)
"""Columns in which observations that are averaged or repeated must agree."""

OTHER_UNITS = {
    "peak_temperature_C": ("peak_temperature_K", 1.0, ZERO_CELSIUS),
    "heating_rate_K_per_min": ("heating_rate_K_per_s", 1 / 60, 0.0),
}
"""Columns read in another unit: name, factor and offset of the usual one."""


def in_usual_units(raw: pd.DataFrame, file: object) -> pd.DataFrame:
    """Return the table of text with columns of `OTHER_UNITS` put in the usual ones.

    What is no number stays as it is, to be judged with its row.

    Raises
    ------
    MatmlError
        Where a quantity stands in both units.
    """
    for name, (usual, factor, offset) in OTHER_UNITS.items():
        if name not in raw:
            continue
        if usual in raw:
            raise MatmlError(f"{file}: has both {usual} and {name}; give one")
        number = pd.to_numeric(raw[name], errors="coerce")
        text = [
            str(given) if value != value else repr(float(value))
            for given, value in zip(raw[name], number * factor + offset, strict=True)
        ]
        raw = raw.drop(columns=name).assign(**{usual: text})
    return raw


def temperature_problem(kelvin: float, column: str, coldest_K: float) -> tuple[str, str] | None:
    """Return (reason, remedy) for a temperature at which nothing of this kind is measured."""
    if kelvin <= coldest_K:
        reason = f"{kelvin:.6g} K is {kelvin - ZERO_CELSIUS:.6g} C, too cold for diffusion"
        if coldest_K == 0:
            reason = f"{kelvin:.6g} K is not above absolute zero"
        other = "temperature_C" if column == "temperature_K" else "a corrected value"
        return reason, f"probably Celsius given as kelvin: use {other}"
    if kelvin > HOTTEST_K:
        reason = f"{kelvin:.6g} K is above the melting range of the alloys meant here"
        return reason, "check the unit: kelvin given as Celsius, or Fahrenheit?"
    return None


def measured_problem(value: float, column: str) -> tuple[str, str] | None:
    """Return (reason, remedy) for a measured value outside its physical range."""
    what = MEASURED[column]
    if what.holds(value):
        return None
    percent = what.high == 1 and (1 <= value < 100 if what.strict else 1 < value <= 100)
    return what.reason, "percent? divide by 100" if percent else what.remedy


def on_history(points: pd.DataFrame) -> np.ndarray:
    """Return which observations lie on a ramp or path [N]."""
    found = np.zeros(len(points), dtype=bool)
    if "path" in points:
        found |= (points["path"].fillna("") != "").to_numpy()
    if "start_temperature_K" in points:
        start = points["start_temperature_K"].fillna(points["temperature_K"])
        found |= (start != points["temperature_K"]).to_numpy()
    return found
