"""How good intervals are on test families: coverage, proper scores, and the ends of a ranking."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import ndtr

from matml.core.statistics import NORMAL_90, bootstrap_interval
from matml.properties.evaluation.compare import Choice
from matml.properties.methods.registry import TITLES
from matml.properties.stack.conformal import LEVEL, LEVELS, half_widths, normal_ratio, width_at

TENTH = 0.1


def half_width_of(row, widths: dict, level: float = LEVEL) -> np.ndarray:
    """Return the half widths of an episode's intervals, [m]: the method's own, or conformal ones.

    Parameters
    ----------
    row
        Of a table of errors, as a named tuple.
    widths
        Output of `conformal.half_widths` for the same level.
    level
        A method's own widths are those of 90 %; others follow as of a normal distribution.
    """
    own = getattr(row, "half_width", None)
    if own is not None:
        return own * normal_ratio(level)
    return np.full(len(row.query), width_at(widths, row.property, row.method, row.shots))


def crps(error: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return the continuous ranked probability scores of normal distributions, in the error's unit.

    Gneiting and Raftery 2007 (10.1198/016214506000001437), eq. 21; lower is better.
    """
    z = error / deviation
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return deviation * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))


def interval_score(error: np.ndarray, half_width: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Return the interval scores of central intervals: width, and a fine for what they miss.

    Gneiting and Raftery 2007, eq. 43; lower is better.
    """
    beyond = np.maximum(np.abs(error) - half_width, 0)
    return 2 * half_width + 2 / (1 - level) * beyond


def interval_table(
    test: pd.DataFrame,
    validation: pd.DataFrame,
    truth: Mapping[str, np.ndarray],
    choices: Mapping[str, Choice],
    units: Mapping[str, str],
) -> pd.DataFrame:
    """Return how good the chosen methods' intervals are on the test families.

    Means over families of the coverage by level (a user gets the 90 % interval; the others tell
    whether the shape of the predictive distribution is right), and for 90 % of the width, the
    interval score and the continuous ranked probability score (of a normal distribution with that
    interval). Over all crystals, of which some are predicted in several draws, the coverage in the
    lowest and the highest tenth of the predictions; and how many times its half width without
    labels a crystal has at most.
    """
    records = []
    for name, choice in choices.items():
        own = test[(test["property"] == name) & (test["method"] == choice.method)]
        calibrated = validation[validation["property"] == name]
        widths = {level: half_widths(calibrated, truth, level) for level in LEVELS}
        before: dict[int, float] = {}
        for shots, group in own.groupby("shots"):
            common = {
                "property": name,
                "unit": units[name],
                "method": choice.method,
                "title": TITLES[choice.method],
                "is_default": True,
                "shots": int(shots),
                "n_families": group["family"].nunique(),
                "n_episodes": len(group),
            }
            drawn = _crystals(group, widths, truth[name])
            if not before:
                # without labels, or with the fewest of which there are episodes
                before = drawn.groupby("crystal")["interval_width"].first().to_dict()
            first = drawn.pop("crystal").map(before)
            widest = {"widest_over_first": float((drawn["interval_width"] / first).max())}
            means = drawn.groupby(["family", "episode"]).mean().groupby("family").mean()
            for metric in means.columns.drop("prediction"):
                low, high = bootstrap_interval(means[metric].to_numpy())
                found = {"value": means[metric].mean(), "low": low, "high": high}
                records.append(common | {"metric": metric} | found)
            for metric, values in coverage_of_ends(drawn).items():
                found = dict(zip(("value", "low", "high"), values, strict=True))
                records.append(common | {"metric": metric} | found)
            for metric, value in widest.items():
                found = {"value": value, "low": np.nan, "high": np.nan}
                records.append(common | {"metric": metric} | found)
    return pd.DataFrame(records)


def _crystals(
    episodes: pd.DataFrame, widths: Mapping[float, dict], truth: np.ndarray
) -> pd.DataFrame:
    """Return the scores of each crystal in each episode."""
    sizes = [len(query) for query in episodes["query"]]
    prediction = np.concatenate([np.asarray(each) for each in episodes["prediction"]])
    query = np.concatenate([np.asarray(each, int) for each in episodes["query"]])
    error = prediction - truth[query]

    half = {
        level: np.concatenate([half_width_of(row, own, level) for row in episodes.itertuples()])
        for level, own in widths.items()
    }
    return pd.DataFrame(
        {
            "crystal": query,
            "family": episodes["family"].repeat(sizes).to_numpy(),
            "episode": episodes["episode"].repeat(sizes).to_numpy(),
            "prediction": prediction,
            **{f"coverage_{100 * a:.0f}": (np.abs(error) <= half[a]).astype(float) for a in LEVELS},
            "interval_width": 2 * half[LEVEL],
            "interval_score": interval_score(error, half[LEVEL]),
            "crps": crps(error, half[LEVEL] / NORMAL_90),
        }
    )


def coverage_of_ends(
    drawn: pd.DataFrame, resamples: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """Return the coverage of the lowest and highest tenth of predictions, with 95 % intervals.

    By bootstrap over families, of which few may fill a tenth: each resample has tenths of its own.

    Parameters
    ----------
    drawn
        `family`, `prediction` and whether the 90 % interval holds, of each crystal.
    """
    drawn = drawn.sort_values("prediction", kind="stable")
    inside = drawn[f"coverage_{100 * LEVEL:.0f}"].to_numpy()
    names, family = np.unique(drawn["family"].to_numpy(), return_inverse=True)
    random = np.random.default_rng(seed)
    counts = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    found = {}
    for metric, rows in (("lowest", slice(None)), ("highest", slice(None, None, -1))):
        shares = []
        for weights in (np.ones((1, len(drawn))), counts[:, family]):
            own = weights[:, rows]
            own = own * (own.cumsum(1) - own < TENTH * own.sum(1, keepdims=True) - 1e-9)
            shares.append((own @ inside[rows]) / own.sum(1))
        low, high = np.quantile(shares[1], [0.025, 0.975])
        found[f"coverage_90_{metric}_tenth"] = float(shares[0][0]), float(low), float(high)
    return found
