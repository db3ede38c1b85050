"""Tidy records, tables and figure of the study of bias and variance."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from matml.core.files import atomic
from matml.core.statistics import bootstrap_interval, tidy_record
from matml.properties.data.targets import find_property
from matml.properties.evaluation.compare import FEWEST_FAMILIES
from matml.studies.adaptation.shots import METHODS, stopped_elsewhere

PARTS = {"mse": "error", "squared_bias": "squared bias", "variance": "variance"}


def summarise(name: str, table: pd.DataFrame, *, default_steps: int, seed: int) -> list[dict]:
    """Return tidy records: each part with its interval over families, and what stopping gains.

    `change_of_mse` is paired against the start (0 steps); `mse_stopped` is the error where the
    number of steps for a family is chosen on the other families.
    """
    unit = find_property(name).error_unit
    square = f"({unit})^2" if unit else "1"
    found = []

    def add(method: str, steps: int | None, shots: int, metric: str, values: np.ndarray) -> None:
        title, default = METHODS[method], method == "maml" and steps == default_steps
        title = title if steps is None or steps < 0 else f"{title}, {steps} steps"
        own = {"shots": shots, "is_default": default, "seed": seed}
        found.append(tidy_record("shots", name, title, f"{metric} [{square}]", values, **own))

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
        if method != "network_gp" and len(error) >= FEWEST_FAMILIES:
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
    value, low, high = (
        "" if record[key] is None else f"{1000 * record[key]:{sign}.3f}"
        for key in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]" if low else value


def _change(record: dict) -> str:
    """Return in words how the error differs from that of the start."""
    return f", change from the start {_interval(record, '+')}"


COLOURS = {"mse": "black", "squared_bias": "#0072b2", "variance": "#d55e00"}


def draw(tables: dict[str, pd.DataFrame], path: Path, *, default_steps: int) -> None:
    """Draw what adapting changes of error and its parts: a row per property and method.

    Changes, since what no support can teach is the larger part of the error nearly everywhere. One
    panel per number of shots; all panels of a property share their axes.
    """
    rows = [(name, method) for name in tables for method in METHODS if method != "network_gp"]
    columns = max(table["shots"].nunique() for table in tables.values())
    figure = Figure(figsize=(3.0 * columns + 1, 2.9 * len(rows) + 0.6), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, (name, method) in zip(grid, rows, strict=True):
        table = tables[name]
        shots = sorted(table["shots"].unique())
        for panel, k in zip(axes, shots, strict=False):
            _draw_panel(panel, table[table["shots"] == k], method, default_steps)
            families = table[table["shots"] == k]["family"].nunique()
            panel.set_title(f"{k} label{'s' if k > 1 else ''}, {families} families", fontsize=10)
        for panel in axes[len(shots) :]:
            panel.set_visible(False)
        item = find_property(name)
        square = f"0.001 ({item.error_unit})²" if item.error_unit else "0.001"
        short = METHODS[method].split(",")[0]
        axes[0].set_ylabel(f"{item.title}\n{short}\nchange, {square}")
    for number in range(len(tables)):
        # two rows are one property's
        own = grid[2 * number : 2 * number + 2].ravel()
        low, high = zip(*(panel.get_ylim() for panel in own), strict=True)
        for panel in own:
            panel.set_ylim(min(low), max(high))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=10
    )
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _draw_panel(panel, table: pd.DataFrame, method: str, default_steps: int) -> None:
    """Draw one method at one number of shots, with the GP's error beside it."""
    own = table[table["method"] == method]
    start = own[own["steps"] == 0].set_index("family")
    panel.axhline(0, color="0.6", linewidth=1)
    for part, words in PARTS.items():
        wide = own.pivot_table(index="family", columns="steps", values=part)
        change = 1000 * wide.sub(start[part], axis=0)
        panel.plot(
            change.columns,
            change.mean(),
            color=COLOURS[part],
            linewidth=2.4 if part == "mse" else 1.5,
            marker="o",
            markersize=3,
            label=f"{words} (95 % over families)" if part == "mse" else words,
        )
        if part == "mse":
            ends = np.array([bootstrap_interval(change[step].to_numpy()) for step in change])
            panel.fill_between(change.columns, ends[:, 0], ends[:, 1], color="0.88", zorder=0)
    # against the same start, so that heights compare
    gp = table[table["method"] == "network_gp"].set_index("family")["mse"] - start["mse"]
    panel.axhline(
        1000 * gp.mean(), color="#009e73", linestyle="--", linewidth=1.5, label="error of the GP"
    )
    panel.axvline(
        default_steps, color="0.5", linestyle=":", linewidth=1, label="steps of meta-training"
    )
    panel.text(
        0.03,
        0.97,
        f"error of the start {1000 * start['mse'].mean():.1f}",
        transform=panel.transAxes,
        va="top",
        fontsize=8.5,
    )
    panel.set_xscale("symlog", linthresh=1, linscale=0.5)
    ticks = sorted(own["steps"].unique())
    panel.set_xlim(-0.2, 1.15 * max(ticks))
    panel.set_xticks(ticks, [str(step) for step in ticks])
    panel.set_xticks([], minor=True)
    panel.set_xlabel("steps")
    panel.grid(color="0.93")
    panel.set_axisbelow(True)
