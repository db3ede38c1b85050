"""Tables and tidy records of the benchmark's settings B and C: properties from a few labels."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from matml.core.statistics import tidy_record
from matml.properties.benchmark.report import score_table
from matml.properties.data.targets import find_property
from matml.properties.evaluation.compare import mean_with_interval
from matml.properties.methods.registry import LABEL_PROCESS, method_title
from matml.properties.networks.metatrain import ALL_METHODS
from matml.properties.new_property.networks import FINE_TUNED

SEEN = "potential"
METHODS = (
    "support_mean",
    "support_ridge",
    "support_gp",
    "extra_trees",
    "embedding_ridge",
    "embedding_gp",
    "network_shift",
    "potential_ridge",
    "potential_gp",
    FINE_TUNED,
    "maml",
    "fomaml",
    "anil",
    "meta_sgd",
    "ridge_head",
    "gp_head",
)
NAMES = {m: method_title(m) for m in METHODS} | {
    # fine-tuning has a read-out to learn here
    FINE_TUNED: "network fine-tuned, new read-out",
    LABEL_PROCESS: f"{method_title(LABEL_PROCESS)} (default)",
}


def errors_of(scores: pd.DataFrame) -> pd.DataFrame:
    """Return errors of one setting and number of labels, [families, methods]."""
    return scores.pivot_table(index="family", columns="method", values="error")


def best_baseline(errors: pd.DataFrame) -> str:
    """Return the baseline with the lowest mean error; those that have seen the crystals apart.

    Methods that are meta-learned are no baselines: they are ours too.
    """
    own = [m for m in errors if m not in (LABEL_PROCESS, *ALL_METHODS) and not m.startswith(SEEN)]
    return str(errors[own].mean().idxmin())


def tidy_records(scores: pd.DataFrame, seed: int) -> list[dict]:
    """Return records of one measured value each; see `benchmark_report.tidy_records`."""
    records, record = [], partial(tidy_record, "properties", seed=seed)
    for (setting, name, shots), own in scores.groupby(["setting", "property", "shots"]):
        unit = find_property(name).error_unit

        def add(
            method: str,
            metric: str,
            values: pd.Series,
            setting: str = f"{setting}, {name}",
            shots: int = int(shots),
        ) -> None:
            known = values[np.isfinite(values)].to_numpy()
            if len(known):
                default = method == LABEL_PROCESS
                records.append(
                    record(setting, method, metric, known, shots=shots, is_default=default)
                )

        for method, part in own.groupby("method"):
            add(method, f"mae_{unit}_family_mean" if unit else "mae_family_mean", part["error"])
            add(method, "spearman_family_mean", part["spearman"])
            add(method, "coverage_90_family_mean", part["inside"])
            add(method, "width_90_family_mean", part["width"])
        errors = errors_of(own)
        for method in errors.columns.drop(LABEL_PROCESS):
            add(
                LABEL_PROCESS,
                f"mae_reduction_against_{method}",
                errors[method] - errors[LABEL_PROCESS],
            )
    return records


def print_tables(scores: pd.DataFrame, echo: Callable[[str], None]) -> None:
    """Print errors, ranks and intervals, and ours against the best baseline of each cell."""
    for (setting, name), own in scores.groupby(["setting", "property"], sort=False):
        counts = own.groupby("shots")["family"].nunique()
        # of setting C there is one family, and its crystals are what is averaged over
        things = "crystals" if setting.startswith("C") else "families"
        item, many = find_property(name), ", ".join(f"{k}: {n}" for k, n in counts.items())
        echo(
            f"\n{setting}: {item.title} ({item.error_unit}); test {things} at each number of "
            f"labels: {many}"
        )
        for column, title in (
            ("error", f"mean absolute error, mean over {things}"),
            ("spearman", "Spearman correlation"),
            ("inside", "coverage of 90 % intervals"),
        ):
            echo(f"{title}\n{score_table(own, NAMES, column)}")
        rows = {}
        for shots, cell in own.groupby("shots"):
            errors = errors_of(cell)
            best = best_baseline(errors)
            gain = mean_with_interval((errors[best] - errors[LABEL_PROCESS]).to_numpy())
            rows[shots] = {
                "best baseline": NAMES[best],
                "ours over it": f"{errors[LABEL_PROCESS].mean() / errors[best].mean():.3f}",
                f"error lower by (95 % bootstrap over {things})": gain,
            }
        echo(pd.DataFrame(rows).T.rename_axis("labels").to_string())
