"""What an equation declares and which populations come with matml, for a reader and for a file.

The built-in declarations stand in `equations.json` too, so that listing them need not import torch;
a test keeps it in step.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matml.core.errors import MatmlError, as_path
from matml.kinetics.equation_names import BUILT_IN, built_in_equations, check_equation

if TYPE_CHECKING:
    from matml.kinetics.equations.form.declaration import Equation

SHIPPED = Path(__file__).parents[1] / "models" / "kinetics"
"""Populations that come with matml; `matml kinetics make-populations` makes them."""


def shipped_populations() -> list[Path]:
    """Return the files of the populations that come with matml; their stems are their names."""
    return sorted(SHIPPED.glob("*.json"))


def population_path(given: str | Path) -> Path:
    """Return a population's file: as given, or the one of that name that comes with matml.

    Raises
    ------
    MatmlError
        Where there is neither.
    """
    path = as_path(given, "population")
    # of the folder that `matml kinetics learn` filled
    if given and path.is_dir():
        path /= "population.json"
    if path.exists() and given:
        return path
    named = SHIPPED / f"{given}.json"
    if named.is_file():
        return named
    names = ", ".join(file.stem for file in shipped_populations())
    raise MatmlError(
        f"{path}: no such file, and no population of that name comes with matml (there are "
        f"{names or 'none'}); give the population.json of `matml kinetics learn`"
    )


def population_cards() -> list[dict[str, Any]]:
    """Return what is told of each population that comes with matml."""
    cards = []
    for path in shipped_populations():
        stored = json.loads(path.read_text(encoding="utf-8"))
        told = {"name": path.stem, "equation": stored["equation"], "kind": stored["kind"]}
        cards.append(told | stored["data_card"])
    return cards


def described_by_name(name: str | None) -> list[dict[str, Any]]:
    """Return the declarations of all built-in equations, or of one: built-in or the user's file."""
    chosen = [what for what in built_in_equations() if name in (None, what["name"])]
    if chosen or name is None:
        return chosen
    check_equation(name)
    from matml.kinetics.equations import equation_named

    return [described(equation_named(name))]


def described(equation: "Equation") -> dict[str, Any]:
    """Return an equation's declaration as plain values, for JSON."""
    return {
        "name": equation.name,
        "title": equation.title,
        "source": equation.source,
        "observations": {
            kind: {
                "measured": "ttt_fraction and time_s" if kind == "ttt" else observable.column,
                "inputs": [{"name": i.name, "unit": i.unit} for i in observable.inputs],
                "residual_unit": observable.unit,
                "typical_noise": observable.typical_noise,
                "histories": observable.log_time_scale is not None,
            }
            for kind, observable in equation.observables.items()
        },
        "parameters": [
            {
                "name": p.name,
                "unit": p.unit,
                "low": p.low,
                "high": p.high,
                "transform": p.transform,
                "description": p.description,
            }
            for p in equation.parameters
        ],
    }


def format_equation(what: dict[str, Any]) -> str:
    """Return an equation's declaration (from `described`) as a block of text."""
    lines = [f"{what['name']}: {what['title']}", f"  source: {what['source']}"]
    for observed in what["observations"].values():
        inputs = ", ".join(_with_unit(i["name"], i["unit"]) for i in observed["inputs"])
        along = "; ramps and paths" if observed["histories"] else ""
        lines.append(
            f"  measured {observed['measured']}, compared in {observed['residual_unit']}, "
            f"from {inputs}{along}"
        )
    for p in what["parameters"]:
        name = _with_unit(p["name"], p["unit"])
        lines.append(f"  {name}: {p['low']:g} to {p['high']:g}; {p['description']}")
    return "\n".join(lines)


def _with_unit(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name


if __name__ == "__main__":
    from matml.core.files import write_json
    from matml.kinetics.equations import EQUATIONS

    write_json(BUILT_IN, [described(equation) for equation in EQUATIONS.values()])
