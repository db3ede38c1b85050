"""The few-shot predictor as an estimator of scikit-learn."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from matml.core.errors import as_path
from matml.core.statistics import NORMAL_90
from matml.properties.predictor.adapted import AdaptedPredictor
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.properties.predictor.fitted import FittedPredictor
from matml.properties.predictor.from_files import load_adapted, save_adapted
from matml.properties.predictor.layout import CARD, model_folder
from matml.properties.predictor.new_property import Scale
from matml.structures.crystals import Structures


class FewShotRegressor(RegressorMixin, BaseEstimator):
    """Adapts a trained model to labelled crystals, and predicts others.

    Parameters
    ----------
    property_name
        One that the model knows, or another, which is learned from its labels alone.
    model, device
        Folder of the model, by default the one that ships; torch device.
    method, unit, scale, check_units
        As of `FewShotPredictor.adapt`.
    inputs
        Names of columns of the crystals' table from which a property of one's own is learned too.

    Attributes
    ----------
    adapted_ : AdaptedPredictor
        Tells more: `predict_table`, `warnings`, `domain`.

    Examples
    --------
    Crystals are given in any form, in a list, a Series or a DataFrame::

        regressor = FewShotRegressor("bulk_modulus_GPa")
        scores = cross_val_score(regressor, crystals, moduli, cv=5)
        mean, deviation = regressor.fit(crystals, moduli).predict(others, return_std=True)
    """

    def __init__(
        self,
        property_name: str | None = None,
        *,
        model: str | Path | None = None,
        method: str | None = None,
        unit: str | None = None,
        scale: Scale = "auto",
        check_units: bool = True,
        inputs: Sequence[str] | None = None,
        device: str = "cpu",
    ) -> None:
        self.property_name, self.model, self.method = property_name, model, method
        self.unit, self.scale, self.check_units, self.device = unit, scale, check_units, device
        self.inputs = inputs

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn's checks are to know: crystals are no arrays."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.no_validation = False, True
        return tags

    def fit(self, X: Structures, y: Any) -> "FewShotRegressor":
        """Adapt to labelled crystals.

        Raises
        ------
        MatmlError
            As of `FewShotPredictor.adapt`.
        """
        given = self.property_name, self.method, self.unit, self.scale
        fitted = _fitted(*_place(self.model), self.device, *given)
        self.adapted_: AdaptedPredictor = fitted.adapt(
            X, y, check_units=self.check_units, inputs=self.inputs
        )
        return self

    def predict(
        self, X: Structures, return_std: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Return predictions [n], and where asked the deviations [n] of which intervals are made.

        A deviation is half the 90 % interval over 1.645.
        """
        check_is_fitted(self)
        mean, interval = self.adapted_.predict(X)
        return (mean, np.ptp(interval, axis=1) / 2 / NORMAL_90) if return_std else mean

    def save(self, folder: str | Path) -> None:
        """Write what was adapted: the labelled crystals, and which model they were given to."""
        check_is_fitted(self)
        save_adapted(self.adapted_, as_path(folder, "folder"))

    @classmethod
    def load(
        cls, folder: str | Path, model: str | Path | None = None, device: str = "cpu"
    ) -> "FewShotRegressor":
        """Return what `save`, or `matml properties adapt`, wrote; see `load_adapted`."""
        adapted = load_adapted(folder, None if model is None else model_folder(model), device)
        item = adapted.item
        scale: Scale = "log" if item.logarithmic else "linear"
        options: dict[str, Any] = {"model": model, "device": device}
        options["inputs"] = list(adapted.inputs) or None
        found = cls(item.name, method=adapted.method, unit=item.unit, scale=scale, **options)
        found.adapted_ = adapted
        return found


def _place(model: str | Path | None) -> tuple[Path, int]:
    """Return the folder of a model, and a number that changes where it does."""
    folder = model_folder(model).resolve()
    card = folder / CARD
    return folder, card.stat().st_mtime_ns if card.is_file() else 0


@lru_cache(maxsize=1)
def _predictor(folder: Path, _changed: int, device: str) -> FewShotPredictor:
    return FewShotPredictor.load(folder, device)


@lru_cache(maxsize=4)
def _fitted(folder: Path, changed: int, device: str, *given: Any) -> FittedPredictor:
    """Return a fitted method, the same for all folds of a cross-validation."""
    name, method, unit, scale = given
    return _predictor(folder, changed, device).fitted(name, method, unit=unit, scale=scale)
