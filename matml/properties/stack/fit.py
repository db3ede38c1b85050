"""Fit the stacked Gaussian process of one property, and predict with it."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import read_table, write_table
from matml.gp.stack import ConditionedStack, GPStack, Sequences, Views, learn_stack
from matml.meta.checkpoint import load_checkpoint, pack, save_checkpoint, unpack
from matml.properties.data.dataset import EPISODES, Workbench
from matml.properties.data.descriptors import describe
from matml.properties.data.methods import STACK
from matml.properties.data.split import labelled_members
from matml.properties.networks.ensemble import load_network
from matml.properties.networks.pretrain import predict
from matml.properties.settings import PropertiesSection
from matml.properties.stack.base_models import (
    Anchors,
    FamilyModels,
    Inputs,
    cross_fitted,
    training_views,
)
from matml.properties.stack.conformal import LEVEL, weighted_quantile

log = logging.getLogger(__name__)

NOMINAL = 1.645
"""Normal deviations of a 90 % interval: what is taken where nothing can be calibrated."""
FEWEST_CRYSTALS = 4
"""Labelled crystals that make a family worth learning the weights from."""
CHUNK = 512
"""Crystals predicted at once, so that what is made of them stays small."""
ORDERS = 4
"""Random orders of a family's crystals."""
FEWEST_FAMILIES = 8
"""Families below which a number of labels is calibrated together with the others."""


@dataclass(frozen=True)
class StackedPredictor:
    """The models of one property with the weights of the stack and of its intervals.

    Attributes
    ----------
    models
        What gives the views.
    stack
        Weights of the views.
    scales
        Number of labels to half width of a 90 % interval, in posterior deviations.
    """

    models: FamilyModels
    stack: GPStack
    scales: dict[int, float]

    def condition(
        self, views: Views, labels: np.ndarray, shots: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return prediction and half width of its 90 % interval behind the support, [m]."""
        mean, deviation = self.stack.condition(views, labels, shots)
        return mean, deviation * self.scale(shots)

    def scale(self, shots: int) -> float:
        """Return half width over deviation for any number of labels: that of fewer or as many."""
        below = [k for k in self.scales if k <= shots]
        return self.scales[max(below) if below else min(self.scales)]

    def adapt(self, support: Inputs, labels: np.ndarray) -> "AdaptedStack":
        """Return the stack given a support and its standardised labels, [k]; k may be 0."""
        given = self.stack.given(self.models.views(support), labels)
        return AdaptedStack(self, self.models.anchors(support), given)

    def save(self, path: Path) -> None:
        """Write all but the training crystals to one file."""
        tensors = pack("models", self.models.tensors()) | pack("stack", self.stack.tensors())
        save_checkpoint(path, tensors, {"column": self.models.column, "scales": self.scales})

    @classmethod
    def load(cls, path: Path, inputs: Inputs, targets: np.ndarray) -> "StackedPredictor":
        """Return what `save` wrote, conditioned on the training crystals of the property again."""
        tensors, state = load_checkpoint(path)
        return cls(
            FamilyModels.from_tensors(unpack("models", tensors), inputs, targets, state["column"]),
            GPStack.from_tensors(unpack("stack", tensors)),
            {int(k): scale for k, scale in state["scales"].items()},
        )


@dataclass(frozen=True)
class AdaptedStack:
    """The stack of one property given a support.

    Attributes
    ----------
    fitted
        The stack.
    support
        The support as the models see it.
    given
        The process given the support.
    """

    fitted: StackedPredictor
    support: Anchors
    given: ConditionedStack

    def predict(self, query: Inputs) -> tuple[np.ndarray, np.ndarray]:
        """Return prediction and half width of its 90 % interval, [m]."""
        parts = []
        for start in range(0, len(query.predictions), CHUNK):
            part = query[start : start + CHUNK]
            parts.append(self.given.at(self.fitted.models.query_views(part, self.support)))
        mean, deviation = (np.concatenate(part) for part in zip(*parts, strict=True))
        return mean, deviation * self.fitted.scale(len(self.given.solved))


def network_predictions(
    bench: Workbench, members: Sequence[Path], settings: PropertiesSection, device: str
) -> np.ndarray:
    """Return the cross-fitted predictions of all crystals, [crystals, properties], standardised.

    Parameters
    ----------
    members
        Folders of the members, in the order of their numbers.
    """
    if len(members) != bench.split.members:
        raise MatmlError(
            f"{len(members)} --member folders: the split has {bench.split.members} members; give "
            "the folder of each, in the order of their numbers"
        )
    recipe, batches = bench.recipe(settings), bench.batches(device)
    rows = np.arange(len(bench.crystals))
    predictions = []
    for folder in members:
        network, _ = load_network(folder / "pretrained.safetensors", recipe)
        predictions.append(predict(network.to(device), batches, rows))
    folds = np.array([bench.split.folds.get(family, -1) for family in bench.families])
    return cross_fitted(np.array(predictions, dtype=float), folds)


def evaluate_stack(
    bench: Workbench,
    run: Path,
    members: Sequence[Path],
    out: Path,
    model_out: Path,
    settings: PropertiesSection,
    *,
    name: str,
    seed: int,
    device: str,
) -> float:
    """Fit the stack of one property and predict its episodes; standardised scale.

    Returns the processor seconds of fitting.
    """
    if name not in bench.names:
        raise MatmlError(f"--property {name}: the split was made for {', '.join(bench.names)}")
    started, busy = time.perf_counter(), time.process_time()
    column = bench.names.index(name)
    inputs = Inputs(describe(bench.crystals), network_predictions(bench, members, settings, device))
    fitted = fit_stack(bench, inputs, column, settings, seed=seed)
    seconds = time.process_time() - busy
    log.info("%s: stack fitted in %.0f s", name, time.perf_counter() - started)
    episodes = read_table(run / EPISODES)
    found = []
    for _, group in episodes[episodes["property"] == name].groupby("family", sort=False):
        rows = np.unique(np.concatenate([*group["query"], *group["support"]]).astype(int))
        views = fitted.models.views(inputs[rows])
        for episode in group.itertuples():
            support = np.asarray(episode.support, int)
            chosen = np.concatenate([support, np.asarray(episode.query, int)])
            prediction, half_width = fitted.condition(
                views[np.searchsorted(rows, chosen)], bench.targets[support, column], len(support)
            )
            found.append((episode.episode, STACK, prediction, half_width))
    fitted.save(model_out)
    columns = ["episode", "method", "prediction", "half_width"]
    write_table(out, pd.DataFrame(found, columns=columns))
    return seconds


def fit_stack(
    bench: Workbench, inputs: Inputs, column: int, settings: PropertiesSection, *, seed: int
) -> StackedPredictor:
    """Return the stack of one property, learned on training families with cross-fitted views.

    Parameters
    ----------
    inputs
        Of all crystals.

    Raises
    ------
    MatmlError
        Where no training family has labels enough.
    """
    name = bench.names[column]
    training = bench.split.training_rows(bench.families)
    training = training[~np.isnan(bench.targets[training, column])]
    targets, own = bench.targets[training, column], inputs[training]
    families = bench.families[training]
    folds = np.array([bench.split.folds[family] for family in families])
    models = FamilyModels.fit(
        own, targets, column, subset=settings.gp_subset, steps=settings.gp_steps, seed=seed
    )
    # a repeated crystal would tell its own label
    single = labelled_members(bench.crystals.table, name).to_numpy()
    groups = [np.flatnonzero((families == f) & single[training]) for f in np.unique(families)]
    groups = [rows for rows in groups if len(rows) >= FEWEST_CRYSTALS]
    if not groups:
        raise MatmlError(
            f"{name}: no training family has {FEWEST_CRYSTALS} labelled crystals; give more "
            "labels, or take the property out of `properties`"
        )
    views = list(training_views(models, own, targets, folds, groups))
    labels = [targets[rows] for rows in groups]
    group_folds = np.array([folds[rows[0]] for rows in groups])
    scale = float(
        np.mean(
            [np.square(y - v.means[0].numpy()).mean() for v, y in zip(views, labels, strict=True)]
        )
    )
    sequences = Sequences.draw(views, labels, orders=ORDERS, seed=seed)
    stack = learn_stack(sequences, scale, seed=seed)
    shots = sorted({*settings.shots, 2})
    scores: dict[int, dict[int, tuple[np.ndarray, np.ndarray]]] = {k: {} for k in shots}

    def score(family: int, weights: GPStack, seen: Views, values: np.ndarray) -> None:
        for k in shots:
            if found := _scores(weights, seen, values, k, seed):
                scores[k][family] = found

    for fold in np.unique(group_folds):
        # an interval must hold for families whose labels did not shape the weights
        others = np.flatnonzero(np.repeat(group_folds != fold, ORDERS))
        without = stack
        if len(others):
            without = learn_stack(sequences[others], scale, start=stack, steps=25, seed=seed)
        for i in np.flatnonzero(group_folds == fold):
            score(i, without, views[i], labels[i])
    # families for validation shape nothing of the stack, and are large as those that users have
    for i, family in enumerate(bench.split.validation, len(groups)):
        rows = np.flatnonzero((bench.families == family) & single)
        if len(rows) >= FEWEST_CRYSTALS:
            score(i, stack, models.views(inputs[rows]), bench.targets[rows, column])
    return StackedPredictor(models, stack, _scales(scores))


def _scores(
    stack: GPStack, views: Views, labels: np.ndarray, shots: int, seed: int, draws: int = 6
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return errors over deviations in a family, and their weights, which sum to 1."""
    if len(labels) < max(2 * shots, shots + 4):
        return None
    generator, found = np.random.default_rng(seed), []
    for _ in range(draws if shots else 1):
        order = generator.permutation(len(labels))
        mean, deviation = stack.condition(views[order], labels[order[:shots]], shots)
        found.append(np.abs(mean - labels[order[shots:]]) / deviation)
    values = np.concatenate(found)
    return values, np.full(len(values), 1 / len(values))


def _scales(scores: dict[int, dict[int, tuple[np.ndarray, np.ndarray]]]) -> dict[int, float]:
    """Return the conformal quantile of errors over deviations for each number of labels.

    Each family counts the same: a new family is a draw from the families (split conformal
    prediction, Vovk et al. 2005, with the family as the exchangeable unit). Numbers of labels with
    few families take the quantile over all positive numbers of labels together; since errors are
    in units of the deviation, which knows of the labels, they are comparable.

    Parameters
    ----------
    scores
        Number of labels, family to errors and weights.
    """
    pooled: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for k, found in scores.items():
        for family, own in found.items() if k else ():
            pooled.setdefault(family, []).append(own)
    together = {
        family: (
            np.concatenate([v for v, _ in own]),
            np.concatenate([w for _, w in own]) / len(own),
        )
        for family, own in pooled.items()
    }
    scales = {}
    for k, found in sorted(scores.items()):
        enough = found if len(found) >= FEWEST_FAMILIES else together
        scales[k] = NOMINAL
        if len(enough) >= FEWEST_FAMILIES:
            parts = zip(*enough.values(), strict=True)
            values, weights = (np.concatenate(part) for part in parts)
            scales[k] = weighted_quantile(values, weights, LEVEL)
    return scales
