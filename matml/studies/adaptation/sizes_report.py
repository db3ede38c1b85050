"""Tidy records, tables and figure of the study of training-set size and time to train."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.statistics import bootstrap_interval, tidy_record
from matml.figures.figure import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Axis,
    Figure,
    Panels,
    Series,
    with_common_y,
)
from matml.figures.static import write
from matml.properties.data.targets import find_property
from matml.properties.evaluation.compare import with_interval
from matml.properties.methods.registry import STACK, TITLES

BASELINES = ("support_mean", "extra_trees", "extra_trees_gp", "global_gp", "global_gp_gp")
NAMES = {m: TITLES[m] for m in (*BASELINES, "pretrained", STACK)} | {
    "pretrained": "networks as they are",
    STACK: f"{TITLES[STACK]} (default)",
}
PART = ["sampling", "fraction", "epochs"]


def by_family(table: pd.DataFrame) -> pd.DataFrame:
    """Return one part's errors at one number of shots, [families, methods]; means over seeds."""
    return table.pivot_table(index="family", columns="method", values="error")


def summarise(table: pd.DataFrame, seed: int) -> list[dict]:
    """Return tidy records of the table that `sizes.run_study` gave.

    Intervals are over families, errors first averaged over seeds; `mae_range_over_seeds` is the
    largest less the smallest of the samples' means. `mae_reduction_against_best_baseline` is that
    baseline's error (lowest mean error of the same part and number of shots) less the default's,
    paired; `..._on_all_data` that of the best baseline trained on all crystals.
    """
    records = []

    def add(part, name, shots, method, metric, values, labels) -> None:
        sampling, fraction, epochs = part
        setting = f"{name}, {fraction:.0%} of the training {sampling}, {epochs} epochs"
        own = {"shots": shots, "is_default": method == STACK, "seed": seed}
        records.append(
            tidy_record("training_size", setting, method, metric, np.asarray(values), **own)
            | {
                "property": name,
                "sampling": sampling,
                "fraction": float(fraction),
                "epochs": int(epochs),
                "training_labels": float(labels),
            }
        )

    for (name, shots), cell in table.groupby(["property", "shots"], sort=False):
        unit = find_property(name).error_unit
        mae = f"mae_{unit}" if unit else "mae"
        full = None
        for part, own in cell.groupby(PART, sort=False):
            errors, labels = by_family(own), own["labels"].mean()
            for method in [m for m in NAMES if m in errors]:
                add(part, name, shots, method, f"{mae}_family_mean", errors[method], labels)
                chosen = own[own["method"] == method]
                means = chosen.groupby("seed")["error"].mean()
                if len(means) > 1:
                    spread = np.array([means.max() - means.min()])
                    add(part, name, shots, method, "mae_range_over_seeds", spread, labels)
                if chosen["seconds"].notna().all():
                    seconds = chosen.groupby("seed")["seconds"].first().to_numpy()
                    add(part, name, shots, method, "training_processor_seconds", seconds, labels)
            baselines = errors.columns.intersection(BASELINES)
            if len(baselines):
                best = errors[errors[baselines].mean().idxmin()]
                # `plan` puts the part with all crystals first
                full = best if full is None and part[1] == 1 else full
                gain = best - errors[STACK]
                metric = "mae_reduction_against_best_baseline"
                add(part, name, shots, STACK, metric, gain, labels)
            if full is not None:
                gain = (full - errors[STACK]).dropna()
                metric = "mae_reduction_against_best_baseline_on_all_data"
                add(part, name, shots, STACK, metric, gain, labels)
    return records


def print_tables(records: Sequence[dict], echo: Callable[[str], None]) -> None:
    """Print errors against size and against time to train, per property and number of shots."""
    table = pd.DataFrame(records)
    full_epochs = table["epochs"].max()
    for (name, shots), own in table.groupby(["property", "shots"], sort=False):
        item = find_property(name)
        families = own.loc[own["metric"].str.endswith("family_mean"), "n_tasks"].max()
        echo(
            f"\n{item.title.capitalize()}, {shots} labels, {families} test families: mean "
            f"absolute error{f' ({item.error_unit})' if item.error_unit else ''} "
            "[95 % over families], samples of one size averaged"
        )
        full = own[(own["fraction"] == 1) & (own["epochs"] == full_epochs)]
        for sampling, sized in own[own["epochs"] == full_epochs].groupby("sampling", sort=False):
            if sampling not in set(full["sampling"]):
                sized = pd.concat([sized, full])
            counts = sized.groupby("fraction")["training_labels"].first()
            title = {f: f"{f:.0%}: {n:.0f} labels" for f, n in counts.items()}
            _print_block(f"training {sampling} kept", sized, "fraction", title, echo)
        timed = own[own["fraction"] == 1]
        if (timed["epochs"] < full_epochs).any():
            title = {n: f"{n} epochs" for n in sorted(timed["epochs"].unique())}
            _print_block("all training crystals", timed, "epochs", title, echo)


def _print_block(
    heading: str,
    records: pd.DataFrame,
    column: str,
    titles: dict,
    echo: Callable[[str], None],
) -> None:
    """Print one block: a row a method, a column a size or a number of epochs."""
    rows: dict[str, dict[str, str]] = {}
    for item in records.itertuples():
        label = NAMES[item.method]
        if item.metric == "training_processor_seconds":
            if column == "fraction":
                continue
            label, text = f"{label}: processor s to train", f"{item.value:.0f}"
        elif item.metric == "mae_range_over_seeds":
            if item.method != STACK:
                continue
            label, text = f"{label}: range over seeds", f"{item.value:.4f}"
        else:
            sign = "+" if "reduction" in item.metric else ""
            text = with_interval(item.value, item.low, item.high, f"{sign}.4f")
            if "reduction" in item.metric:
                label = "default's error less than best baseline's"
                label += " on all data" if item.metric.endswith("all_data") else ""
        rows.setdefault(label, {})[titles[getattr(item, column)]] = text
    block = pd.DataFrame(rows).T.reindex(columns=[titles[key] for key in sorted(titles)])
    echo(f"{heading}\n{block.fillna('-').to_string()}")


STYLES = {
    "extra_trees_gp": ("extra-trees + GP", GREEN, "triangle-up"),
    "global_gp": ("global GP", BLUE, "square"),
    "pretrained": ("networks as they are", GREY, "diamond"),
    STACK: ("default", ORANGE, "circle"),
}
"""Title, colour and marker of each method drawn."""


def draw(table: pd.DataFrame, path: Path, *, shots: int) -> None:
    """Draw the errors with `shots` labels, a row a property, to PNG and SVG files beside.

    Left against the number of training labels, right against the processor time of training. All
    points of a row are means over the same families.
    """
    rows = []
    for name, all_shots in table.groupby("property", sort=False):
        families = all_shots.loc[all_shots["shots"] == shots, "family"].unique()
        own = all_shots[all_shots["family"].isin(families)]
        item = find_property(str(name))
        unit = f", {item.error_unit}" if item.error_unit else ""
        y = Axis(f"mean absolute error{unit}", log=True, ticks_125=True)
        axes = [
            Axis("training labels of the property", log=True, ticks_125=True),
            Axis("processor time to train, s (small numbers: epochs)", log=True, ticks_125=True),
        ]
        title = f"{item.title}, {len(families)} unseen families"
        panels = zip(("labels", "seconds"), axes, (_sizes, _times), strict=True)
        rows.append(
            with_common_y(
                [Figure(f"{name}-{kind}", title, x, y, of(own, shots)) for kind, x, of in panels]
            )
        )
    note = f"With {shots} labels of the new family, if not said otherwise."
    files = [path.with_suffix(suffix) for suffix in (".png", ".svg")]
    write(Panels("Error by training-set size and by time to train", rows, note, 4.8), files)


def _sizes(own: pd.DataFrame, shots: int) -> list[Series]:
    """Return error against the number of training labels."""
    sized = own[own["epochs"] == own["epochs"].max()]
    drawn = sized[sized["sampling"] == "crystals"]
    found = []
    for number, (method, (label, colour, marker)) in enumerate(STYLES.items()):
        chosen = drawn[(drawn["method"] == method) & (drawn["shots"] == shots)]
        line = replace(_line(chosen, "labels"), name=label, colour=colour, symbol=marker)
        # side by side, where intervals would cover each other
        found.append(replace(line, x=np.asarray(line.x) * 1.03 ** (number - 1.5)))
    ours = sized[sized["method"] == STACK]
    plain = Series((), (), colour=STYLES[STACK][1], width=2.4, low=None, high=None)
    bare = _line(ours[(ours["sampling"] == "crystals") & (ours["shots"] == 0)], "labels")
    found.append(replace(plain, x=bare.x, y=bare.y, name="default, no label", dash="dash"))
    chosen = ours[ours["shots"] == shots]
    if (chosen["sampling"] == "families").any():
        whole = (chosen["sampling"] == "families") | (chosen["fraction"] == 1)
        bare = _line(chosen[whole], "labels")
        name, symbol = "default, whole families left out", "circle-open"
        found.append(replace(plain, x=bare.x, y=bare.y, name=name, dash="dot", symbol=symbol))
    return found


def _times(own: pd.DataFrame, shots: int) -> list[Series]:
    """Return error against the processor time of training, all training crystals."""
    full = own[(own["fraction"] == 1) & (own["shots"] == shots)]
    found = []
    for method, (label, colour, marker) in STYLES.items():
        chosen = full[full["method"] == method]
        line = replace(_line(chosen, "seconds"), name=label, colour=colour, symbol=marker)
        found.append(line)
        if method == STACK:
            spots = zip(line.x, line.y, sorted(set(chosen["epochs"])), strict=True)
            found += [Series([x], [y], end_label=str(epochs)) for x, y, epochs in spots]
    return found


def _line(chosen: pd.DataFrame, column: str) -> Series:
    """Return a method's points, with intervals over families."""
    x, y, ends = [], [], []
    for _, group in chosen.groupby(["fraction", "epochs"]):
        errors = group.groupby("family")["error"].mean().to_numpy()
        x.append(group.groupby("seed")[column].first().mean())
        y.append(errors.mean())
        ends.append(bootstrap_interval(errors))
    low, high = np.array(ends).reshape(-1, 2).T
    return Series(x, y, size=7, width=2.4, low=low, high=high)
