"""Baselines on features that stay as they are, over the episodes of a property.

Ridge regression and a Gaussian process, from training crystals and support together or from the
support alone.
"""

from itertools import product

import numpy as np
import pandas as pd

from matml.core.standardise import Standardisation
from matml.gp.exact import GlobalGP
from matml.properties.baselines.support_only import PooledRidge, support_gp, support_ridge

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
WEIGHTS = (1.0, 10.0, 100.0, 1000.0)
"""Tried on the validation families: penalty, and training crystals that a support label equals."""


def adapt_global_gp(
    model: GlobalGP, features: np.ndarray, targets: np.ndarray, episodes: pd.DataFrame
) -> dict[int, np.ndarray]:
    """Return what `GlobalGP.adapt` gives in each episode of one property, by episode number.

    The posterior given the training rows, which costs most, is that of a family and not made anew
    for each of its episodes.

    Parameters
    ----------
    features, targets
        Of all crystals, [n, d] and [n].
    """
    found = {}
    for _, group in episodes.groupby("family", sort=False):
        rows = np.unique(np.concatenate([*group["query"], *group["support"]]).astype(int))
        joint = model.joint(features[rows])
        for number, *own in zip(group["episode"], group["support"], group["query"], strict=True):
            support, query = (np.asarray(x, int) for x in own)
            places = np.searchsorted(rows, support), np.searchsorted(rows, query)
            mean, _, _ = joint.predict(places[0], targets[support], places[1])
            found[int(number)] = mean.numpy()
    return found


def pooled_ridge(
    features: np.ndarray, targets: np.ndarray, training: np.ndarray, episodes: pd.DataFrame
) -> dict[int, np.ndarray]:
    """Return the ridge predictions of each episode of one property, by episode number.

    Penalty and weight of the support are those of the lowest error on the validation families'
    episodes with labels, or the middle ones where there are none.

    Parameters
    ----------
    features, targets
        Of all crystals, [n, d] and [n].
    training
        Row numbers of the labelled training crystals.
    """
    models = {p: PooledRidge(features[training], targets[training], p) for p in PENALTIES}
    tuning = episodes[(episodes["part"] == "validation") & (episodes["shots"] > 0)]
    grid = list(product(PENALTIES, WEIGHTS))
    chosen = grid[len(grid) // 2]
    if len(tuning):
        chosen = min(grid, key=lambda own: _error(models, own, features, targets, tuning))
    return dict(
        zip(episodes["episode"], _ridges(models, chosen, features, targets, episodes), strict=True)
    )


def _ridges(
    models: dict[float, PooledRidge],
    chosen: tuple[float, float],
    features: np.ndarray,
    targets: np.ndarray,
    episodes: pd.DataFrame,
) -> list[np.ndarray]:
    """Return the predictions of each episode's query."""
    penalty, weight = chosen
    rows = [
        (np.asarray(own.support, int), np.asarray(own.query, int)) for own in episodes.itertuples()
    ]
    return [
        models[penalty].adapt(features[support], targets[support], features[query], weight)
        for support, query in rows
    ]


def _error(
    models: dict[float, PooledRidge],
    chosen: tuple[float, float],
    features: np.ndarray,
    targets: np.ndarray,
    episodes: pd.DataFrame,
) -> float:
    """Return the mean absolute error, each family with the same weight at each support size."""
    predictions = _ridges(models, chosen, features, targets, episodes)
    errors = [
        float(np.abs(p - targets[np.asarray(query, int)]).mean())
        for p, query in zip(predictions, episodes["query"], strict=True)
    ]
    scored = episodes.assign(error=errors).groupby(["shots", "family"])["error"].mean()
    return float(scored.mean())


def by_frozen_features(
    prefix: str,
    features: np.ndarray,
    targets: np.ndarray,
    training: np.ndarray,
    episodes: pd.DataFrame,
    *,
    subset: int,
    steps: int,
    seed: int,
) -> list[tuple[int, str, np.ndarray]]:
    """Return (episode, method, prediction) of ridge and Gaussian process, for one property.

    Parameters
    ----------
    prefix
        Of the methods' names.
    subset, steps, seed
        As of `GlobalGP`.
    """
    process = GlobalGP(subset=subset, steps=steps, seed=seed)
    process.fit(features[training], targets[training])
    found = {
        f"{prefix}_ridge": pooled_ridge(features, targets, training, episodes),
        f"{prefix}_gp": adapt_global_gp(process, features, targets, episodes),
    }
    return [(e, method, p) for method, own in found.items() for e, p in own.items()]


def by_support_alone(
    features: np.ndarray, targets: np.ndarray, training: np.ndarray, episodes: pd.DataFrame
) -> list[tuple[int, str, np.ndarray]]:
    """Return (episode, method, prediction) of models of one property from the support alone.

    Without a label they say the mean of the training crystals, as `support_mean` does.
    """
    features = Standardisation.of(features[training]).apply(features)
    found = []
    for (_, shots), group in episodes.groupby(["family", "shots"], sort=False):
        support = np.stack(group["support"].to_list()).astype(int)
        queries = [np.asarray(query, int) for query in group["query"]]
        for name, predict in (("support_ridge", support_ridge), ("support_gp", support_gp)):
            if shots:
                own = [features[query] for query in queries]
                predictions = predict(features[support], targets[support], own)
            else:
                predictions = [np.zeros(len(query)) for query in queries]
            found += [(e, name, p) for e, p in zip(group["episode"], predictions, strict=True)]
    return found
