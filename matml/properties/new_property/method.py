"""A property that training did not know, as a method: the label process."""

import numpy as np

from matml.core.errors import MatmlError
from matml.core.statistics import NORMAL_90
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.methods.method import Method, Trained
from matml.properties.new_property.inputs import Columns, with_columns
from matml.properties.new_property.model import NewPropertyModel
from matml.properties.new_property.process import AdaptedProcess

Features = list[np.ndarray]


class LabelledView:
    """Features of n crystals, [n, features] each."""

    def __init__(self, sets: Features) -> None:
        self.sets = sets

    def __getitem__(self, rows: np.ndarray, /) -> "LabelledView":
        """Return those of some of the crystals."""
        return LabelledView([x[rows] for x in self.sets])


class NewProperty(Method[LabelledView, AdaptedProcess]):
    """The label process; labels and predictions are on the scale on which it learns.

    Parameters
    ----------
    model
        What was learned on known properties.
    columns
        Of the crystals' table, which are inputs too.
    """

    def __init__(self, name: str, model: NewPropertyModel, columns: Columns | None = None) -> None:
        super().__init__(name, Trained(-1))
        self.model, self.columns = model, columns
        self.inputs = () if columns is None else columns.names
        self.process = (
            model.process if columns is None else with_columns(model.process, len(columns.blocks))
        )

    def learning_from(self, columns: Columns) -> "NewProperty":
        """Return the same with columns as inputs."""
        return NewProperty(self.name, self.model, columns)

    def view(self, crystals: EncodedCrystals) -> LabelledView:
        """As of `Method`."""
        features = self.model.features(crystals)
        if self.columns is not None:
            columns = self.columns.of_table(crystals.crystals.table)
            features += [columns[:, block] for block in self.columns.blocks]
        return LabelledView(features)

    def fit(self, support: LabelledView, labels: np.ndarray) -> AdaptedProcess:
        """As of `Method`; one label at least.

        Raises
        ------
        MatmlError
            Where there is no label.
        """
        if not len(labels):
            raise MatmlError("a property that the model does not know takes labels: give some")
        return self.process.given(support.sets, labels)

    def predict(
        self, state: AdaptedProcess, query: LabelledView
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """As of `Method`."""
        mean, half_width = state.at(query.sets)
        return mean, half_width / NORMAL_90

    def half_width(
        self, deviation: np.ndarray | None, shots: int, distance: np.ndarray
    ) -> np.ndarray:
        """As of `Method`."""
        assert deviation is not None
        return deviation * NORMAL_90 * np.maximum(distance, 1)
