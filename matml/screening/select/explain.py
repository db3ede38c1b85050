"""Why a candidate stands where it does: each objective by itself, the nearest known crystals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from matml.core.standardise import Standardisation
from matml.properties.data.element_features import element_features
from matml.properties.data.targets import PROPERTIES
from matml.screening.objectives import FORMATION_ENERGY, HULL, Objective
from matml.structures.disorder.atoms import fractions

NEAREST = 4
"""Known crystals listed per candidate: of any prototype, and of its own."""


def explain(
    rows: pd.DataFrame,
    first: int,
    objectives: Sequence[Objective],
    criteria: np.ndarray,
    known: pd.DataFrame,
) -> list[dict[str, Any]]:
    """Return for the first candidates what each objective says of them and what is known nearby.

    Parameters
    ----------
    rows
        Ranked candidates: id, rank, prototype, atomic_numbers.
    first
        How many of them to explain.
    criteria
        Utility of each goal and log-probability of each window, larger is better, of all
        candidates that were kept, [rows, objectives].

    Returns
    -------
    list of dict
        `rank`, `id`; `objectives`: each with `objective`, `property`, `probability` of its window
        (None for a goal) and `place` among the kept candidates by this objective alone;
        `nearest`: see `nearest_known`.
    """
    asked = [objective.property for objective in objectives]
    near = nearest_known(rows.head(first), known, asked)
    places = (criteria[None, :, :] > criteria[:first, None, :]).sum(1) + 1
    explained = []
    for position, row in enumerate(rows.head(first).itertuples(index=False)):
        told = [
            {
                "objective": str(objective),
                "property": objective.property,
                "probability": float(np.exp(criteria[position, column]))
                if objective.kind == "window"
                else None,
                "place": int(places[position, column]),
                "of": len(rows),
            }
            for column, objective in enumerate(objectives)
        ]
        explained.append(
            {
                "rank": int(str(row.rank)),
                "id": row.id,
                "objectives": told,
                "nearest": near[position],
            }
        )
    return explained


def nearest_known(
    rows: pd.DataFrame, known: pd.DataFrame, asked: Sequence[str] = (), number: int = NEAREST
) -> list[list[dict[str, Any]]]:
    """Return the known crystals nearest in composition to each candidate, nearest first.

    Nearest is who needs the fewest atoms exchanged; among equals, whose elements are more alike
    (distance of mean and spread of the elements' features). `number` of any prototype and `number`
    of the candidate's own, each crystal once: `id`, `formula`, `family`, `same_prototype`,
    `changed_atoms` (share of atoms to be exchanged) and `values`, its known properties by column,
    those `asked` for among them.
    Copies of a crystal count as one, with the mean of their values.
    """
    first = known["duplicate_of"].where(known["duplicate_of"] != "", known["id"])
    names = [name for name in (*PROPERTIES, HULL, FORMATION_ENERGY, *asked) if name in known]
    names = list(dict.fromkeys(names))
    values = known[names].groupby(first).mean()
    known = known[known["duplicate_of"] == ""].reset_index(drop=True)
    elements = element_features().astype(float)
    fractions, features = _described(known, elements)
    own_fractions, own_features = _described(rows, elements)
    scale = Standardisation.of(features).deviation
    found = []
    for place, prototype in enumerate(rows["prototype"]):
        changed = 0.5 * np.abs(fractions - own_fractions[place]).sum(1)
        unlike = np.linalg.norm((features - own_features[place]) / scale, axis=1)
        same = (known["prototype"] == prototype).to_numpy()
        order = np.lexsort((unlike, ~same, changed.round(6)))
        picked = {*order[:number], *order[same[order]][:number]}
        found.append(
            [
                {
                    "id": known["id"].iloc[i],
                    "formula": known["formula"].iloc[i],
                    "family": known["common_name"].iloc[i] or known["family"].iloc[i],
                    "same_prototype": bool(same[i]),
                    "changed_atoms": round(float(changed[i]), 4),
                    "values": values.loc[known["id"].iloc[i]].dropna().to_dict(),
                }
                for i in order
                if i in picked
            ]
        )
    return found


def _described(table: pd.DataFrame, elements: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return atomic fractions [n, 119], and mean and spread of the elements' features [n, 2 f]."""
    found = fractions(table)
    mean = found[:, : len(elements)] @ elements
    square = found[:, : len(elements)] @ elements**2
    return found, np.hstack([mean, np.sqrt(np.maximum(square - mean**2, 0))])
