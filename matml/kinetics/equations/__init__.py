"""Kinetic equations: short declarations, looked up by name."""

from matml.errors import MatmlError
from matml.kinetics.equations.base import Equation, Input, Observable, Parameter
from matml.kinetics.equations.c_curve import C_CURVE
from matml.kinetics.equations.jmak import JMAK
from matml.kinetics.equations.softening import SOFTENING

EQUATIONS = {equation.name: equation for equation in (JMAK, C_CURVE, SOFTENING)}


def equation_named(name: str) -> Equation:
    """Return an equation by its name.

    Raises
    ------
    MatmlError
        Where there is none of that name.
    """
    if name not in EQUATIONS:
        raise MatmlError(f"equation {name!r} is unknown; known ones are {', '.join(EQUATIONS)}")
    return EQUATIONS[name]


__all__ = ["EQUATIONS", "Equation", "Input", "Observable", "Parameter", "equation_named"]
