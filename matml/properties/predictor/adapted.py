"""A predictor adapted to a few labels: what it says of other crystals, and how sure it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.text.notebook import as_html
from matml.properties.data.label_checks import to_numbers
from matml.properties.data.targets import LabelScale, Property, spans_decades
from matml.properties.features.columns import are_features, joined
from matml.properties.features.method import WithFeatures
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.methods.method import Adapted
from matml.properties.methods.stack import Finding
from matml.properties.new_property.method import NewProperty
from matml.properties.predictor.domain import Domain
from matml.properties.predictor.encode import Encoder
from matml.structures.crystals import CrystalSet, Structures
from matml.structures.disorder.atoms import are_disordered
from matml.structures.duplicates import find_duplicates
from matml.structures.given import Columns, columns_of, given


@dataclass(frozen=True, repr=False)
class AdaptedPredictor:
    """A predictor of one property, adapted to one family.

    Attributes
    ----------
    adapted
        That method with the support.
    encoder, scale
        What structures and predictions pass on their way.
    support, support_values
        The labelled crystals (None where there is none), and their labels in `unit`.
    domain
        Of the property: the labelled crystals, in training and support.
    warnings
        What was odd about the labels.
    """

    method: str
    adapted: Adapted
    encoder: Encoder
    scale: LabelScale
    support: CrystalSet | None
    support_values: np.ndarray
    domain: Domain
    warnings: tuple[str, ...]
    model: Path
    finding: Finding | None = None

    @property
    def item(self) -> Property:
        """The property, with the scale on which it is learned."""
        return self.scale.property

    @property
    def property_name(self) -> str:
        """Name of the property."""
        return self.item.name

    @property
    def unit(self) -> str:
        """Unit of labels and predictions, '' where they have none."""
        return self.item.unit

    @property
    def shots(self) -> int:
        """Number of labels it was adapted to."""
        return len(self.support_values)

    @property
    def support_table(self) -> pd.DataFrame:
        """The labelled crystals, columns as in `structures.parquet`."""
        return pd.DataFrame() if self.support is None else self.support.table

    def __repr__(self) -> str:
        unit, labels = f" in {self.unit}" if self.unit else "", f"{self.shots} labels"
        warned = f"; {len(self.warnings)} warnings" if self.warnings else ""
        return f"AdaptedPredictor({self.property_name}{unit}, {labels}, {self.method}{warned})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return as_html(repr(self), notes=self.warnings)

    def plot(self, structures: Structures, values: Any, ax: Any = None) -> Any:
        """Draw predictions with 90 % intervals over known values; return the matplotlib axes.

        Parameters
        ----------
        structures, values
            Crystals, in any form, and their values in `unit`.
        ax
            Axes to draw in; by default new ones.
        """
        from matplotlib import pyplot

        if not isinstance(structures, CrystalSet):
            structures = given(structures)
            values = structures.aligned(values)
        table = self.predict_table(structures)
        values = to_numbers(values, len(table))
        ax = pyplot.subplots(figsize=(4.5, 4.5), layout="constrained")[1] if ax is None else ax
        bars = np.abs(table[["low", "high"]].to_numpy().T - table["prediction"].to_numpy())
        ax.errorbar(values, table["prediction"], bars, fmt="o", ms=4, lw=0.8, alpha=0.8)
        both = np.r_[values, table["prediction"]]
        ends = both.min(), both.max()
        ax.plot(ends, ends, "--", color="grey", lw=1)
        if self.item.logarithmic and spans_decades(both):
            ax.set(xscale="log", yscale="log")
        unit = f" ({self.unit})" if self.unit else ""
        ax.set(
            xlabel=f"known {self.item.title}{unit}",
            ylabel=f"predicted {self.item.title}{unit}",
            title=f"{self.shots} labels, {len(table)} crystals",
        )
        return ax

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns of a table of crystals that predictions take beside the crystals."""
        return self.adapted.method.inputs

    def unfit(self, table: pd.DataFrame) -> dict[int, tuple[str, str]]:
        """Return rows whose inputs cannot be taken, with the column and the reason."""
        method = self.adapted.method
        if not isinstance(method, NewProperty) or method.columns is None:
            return {}
        return method.columns.unfit(table)

    @property
    def features(self) -> Path | None:
        """File of the stack with features that was adapted, where there is one.

        Raises
        ------
        MatmlError
            Where it is in no file.
        """
        method = self.adapted.method
        if not isinstance(method, WithFeatures):
            return None
        if method.learned.origin is None:
            raise MatmlError("features: are in no file yet; `save` what `learn_features` gave")
        return method.learned.origin

    def predict(
        self,
        structures: Structures | EncodedCrystals,
        processes: int = 1,
        *,
        inputs: Columns = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return predictions [n] and their 90 % intervals [n, 2] (low, high), in `unit`.

        The model is not changed: the same list gives the same numbers at every call, whatever was
        asked in between. A crystal in other company, or with several `processes`, gives the same
        to about five digits. Whether it is within what the model knows is said by
        `predict_table`. Several `processes` share the work on thousands of structures: the
        others build graphs ahead of this one (then keep the work of a script under
        `if __name__ == "__main__":`).

        Parameters
        ----------
        inputs
            What it was adapted with; by default those columns of the structures' table. A table
            of features names its crystals.
        """
        table = self.predict_table(structures, processes, inputs=inputs)
        return table["prediction"].to_numpy(), table[["low", "high"]].to_numpy()

    def predict_table(
        self,
        structures: Structures | EncodedCrystals,
        processes: int = 1,
        *,
        inputs: Columns = None,
    ) -> pd.DataFrame:
        """Return predictions in the property's unit with what there is to say of each crystal.

        Columns: `id` and `formula`; `prediction`; `low` and `high`, the 90 % interval, conformal
        over families that no training stage has seen (with the stacked Gaussian process over those
        and training families left out in turn, and narrower where it is surer), and wider in
        proportion beyond a distance of 1; `distance` to the nearest crystal that is labelled with
        this property, in training or support; `unseen_elements`, symbols of those that no such
        crystal holds (of a property of one's own: that training never met); `outside`, why a
        crystal is out of the domain, in words, and `in_domain`, whether that is empty; `labelled`,
        whether the crystal is one of the support; `disordered`, whether it is a virtual crystal,
        the mean over the occupants of its sites. One row per crystal, under the index of a
        DataFrame, Series or mapping that they were given in, so that labels join.

        Parameters
        ----------
        structures
            Where several predictors are asked, encode them once: `FewShotPredictor.encode`.
        inputs
            As of `predict`.
        """
        if isinstance(structures, EncodedCrystals):
            return self._table(structures)
        index = None
        if not isinstance(structures, CrystalSet):
            structures = given(structures)
            index = structures.index
        wanted = self.inputs if inputs is None or are_features(inputs) else inputs
        if isinstance(wanted, pd.DataFrame | Mapping):
            wanted = {name: wanted[name] for name in self.inputs if name in wanted}
        columns = columns_of(structures, wanted)
        parts, start = [], 0
        for part in self.encoder.stream(structures, processes):
            own = None if columns is None else columns[start : start + len(part)]
            if are_features(inputs):
                own = joined(inputs, part.crystals.table)
            parts.append(self._table(part.with_columns(own)))
            start += len(part)
        if not parts:
            raise MatmlError("no structure to predict: give at least one")
        table = pd.concat(parts, ignore_index=True)
        return table if index is None else table.set_axis(index)

    def _is_labelled(self, table: pd.DataFrame) -> np.ndarray:
        """Return which crystals of a table equal one of the support, [n]."""
        found = np.zeros(len(table), bool)
        if self.support is None:
            return found
        known = self.support.table
        # nothing else can be equal
        known = known[known["formula"].isin(table["formula"])]
        rows = np.flatnonzero(table["formula"].isin(known["formula"]))
        if len(rows):
            both = pd.concat([known, table.iloc[rows]], ignore_index=True)
            both["id"], most = both.index.astype(str), len(known)
            first = pd.to_numeric(pd.Series(find_duplicates(both, threads=1)[0][most:]))
            found[rows] = (first < most).to_numpy()
        return found

    def _table(self, crystals: EncodedCrystals) -> pd.DataFrame:
        placed = self.domain.placed(crystals)
        value, half_width = self.adapted.predict(placed)
        outside, unseen = self.domain.outside(placed)
        method = self.adapted.method
        if isinstance(method, NewProperty) and method.columns is not None:
            own = method.columns.beyond(crystals.crystals.table)
            outside = ["; ".join(filter(None, both)) for both in zip(outside, own, strict=True)]
        return pd.DataFrame(
            {
                "id": crystals.crystals.table["id"].to_numpy(),
                "formula": crystals.crystals.table["formula"].to_numpy(),
                "prediction": self.scale.restore(value),
                "low": self.scale.restore(value - half_width),
                "high": self.scale.restore(value + half_width),
                "distance": placed.distance,
                "in_domain": np.array(outside) == "",
                "unseen_elements": unseen,
                "outside": outside,
                "labelled": self._is_labelled(crystals.crystals.table),
                "disordered": are_disordered(crystals.crystals.table),
            }
        )
