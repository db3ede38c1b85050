"""Kinetic equations: short declarations, looked up by name, or read from the user's file."""

from pathlib import Path

from matml.core.errors import MatmlError
from matml.kinetics.equation_names import check_equation
from matml.kinetics.equations.austenite import AUSTENITE
from matml.kinetics.equations.c_curve import C_CURVE
from matml.kinetics.equations.coarsening import LSW
from matml.kinetics.equations.form.declaration import Equation, Observable, Parameter
from matml.kinetics.equations.form.own_file import agree, agreed, content_hash, read_equation
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
    JMAK_TWO_STAGES,
)

EQUATIONS: dict[str, Equation] = {
    equation.name: equation
    for equation in (
        JMAK,
        C_CURVE,
        SOFTENING,
        AUSTIN_RICKETT,
        IMPINGEMENT,
        JMAK_INCUBATION,
        JMAK_INCOMPLETE,
        JMAK_TWO_STAGES,
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

    The file is run: who names it here asks for that, and its content is remembered as agreed to.

    Raises
    ------
    MatmlError
        Where there is none of that name, or the file does not hold one.
    """
    check_equation(name)
    if name in EQUATIONS:
        return EQUATIONS[name]
    equation = read_equation(Path(name))
    agree(Path(name))
    return equation


def equation_of_file(name: str, origin: Path, *, trust: bool) -> Equation:
    """Return the equation that a file of somebody's names, such as a population.

    Raises
    ------
    MatmlError
        Where it names a Python file whose content the user has not agreed to, or as
        `equation_named`.
    """
    if name.endswith(".py") and not trust and not agreed(Path(name)):
        raise MatmlError(
            f"{origin}: its equation is the Python file {name}, which would be run (content "
            f"{content_hash(Path(name))[:12]}, not agreed to so far); look at it, then give "
            "--trust-equation once: it is remembered"
        )
    return equation_named(name)


__all__ = [
    "EQUATIONS",
    "Equation",
    "Input",
    "Observable",
    "Parameter",
    "equation_named",
    "equation_of_file",
]
