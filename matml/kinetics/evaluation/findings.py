"""What the scores of a data set say, in sentences: the default against others, by observations."""

from collections.abc import Iterable

import pandas as pd

from matml.core.statistics import WORTH_NAMING, Reduction
from matml.core.text.words import interval_text, number_text, plural
from matml.kinetics.data.columns import counted
from matml.kinetics.evaluation.methods import DEFAULT, LEAST_SQUARES, method_title

ERROR = "rmse_mean"
PAIRED = "rmse_minus_default_mean"
AGAINST = {1: "clearly better than", 0: "no clear difference from", -1: "clearly worse than"}
LOWER = "Lower than the default: "
SPELLED = ("Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


def reduction(scores: pd.DataFrame, method: str, shots: int, groups: int) -> Reduction | None:
    """Return how much lower the default's error is than another method's; None if not compared.

    Parameters
    ----------
    groups
        Of similar composition, which the intervals are over: fewer than alloys.
    """
    own = scores[(scores["method"] == method) & (scores["shots"] == shots)]
    error, paired = (own[own["metric"] == metric] for metric in (ERROR, PAIRED))
    if error.empty or paired.empty:
        return None
    row = paired.iloc[0]
    tasks = min(int(row["n_tasks"]), groups)
    return Reduction(row["value"], row["low"], row["high"], tasks, error["value"].iloc[0])


def findings(scores: pd.DataFrame, series: Iterable[str], groups: int) -> list[str]:
    """Return how the default compares with generic least squares, and what is better than it.

    Parameters
    ----------
    series
        Names of what was tested.
    groups
        How many of similar composition these are, which the intervals are over.
    """
    errors = scores[scores["metric"] == ERROR].set_index(["shots", "method"])["value"]
    unit, told = str(scores.loc[scores["metric"] == ERROR, "unit"].iloc[0]), counted(series)
    sentences = []
    for shots in sorted(scores["shots"].unique()):
        plain = reduction(scores, LEAST_SQUARES, shots, groups)
        verdict = None if plain is None else AGAINST.get(plain.sign)  # type: ignore[arg-type]
        sentence = (
            f"{shots} {plural('observation', shots)}: {method_title(DEFAULT)} "
            f"{number_text(errors[shots, DEFAULT])} {unit}"
        )
        if plain is not None:
            sentence += (
                f", {verdict or 'with too few composition groups to be compared with'} "
                f"{method_title(LEAST_SQUARES)} ({difference(plain)} over {groups} composition "
                f"{plural('group', groups)}; {told})"
            )
        better = lower_than_default(scores, shots, groups)
        more = f" {better}; the default was not changed after seeing that." if better else ""
        sentences.append(f"{sentence}.{more}")
    return sentences


def difference(found: Reduction) -> str:
    """Return by how much the default's error is lower or higher, with the interval of that."""
    low, high = (found.low, found.high) if found.value >= 0 else (-found.high, -found.low)
    too_small = found.sign == 0 and low > 0
    percent = number_text(abs(found.percent), 3 if too_small else 2)
    below = f", below the {100 * WORTH_NAMING:.0f} % threshold" if too_small else ""
    return (
        f"{'lower' if found.value >= 0 else 'higher'} by {number_text(abs(found.value))} "
        f"({percent} %{below}), 95 % interval {interval_text(low, high)}"
    )


def lower_than_default(scores: pd.DataFrame, shots: int, groups: int) -> str:
    """Return which methods have a lower error than the default, in words; '' for none."""
    own = scores[(scores["metric"] == ERROR) & (scores["shots"] == shots)]
    errors = own.set_index("method")["value"]
    found = {str(each): reduction(scores, str(each), shots, groups) for each in errors.index}
    lower = {method: each for method, each in found.items() if each and each.value < 0}
    if not lower:
        return ""
    clear = [method for method, each in lower.items() if each.sign == -1]
    best = min(clear or lower, key=lambda method: errors[method])
    by = number_text(-lower[best].percent * errors[best] / errors[DEFAULT], 2)
    named = f"{method_title(best)}, {number_text(errors[best])}"
    if len(clear) > 1:
        many = SPELLED[len(clear) - 2] if len(clear) - 2 < len(SPELLED) else str(len(clear))
        told = f"{many} methods are clearly lower, most of all {named} (by {by} %)"
    else:
        sure = "clearly" if clear else "not clearly"
        told = f"{LOWER}{named} ({sure}; by {by} %)"
    return told
