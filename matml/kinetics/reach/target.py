"""A target as it is written, such as "hardness_HRC = 45 +- 1"."""

import math
import re
from dataclasses import dataclass

import pandas as pd

from matml.core.errors import MatmlError
from matml.kinetics.data.columns import MEASURED, measured_problem
from matml.kinetics.data.units import in_usual_units

FORM = re.compile(
    r"\s*(?P<name>.+?)\s*(?:=\s*(?P<middle>[-+.\deE]+)\s*(?:\+-|\+/-|±)\s*(?P<half>[.\deE+-]+)"
    r"|(?P<sign>>=|<=)\s*(?P<end>[-+.\deE]+))\s*"
)


@dataclass(frozen=True)
class Target:
    """A range of what is measured.

    Attributes
    ----------
    text
        As given.
    column
        What is measured, in the usual unit.
    low, high
        Ends in it; infinite where there is none.
    """

    text: str
    column: str
    low: float
    high: float

    @staticmethod
    def of(text: str) -> "Target":
        """Return the target that a text states, in any unit that its name has.

        Raises
        ------
        MatmlError
            Where it is not understood, or nobody measures such a value.
        """
        found = FORM.fullmatch(text)
        try:
            if found is None:
                raise ValueError
            if found["sign"]:
                end = float(found["end"])
                ends = (end, math.inf) if found["sign"] == ">=" else (-math.inf, end)
            else:
                middle, half = float(found["middle"]), float(found["half"])
                if not 0 < half < math.inf:
                    raise MatmlError(f"target {text!r}: the tolerance {half:g} is not positive")
                ends = middle - half, middle + half
        except ValueError:
            raise MatmlError(
                f"target {text!r}: not understood; write the column, the value and what may be "
                "missed, as in 'hardness_HRC = 45 +- 1' or 'fraction_transformed >= 0.95'"
            ) from None
        given = found["name"]
        cells = pd.DataFrame({given: [str(end) for end in ends if math.isfinite(end)]})
        table = in_usual_units(cells, f"target {text!r}")
        column = str(table.cells.columns[0])
        if column not in MEASURED:
            raise MatmlError(
                f"target {text!r}: {given!r} is not what is measured of an alloy; give one of "
                f"{', '.join(MEASURED)}"
            )
        values = pd.to_numeric(table.cells[column], errors="coerce").tolist()
        for value, number in zip(values, cells[given], strict=True):
            if problem := measured_problem(value, column, given):
                raise MatmlError(f"target {text!r}: {number}: {problem[0]}; {problem[1]}")
        finite = iter(values)
        low, high = (next(finite) if math.isfinite(end) else end for end in ends)
        return Target(text, column, low, high)
