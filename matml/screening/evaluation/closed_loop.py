"""Closed loop: how many labels of a family never seen are needed to find its best tenth."""

import logging
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from matml.core.statistics import tidy_record
from matml.properties.methods.registry import LABEL_PROCESS, STACK
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.screening.acquire.acquisition import acquisition, labels_until_found, turned
from matml.screening.evaluation.held_out import DEFAULT, NAMES, HeldOutFamily, pools, top_rows
from matml.screening.evaluation.retrospective import cells

log = logging.getLogger(__name__)

BENCHMARK = "screening_closed_loop"
RANDOM = "random"
LOOP_BASELINES = ("extra_trees_gp", "global_gp")
STRATEGY = "top"
METRICS = {"labels_to_find_the_top_tenth": 1.0, "labels_to_find_half_of_it": 0.5}


def run(
    predictor: FewShotPredictor,
    families: Sequence[HeldOutFamily],
    *,
    starts: int,
    start_size: int,
    strategies: Sequence[str] = (STRATEGY,),
    methods: Sequence[str] = (),
    inputs: Sequence[str] = (),
    seed: int = 0,
) -> pd.DataFrame:
    """Simulate labelling one crystal after another with each method, from the same starts.

    Each start labels `start_size` crystals drawn at random, which count. Random choice goes on as
    it began: its labels needed are the mean over 200 orders that begin with the start. Columns that
    are `inputs` serve properties of one's own.

    Returns
    -------
    pandas.DataFrame
        property, family, name, size, method, strategy, start, and `METRICS`.
    """
    found = []
    for task, models in pools(predictor, families, [STACK, *LOOP_BASELINES, *methods], inputs):
        generator = np.random.default_rng([seed, *task.property.encode(), *task.family.encode()])
        wanted = top_rows(task.labels)
        for start in range(starts):
            begin = generator.choice(len(task), size=min(start_size, len(task)), replace=False)
            about = {
                "property": task.property,
                "family": task.family,
                "name": task.name,
                "size": len(task),
                "start": start,
            }
            chance = [_random(task, begin, wanted, generator) for _ in range(200)]
            found.append(about | {"method": RANDOM, "strategy": ""} | _mean(chance))
            for method, model in models.items():
                model = turned(model, task.sign)
                for strategy in strategies:
                    needed = labels_until_found(_chooser(strategy, model, task), begin, wanted)
                    found.append(about | {"method": method, "strategy": strategy} | _needed(needed))
        log.info("%s, %s: %d crystals", task.property, task.name, len(task))
    return pd.DataFrame(found)


def _chooser(strategy: str, model, task: HeldOutFamily) -> Callable[[list[int]], int]:
    def choose(rows: list[int]) -> int:
        value = acquisition(strategy, model, rows, task.labels[rows])
        value[rows] = -np.inf
        return int(np.argmax(value))

    return choose


def _random(task: HeldOutFamily, begin: np.ndarray, wanted: np.ndarray, generator) -> dict:
    rest = generator.permutation(np.setdiff1d(np.arange(len(task)), begin))
    order = iter(rest.tolist())
    return _needed(labels_until_found(lambda _: next(order), begin, wanted))


def _needed(numbers: Sequence[int]) -> dict[str, int]:
    """Labels at which the share of each metric was found."""
    return {
        name: numbers[int(np.ceil(share * len(numbers))) - 1] for name, share in METRICS.items()
    }


def _mean(rows: Sequence[dict]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in METRICS}


def records(runs: pd.DataFrame, seed: int) -> list[dict]:
    """Tidy records per property and over all: labels needed, and paired differences and ratios.

    `…_over_random` is the family's labels needed over those of random choice; `…_fewer_than_X` the
    difference to a baseline. Mean over starts within a family, then over families; a family with
    several properties counts once in `all properties`. 95 % bootstrap over families.
    """
    found, tidy = [], partial(tidy_record, BENCHMARK, seed=seed)
    settings = [*dict.fromkeys(runs["property"])]
    settings += ["all properties"] if len(settings) > 1 else []
    for setting in settings:
        own = runs if setting == "all properties" else runs[runs["property"] == setting]
        for strategy in [s for s in dict.fromkeys(own["strategy"]) if s]:
            part = own[own["strategy"].isin([strategy, ""])]
            for metric in METRICS:
                wide = part.pivot_table(
                    index=["property", "family"], columns="method", values=metric, aggfunc="mean"
                )

                def add(
                    method: str, name: str, values: pd.Series, about=(setting, strategy)
                ) -> None:
                    # a method that is the default of one property only has no value for others
                    each = values.groupby("family").mean().dropna().to_numpy()
                    default = method == DEFAULT and about[1] == STRATEGY
                    own = tidy(", ".join(about), method, name, each, shots=0, is_default=default)
                    found.append(own | {"shots": None})

                for method in map(str, wide.columns):
                    add(method, metric, wide[method])
                    if method != RANDOM:
                        add(method, f"{metric}_over_random", wide[method] / wide[RANDOM])
                for ours in [m for m in (DEFAULT, STACK) if m in wide]:
                    for baseline in (b for b in (*LOOP_BASELINES, LABEL_PROCESS) if b in wide):
                        gain = wide[baseline] - wide[ours]
                        add(ours, f"{metric}_fewer_than_{baseline}", gain)
    return found


def print_records(rows: Sequence[dict], echo: Callable[[str], None]) -> None:
    """Print labels needed, ratios to random choice and paired differences."""
    table = pd.DataFrame(rows)
    table["title"] = table["method"].map(NAMES | {RANDOM: "random choice"})
    for setting, own in table.groupby("setting", sort=False):
        echo(f"\n{setting}; {own['n_tasks'].max()} families [95 % bootstrap over families]")
        for metric in METRICS:
            part = own[own["metric"].isin([metric, f"{metric}_over_random"])]
            short = part["metric"].map({metric: metric, f"{metric}_over_random": "over random"})
            echo(cells(part.assign(column=short), "title", "column"))
            fewer = own[own["metric"].str.startswith(f"{metric}_fewer_than_")]
            against = fewer["metric"].str.removeprefix(f"{metric}_")
            echo(cells(fewer.assign(column=against), "title", "column", sign=True))
