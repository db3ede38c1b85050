"""The last stage of the evaluation: join all predictions, choose, score, and say what it means."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import TABLE, read_table, write_json, write_table
from matml.core.statistics import bootstrap_interval
from matml.properties.dataset import EPISODES, Workbench
from matml.properties.evaluation.compare import (
    choose,
    episode_errors,
    family_errors,
    score_table,
    statements,
    with_chosen_fine_tuning,
)
from matml.properties.evaluation.intervals import half_width_of, interval_table
from matml.properties.evaluation.layout import CHOICES
from matml.properties.methods.registry import TITLES
from matml.properties.stack.conformal import LEVEL, half_widths

log = logging.getLogger(__name__)


def summarise(
    bench: Workbench,
    folder: Path,
    member_predictions: Sequence[Path],
    other_predictions: Sequence[Path],
    out: Path,
) -> None:
    """Write scores.csv, predictions.parquet, choices.json and summary.json to `out`.

    Parameters
    ----------
    other_predictions
        Of the baselines and of the stacks.
    """
    episodes = read_table(folder / EPISODES, TABLE)
    predictions = join_predictions(
        [read_table(path, TABLE) for path in member_predictions],
        [read_table(path, TABLE) for path in other_predictions],
    )
    predictions = to_learned_scale(predictions, episodes, bench)
    truth = {name: bench.labels[:, i] for i, name in enumerate(bench.names)}
    errors = episode_errors(episodes, predictions, truth)
    of_part = {part: group for part, group in errors.groupby("part")}
    choices = choose(family_errors(of_part["validation"]), bench.names)
    validation = with_chosen_fine_tuning(of_part["validation"], choices)
    test = with_chosen_fine_tuning(of_part["test"], choices)
    units = {item.name: item.error_unit for item in bench.properties}
    titles = {item.name: item.title for item in bench.properties}

    widths = half_widths(validation, truth)
    scores = score_table(test, choices, units)
    intervals = interval_table(test, validation, truth, choices, units)
    scores = pd.concat([scores, intervals], ignore_index=True)
    write_table(out / "scores.csv", scores)
    write_table(out / "predictions.parquet", _parity(test, truth, widths, bench, choices))
    sentences = statements(scores, choices, titles)
    headline = _headline(bench, test, units)
    common = bench.crystals.table.groupby("family")["common_name"].first()
    write_json(
        out / "choices.json",
        {
            name: {
                "method": choice.method,
                "title": TITLES[choice.method],
                "fine_tuning": choice.fine_tuning,
                "half_widths": {
                    method: {
                        str(k): w for (n, m, k), w in widths.items() if (n, m) == (name, method)
                    }
                    for method in TITLES
                },
            }
            for name, choice in choices.items()
        },
        CHOICES,
    )
    write_json(
        out / "summary.json",
        {
            "interval_level": LEVEL,
            "test_families": {f: common.get(f, "") for f in bench.split.test},
            "validation_families": {f: common.get(f, "") for f in bench.split.validation},
            "training_families": len(bench.split.folds),
            "members": bench.split.members,
            "chosen": {
                n: {"method": c.method, "title": TITLES[c.method]} for n, c in choices.items()
            },
            "zero_shot": headline,
            "statements": sentences,
        },
    )
    _print(scores, choices, headline, sentences, titles)


def join_predictions(
    members: Sequence[pd.DataFrame], baselines: Sequence[pd.DataFrame]
) -> pd.DataFrame:
    """Return episode, method, prediction: the members' mean, and the baselines as they are.

    Parameters
    ----------
    members
        Tables of all members, whole or in shards: each episode as often as there are members.
    """
    together = pd.concat(members).sort_values(["episode", "method"], kind="stable")
    first = together.drop_duplicates(["episode", "method"])
    counts = together.groupby(["episode", "method"]).size()
    size = counts.max()
    if (counts != size).any():
        episode = counts.index[int((counts != size).argmax())][0]
        raise MatmlError(
            f"predictions of episode {episode} are missing for some members; evaluate all members "
            "on the same episodes"
        )
    flat = [
        np.mean(together["prediction"].iloc[i : i + size].to_list(), 0)
        for i in range(0, len(together), size)
    ]
    ensemble = first[["episode", "method"]].assign(prediction=flat)
    return pd.concat([ensemble, *baselines], ignore_index=True)


def to_learned_scale(
    predictions: pd.DataFrame, episodes: pd.DataFrame, bench: Workbench
) -> pd.DataFrame:
    """Return predictions, and half widths of methods that give their own, on the learned scale."""
    column = episodes.set_index("episode")["property"].map(bench.names.index)
    mean, deviation = bench.standardisation.mean, bench.standardisation.deviation
    numbers = column.loc[predictions["episode"]].to_numpy()
    scaled = [
        np.asarray(p) * deviation[i] + mean[i]
        for p, i in zip(predictions["prediction"], numbers, strict=True)
    ]
    predictions = predictions.assign(prediction=scaled)
    if "half_width" in predictions:
        own = [
            np.asarray(h) * deviation[i] if isinstance(h, (list, np.ndarray)) else None
            for h, i in zip(predictions["half_width"], numbers, strict=True)
        ]
        predictions = predictions.assign(half_width=pd.Series(own, predictions.index, dtype=object))
    return predictions


def _parity(test, truth, widths, bench: Workbench, choices) -> pd.DataFrame:
    """Return truth and prediction in the properties' units, one episode per family and K."""
    ids = bench.crystals.table["id"].to_numpy()
    formulas = bench.crystals.table["formula"].to_numpy()
    parts = []
    first, items = test[test["draw"] == 0], {item.name: item for item in bench.properties}
    for row in first.itertuples():
        shown = {choices[row.property].method, "pretrained"}
        if row.method not in shown:
            continue
        item, query = items[row.property], np.asarray(row.query)
        prediction = np.asarray(row.prediction)
        half = half_width_of(row, widths)
        parts.append(
            pd.DataFrame(
                {
                    "property": row.property,
                    "unit": item.unit,
                    "method": row.method,
                    "shots": row.shots,
                    "family": row.family,
                    "common_name": row.common_name,
                    "id": ids[query],
                    "formula": formulas[query],
                    "truth": item.from_scale(truth[row.property][query]),
                    "prediction": item.from_scale(prediction),
                    "low": item.from_scale(prediction - half),
                    "high": item.from_scale(prediction + half),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _headline(bench: Workbench, test: pd.DataFrame, units: dict[str, str]) -> list[dict]:
    """Return the family-averaged zero-shot errors per property and method."""
    zero = family_errors(test[test["shots"] == 0])
    records = []
    for key, group in zero.groupby(["property", "method"]):
        name, method = map(str, key)
        low, high = bootstrap_interval(group["error"].to_numpy())
        records.append(
            {
                "property": name,
                "unit": units[name],
                "method": method,
                "title": TITLES[method],
                "mae_family_mean": float(group["error"].mean()),
                "low": None if np.isnan(low) else low,
                "high": None if np.isnan(high) else high,
                "n_families": len(group),
            }
        )
    return records


def _print(scores, choices, headline, sentences, titles) -> None:
    """Print the tables that a reader of the terminal wants."""
    for name in choices:
        own = scores[(scores["property"] == name) & (scores["metric"] == "mae_family_mean")]
        if own.empty:
            continue
        wide = own.pivot_table(index="method", columns="shots", values="value")
        wide = wide.loc[[m for m in TITLES if m in wide.index]]
        wide.index = [TITLES[m] + (" *" if m == choices[name].method else "") for m in wide.index]
        families = own.groupby("shots")["n_families"].max().to_dict()
        log.info(
            "\n%s: mean absolute error in %s, averaged over unseen families\n"
            "(families at each number of labels: %s; * the default)\n%s",
            titles[name].capitalize(),
            own["unit"].iloc[0],
            ", ".join(f"{k}: {n}" for k, n in families.items()),
            wide.to_string(float_format=lambda v: f"{v:.3f}"),
        )
    log.info("")
    for sentence in sentences:
        log.info("%s", sentence)
