"""Tidy records, tables and figure of the study of forgetting."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from matml.core.files import atomic
from matml.core.statistics import bootstrap_interval, tidy_record
from matml.properties.data.targets import find_property
from matml.studies.adaptation.forgetting import (
    RULES,
    STARTS,
    Outcome,
    Way,
    by_turn,
    family_means,
    measures,
)

MEASURES = {
    "error_before": "error before",
    "error_when_adapted": "right after",
    "error_at_end": "at the end",
    "backward_transfer": "backward transfer",
    "pretraining_change": "pre-training",
    "relative_distance": "relative distance",
    "distance": "distance",
}
"""What is summarised, with the heading of its column."""


def summarise(
    name: str, outcomes: dict[Way, Outcome], *, shots: int, default_steps: int, seed: int
) -> list[dict]:
    """Return tidy records: measures of each way, differences between starts, and values by turn."""
    unit = find_property(name).error_unit
    found = []

    def add(setting: str, way: str, default: bool, metric: str, values: np.ndarray) -> None:
        if len(values):
            metric = metric if "distance" in metric else f"{metric} [{unit}]"
            own = {"shots": shots, "is_default": default, "seed": seed}
            found.append(tidy_record("forgetting", setting, way, metric, values, **own))

    for way, outcome in outcomes.items():
        default = way == Way("maml", "inner", default_steps)
        for metric, values in measures(outcome).items():
            add(name, str(way), default, metric, values)
        for number, values in enumerate(by_turn(outcome), start=1):
            for metric, own in values.items():
                add(f"{name}, after {number} families", str(way), default, metric, own)
    for way, outcome in outcomes.items():
        if way.start == "maml":
            other = measures(outcomes[Way("pretrained", way.rule, way.steps)])
            title = f"meta-learned less pre-trained start, {RULES[way.rule]}, {way.steps} steps"
            for metric, values in measures(outcome).items():
                add(name, title, False, metric, values - other[metric])
    return found


def print_tables(name: str, records: Sequence[dict], echo: Callable[[str], None]) -> None:
    """Print the measures of each way, and the errors after each number of families."""
    unit = find_property(name).error_unit
    own = [record for record in records if record["setting"] == name]
    families = {record["n_tasks"] for record in own if record["metric"].startswith("error_before")}
    echo(f"\n{name}: mean absolute error in {unit}, {families.pop()} unseen families in turn")
    echo(
        "(backward transfer: negative where later families spoil earlier ones; pre-training:\n"
        "change of the error on crystals of pre-training; distance: over the norm of the start)"
    )
    shown = [metric for metric in MEASURES if metric != "distance"]
    echo(f"{'':42}" + "".join(f"{MEASURES[metric]:>27}" for metric in shown))
    for method in dict.fromkeys(record["method"] for record in own):
        line = f"{method.replace('meta-learned less pre-trained start', '  difference'):42}"
        values = {_measure(r): r for r in own if r["method"] == method}
        for metric in shown:
            # differences carry their sign
            signed = "less" in method or metric in ("backward_transfer", "pretraining_change")
            line += f"{_cell(values[metric], '+' if signed else ''):>27}"
        echo(line)
    turns = [r for r in records if r["setting"].startswith(f"{name}, after")]
    settings = list(dict.fromkeys(record["setting"] for record in turns))
    echo(f"\n{'families adapted to':34}" + "".join(f"{i:>10}" for i, _ in enumerate(settings, 1)))
    for method in dict.fromkeys(record["method"] for record in turns):
        echo(method)
        own = {(_measure(r), r["setting"]): r["value"] for r in turns if r["method"] == method}
        for metric, title in TURN_TITLES.items():
            cells = (
                _number(metric, own[metric, one], "") if (metric, one) in own else ""
                for one in settings
            )
            echo(f"{'  ' + title:34}" + "".join(f"{cell:>10}" for cell in cells))


TURN_TITLES = {
    "current": "current family",
    "earlier": "earlier families",
    "earlier_when_adapted": "earlier, when adapted",
    "pretraining": "pre-training sample",
    "relative_distance": "relative distance",
}


def _measure(record: dict) -> str:
    """Return a record's metric without its unit."""
    return record["metric"].split(" [")[0]


def _number(metric: str, value: float, sign: str) -> str:
    """Return an error with three decimals, a relative distance in per cent."""
    if metric == "relative_distance":
        return f"{100 * value:{sign}.3f} %"
    return f"{value:{sign}.3f}"


def _cell(record: dict, sign: str) -> str:
    """Return value and interval as text."""
    metric = _measure(record)
    text = _number(metric, record["value"], sign)
    if record["low"] is None:
        return text
    ends = (_number(metric, record[end], sign).removesuffix(" %") for end in ("low", "high"))
    return f"{text} [{', '.join(ends)}]"


COLOURS = {"maml": "#0072b2", "pretrained": "#d55e00"}


def draw(studies: dict[str, dict[Way, Outcome]], path: Path, *, shots: int) -> None:
    """Draw errors and distances against the number of families, a row per property and steps."""
    rows = [
        (name, steps)
        for name, outcomes in studies.items()
        for steps in dict.fromkeys(way.steps for way in outcomes)
    ]
    figure = Figure(figsize=(15.5, 3.3 * len(rows) + 0.8), layout="constrained")
    grid = figure.subplots(len(rows), 4, squeeze=False)
    for axes, (name, steps) in zip(grid, rows, strict=True):
        item = find_property(name)
        for way, outcome in studies[name].items():
            if way.steps == steps:
                _draw_way(axes, way, outcome)
        unit = item.error_unit or "own unit"
        titles = (
            ("error on the family just adapted to,\nless that of the start", unit),
            ("error on earlier families less that\nright after adapting to each", unit),
            ("error on crystals of pre-training\n(memorised, so it starts low)", unit),
            ("distance of the weights from the start", "% of the start's norm"),
        )
        for panel, (title, label) in zip(axes, titles, strict=True):
            panel.set_title(title, fontsize=10)
            panel.set_ylabel(label)
            panel.set_xlabel("families adapted to")
            panel.grid(color="0.92")
            panel.set_axisbelow(True)
            panel.xaxis.get_major_locator().set_params(integer=True)
        axes[0].set_ylabel(f"{item.title}, {steps} steps a family\n{unit}")
        for panel in axes[:2]:
            panel.axhline(0, color="0.6", linewidth=1)
        axes[3].set_yscale("log")
    handles, labels = grid[0, 3].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=11
    )
    figure.supxlabel(
        f"{shots} labels a family, mean over random orders; bars: 95 % bootstrap interval "
        "over families (left two), orders (right two)",
        fontsize=10,
    )
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _draw_way(axes: Sequence, way: Way, outcome: Outcome) -> None:
    """Draw one way's lines into the four panels of a row."""
    turns = by_turn(outcome)
    families, error = outcome.families, outcome.error
    change, gain = [], []
    for after in range(1, error.shape[1]):
        last = after - 1
        moved = error[:, after, last] - error[:, 0, last]
        gain.append(family_means(families[:, last], moved))
    for after in range(2, error.shape[1]):
        past = np.arange(after - 1)
        moved = error[:, after, past] - error[:, past + 1, past]
        change.append(family_means(families[:, past], moved))
    series = (
        (1, gain),
        (2, change),
        (0, [outcome.retained[:, 0], *(turn["pretraining"] for turn in turns)]),
        (1, [100 * turn["relative_distance"] for turn in turns]),
    )
    shift = 0.06 * (list(STARTS).index(way.start) * 2 + list(RULES).index(way.rule) - 1.5)
    for panel, (first, values) in zip(axes, series, strict=True):
        mean = np.array([own.mean() for own in values])
        ends = np.array([bootstrap_interval(own) for own in values])
        ends = np.where(np.isnan(ends), mean[:, None], ends)
        panel.errorbar(
            first + np.arange(len(values)) + shift,
            mean,
            np.abs(ends.T - mean),
            color=COLOURS[way.start],
            linestyle="-" if way.rule == "inner" else "--",
            marker="o" if way.rule == "inner" else "s",
            markersize=4,
            linewidth=1.6,
            elinewidth=0.8,
            capsize=2,
            label=f"{STARTS[way.start]} start, {RULES[way.rule]}",
        )
