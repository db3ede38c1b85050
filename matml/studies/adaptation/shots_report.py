"""Tidy records, tables and figure of the study of bias and variance."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.statistics import FEWEST_TASKS, bootstrap_interval, tidy_record
from matml.figures.figure import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Axis,
    Figure,
    Panels,
    Part,
    Series,
    with_common_y,
)
from matml.figures.static import write
from matml.properties.data.targets import find_property
from matml.properties.evaluation.compare import with_interval
from matml.studies.adaptation.shots import METHODS, stopped_elsewhere

PARTS = {"mse": "error", "squared_bias": "squared bias", "variance": "variance"}


def summarise(name: str, table: pd.DataFrame, *, default_steps: int, seed: int) -> list[dict]:
    """Return tidy records: each part with its interval over families, and what stopping gains.

    `change_of_mse` is paired against the start (0 steps); `mse_stopped` is the error where the
    number of steps for a family is chosen on the other families.
    """
    unit = find_property(name).error_unit
    square = f"({unit})^2" if unit else "1"
    found, record = [], partial(tidy_record, "shots", seed=seed)

    def add(method: str, steps: int | None, shots: int, metric: str, values: np.ndarray) -> None:
        title, default = METHODS[method], method == "maml" and steps == default_steps
        title = title if steps is None or steps < 0 else f"{title}, {steps} steps"
        metric = f"{metric} [{square}]"
        found.append(record(name, title, metric, values, shots=shots, is_default=default))

    for (shots, method), own in table.groupby(["shots", "method"], sort=False):
        error = own.pivot_table(index="family", columns="steps", values="mse")
        # the GP's start is the pre-trained network, as that of fine-tuning
        origin = "fine_tuned" if method == "network_gp" else method
        begun = (table["method"] == origin) & (table["shots"] == shots) & (table["steps"] == 0)
        start = table[begun].set_index("family")["mse"][error.index]
        for steps, group in own.groupby("steps", sort=False):
            for part in PARTS:
                add(method, steps, shots, part, group[part].to_numpy())
            if steps:
                add(method, steps, shots, "change_of_mse", (error[steps] - start).to_numpy())
        if method != "network_gp" and len(error) >= FEWEST_TASKS:
            add(method, None, shots, "mse_stopped", stopped_elsewhere(own).to_numpy())
    return found


def print_tables(
    name: str, table: pd.DataFrame, records: Sequence[dict], echo: Callable[[str], None]
) -> None:
    """Print the error and its parts against the number of steps, one block per number of shots."""
    unit = find_property(name).error_unit
    echo(f"\n{name}: mean squared error = squared bias + variance, in 0.001 ({unit or 1})^2")
    value = {(r["method"], r["shots"], r["metric"].split(" [")[0]): r for r in records}
    for shots, block in table.groupby("shots"):
        families = block["family"].nunique()
        steps = sorted(step for step in block["steps"].unique() if step >= 0)
        echo(f"\n{shots} labels, {families} unseen families")
        echo(f"{'steps':52}" + "".join(f"{step:>10}" for step in steps))
        for method, title in METHODS.items():
            if method == "network_gp":
                cells = ", ".join(
                    f"{words} {1000 * value[title, shots, part]['value']:.3f}"
                    for part, words in PARTS.items()
                )
                echo(f"{title}: {cells}{_change(value[title, shots, 'change_of_mse'])}")
                continue
            for part, words in PARTS.items():
                row = [value[f"{title}, {step} steps", shots, part]["value"] for step in steps]
                echo(
                    f"{f'{title}: {words}':52}"
                    + "".join(f"{1000 * number:>10.3f}" for number in row)
                )
            best = min(steps, key=lambda s: value[f"{title}, {s} steps", shots, "mse"]["value"])
            line = f"  lowest after {best} steps"
            if best:
                line += _change(value[f"{title}, {best} steps", shots, "change_of_mse"])
            if stopped := value.get((title, shots, "mse_stopped")):
                line += f"; steps chosen on the other families: {_interval(stopped)}"
            echo(line)


def _interval(record: dict, sign: str = "") -> str:
    """Return value and interval as text, in thousandths."""
    low, high = (None if record[end] is None else 1000 * record[end] for end in ("low", "high"))
    return with_interval(1000 * record["value"], low, high, f"{sign}.3f")


def _change(record: dict) -> str:
    """Return in words how the error differs from that of the start."""
    return f", change from the start {_interval(record, '+')}"


COLOURS = {"mse": GREY, "squared_bias": BLUE, "variance": ORANGE}


def draw(tables: dict[str, pd.DataFrame], path: Path, *, default_steps: int) -> None:
    """Draw what adapting changes of error and its parts: a row per property and method.

    Changes, since what no support can teach is the larger part of the error nearly everywhere. One
    panel per number of shots; all panels of a property share their axes.
    """
    methods = [method for method in METHODS if method != "network_gp"]
    rows = []
    for name, table in tables.items():
        shots = sorted(table["shots"].unique())
        panels = with_common_y(
            [
                _panel(name, table[table["shots"] == k], k, method, default_steps)
                for method in methods
                for k in shots
            ]
        )
        rows += [panels[n * len(shots) : (n + 1) * len(shots)] for n in range(len(methods))]
    title = "What adapting changes of the error and its parts, by inner steps"
    note = "Bars: 95 % over families. Dotted: steps of meta-training."
    write(Panels(title, rows, note), [path])


def _panel(name: str, table: pd.DataFrame, shots: int, method: str, default_steps: int) -> Figure:
    """Return one method's changes at one number of shots, with the GP's error beside them."""
    own = table[table["method"] == method]
    start = own[own["steps"] == 0].set_index("family")
    steps = sorted(own["steps"].unique())
    places, parts = list(range(len(steps))), list[Part]()
    for kind, words in PARTS.items():
        change = 1000 * own.pivot_table(index="family", columns="steps", values=kind).sub(
            start[kind], axis=0
        )
        line = Series(places, change.mean(), words, COLOURS[kind], "circle", 5, width=2)
        if kind == "mse":
            low, high = zip(*(bootstrap_interval(change[s].to_numpy()) for s in steps), strict=True)
            line = replace(line, low=low, high=high)
        parts.append(line)
    # against the same start, so that heights compare
    gp = table[table["method"] == "network_gp"].set_index("family")["mse"] - start["mse"]
    level = [1000 * gp.mean()] * 2
    parts.append(Series([0, places[-1]], level, "error of the GP", GREEN, width=2, dash="dash"))
    item = find_property(name)
    square = f"0.001 ({item.error_unit})²" if item.error_unit else "0.001"
    meta = float(np.interp(default_steps, steps, places))
    return Figure(
        f"{name}-{method}-{shots}",
        f"{item.title}, {METHODS[method].split(',')[0]}",
        Axis("steps", ticks=dict(zip(places, map(str, steps), strict=True)), marks=[meta]),
        Axis(f"change, {square}", zero_line=True),
        parts,
        f"{shots} label{'s' if shots > 1 else ''}, {start.index.nunique()} families; "
        f"error of the start {1000 * start['mse'].mean():.1f}",
    )
