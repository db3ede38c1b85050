"""What the scores of a data set say, in sentences: the default against others, by observations."""

from collections.abc import Iterable

import pandas as pd

from matml.core.statistics import Reduction
from matml.core.text.words import interval_text, number_text, plural
from matml.kinetics.data.columns import counted
from matml.kinetics.evaluation.methods import DEFAULT, LEAST_SQUARES, method_title

ERROR = "rmse_mean"
PAIRED = "rmse_minus_default_mean"
AGAINST = {1: "clearly better than", 0: "not clearly different from", -1: "clearly worse than"}


def reduction(scores: pd.DataFrame, method: str, shots: int) -> Reduction | None:
    """Return how much lower the default's error is than another method's; None if not compared."""
    own = scores[(scores["method"] == method) & (scores["shots"] == shots)]
    error, paired = (own[own["metric"] == metric] for metric in (ERROR, PAIRED))
    if error.empty or paired.empty:
        return None
    row = paired.iloc[0]
    return Reduction(
        row["value"], row["low"], row["high"], int(row["n_tasks"]), error["value"].iloc[0]
    )


def findings(scores: pd.DataFrame, series: Iterable[str]) -> list[str]:
    """Return how the default compares with generic least squares, and what is better than it.

    Parameters
    ----------
    series
        Names of what was tested.
    """
    errors = scores[scores["metric"] == ERROR].set_index(["shots", "method"])["value"]
    unit, told = str(scores.loc[scores["metric"] == ERROR, "unit"].iloc[0]), counted(series)
    sentences = []
    for shots in sorted(scores["shots"].unique()):
        plain = reduction(scores, LEAST_SQUARES, shots)
        verdict = None if plain is None else AGAINST.get(plain.sign)  # type: ignore[arg-type]
        sentence = (
            f"{shots} {plural('observation', shots)}: {method_title(DEFAULT)} "
            f"{number_text(errors[shots, DEFAULT])} {unit}"
        )
        if plain is not None:
            sentence += (
                f", {verdict or 'with too few alloys to be compared with'} "
                f"{method_title(LEAST_SQUARES)} (lower by {number_text(plain.value)}, 95 % "
                f"interval {interval_text(plain.low, plain.high)}; {told})"
            )
        sentences.append(f"{sentence}.{_better(scores, errors[shots], shots)}")
    return sentences


def _better(scores: pd.DataFrame, errors: pd.Series, shots: int) -> str:
    """Return the sentence on the method with the lowest error where that is not the default."""
    best = str(errors.idxmin())
    found = reduction(scores, best, shots)
    if found is None or not found.value < 0:
        return ""
    sure = "clearly" if found.sign == -1 else "not clearly"
    return (
        f" Lower than the default: {method_title(best)}, {number_text(errors[best])} "
        f"({sure}; by {number_text(-found.percent * errors[best] / errors[DEFAULT], 2)} %); the "
        "default was not changed after seeing that."
    )
