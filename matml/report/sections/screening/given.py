"""What a prediction is set against: the labels that the model was given."""

from typing import Any

import numpy as np

from matml.core.errors import MatmlError
from matml.report.html.markup import count, escape, number
from matml.screening.objectives import parse_objectives


def beyond_given(value: float, name: str, summary: dict[str, Any]) -> str:
    """Return that a prediction lies beyond all given labels of a property, else nothing."""
    given = _labels(summary, name)
    if not given or min(given) <= value <= max(given):
        return ""
    side = "above" if value > max(given) else "below"
    return (
        f"{side} all {count(len(given))} given labels ({number(min(given))} to "
        f"{number(max(given))}): an extrapolation within the family"
    )


def improvement(value: float, summary: dict[str, Any]) -> str:
    """Return the sentence on the expected improvement, with what it is an improvement over."""
    try:
        objectives = parse_objectives(
            summary.get("objectives") or [], summary.get("logarithmic") or []
        )
    except MatmlError:
        # of a property that this version does not know
        objectives = []
    goals = [objective for objective in objectives if objective.kind != "window"]
    given = np.array(_labels(summary, goals[0].property)) if len(goals) == 1 else np.array([])
    if not len(given):
        many = ", multiplied over the goals" if len(goals) > 1 else ""
        return f"Expected improvement over the best given label{many}: {number(value)}."
    [goal] = goals
    best = given[goal.utility(goal.to_scale(given)).argmax()]
    unit = (summary.get("properties") or {}).get(goal.property, "")
    shown = f"{number(value)}{unit and ' ' + escape(unit)}"
    if goal.logarithmic:
        shown = f"{number(value)} in log<sub>10</sub> (a factor of {number(10**value)})"
    nearer = f", in the distance to {goal.low:g}" if goal.kind == "target" else ""
    return (
        f"Expected improvement over the best of the {count(len(given))} given labels "
        f"({number(best)}){nearer}: {shown}."
    )


def _labels(summary: dict[str, Any], name: str) -> list[float]:
    """Return the labels of a property that the model was given."""
    given = summary.get("support") or []
    return [entry["value"] for entry in given if entry["property"] == name]
