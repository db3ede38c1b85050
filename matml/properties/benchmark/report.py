"""Tables and tidy records of the properties' benchmark."""

from collections.abc import Callable, Collection

import numpy as np
import pandas as pd

from matml.core.statistics import tidy_record
from matml.properties.benchmark.new_family import ALL, DEFAULT
from matml.properties.data.targets import find_property
from matml.properties.evaluation.compare import mean_with_interval, with_interval
from matml.properties.methods.registry import SEEN, SINGLE

OURS = ("fomaml", "maml", "anil", "meta_sgd", "ridge_head", "gp_head", DEFAULT)
"""Methods that are not baselines."""
ENSEMBLES = (*SINGLE, "embedding_ridge", "embedding_gp")
"""Baselines that have all members of the ensemble that the default was given."""
TARGET_SHOTS = (5, 10, 20)
"""Numbers of labels over which the default is judged."""
NAMES = ALL | {DEFAULT: f"{ALL[DEFAULT]} (default)"}
METRICS = {"error": "mae", "spearman": "spearman", "inside": "coverage_90", "width": "width_90"}


def by_family(scores: pd.DataFrame, name: str, shots: int, column: str) -> pd.DataFrame:
    """Return one score, [families, methods]; families that every method has."""
    own = scores[(scores["property"] == name) & (scores["shots"] == shots)]
    return own.pivot_table(index="family", columns="method", values=column, dropna=False)


def _baselines(table: pd.DataFrame | pd.Series) -> list[str]:
    """Return the methods of a table that are not ours, in their usual order."""
    return [method for method in ALL if method in table and method not in OURS]


def tidy_records(scores: pd.DataFrame, seed: int) -> list[dict]:
    """Return the benchmark as records of one measured value each.

    `mae_reduction_against_<method>`: error of that method less the default's, mean over the
    same families; positive where ours is better.
    """
    records = []

    def add(
        name: str,
        shots: int,
        method: str,
        metric: str,
        values: np.ndarray,
        average: Callable = np.mean,
    ) -> None:
        values = values[~np.isnan(values)]
        if len(values):
            records.append(
                tidy_record(
                    "properties",
                    f"A, {name}",
                    method,
                    metric,
                    values,
                    average=average,
                    shots=shots,
                    is_default=method == DEFAULT,
                    seed=seed,
                )
            )

    for name, shots in sorted(set(zip(scores["property"], scores["shots"], strict=True))):
        unit = find_property(name).error_unit
        for column, metric in METRICS.items():
            table = by_family(scores, name, shots, column)
            named = f"{metric}_{unit}" if column in ("error", "width") and unit else metric
            for method in [m for m in NAMES if m in table]:
                add(name, shots, method, f"{named}_family_mean", table[method].to_numpy())
                if column == "error":
                    values = table[method].to_numpy()
                    add(name, shots, method, f"{named}_family_median", values, np.median)
        error = by_family(scores, name, shots, "error")
        for baseline in _baselines(error):
            gain = (error[baseline] - error[DEFAULT]).to_numpy()
            add(name, shots, DEFAULT, f"mae_reduction_against_{baseline}", gain)
    for than, metric in (("none", "0"), ("fewer", "fewer")):
        for (name, shots), gain in learning_gains(scores, DEFAULT, than).items():
            add(name, shots, DEFAULT, f"mae_reduction_against_{metric}_shots", gain)
    return records


def print_tables(scores: pd.DataFrame, echo: Callable[[str], None]) -> None:
    """Print errors, ranks and intervals per property, and ours against each baseline."""
    for name in dict.fromkeys(scores["property"]):
        own = scores[scores["property"] == name]
        item = find_property(name)
        families = own.groupby("shots")["family"].nunique().to_dict()
        echo(
            f"\n{item.title.capitalize()} ({item.error_unit}); test families at each number of "
            f"labels: {', '.join(f'{k}: {n}' for k, n in families.items())}"
        )
        for column, title, average in (
            ("error", "mean absolute error, mean over families", "mean"),
            ("error", "mean absolute error, median over families", "median"),
            ("spearman", "Spearman correlation within the family", "mean"),
            ("inside", "coverage of 90 % intervals", "mean"),
            ("width", "width of 90 % intervals", "mean"),
        ):
            echo(f"{title}\n{score_table(own, NAMES, column, average)}")
        _print_paired(scores, name, echo)
    _print_targets(scores, echo)


def score_table(
    scores: pd.DataFrame, names: dict[str, str], column: str, average: str = "mean"
) -> str:
    """Return a score of each method, in the order of its titles, at each number of labels."""
    wide = scores.pivot_table(index="method", columns="shots", values=column, aggfunc=average)
    wide = wide.loc[[m for m in names if m in wide.index]]
    wide.index = pd.Index([names[m] for m in wide.index], name="")
    digits = "{:.4f}" if column in ("error", "width") else "{:.3f}"
    return wide.to_string(float_format=digits.format, na_rep="-")


def _print_paired(scores: pd.DataFrame, name: str, echo: Callable[[str], None]) -> None:
    """Print how much lower our error is than each baseline's, paired over families."""
    rows: dict[str, dict[int, str]] = {}
    for shots in sorted(set(scores["shots"])):
        error = by_family(scores, name, shots, "error")
        if DEFAULT not in error:
            continue
        for baseline in _baselines(error):
            gain = (error[baseline] - error[DEFAULT]).dropna().to_numpy()
            rows.setdefault(NAMES[baseline], {})[shots] = mean_with_interval(gain)
    if rows:
        echo(
            f"{NAMES[DEFAULT]}: error lower than that of (95 % bootstrap over families)\n"
            + pd.DataFrame(rows).T.fillna("-").to_string()
        )


def best_baseline_ratios(
    scores: pd.DataFrame, ours: str, without: Collection[str] = ()
) -> pd.DataFrame:
    """Return our error over the best baseline's, [properties, shots], for the target shots.

    The best baseline is that with the lowest family-averaged error in the very cell.

    Parameters
    ----------
    without
        Baselines to leave out.
    """
    cells: dict[int, dict[str, float]] = {}
    for name in dict.fromkeys(scores["property"]):
        for shots in TARGET_SHOTS:
            mean = by_family(scores, name, shots, "error").mean()
            baselines = mean[[m for m in _baselines(mean) if m not in {*SEEN, *without}]]
            if ours in mean and len(baselines):
                cells.setdefault(shots, {})[name] = mean[ours] / baselines.min()
    return pd.DataFrame(cells)


def mean_ratios(scores: pd.DataFrame, ours: str) -> pd.DataFrame:
    """Return our error over each baseline's, averaged over properties and target shots.

    One method has to be picked before its errors are known, so that the baseline to beat is the one
    with the lowest errors over all cells, whose ratio is the highest.

    Returns
    -------
    DataFrame
        Per baseline `ratio`, and `low` and `high` of its 95 % interval, from families drawn again
        (the same in all cells); the strongest baseline first.
    """
    own = scores[scores["shots"].isin(TARGET_SHOTS)]
    table = own.pivot_table(index=["property", "shots", "family"], columns="method", values="error")
    families = table.index.get_level_values("family")
    names, place = np.unique(families, return_inverse=True)
    cells = list(table.groupby(level=[0, 1]).indices.values())
    chances = np.full(len(names), 1 / len(names))
    picks = np.random.default_rng(0).multinomial(len(names), chances, 2000)
    picks = np.vstack([np.ones(len(names), int), picks])
    found = {}
    for baseline in _baselines(table):
        ratios = []
        for rows in cells:
            weights = picks[:, place[rows]]
            errors = table[[ours, baseline]].to_numpy()[rows]
            with np.errstate(invalid="ignore"):
                mean = weights @ errors
                ratios.append(mean[:, 0] / mean[:, 1])
        # a cell that has none of the drawn families has no ratio
        mean = np.nanmean(ratios, 0)
        found[baseline] = (mean[0], *np.percentile(mean[1:], [2.5, 97.5]))
    found = pd.DataFrame(found, index=["ratio", "low", "high"]).T
    return found.sort_values("ratio", ascending=False)


def learning_gains(scores: pd.DataFrame, ours: str, than: str) -> dict:
    """Return by how much labels lower the error, per (property, shots) an array over families.

    Large numbers of labels have fewer families, so that only differences on the same ones tell.

    Parameters
    ----------
    than
        "none": against no label; "fewer": against the next smaller number of labels.
    """
    gains = {}
    for name in dict.fromkeys(scores["property"]):
        own = scores[(scores["property"] == name) & (scores["method"] == ours)]
        error = own.pivot_table(index="family", columns="shots", values="error")
        counts = list(error.columns)
        for i in range(1, len(counts)):
            before = error[counts[0 if than == "none" else i - 1]]
            gains[name, counts[i]] = (before - error[counts[i]]).dropna().to_numpy()
    return gains


def _print_targets(scores: pd.DataFrame, echo: Callable[[str], None]) -> None:
    """Print the ratios to the best baseline and how adapting compares with no label."""
    for without, which in (((), "best baseline"), (ENSEMBLES, "best baseline of one network")):
        ratios = best_baseline_ratios(scores, DEFAULT, without)
        if ratios.empty:
            return
        echo(
            f"\n{NAMES[DEFAULT]}: error over that of the {which} in each cell; mean "
            f"{np.nanmean(ratios.to_numpy()):.3f}\n"
            f"{ratios.to_string(float_format='{:.3f}'.format)}"
        )
    echo(
        f"{NAMES[DEFAULT]}: error over that of one and the same baseline in all cells, mean and "
        "95 % interval (bootstrap over families)"
    )
    for method, row in mean_ratios(scores, DEFAULT).iterrows():
        echo(f"  {with_interval(row['ratio'], row['low'], row['high'], '.3f')}  {NAMES[method]}")
    for than, title in (("none", "without labels"), ("fewer", "with the next fewer labels")):
        rows: dict[str, dict[int, str]] = {}
        for (name, shots), gain in learning_gains(scores, DEFAULT, than).items():
            rows.setdefault(name, {})[shots] = mean_with_interval(gain)
        echo(
            f"{NAMES[DEFAULT]}: error lower than {title}, on the same families\n"
            + pd.DataFrame(rows).T.fillna("-").to_string()
        )
