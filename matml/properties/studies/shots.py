"""Bias and variance of adapted predictors against labels and inner steps, on unseen families.

For a query crystal, the mean of its predictions over random supports of its family gives the
squared bias against its label, and their spread the variance; the mean squared error is their sum.
Few labels and many steps fit the support's noise (variance), few steps leave what the start gets
wrong about the family (bias): where the sum is lowest is when to stop adapting.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from matml.config import PropertiesSection
from matml.errors import MatmlError
from matml.files import atomic
from matml.meta import Diverged
from matml.properties.adaptation import (
    fine_tuned_weights,
    gradient_step_weights,
    predict_many,
    residual_gp_correction,
)
from matml.properties.batches import GraphBatches
from matml.properties.compare import FEWEST_FAMILIES, bootstrap_interval
from matml.properties.members import Member, load_member
from matml.properties.metatrain import episode_batch
from matml.properties.pretrain import embed, predict
from matml.properties.stages import Workbench
from matml.properties.studies.forgetting import property_column, unseen_families
from matml.properties.targets import find_property

METHODS = {
    "maml": "MAML, meta-learned start",
    "fine_tuned": "fine-tuning (Adam), pre-trained start",
    "network_gp": "GP on residuals, pre-trained network",
}
LARGEST_SHARE = 2 / 3
"""Of a family's crystals in a support; supports of nearly all of them would be nearly one."""


@dataclass(frozen=True)
class Parts:
    """Mean squared error of predictions over draws, and its two parts, each a mean over crystals.

    Attributes
    ----------
    mse, squared_bias, variance
        In the square of the predictions' unit; `mse` is the sum of the others.
    """

    mse: float
    squared_bias: float
    variance: float


def decompose(predictions: np.ndarray, labels: np.ndarray) -> Parts:
    """Return the parts of the mean squared error over draws.

    Sample moments: each crystal's variance is about its own mean over n draws with divisor n, so
    that error = squared bias + variance holds exactly. (The squared bias so found exceeds the true
    one by 1/n of the true variance.)

    Parameters
    ----------
    predictions
        [draws, crystals]; NaN where a draw does not predict a crystal.
    labels
        [crystals].
    """
    seen = ~np.isnan(predictions)
    enough = seen.sum(0) >= 2
    predictions, seen, labels = predictions[:, enough], seen[:, enough], labels[enough]
    count = seen.sum(0)
    filled = np.where(seen, predictions, 0.0)
    mean = filled.sum(0) / count
    variance = (np.where(seen, predictions - mean, 0.0) ** 2).sum(0) / count
    mse = (np.where(seen, predictions - labels, 0.0) ** 2).sum(0) / count
    return Parts(float(mse.mean()), float(((mean - labels) ** 2).mean()), float(variance.mean()))


def draw_supports(rows: np.ndarray, shots: int, draws: int, seed: list[int]) -> list[np.ndarray]:
    """Return random supports, as positions among a family's rows."""
    generator = np.random.default_rng(seed)
    return [generator.permutation(len(rows))[:shots] for _ in range(draws)]


def comparable_families(
    families: dict[str, np.ndarray], shots: Sequence[int], smallest_query: int
) -> dict[int, list[str]]:
    """Return the families of each number of labels, the same ones as far as there are enough.

    A family admits k labels if they leave `smallest_query` crystals and a third of the family. The
    largest k that `FEWEST_FAMILIES` families admit decides which families all smaller k are studied
    on, so that they differ by the labels and nothing else; larger k have the few that admit them.
    """
    admitted = {
        k: [
            family
            for family, rows in families.items()
            if len(rows) - k >= smallest_query and k <= LARGEST_SHARE * len(rows)
        ]
        for k in sorted(shots)
    }
    enough = [k for k, chosen in admitted.items() if len(chosen) >= FEWEST_FAMILIES]
    if enough:
        admitted |= {k: admitted[max(enough)] for k in enough}
    return {k: chosen for k, chosen in admitted.items() if chosen}


def study(
    bench: Workbench,
    folders: Sequence[Path],
    settings: PropertiesSection,
    name: str,
    *,
    shots: Sequence[int],
    steps: Sequence[int],
    draws: int,
    seed: int = 0,
    device: str = "cpu",
) -> pd.DataFrame:
    """Return method, shots, steps, family, mse, squared_bias and variance, for one property.

    Predictions are means over the ensemble's members, as a user gets them. Each draw's query is the
    rest of the family, and a crystal's mean and spread are over the draws that do not hold it in
    the support.

    Parameters
    ----------
    folders
        Folders of the members.
    shots
        Support sizes; on the families that `comparable_families` gives.
    steps
        Numbers of steps; 0 is the start itself. The closed-form GP has none: -1.
    """
    column = property_column(bench, name)
    families = unseen_families(bench, name, min(shots) + settings.smallest_query)
    recipe, batches = bench.recipe(settings), bench.batches(device)
    members = [load_member(folder, recipe, ["maml"]) for folder in folders]
    pairs = [
        (family, k)
        for k, chosen in comparable_families(families, shots, settings.smallest_query).items()
        for family in chosen
    ]
    scale = bench.standardisation.deviation[column]
    records = []
    for family, k in tqdm(pairs, desc=name, disable=None, leave=False):
        rows = families[family]
        key = [seed, k, crc32(f"{name}/{family}".encode())]
        supports = draw_supports(rows, k, draws, key)
        total: dict[tuple[str, int], np.ndarray] = {}
        for member in members:
            try:
                found = predict_draws(member, batches, column, rows, supports, steps, settings)
            except Diverged as error:
                raise MatmlError(f"{name}, {family}, {k} shots: {error}") from None
            for one, values in found.items():
                total[one] = total.get(one, 0.0) + values / len(members)
        labels = bench.targets[rows, column] * scale
        for (method, step), values in total.items():
            values = values * scale
            for draw, support in enumerate(supports):
                values[draw, support] = np.nan
            parts = decompose(values, labels)
            records.append(
                {"method": method, "shots": k, "steps": step, "family": family, **vars(parts)}
            )
    return pd.DataFrame(records)


def predict_draws(
    member: Member,
    batches: GraphBatches,
    column: int,
    rows: np.ndarray,
    supports: Sequence[np.ndarray],
    steps: Sequence[int],
    settings: PropertiesSection,
) -> dict[tuple[str, int], np.ndarray]:
    """Return standardised predictions of all rows from each support, [draws, rows].

    By method and number of steps. The crystals of the support are predicted too.
    """
    data = [episode_batch(batches, rows[support], column) for support in supports]
    query = [batches.batch(rows)] * len(supports)
    network, inner = (part.to(batches.device) for part in member.meta_trained["maml"])
    pretrained = member.pretrained.to(batches.device)
    plain = predict(pretrained, batches, rows)[:, column]
    embedding = embed(pretrained, batches, rows)
    residual = batches.targets[rows, column] - plain
    corrections = [
        residual_gp_correction(member, column, embedding[own], residual[own], embedding)
        for own in supports
    ]
    found = {("network_gp", -1): plain + np.stack(corrections)}
    for method, start in (("maml", network), ("fine_tuned", pretrained)):
        if 0 in steps:
            before = predict(start, batches, rows)[:, column]
            found[method, 0] = np.tile(before.astype(float), (len(supports), 1))
    later = [step for step in steps if step]
    if later:
        rate = settings.fine_tuning_learning_rates[0]
        moved = {
            "maml": gradient_step_weights(network, inner, data, checkpoints=later),
            "fine_tuned": fine_tuned_weights(
                pretrained, data, learning_rate=rate, checkpoints=later
            ),
        }
        for method, start in (("maml", network), ("fine_tuned", pretrained)):
            for step, weights in moved[method].items():
                values = predict_many(start, weights, query, column)
                found[method, step] = np.stack(values).astype(float)
    return found


PARTS = {"mse": "error", "squared_bias": "squared bias", "variance": "variance"}


def stopped_elsewhere(own: pd.DataFrame) -> pd.Series:
    """Return each family's error at the number of steps that is best on the other families.

    Parameters
    ----------
    own
        Rows of one method and number of shots.
    """
    error = own.pivot_table(index="steps", columns="family", values="mse")
    chosen = {family: error.drop(columns=family).mean(axis=1).idxmin() for family in error.columns}
    return pd.Series({family: error.loc[step, family] for family, step in chosen.items()})


def summarise(name: str, table: pd.DataFrame, *, default_steps: int, seed: int) -> list[dict]:
    """Return tidy records: each part with its interval over families, and what stopping gains.

    `change_of_mse` is paired against the start (0 steps); `mse_stopped` is the error where the
    number of steps for a family is chosen on the other families.
    """
    unit = find_property(name).error_unit
    square = f"({unit})^2" if unit else "1"
    found = []

    def add(method: str, steps: int | None, shots: int, metric: str, values: np.ndarray) -> None:
        low, high = (None if np.isnan(end) else end for end in bootstrap_interval(values))
        title = METHODS[method]
        found.append(
            {
                "benchmark": "shots",
                "setting": name,
                "method": title if steps is None or steps < 0 else f"{title}, {steps} steps",
                "is_default": method == "maml" and steps == default_steps,
                "shots": int(shots),
                "metric": f"{metric} [{square}]",
                "value": float(values.mean()),
                "low": low,
                "high": high,
                "n_tasks": len(values),
                "seed": seed,
            }
        )

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
    """Draw error, squared bias and variance against steps: a row per property and method.

    One panel per number of shots; all panels of a property share their axes.
    """
    rows = [(name, method) for name in tables for method in METHODS if method != "network_gp"]
    columns = max(table["shots"].nunique() for table in tables.values())
    figure = Figure(figsize=(3.1 * columns + 1, 2.9 * len(rows) + 0.6), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, (name, method) in zip(grid, rows, strict=True):
        table = tables[name]
        shots = sorted(table["shots"].unique())
        for panel, k in zip(axes, shots, strict=False):
            _draw_panel(panel, table[table["shots"] == k], method, default_steps)
            panel.set_ylim(*_limits(table))
            families = table[table["shots"] == k]["family"].nunique()
            panel.set_title(f"{k} label{'s' if k > 1 else ''}, {families} families", fontsize=10)
        for panel in axes[len(shots) :]:
            panel.set_visible(False)
        item = find_property(name)
        square = f"({item.error_unit})²" if item.error_unit else "squared"
        short = METHODS[method].split(",")[0]
        axes[0].set_ylabel(f"{item.title}\n{short}\n{square}")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=10
    )
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    """Return the ends of the y axis that all panels of a property share."""
    means = table.groupby(["method", "shots", "steps"])[list(PARTS)].mean()
    moved = means[means.index.get_level_values("steps") != 0]
    # the variance goes to zero at the start: what is a thousandth of the error is not shown
    top = means["mse"].max()
    return max(0.7 * moved.to_numpy().min(), top / 1000), 1.4 * top


def _draw_panel(panel, table: pd.DataFrame, method: str, default_steps: int) -> None:
    """Draw one method at one number of shots, with the GP's error beside it."""
    own = table[table["method"] == method]
    for part, words in PARTS.items():
        means = own.groupby("steps")[part].mean()
        ends = np.array([bootstrap_interval(v.to_numpy()) for _, v in own.groupby("steps")[part]])
        # none of the draws differ at the start: its logarithm has no place
        shown = means > 0
        style = {"color": COLOURS[part], "linewidth": 2.2 if part == "mse" else 1.5}
        panel.plot(means.index[shown], means[shown], marker="o", markersize=3, label=words, **style)
        if part == "mse":
            panel.fill_between(means.index, ends[:, 0], ends[:, 1], color="0.88", zorder=0)
    gp = table[table["method"] == "network_gp"]["mse"].mean()
    panel.axhline(gp, color="#009e73", linestyle="--", linewidth=1.5, label="error of the GP")
    panel.axvline(
        default_steps, color="0.5", linestyle=":", linewidth=1, label="steps of meta-training"
    )
    panel.set_yscale("log")
    panel.set_xscale("symlog", linthresh=1, linscale=0.5)
    ticks = sorted(own["steps"].unique())
    panel.set_xticks(ticks, [str(step) for step in ticks])
    panel.set_xticks([], minor=True)
    panel.set_xlabel("steps")
    panel.grid(color="0.93")
    panel.set_axisbelow(True)
