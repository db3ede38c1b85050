"""Learn the stack with further features of the crystals that a model was trained on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from matml.core.errors import MatmlError, reading
from matml.core.folds import deal
from matml.core.standardise import Standardisation
from matml.meta.checkpoint import TENSORS, fingerprint, load_checkpoint
from matml.properties.data.descriptors import describe
from matml.properties.features.columns import FeatureColumns, joined
from matml.properties.new_property.inputs import Columns
from matml.properties.settings import PropertiesSection
from matml.properties.stack.base_models import Inputs
from matml.properties.stack.fit import StackedPredictor, TrainingLabels, learn_stacked
from matml.structures.crystals import CrystalSet

SAME = 1e-4
"""Difference of descriptors up to which two crystals are one."""
FEWEST = 50
"""Training crystals with features and labels, from which a stack can be learned."""


@dataclass(frozen=True)
class FeatureStack:
    """The stack of one property with further features.

    Attributes
    ----------
    name
        Of the property.
    potential
        What the features are of: name, version and settings; '' where their table does not say.
    columns
        The features.
    fitted
        Base models and weights.
    rows, values
        Training crystals of the model that have features, [n], and these, scaled, [n, columns].
    model
        Hash of the labels of the model's training crystals.
    origin
        File that it is in.
    """

    name: str
    potential: str
    columns: FeatureColumns
    fitted: StackedPredictor
    rows: np.ndarray
    values: np.ndarray
    model: str
    origin: Path | None = None

    def save(self, path: Path) -> "FeatureStack":
        """Write all but the model's training crystals to one file; return what is there."""
        scale = self.columns.scaling.standardisation
        tensors = {
            "features.centre": torch.from_numpy(scale.mean),
            "features.scale": torch.from_numpy(scale.deviation),
            "features.rows": torch.from_numpy(self.rows),
            "features.values": torch.from_numpy(self.values),
        }
        self.fitted.save(
            path,
            tensors,
            property=self.name,
            potential=self.potential,
            names=list(self.columns.names),
            logarithmic=list(self.columns.scaling.logarithmic),
            embedded=self.columns.embedded.tolist(),
            model=self.model,
        )
        return replace(self, origin=path)

    @classmethod
    def load(cls, path: Path, training: Mapping[str, Tensor]) -> "FeatureStack":
        """Return what `save` wrote.

        Parameters
        ----------
        training
            What the model keeps of its training crystals.

        Raises
        ------
        MatmlError
            Where the file is damaged, or was learned with another model.
        """
        tensors, state = load_checkpoint(path)
        with reading(path, TENSORS.remedy):
            if "features.rows" not in tensors:
                raise MatmlError(f"{path}: holds no stack with features; {LEARN}")
            if state["model"] != fingerprint(training["targets"]):
                raise MatmlError(
                    f"{path}: was learned with another model than the one given; give that one "
                    f"with --model, or {LEARN}"
                )
            scale = Standardisation(
                tensors["features.centre"].numpy(), tensors["features.scale"].numpy()
            )
            columns = FeatureColumns(
                Columns(tuple(state["names"]), tuple(state["logarithmic"]), scale),
                np.array(state["embedded"], bool),
            )
            rows, values = (tensors[f"features.{name}"].numpy() for name in ("rows", "values"))
            inputs = columns.put(_inputs(training, rows), values)
            targets = training["targets"][:, state["column"]].numpy()[rows]
            fitted = StackedPredictor.load(path, inputs, targets)
        name, said = state["property"], state["potential"]
        return cls(name, said, columns, fitted, rows, values, state["model"], path)


LEARN = "run `matml properties learn-features` again"


def learn_features(
    crystals: CrystalSet,
    features: pd.DataFrame,
    training: Mapping[str, Tensor],
    name: str,
    column: int,
    settings: PropertiesSection,
    *,
    seed: int = 0,
) -> FeatureStack:
    """Return the stack of a property with features of a model's training crystals.

    Parameters
    ----------
    crystals
        Those that the model was trained on, and maybe others; recognised by what they are.
    features
        A table of theirs, with `id` or `content`.
    training
        What the model keeps of its training crystals.
    name, column
        Of the property, and its number among the networks' outputs.
    settings
        That the model was trained with.

    Raises
    ------
    MatmlError
        Where too few of the training crystals are there and have features.
    """
    table = joined(features, crystals.table)
    with_features = np.flatnonzero(np.isfinite(table.to_numpy(float)).all(1))
    labelled = np.flatnonzero(~np.isnan(training["targets"][:, column].numpy()))
    rows, place = labelled[:0], labelled[:0]
    if len(with_features) and len(labelled):
        known = describe(crystals.subset(with_features))
        own = training["descriptors"].numpy()[labelled]
        far, nearest = cKDTree(known).query(own, p=np.inf, distance_upper_bound=SAME)
        found = np.isfinite(far)
        rows, place = labelled[found], with_features[nearest[found]]
    if len(rows) < FEWEST:
        raise MatmlError(
            f"{name}: {len(rows)} of the {len(labelled)} crystals that the model was trained on "
            f"are among the structures and have features, fewer than {FEWEST}; describe those of "
            "its training data"
        )
    chosen = table.iloc[place].set_axis(crystals.table["id"].iloc[place].astype(str))
    columns = FeatureColumns.of(chosen)
    values = columns.scaling.of_table(chosen.assign(id=chosen.index))
    families = crystals.table["family"].to_numpy(str)[place]
    sizes = (
        pd.Series(families).value_counts().sort_index().sort_values(ascending=False, kind="stable")
    )
    count = min(settings.folds, len(sizes))
    dealt = deal(list(sizes.index), count) if count > 1 else dict.fromkeys(sizes.index, 0)
    # two training crystals that are one would tell each other's label
    single = ~pd.Series(place).duplicated().to_numpy()
    known_labels = TrainingLabels(
        columns.put(_inputs(training, rows), values),
        training["targets"][:, column].numpy()[rows],
        families,
        np.array([dealt[family] for family in families]),
        single,
    )
    fitted = learn_stacked(known_labels, name, column, settings, seed=seed)
    said = "; ".join(map(str, features["potential"].unique())) if "potential" in features else ""
    return FeatureStack(name, said, columns, fitted, rows, values, fingerprint(training["targets"]))


def _inputs(training: Mapping[str, Tensor], rows: np.ndarray) -> Inputs:
    """Return the inputs of some training crystals without features."""
    return Inputs(training["descriptors"].numpy()[rows], training["predictions"].numpy()[rows])
