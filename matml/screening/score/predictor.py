"""What screening asks of a model, and what a model must hold for a screening."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.settings import validate
from matml.properties.data.targets import Property
from matml.screening.data.inputs import check_inputs
from matml.screening.objectives import Objective, learned_properties
from matml.structures.crystals import CrystalSet, Structures
from matml.structures.graphs.store import GraphStore
from matml.structures.settings import GraphsSection


class Adapted(Protocol):
    """A predictor adapted to a support set; `method` says how."""

    @property
    def method(self) -> str:
        """How it was adapted."""

    @property
    def item(self) -> Property:
        """The property, with its unit and the scale on which it is learned."""

    def predict_table(self, crystals: Any, /) -> pd.DataFrame:
        """One row per crystal, as `Predictor.encode` gave them: prediction, low, high, distance,
        in_domain.
        """

    def unfit(self, table: pd.DataFrame, /) -> dict[int, tuple[str, str]]:
        """Rows whose inputs cannot be taken, with the column and the reason."""

    @property
    def warnings(self) -> Sequence[str]:
        """What there is to say of the labels."""


class Predictor(Protocol):
    """What screening asks of a model: a `FewShotPredictor` or its like.

    `recipe.graphs` holds the settings of the graphs it knows.
    """

    recipe: Any

    @property
    def properties(self) -> dict[str, str]:
        """Units by name."""

    @property
    def held_out_families(self) -> Sequence[str]:
        """Families whose labels it has not seen."""

    def encode(self, crystals: CrystalSet, /) -> Any:
        """Crystals as all predictors that are adapted from this one take them."""

    def adapt(
        self,
        crystals: Structures,
        values: np.ndarray,
        property_name: str,
        /,
        *,
        check_units: bool,
        unit: str | None = None,
        inputs: Sequence[str] | None = None,
    ) -> Adapted:
        """The predictor adapted to labelled crystals, of a property that it knows or another."""


def check_properties(
    predictor: Predictor,
    objectives: Sequence[Objective],
    labelled: Collection[str],
    support: Path | None,
    inputs: Sequence[str] = (),
) -> None:
    """Refuse an objective on a property that the predictor does not know and no label tells of.

    Parameters
    ----------
    labelled
        Properties of which `support` holds labels.
    inputs
        Columns that are known of every crystal, which only such properties take.
    """
    check_inputs(inputs, learned_properties(objectives), predictor.properties)
    for name in learned_properties(objectives):
        if name not in predictor.properties and name not in labelled:
            raise MatmlError(
                f"objective on {name}: the model does not predict {name} (it predicts "
                f"{', '.join(predictor.properties)}), and {support or 'the support'} has no labels "
                f"of it; give a column {name}, to learn it from that"
            )


def graph_section(predictor: Predictor, known_graphs: Path | None) -> GraphsSection:
    """How graphs are built: as the known ones where given, else as those the model was trained on.

    Known graphs made otherwise are refused by the model when it adapts.
    """
    if known_graphs is not None:
        return validate(GraphsSection, GraphStore.open(known_graphs).settings, str(known_graphs))
    return validate(GraphsSection, predictor.recipe.graphs, "the model's graph settings")


def labelled_crystals(
    known: pd.DataFrame,
    support_crystals: pd.DataFrame,
    labels: np.ndarray,
    property_name: str,
    held_out: Collection[str],
) -> pd.DataFrame:
    """Crystals whose label the model has learned from: families not held out, and the support."""
    given = support_crystals.assign(**{property_name: labels})
    if property_name not in known:
        return given
    unseen = {*held_out, *given["family"]} if len(given) else {*held_out}
    rows = known[known[property_name].notna() & ~known["family"].isin(unseen)]
    wanted = ["atomic_numbers", property_name]
    return pd.concat([rows[wanted], given[wanted]], ignore_index=True) if len(given) else rows
