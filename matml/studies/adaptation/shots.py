"""Bias and variance of adapted predictors against labels and inner steps, on unseen families.

For a query crystal, the mean of its predictions over random supports of its family gives the
squared bias against its label, and their spread the variance; the mean squared error is their sum.
Few labels and many steps fit the support's noise (variance), few steps leave what the start gets
wrong about the family (bias): where the sum is lowest is when to stop adapting.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
from tqdm import tqdm

from matml.core.errors import MatmlError
from matml.core.statistics import FEWEST_TASKS
from matml.meta import Diverged
from matml.properties.data.batches import GraphBatches
from matml.properties.dataset import Workbench
from matml.properties.networks.adaptation import (
    fine_tuned_weights,
    gradient_step_weights,
    predict_many,
    residual_gp_correction,
)
from matml.properties.networks.ensemble import Member, load_member
from matml.properties.networks.metatrain import episode_batch
from matml.properties.networks.pretrain import embed, predict
from matml.properties.settings import PropertiesSection
from matml.studies.adaptation.forgetting import property_column, unseen_families

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
    largest k that `FEWEST_TASKS` families admit decides which families all smaller k are studied
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
    enough = [k for k, chosen in admitted.items() if len(chosen) >= FEWEST_TASKS]
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
    network, inner = member.meta_trained["maml"]
    for part in (network, inner):
        part.to(batches.device)
    pretrained = member.pretrained.to(batches.device)
    plain = predict(pretrained, batches, rows)[:, column]
    embedding = embed(pretrained, batches, rows)
    residual = batches.labels(rows)[:, column] - plain
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
