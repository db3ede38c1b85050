"""Fit the stacked Gaussian process of one property, and predict with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from matml.core.errors import MatmlError, reading
from matml.gp.joint import CHUNK as MANY
from matml.gp.joint import WRITTEN_OUT, Process, Said, WideProcess
from matml.gp.sequences import Predictions, Sequences
from matml.gp.shifts import Shifted
from matml.gp.stack import GPStack, Told, learn_stack
from matml.meta.checkpoint import TENSORS, load_checkpoint, pack, save_checkpoint, unpack
from matml.properties.data.split import labelled_members
from matml.properties.dataset import Workbench
from matml.properties.networks.ensemble import load_network
from matml.properties.networks.pretrain import predict
from matml.properties.settings import PropertiesSection
from matml.properties.stack.base_models import BaseModels, EncodedSupport, Inputs, cross_fitted
from matml.properties.stack.calibrate import (
    Scores,
    above_hull,
    scales_of,
    score_family,
    trend_of,
)
from matml.properties.stack.conformal import at_shots

ENERGY, HULL = "formation_energy_eV_per_atom", "energy_above_hull_eV_per_atom"
FEWEST_CRYSTALS = 4
"""Labelled crystals that make a family worth learning the weights from."""
CHUNK = 512
"""Crystals predicted at once beside exact processes; beside those in blocks more share a block."""
MOST_CRYSTALS, MOST_FAMILIES = 150, 1000
"""Of a family, and families, that the weights and intervals are learned from; of more a random
part."""
ORDERS = 4
"""Random orders of a family's crystals."""


@dataclass(frozen=True)
class StackedPredictor:
    """The base models of one property with the weights of the stack and of its intervals.

    Attributes
    ----------
    stack
        Weights of what they say.
    scales
        Number of labels to half width of a 90 % interval, in posterior deviations.
    hypothetical
        What crystals above the hull have in addition, standardised, and how much wider they are;
        None where the training labels do not tell.
    """

    models: BaseModels
    stack: GPStack
    scales: dict[int, float]
    hypothetical: tuple[float, float] | None = None

    def scale(self, shots: int) -> float:
        """Return half width over deviation for any number of labels: that of fewer or as many."""
        return at_shots(self.scales, shots)

    def of_hypothetical(self) -> "StackedPredictor":
        """Return the predictor of crystals of which nobody knows whether they are stable.

        Raises
        ------
        MatmlError
            Where the training labels do not tell what changes.
        """
        if self.hypothetical is None:
            raise MatmlError(
                "the training labels do not tell how hypothetical crystals differ in this "
                f"property: that takes {HULL} of labelled {ENERGY}; predict without it"
            )
        return replace(self, stack=self.stack.moved(*self.hypothetical))

    def adapt(self, support: Inputs, labels: np.ndarray) -> "AdaptedStack":
        """Return the stack given a support and its standardised labels, [k]; k may be 0."""
        given = self.stack.given(self.models.predict(support), labels)
        return AdaptedStack(self, self.models.encode(support), given)

    def over(self, inputs: Inputs) -> Process:
        """Return the stack over crystals, any of which may be labelled."""
        models, stack = self.models, self.stack
        if len(inputs) <= WRITTEN_OUT:
            return stack.joint(models.predict(inputs))

        def at(part: slice, support: EncodedSupport) -> Said:
            return stack.weigh(models.predict_beside(inputs[part], support))

        return WideProcess.over(
            len(inputs), stack.label_noise, lambda rows: models.encode(inputs[rows]), at
        )

    def save(self, path: Path, more: Mapping[str, Tensor] | None = None, **said: Any) -> None:
        """Write all but the training crystals to one file.

        Parameters
        ----------
        more, said
            Further tensors, and what else the file says, for others to read.
        """
        tensors = pack("models", self.models.tensors()) | pack("stack", self.stack.tensors())
        state = {"column": self.models.column, "scales": self.scales}
        state["hypothetical"] = self.hypothetical
        save_checkpoint(path, tensors | dict(more or {}), state | said)

    @classmethod
    def load(cls, path: Path, inputs: Inputs, targets: np.ndarray) -> "StackedPredictor":
        """Return what `save` wrote, conditioned on the training crystals of the property again."""
        tensors, state = load_checkpoint(path)
        with reading(path, TENSORS.remedy):
            return cls(
                BaseModels.from_tensors(
                    unpack("models", tensors), inputs, targets, state["column"]
                ),
                GPStack.from_tensors(unpack("stack", tensors)),
                {int(k): scale for k, scale in state["scales"].items()},
                state["hypothetical"] and tuple(state["hypothetical"]),
            )


@dataclass(frozen=True)
class AdaptedStack:
    """The stack of one property given a support.

    Attributes
    ----------
    support
        The support as the base models see it.
    given
        The process given the support.
    """

    fitted: StackedPredictor
    support: EncodedSupport
    given: Shifted

    def predict(self, query: Inputs) -> Told:
        """Return prediction and deviation (noise included), and that before any label, [m]."""
        parts, models = [], self.fitted.models
        chunk = MANY if models.augmented.partitioned else CHUNK
        for start in range(0, len(query), chunk):
            said = models.predict_beside(query[start : start + chunk], self.support)
            parts.append(self.fitted.stack.at(said, self.given))
        mean, deviation, before = (np.concatenate(part) for part in zip(*parts, strict=True))
        return mean, deviation, before


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
    folds = np.array([bench.split.folds.get(family, -1) for family in bench.families])
    predictions = np.full((len(members), len(folds), len(bench.names)), np.nan)
    for member, folder in enumerate(members):
        network, _ = load_network(folder / "pretrained.safetensors", recipe)
        # what it has been trained on, it is not asked
        rows = np.flatnonzero((folds < 0) | (folds == bench.split.fold_of(member))).tolist()
        predictions[member, rows] = predict(network.to(device), batches, rows)
    return cross_fitted(predictions, folds)


def fit_stack(
    bench: Workbench, inputs: Inputs, column: int, settings: PropertiesSection, *, seed: int
) -> StackedPredictor:
    """Return the stack of one property, learned on training families with cross-fitted models.

    Parameters
    ----------
    inputs
        Of all crystals.

    Raises
    ------
    MatmlError
        Where no training family has enough labels.
    """
    name = bench.names[column]
    single = labelled_members(bench.crystals.table, name).to_numpy()
    held_out = [
        np.flatnonzero((bench.families == family) & single) for family in bench.split.validation
    ]
    known = training_labels(bench, inputs, column)
    beside = [(inputs[rows], bench.targets[rows, column]) for rows in held_out]
    return learn_stacked(known, name, column, settings, seed=seed, beside=beside)


def training_labels(bench: Workbench, inputs: Inputs, column: int) -> "TrainingLabels":
    """Return the training crystals with labels of a property; `inputs` are of all crystals."""
    name, table = bench.names[column], bench.crystals.table
    training = bench.split.training_rows(bench.families)
    training = training[~np.isnan(bench.targets[training, column])]
    families = bench.families[training]
    hull = None
    if name == ENERGY and HULL in table:
        hull = table[HULL].to_numpy(float)[training]
    return TrainingLabels(
        inputs[training],
        bench.targets[training, column],
        families,
        np.array([bench.split.folds[family] for family in families]),
        # a repeated crystal would tell its own label
        labelled_members(table, name).to_numpy()[training],
        hull,
    )


@dataclass(frozen=True)
class TrainingLabels:
    """Training crystals with labels of one property.

    Attributes
    ----------
    inputs, targets
        Of n crystals; predictions cross-fitted, labels standardised, [n].
    families, folds
        Family of each, and the fold of cross-fitting that it is in, [n].
    single
        Which of them repeat no other one, [n].
    hull
        Of energies, how far each is above the convex hull, eV/atom, [n].
    """

    inputs: Inputs
    targets: np.ndarray
    families: np.ndarray
    folds: np.ndarray
    single: np.ndarray
    hull: np.ndarray | None = None


@dataclass(frozen=True)
class Learned:
    """A stack before its calibration.

    Attributes
    ----------
    groups
        Places among the training labels of each family that the weights were learned from.
    scores
        By number of labels and family: those of `groups`, left out in turn, then those beside.
    """

    models: BaseModels
    stack: GPStack
    groups: list[np.ndarray]
    scores: dict[int, dict[int, Scores]]


def learn_stacked(
    known: TrainingLabels,
    name: str,
    column: int,
    settings: PropertiesSection,
    *,
    seed: int,
    beside: Sequence[tuple[Inputs, np.ndarray]] = (),
) -> StackedPredictor:
    """Return the stack learned from labelled training crystals; errors as of `fit_stack`.

    Parameters
    ----------
    name, column
        Of the property, and its number among the networks' outputs.
    beside
        Families that shape nothing of the stack, but its intervals.
    """
    learned = learn(known, name, column, settings, seed=seed, beside=beside)
    trend = trend_of(learned.scores, len(learned.groups))
    scales, hypothetical = scales_of(learned.scores, trend), None
    if known.hull is not None:
        above = [known.hull[rows] for rows in learned.groups]
        hypothetical = above_hull(learned.scores[0], above, trend, scales[0])
    stack = replace(learned.stack, trend=trend)
    return StackedPredictor(learned.models, stack, scales, hypothetical)


def learn(
    known: TrainingLabels,
    name: str,
    column: int,
    settings: PropertiesSection,
    *,
    seed: int,
    beside: Sequence[tuple[Inputs, np.ndarray]] = (),
) -> Learned:
    """Return the stack as yet without its calibration; parameters as of `learn_stacked`."""
    own, targets, folds = known.inputs, known.targets, known.folds
    models = BaseModels.fit(
        own,
        targets,
        column,
        subset=settings.gp_subset,
        steps=settings.gp_steps,
        seed=seed,
        exact_up_to=settings.gp_exact_up_to,
    )
    single = np.flatnonzero(known.single)
    _, family, sizes = np.unique(known.families[single], return_inverse=True, return_counts=True)
    by_family = np.split(single[family.argsort(kind="stable")], sizes.cumsum()[:-1])
    groups = [_some(r, MOST_CRYSTALS, seed) for r in by_family if len(r) >= FEWEST_CRYSTALS]
    groups = [groups[i] for i in _some(np.arange(len(groups)), MOST_FAMILIES, seed)]
    if not groups:
        raise MatmlError(
            f"{name}: no training family has {FEWEST_CRYSTALS} labelled crystals; give more "
            "labels, or take the property out of `properties`"
        )
    predictions = models.cross_fitted(own, targets, folds, groups)
    labels = [targets[rows] for rows in groups]
    group_folds = np.array([folds[rows[0]] for rows in groups])
    errors = [y - p.means[0].numpy() for p, y in zip(predictions, labels, strict=True)]
    scale = float(np.mean([np.square(error).mean() for error in errors]))
    sequences = Sequences.draw(predictions, labels, orders=ORDERS, seed=seed)
    stack = learn_stack(sequences, scale, seed=seed)
    shots = sorted({*settings.shots, 2})
    scores: dict[int, dict[int, Scores]] = {k: {} for k in shots}

    def score(family: int, weights: GPStack, said: Predictions, values: np.ndarray) -> None:
        for k in shots:
            if found := score_family(weights, said, values, k, seed):
                scores[k][family] = found

    for fold in np.unique(group_folds):
        # an interval must hold for families whose labels did not shape the weights
        others = np.flatnonzero(np.repeat(group_folds != fold, ORDERS))
        without = stack
        if len(others):
            chosen = sequences[torch.from_numpy(others)]
            without = learn_stack(chosen, scale, start=stack, steps=25, seed=seed)
        for i in np.flatnonzero(group_folds == fold).tolist():
            score(i, without, predictions[i], labels[i])
    # families for validation shape nothing of the stack, and are large as those that users have
    for number, (inputs, values) in enumerate(beside, len(groups)):
        if len(values) >= FEWEST_CRYSTALS:
            own_rows = _some(np.arange(len(values)), MOST_CRYSTALS, seed)
            score(number, stack, models.predict(inputs[own_rows]), values[own_rows])
    return Learned(models, stack, groups, scores)


def _some(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return as many of the rows at most, in their order."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
