"""Tidy records, tables and figure of the study of training-set size and time to train."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from matml.core.files import atomic
from matml.core.statistics import bootstrap_interval, tidy_record
from matml.properties.data.targets import find_property
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
            text = f"{item.value:{sign}.4f}"
            if not pd.isna(item.low):
                text += f" [{item.low:{sign}.4f}, {item.high:{sign}.4f}]"
            if "reduction" in item.metric:
                label = "default's error less than best baseline's"
                label += " on all data" if item.metric.endswith("all_data") else ""
        rows.setdefault(label, {})[titles[getattr(item, column)]] = text
    block = pd.DataFrame(rows).T.reindex(columns=[titles[key] for key in sorted(titles)])
    echo(f"{heading}\n{block.fillna('-').to_string()}")


STYLES = {
    # method: title, colour, marker
    "extra_trees_gp": ("extra-trees + GP", "#009e73", "^"),
    "global_gp": ("global GP", "#0072b2", "s"),
    "pretrained": ("networks as they are", "#6b6b6b", "D"),
    STACK: ("default", "#d55e00", "o"),
}


def draw(table: pd.DataFrame, path: Path, *, shots: int) -> None:
    """Draw the errors with `shots` labels, a row a property, to PNG and SVG files beside.

    Left against the number of training labels, right against the processor time of training. All
    points of a row are means over the same families.
    """
    names = list(dict.fromkeys(table["property"]))
    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    # the same bytes from the same numbers
    with mpl.rc_context(style | {"svg.hashsalt": "sizes"}):
        figure = Figure(figsize=(9.5, 0.7 + 3.0 * len(names)), layout="constrained")
        grid = figure.subplots(len(names), 2, squeeze=False, sharey="row")
        for name, (left, right) in zip(names, grid, strict=True):
            own = table[table["property"] == name]
            families = own.loc[own["shots"] == shots, "family"].unique()
            own = own[own["family"].isin(families)]
            _draw_sizes(left, own, shots)
            _draw_times(right, own, shots)
            item = find_property(name)
            unit = f", {item.error_unit}" if item.error_unit else ""
            left.set_ylabel(f"mean absolute error{unit}")
            left.set_title(f"{item.title}, {len(families)} unseen families", loc="left")
        handles, titles = grid[0, 0].get_legend_handles_labels()
        figure.legend(
            handles,
            titles,
            title=f"with {shots} labels of the new family, if not said otherwise",
            loc="outside upper center",
            ncols=3,
            frameon=False,
        )
        for suffix in (".png", ".svg"):
            metadata = {"Date": None} if suffix == ".svg" else {}
            with atomic(path.with_suffix(suffix)) as temporary:
                figure.savefig(temporary, dpi=150, format=suffix[1:], metadata=metadata)


def _draw_sizes(axes: Axes, own: pd.DataFrame, shots: int) -> None:
    """Draw error against the number of training labels."""
    sized = own[own["epochs"] == own["epochs"].max()]
    drawn = sized[sized["sampling"] == "crystals"]
    for number, (method, (label, colour, marker)) in enumerate(STYLES.items()):
        chosen = drawn[(drawn["method"] == method) & (drawn["shots"] == shots)]
        # side by side, where intervals would cover each other
        style = {"color": colour, "marker": marker, "markersize": 4.5}
        _line(axes, chosen, "labels", label=label, shift=1.03 ** (number - 1.5), **style)
    ours, own_colour = sized[sized["method"] == STACK], STYLES[STACK][1]
    chosen = ours[(ours["sampling"] == "crystals") & (ours["shots"] == 0)]
    style = {"color": own_colour, "interval": False, "label": "default, no label"}
    _line(axes, chosen, "labels", linestyle="--", **style)
    chosen = ours[ours["shots"] == shots]
    if (chosen["sampling"] == "families").any():
        chosen = chosen[(chosen["sampling"] == "families") | (chosen["fraction"] == 1)]
        style |= {"label": "default, whole families left out", "markerfacecolor": "white"}
        _line(axes, chosen, "labels", linestyle=":", marker="o", **style)
    _logarithmic(axes)
    axes.set_xlabel("training labels of the property")


def _draw_times(axes: Axes, own: pd.DataFrame, shots: int) -> None:
    """Draw error against the processor time of training, all training crystals."""
    full = own[(own["fraction"] == 1) & (own["shots"] == shots)]
    for method, (_, colour, marker) in STYLES.items():
        chosen = full[full["method"] == method]
        spots = _line(axes, chosen, "seconds", color=colour, marker=marker, markersize=4.5)
        if method == STACK:
            for (seconds, error), epochs in zip(spots, sorted(set(chosen["epochs"])), strict=True):
                axes.annotate(
                    str(epochs),
                    (seconds, error),
                    textcoords="offset points",
                    xytext=(-4, -10),
                    ha="right",
                    fontsize=7.5,
                    color=colour,
                )
    _logarithmic(axes)
    axes.set_xlabel("processor time to train, s (small numbers: epochs)")


def _line(
    axes: Axes,
    chosen: pd.DataFrame,
    column: str,
    *,
    shift: float = 1.0,
    interval: bool = True,
    **style,
) -> list[tuple[float, float]]:
    """Draw a method's points, with intervals over families; returns where they are."""
    spots, ends = [], []
    for _, group in chosen.groupby(["fraction", "epochs"]):
        errors = group.groupby("family")["error"].mean().to_numpy()
        spots.append((shift * group.groupby("seed")[column].first().mean(), errors.mean()))
        ends.append(bootstrap_interval(errors))
    if spots:
        axes.plot(*zip(*spots, strict=True), linewidth=1.5, **style)
    for (x, _), (low, high) in zip(spots, ends, strict=True):
        if interval and not np.isnan(low):
            axes.plot([x, x], [low, high], color=style["color"], linewidth=0.9, alpha=0.55)
    return spots


def _logarithmic(axes: Axes) -> None:
    """Set both axes logarithmic, with plain numbers at some ticks."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 6)))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    axes.grid(color="0.92", linewidth=0.7)
    axes.set_axisbelow(True)
