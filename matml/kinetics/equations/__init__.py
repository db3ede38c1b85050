"""Kinetic equations: short declarations, looked up by name, or read from the user's file."""

import importlib.util
from pathlib import Path

from matml.core.errors import MatmlError
from matml.kinetics.equations.austenite import AUSTENITE
from matml.kinetics.equations.c_curve import C_CURVE
from matml.kinetics.equations.coarsening import LSW
from matml.kinetics.equations.form.declaration import Equation, Observable, Parameter
from matml.kinetics.equations.form.types import Input
from matml.kinetics.equations.grain_growth import GRAIN_GROWTH
from matml.kinetics.equations.jmak import JMAK
from matml.kinetics.equations.martensite import KOISTINEN_MARBURGER, VAN_BOHEMEN
from matml.kinetics.equations.peaks import KISSINGER
from matml.kinetics.equations.recrystallisation import SELLARS
from matml.kinetics.equations.softening import HOLLOMON_JAFFE, SOFTENING
from matml.kinetics.equations.variants import (
    AUSTIN_RICKETT,
    IMPINGEMENT,
    JMAK_INCOMPLETE,
    JMAK_INCUBATION,
)

EQUATIONS = {
    equation.name: equation
    for equation in (
        JMAK,
        C_CURVE,
        SOFTENING,
        AUSTIN_RICKETT,
        IMPINGEMENT,
        JMAK_INCUBATION,
        JMAK_INCOMPLETE,
        GRAIN_GROWTH,
        SELLARS,
        LSW,
        KISSINGER,
        HOLLOMON_JAFFE,
        KOISTINEN_MARBURGER,
        VAN_BOHEMEN,
        *AUSTENITE,
    )
}


def equation_named(name: str) -> Equation:
    """Return an equation by its name, or the `EQUATION` of a Python file of the user's.

    Raises
    ------
    MatmlError
        Where there is none of that name, or the file does not hold one.
    """
    if name.endswith(".py"):
        return _read_equation(Path(name))
    if name not in EQUATIONS:
        raise MatmlError(
            f"equation {name!r} is unknown; known ones are {', '.join(EQUATIONS)}, or a Python "
            "file (path ending in .py) that defines EQUATION"
        )
    return EQUATIONS[name]


def _read_equation(path: Path) -> Equation:
    """Return the `EQUATION` that a Python file defines; running it is what naming it asks for."""
    if not path.is_file():
        raise MatmlError(f"{path}: no such file; give the file that defines EQUATION")
    spec = importlib.util.spec_from_file_location(f"equation_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise MatmlError(f"{path}: is no Python file; give the file that defines EQUATION")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise MatmlError(f"{path}: cannot be run ({type(error).__name__}: {error})") from None
    equation = getattr(module, "EQUATION", None)
    if not isinstance(equation, Equation):
        raise MatmlError(
            f"{path}: defines no EQUATION; set EQUATION = Equation(...) "
            "from matml.kinetics.equations"
        )
    # found again by the same path when a population is loaded
    object.__setattr__(equation, "name", str(path))
    return equation


__all__ = ["EQUATIONS", "Equation", "Input", "Observable", "Parameter", "equation_named"]
