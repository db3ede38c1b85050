"""A predictor adapted to a few labels: what it says of other crystals, and how sure it is."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.properties.data.targets import LabelScale
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.methods.method import Adapted
from matml.properties.methods.stack import Finding
from matml.properties.predictor.domain import Domain
from matml.properties.predictor.encode import Encoder
from matml.structures.crystals import CrystalSet, Structures


@dataclass(frozen=True)
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
    def property_name(self) -> str:
        """Name of the property."""
        return self.scale.property.name

    @property
    def unit(self) -> str:
        """Unit of labels and predictions, '' where they have none."""
        return self.scale.property.unit

    @property
    def shots(self) -> int:
        """Number of labels it was adapted to."""
        return len(self.support_values)

    def predict(
        self, structures: Structures | EncodedCrystals, processes: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return predictions [n] and their 90 % intervals [n, 2] (low, high), in `unit`.

        The model is not changed: the same list gives the same numbers at every call, whatever was
        asked in between. A crystal in other company, or with several `processes`, gives the same
        to about five digits. Whether it is within what the model knows is said by
        `predict_table`. Several `processes` share the work on thousands of structures: the
        others build graphs ahead of this one (then keep the work of a script under
        `if __name__ == "__main__":`).
        """
        table = self.predict_table(structures, processes)
        return table["prediction"].to_numpy(), table[["low", "high"]].to_numpy()

    def predict_table(
        self, structures: Structures | EncodedCrystals, processes: int = 1
    ) -> pd.DataFrame:
        """Return predictions in the property's unit with what there is to say of each crystal.

        Columns: `prediction`; `low` and `high`, the 90 % interval, conformal over families that
        no training stage has seen (with the stacked Gaussian process over those and training
        families left out in turn, and narrower where it is surer), and wider in proportion beyond
        a distance of 1; `distance` to the nearest crystal that is labelled with this property, in
        training or support; `unseen_elements`, symbols of those that no such crystal holds;
        `outside`, why a crystal is out of the domain, in words, and `in_domain`, whether that is
        empty. One row per crystal.

        Parameters
        ----------
        structures
            Where several predictors are asked, encode them once: `FewShotPredictor.encode`.
        """
        if isinstance(structures, EncodedCrystals):
            return self._table(structures)
        parts = [self._table(part) for part in self.encoder.stream(structures, processes)]
        if not parts:
            raise MatmlError("no structure to predict: give at least one")
        return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)

    def _table(self, crystals: EncodedCrystals) -> pd.DataFrame:
        placed = self.domain.placed(crystals)
        value, half_width = self.adapted.predict(placed)
        outside, unseen = self.domain.outside(placed)
        return pd.DataFrame(
            {
                "prediction": self.scale.restore(value),
                "low": self.scale.restore(value - half_width),
                "high": self.scale.restore(value + half_width),
                "distance": placed.distance,
                "in_domain": np.array(outside) == "",
                "unseen_elements": unseen,
                "outside": outside,
            }
        )
