"""Retrospective screening: does the predicted top hold the true top of a family never seen?"""

import logging
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from matml.core.statistics import tidy_record
from matml.properties.evaluation.compare import with_interval
from matml.properties.methods.registry import LABEL_PROCESS, STACK
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.screening.evaluation.held_out import DEFAULT, NAMES, HeldOutFamily, pools, top_rows

log = logging.getLogger(__name__)

BENCHMARK = "screening_retrospective"
BASELINES = ("extra_trees_gp", "global_gp", "global_gp_gp")
WITHIN = {"share_of_top_tenth_in_predicted_tenth": 1, "share_of_top_tenth_in_predicted_fifth": 2}
CHANCE = "chance"


def found_share(truth: np.ndarray, prediction: np.ndarray, multiple: int) -> float:
    """Share of the true best tenth (at least three) among `multiple` times as many best predicted.

    Parameters
    ----------
    truth, prediction
        [n], larger is better.
    """
    top = top_rows(truth)
    chosen = np.argsort(-prediction, kind="stable")[: multiple * len(top)]
    return len(np.intersect1d(top, chosen)) / len(top)


def run(
    predictor: FewShotPredictor,
    families: Sequence[HeldOutFamily],
    *,
    shots: Sequence[int],
    draws: int,
    methods: Sequence[str] = (),
    inputs: Sequence[str] = (),
    seed: int = 0,
) -> pd.DataFrame:
    """Score all methods on the same draws: property, family, shots, method, draw, and the shares.

    The support is drawn from the family; all its other labelled crystals are ranked. Families with
    fewer than 2 K or K + 10 labelled crystals sit out at K labels. What a user gets is shown as the
    method `DEFAULT`; with `CHANCE` the expected share of a blind choice stands beside. Columns that
    are `inputs` serve properties of one's own.
    """
    rows = []
    for task, models in pools(predictor, families, [STACK, *BASELINES, *methods], inputs):
        # one generator a task, so that adding a family changes no other
        generator = np.random.default_rng([seed, *task.property.encode(), *task.family.encode()])
        orders = [generator.permutation(len(task)) for _ in range(draws)]
        for k in shots:
            # what the model does not know takes two labels
            few = task.property not in predictor.properties and k < 2
            if few or len(task) < max(2 * k, k + 10):
                continue
            for draw, order in enumerate(orders if k else orders[:1]):
                support, query = order[:k], np.sort(order[k:])
                truth = task.labels[query]
                about = {
                    "property": task.property,
                    "family": task.family,
                    "name": task.name,
                    "shots": k,
                    "draw": draw,
                    "size": len(task),
                }
                for method, model in models.items():
                    mean, _ = model.posterior(support, task.sign * task.labels[support])
                    scores = {
                        w: found_share(truth, task.sign * mean[query], n) for w, n in WITHIN.items()
                    }
                    rows.append(about | scores | {"method": method})
                top = len(top_rows(truth))
                chance = {w: min(1.0, n * top / len(query)) for w, n in WITHIN.items()}
                rows.append(about | chance | {"method": CHANCE})
        log.info("%s, %s: %d crystals", task.property, task.name, len(task))
    return pd.DataFrame(rows)


def records(scores: pd.DataFrame, seed: int) -> list[dict]:
    """Tidy records: shares, and how much larger ours are than each baseline's, paired.

    Intervals are 95 % bootstraps over families. The setting `all properties` averages a family's
    properties first, so that each family counts once. `gain_over_best_baseline` is against the
    baseline with the largest mean share in the very cell.
    """
    found, tidy = [], partial(tidy_record, BENCHMARK, seed=seed)
    settings = [*dict.fromkeys(scores["property"])]
    settings += ["all properties"] if len(settings) > 1 else []
    for setting in settings:
        own = scores if setting == "all properties" else scores[scores["property"] == setting]
        for shots, part in own.groupby("shots"):
            for metric in WITHIN:
                each = part.groupby(["method", "property", "family"])[metric].mean().reset_index()
                wide = each.pivot_table(index="family", columns="method", values=metric)

                def add(method: str, name: str, values: np.ndarray, at=(setting, shots)) -> None:
                    default = method == DEFAULT
                    found.append(tidy(at[0], method, name, values, shots=at[1], is_default=default))

                for method in map(str, wide.columns):
                    values = wide[method].dropna().to_numpy()
                    add(method, metric, values)
                baselines = [m for m in (*BASELINES, LABEL_PROCESS) if m in wide]
                for ours in [m for m in (DEFAULT, STACK) if m in wide]:
                    for baseline in [*baselines, CHANCE]:
                        gain = (wide[ours] - wide[baseline]).dropna().to_numpy()
                        add(ours, f"{metric}_gain_over_{baseline}", gain)
                    if baselines:
                        best = wide[baselines].mean().idxmax()
                        gain = (wide[ours] - wide[best]).dropna().to_numpy()
                        add(ours, f"{metric}_gain_over_best_baseline", gain)
    return found


def print_records(rows: Sequence[dict], echo: Callable[[str], None]) -> None:
    """Print the shares and the paired gains per setting."""
    table = pd.DataFrame(rows)
    table["title"] = table["method"].map(NAMES | {CHANCE: "blind choice"})
    for metric in WITHIN:
        echo(f"\n{metric.replace('_', ' ')}, mean over families [95 % bootstrap over families]")
        for setting, own in table.groupby("setting", sort=False):
            shares = own[own["metric"] == metric]
            families = shares.groupby("shots")["n_tasks"].max().to_dict()
            echo(
                f"{setting}; families at each number of labels: "
                + ", ".join(f"{k}: {n}" for k, n in families.items())
            )
            echo(cells(shares, "title", "shots"))
            gains = own[own["metric"].str.startswith(f"{metric}_gain")]
            against = gains["metric"].str.removeprefix(f"{metric}_gain_over_").str.replace("_", " ")
            gains = gains.assign(title=gains["title"] + " - " + against)
            echo(cells(gains, "title", "shots", sign=True))


def cells(rows: pd.DataFrame, index: str, columns: str, sign: bool = False) -> str:
    """A table of values with their intervals as text."""
    style = "+.3f" if sign else ".3f"
    found: dict[str, dict] = {}
    for row in rows.to_dict("records"):
        text = with_interval(row["value"], row["low"], row["high"], style)
        found.setdefault(row[columns], {})[row[index]] = text
    return pd.DataFrame(found).fillna("-").to_string()
