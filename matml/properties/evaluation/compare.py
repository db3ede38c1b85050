"""Compare all methods on the same episodes: choose on validation families, report on test ones."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from matml.core.statistics import FEWEST_TASKS, Reduction, bootstrap_interval
from matml.core.text.words import interval_text, listed, number_text
from matml.properties.methods.registry import FINE_TUNED, STACK, TITLES


@dataclass(frozen=True)
class Choice:
    """What a user gets for one property.

    Attributes
    ----------
    method
        The stacked Gaussian process where it was fitted: it holds the other models, and has learned
        how far to trust each on all training families left out in turn, which are many more than
        the validation families. Else the method with the lowest mean error over the shots there.
    fine_tuning
        The variant of fine-tuning with the lowest mean error; '' where none was tried.
    """

    method: str
    fine_tuning: str


def with_interval(value: float, low: float | None, high: float | None, style: str) -> str:
    """Return a value as text in a format such as `+.3f`, with its interval where there is one."""
    told = low is not None and high is not None and not (np.isnan(low) or np.isnan(high))
    return f"{value:{style}}" + (f" [{low:{style}}, {high:{style}}]" if told else "")


def mean_with_interval(values: np.ndarray, style: str = "+.4f") -> str:
    """Return a mean as text, with its 95 % bootstrap interval."""
    return with_interval(values.mean(), *bootstrap_interval(values), style)


def episode_errors(episodes: pd.DataFrame, predictions: pd.DataFrame, truth: dict) -> pd.DataFrame:
    """Return the mean absolute error of each method in each episode.

    Parameters
    ----------
    episodes
        As drawn, with a column `episode` that numbers them.
    predictions
        episode, method, prediction (an array in the order of the episode's query).
    truth
        Property to values of all crystals (rows of the table), on the learned scale.
    """
    merged = predictions.merge(episodes, on="episode", validate="many_to_one")
    merged["error"] = [
        float(np.mean(np.abs(np.asarray(p) - truth[name][np.asarray(query)])))
        for p, query, name in zip(
            merged["prediction"], merged["query"], merged["property"], strict=True
        )
    ]
    return merged


def family_errors(errors: pd.DataFrame) -> pd.DataFrame:
    """Return errors averaged over a family's draws: property, shots, method, family, error."""
    keys = ["property", "shots", "method", "family"]
    return errors.groupby(keys)["error"].mean().reset_index()


def choose(validation: pd.DataFrame, properties: Sequence[str]) -> dict[str, Choice]:
    """Return the choices per property from the family errors of the validation families.

    A property without validation families takes the choices of all properties together, each
    property's errors taken relative to the mean over methods.
    """
    adapted = validation[validation["shots"] > 0]
    scored = adapted.groupby(["property", "method", "shots", "family"])["error"].mean()
    mean = scored.groupby(["property", "method"]).mean().reset_index()
    relative = mean["error"] / mean.groupby("property")["error"].transform("mean")
    pooled = relative.groupby(mean["method"]).mean()
    choices = {}
    for name in properties:
        own = mean[mean["property"] == name].set_index("method")["error"]
        errors = own if len(own) else pooled
        variants = errors[[m for m in errors.index if m.startswith(f"{FINE_TUNED} ")]]
        fixed = errors[[m for m in errors.index if m in TITLES]]
        method, fine_tuning = str(fixed.idxmin()), ""
        if len(variants):
            fine_tuning = str(variants.idxmin())
            if variants.min() < fixed.min():
                method = FINE_TUNED
        if STACK in fixed.index:
            method = STACK
        choices[name] = Choice(method, fine_tuning)
    return choices


def with_chosen_fine_tuning(
    table: pd.DataFrame, choices: dict[str, Choice], methods: Collection[str] = tuple(TITLES)
) -> pd.DataFrame:
    """Return rows of some methods, the chosen variant of fine-tuning under one name."""
    chosen = table["property"].map({name: c.fine_tuning for name, c in choices.items()})
    table = table.assign(
        method=table["method"].where(table["method"] != chosen, FINE_TUNED),
        variant=table["method"],
    )
    return table[table["method"].isin(list(methods))]


def score_table(
    errors: pd.DataFrame, choices: dict[str, Choice], units: dict[str, str]
) -> pd.DataFrame:
    """Return the tidy scores of the test families.

    Metrics: `mae_family_mean` and `mae_family_median`; `gain_over_pretrained` and
    `gain_over_zero_shot`, the paired mean reduction of the error against the pre-trained network
    as it is and against the same method without support, and `excess_over_default`, how much
    larger the error is than the chosen method's, paired, with the interval over families.
    """
    by_family = family_errors(errors)
    episodes = errors.groupby(["property", "shots"])["episode"].nunique()
    pivot = by_family.pivot_table(
        index=["property", "shots", "family"], columns="method", values="error"
    )
    records = []
    for key, group in pivot.groupby(level=["property", "shots"]):
        name, shots = str(key[0]), int(str(key[1]))
        zero = pivot.xs((name, 0), level=("property", "shots"))
        families = group.index.get_level_values("family")
        for method in [m for m in TITLES if m in group.columns]:
            error = group[method].to_numpy()
            if np.isnan(error).any():
                continue
            common = {
                "property": name,
                "unit": units[name],
                "method": method,
                "title": TITLES[method],
                "is_default": method == choices[name].method,
                "shots": shots,
                "n_families": len(error),
                "n_episodes": int(episodes[(name, shots)]),
            }
            gains = {
                "gain_over_pretrained": group["pretrained"].to_numpy() - error,
                "gain_over_zero_shot": zero.loc[families, method].to_numpy() - error,
                "excess_over_default": error - group[choices[name].method].to_numpy(),
            }
            low, high = bootstrap_interval(error)
            metrics = [
                ("mae_family_mean", error.mean(), low, high),
                ("mae_family_median", np.median(error), np.nan, np.nan),
            ]
            metrics += [
                (key, gain.mean(), *bootstrap_interval(gain)) for key, gain in gains.items()
            ]
            records += [
                {**common, "metric": key, "value": float(value), "low": low, "high": high}
                for key, value, low, high in metrics
            ]
    return pd.DataFrame(records)


VERDICTS = {
    None: "too few families to say",
    1: "labels help",
    0: "no clear difference",
    -1: "labels hurt",
}
GAIN = "gain_over_zero_shot"
"""By which it is said whether labels help: everywhere the same baseline."""


def label_gains(scores: pd.DataFrame, name: str) -> dict[int, Reduction]:
    """Return how labels lower the error of a property's default, by their number.

    Against the same method without labels, on the same families.
    """
    own = scores[(scores["property"] == name) & scores["is_default"].astype(bool)]
    own = own[own["shots"] > 0].set_index(["metric", "shots"])
    found = {}
    for (metric, shots), row in own.sort_index().iterrows():
        if metric == GAIN:
            error = own.loc[("mae_family_mean", shots), "value"]
            families = int(row.get("n_families", FEWEST_TASKS))
            found[int(shots)] = Reduction(
                row["value"], row["low"], row["high"], families, error + row["value"]
            )
    return found


def _gain(shots: int, gain: Reduction) -> str:
    """Return a gain with what it says, and its interval where there are families enough for one."""
    between = "" if gain.sign is None else f" {interval_text(gain.low, gain.high, plus='+')}"
    return (
        f"{number_text(gain.value, plus='+')}{between} with {shots} labels "
        f"({VERDICTS[gain.sign]}, {gain.tasks} families)"
    )


def statements(scores: pd.DataFrame, choices: dict[str, Choice], titles: dict) -> list[str]:
    """Return plain sentences: what won, and whether adaptation helped on the test families."""
    sentences = []
    for name, choice in choices.items():
        own = scores[(scores["property"] == name) & (scores["shots"] > 0)]
        title, method = titles[name].capitalize(), TITLES[choice.method]
        if own.empty:
            sentences.append(
                f"{title}: no test family has enough labels for an episode; {method} is used."
            )
            continue
        unit = own["unit"].iloc[0] or "its own unit"
        if choice.method == "pretrained":
            sentences.append(
                f"{title}: no adaptation won on the validation families; {method} is used, and "
                "labels of a new family are not."
            )
        else:
            parts = [_gain(shots, gain) for shots, gain in label_gains(scores, name).items()]
            why = "is the default" if choice.method == STACK else "won on the validation families"
            sentences.append(
                f"{title}: {method} {why}. Error without labels minus error with labels, on the "
                f"same test families ({unit}): {'; '.join(parts)}."
            )
        if lower := lower_than_chosen(scores, name, choice.method):
            shots = [str(each) for each in sorted(own["shots"].unique())]
            sure = listed(lower.clear) if lower.clear else "none of these"
            sentences.append(
                f"{title}: on the test families {TITLES[lower.method]} had a lower error than the "
                f"chosen method on average over {listed(shots)} labels "
                f"({number_text(lower.error)} against {number_text(lower.chosen)}; "
                f"the paired difference is clear with {sure}); the choice was not changed after "
                "seeing that."
            )
    return sentences


@dataclass(frozen=True)
class Lower:
    """A method with the lowest mean error over all numbers of labels, which was not chosen.

    Attributes
    ----------
    error, chosen
        Its error and the chosen method's.
    clear
        With how many labels the paired difference is clear.
    """

    method: str
    error: float
    chosen: float
    clear: list[str]


def lower_than_chosen(scores: pd.DataFrame, name: str, chosen: str) -> Lower | None:
    """Return which method is lower on a property's test families than the chosen one, if any."""
    own = scores[(scores["property"] == name) & (scores["shots"] > 0)]
    errors = own[own["metric"] == "mae_family_mean"].groupby("method")["value"].mean()
    if chosen not in errors or (best := str(errors.sort_values().index[0])) == chosen:
        return None
    rows = own[own["method"] == best]
    error = rows[rows["metric"] == "mae_family_mean"].set_index("shots")["value"]
    clear = []
    for _, row in rows[rows["metric"] == "excess_over_default"].sort_values("shots").iterrows():
        shots, families = row["shots"], int(row.get("n_families", FEWEST_TASKS))
        if Reduction(row["value"], row["low"], row["high"], families, error[shots]).sign == -1:
            clear.append(str(int(shots)))
    return Lower(best, float(errors[best]), float(errors[chosen]), clear)
