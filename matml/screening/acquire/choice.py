"""What to label next of encoded crystals, with what is expected of it."""

from typing import Any

import numpy as np
import pandas as pd

from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.predictor.fitted import FittedPredictor
from matml.screening.acquire.acquisition import acquisition, choose_batch, goal_sign, turned


def choose(
    fitted: FittedPredictor,
    crystals: EncodedCrystals,
    known: np.ndarray,
    labels: np.ndarray,
    number: int,
    pool: np.ndarray,
    *,
    goal: str | None,
    strategy: str,
    **costs: Any,
) -> pd.DataFrame:
    """Return the crystals to label next, the most wanted first.

    Parameters
    ----------
    known, labels
        Rows of `crystals` with a label, and the labels in the property's unit.
    pool
        Rows that may be chosen.
    costs
        `costs` and `budget` of `choose_batch`.

    Returns
    -------
    pandas.DataFrame
        `row`, the property's prediction, `_low` and `_high` of its 90 % interval before any of the
        batch is known, and the `acquisition` value at that time, on the scale of `acquisition`.
    """
    name = fitted.scale.property.name
    crystals = fitted.domain.with_support(crystals[known]).placed(crystals)
    scale, method = fitted.on_labels(crystals[known], labels)
    sign = goal_sign(name, goal)
    values = sign * scale.standardise(labels)
    posterior = turned(method.over(crystals), sign)
    chosen = choose_batch(strategy, posterior, known, values, number, pool, **costs)
    mean, deviation = posterior.posterior(known, values)
    worth = acquisition(strategy, posterior, known, values)
    # as `predict` has it: calibrated, and wider far from the training crystals
    half_width = method.half_width(deviation, len(labels), crystals.distance)
    expected = {
        "": sign * mean,
        "_low": sign * mean - half_width,
        "_high": sign * mean + half_width,
    }
    return pd.DataFrame(
        {
            "row": chosen,
            **{name + end: scale.restore(own[chosen]) for end, own in expected.items()},
            "acquisition": worth[chosen],
        }
    )
