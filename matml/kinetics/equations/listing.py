"""What an equation declares, for a reader and for a file."""

from typing import Any

from matml.kinetics.equations.base import Equation


def described(equation: Equation) -> dict[str, Any]:
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


def format_equation(equation: Equation) -> str:
    """Return an equation's declaration as a block of text."""
    what = described(equation)
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
