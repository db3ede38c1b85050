"""Tidy records, tables and figure of the study of forgetting."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from matml.core.statistics import bootstrap_interval, tidy_record
from matml.figures.figure import BLUE, ORANGE, Axis, Figure, Panels, Series
from matml.figures.static import write
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
    found, record = [], partial(tidy_record, "forgetting", shots=shots, seed=seed)

    def add(setting: str, way: str, default: bool, metric: str, values: np.ndarray) -> None:
        if len(values):
            metric = metric if "distance" in metric else f"{metric} [{unit}]"
            found.append(record(setting, way, metric, values, is_default=default))

    for way, outcome in outcomes.items():
        default = way == Way("maml", "inner", default_steps)
        for metric, values in measures(outcome).items():
            add(name, str(way), default, metric, values)
        for number, turn in enumerate(by_turn(outcome), start=1):
            for metric, values in turn.items():
                add(f"{name}, after {number} families", str(way), default, metric, values)
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
        value = {(_measure(r), r["setting"]): r["value"] for r in turns if r["method"] == method}
        for metric, title in TURN_TITLES.items():
            cells = (
                _number(metric, value[metric, one], "") if (metric, one) in value else ""
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


COLOURS = {"maml": BLUE, "pretrained": ORANGE}


def draw(studies: dict[str, dict[Way, Outcome]], path: Path, *, shots: int) -> None:
    """Draw errors and distances against the number of families, a row per property and steps."""
    rows = []
    for name, outcomes in studies.items():
        item = find_property(name)
        unit = item.error_unit or "own unit"
        most = max(own.error.shape[1] for own in outcomes.values())
        turns = {float(n): str(n) for n in range(most)}
        for steps in dict.fromkeys(way.steps for way in outcomes):
            lines = [_lines(way, own) for way, own in outcomes.items() if way.steps == steps]
            titles = (
                ("error on the family just adapted to,\nless that of the start", unit),
                ("error on earlier families less that\nright after adapting to each", unit),
                ("error on crystals of pre-training\n(memorised, so it starts low)", unit),
                ("distance of the weights from the start", "% of the start's norm"),
            )
            rows.append(
                [
                    Figure(
                        f"{name}-{steps}-{number}",
                        title,
                        Axis("families adapted to", ticks=turns),
                        Axis(
                            label if number else f"{item.title}, {steps} steps a family\n{label}",
                            log=number == 3,
                            zero_line=number < 2,
                        ),
                        panel,
                    )
                    for number, ((title, label), panel) in enumerate(
                        zip(titles, zip(*lines, strict=True), strict=True)
                    )
                ]
            )
    note = (
        f"{shots} labels a family, mean over random orders; bars: 95 % bootstrap interval over "
        "families (left two), orders (right two)"
    )
    write(Panels("Adapting to one family after another", rows, note), [path])


def _lines(way: Way, outcome: Outcome) -> list[Series]:
    """Return one way's line in each of the four panels of a row."""
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
    panels = (
        (1, gain),
        (2, change),
        (0, [outcome.retained[:, 0], *(turn["pretraining"] for turn in turns)]),
        (1, [100 * turn["relative_distance"] for turn in turns]),
    )
    shift = 0.06 * (list(STARTS).index(way.start) * 2 + list(RULES).index(way.rule) - 1.5)
    lines = []
    for first, values in panels:
        mean = np.array([own.mean() for own in values])
        ends = np.array([bootstrap_interval(own) for own in values]).reshape(-1, 2)
        low, high = np.where(np.isnan(ends), mean[:, None], ends).T
        lines.append(
            Series(
                first + np.arange(len(values)) + shift,
                mean,
                f"{STARTS[way.start]} start, {RULES[way.rule]}",
                COLOURS[way.start],
                "circle" if way.rule == "inner" else "square",
                width=2.5,
                dash="solid" if way.rule == "inner" else "dash",
                low=low,
                high=high,
            )
        )
    return lines
