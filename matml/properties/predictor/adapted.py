"""A predictor adapted to a few labels: what it says of other crystals, and how sure it is."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from matml.core.errors import MatmlError
from matml.meta.vectorised import repeat_weights
from matml.properties.data.batches import GraphBatches
from matml.properties.data.descriptors import describe
from matml.properties.data.methods import STACK
from matml.properties.data.targets import find_property
from matml.properties.networks.adaptation import (
    fine_tuned_weights,
    fine_tuning_settings,
    meta_learned_weights,
    predict_many,
    residual_gp_correction,
)
from matml.properties.networks.ensemble import Member
from matml.properties.networks.metatrain import episode_batch
from matml.properties.networks.pretrain import embed, predict
from matml.properties.predictor.training_set import known_elements, unseen_elements
from matml.properties.stack.base_models import Inputs
from matml.properties.stack.conformal import width_at
from matml.properties.stack.fit import AdaptedStack
from matml.structures.crystals import CrystalSet, Structures, listed

if TYPE_CHECKING:
    from matml.properties.predictor.few_shot import FewShotPredictor

BASELINES = ("extra_trees", "global_gp")
CHUNK = 2048
"""Crystals predicted at once, which bounds memory."""


class AdaptedPredictor:
    """A predictor of one property, adapted to one family.

    Attributes
    ----------
    method
        How it was adapted.
    shots
        Labels it was adapted to.
    support, support_values
        The labelled crystals (None where there is none), and their labels in `unit`.
    warnings
        What was odd about the labels.
    """

    def __init__(
        self,
        predictor: "FewShotPredictor",
        property_name: str,
        method: str,
        support: CrystalSet | None,
        values: np.ndarray,
        warnings: tuple[str, ...] = (),
    ) -> None:
        self.predictor, self.property_name, self.method = predictor, property_name, method
        self.support, self.support_values, self.warnings = support, values, warnings
        self.shots = len(values)
        self.column = predictor.recipe.properties.index(property_name)
        standardisation = predictor.standardisation
        mean, deviation = standardisation.mean[self.column], standardisation.deviation[self.column]
        labels = (find_property(property_name).to_scale(values) - mean) / deviation
        self.known_elements = known_elements(predictor.training, self.column)
        if support is not None:
            for numbers in support.table["atomic_numbers"]:
                self.known_elements |= set(map(int, numbers))
        entry = predictor.card["properties"][property_name]
        if method not in entry["half_widths"]:
            known = ", ".join(entry["half_widths"])
            raise MatmlError(f"method {method!r} is not known; known are {known}")
        widths = {
            (property_name, method, int(k)): width
            for k, width in entry["half_widths"][method].items()
        }
        self.half_width = width_at(widths, property_name, method, self.shots)
        self._stack = self._prepare_stack(support, labels) if method == STACK else None
        if self._stack is None:
            self._predict = self._prepare(support, labels, entry["fine_tuning"])

    @property
    def unit(self) -> str:
        """Unit of labels and predictions, '' where they have none."""
        return find_property(self.property_name).unit

    def predict(self, structures: Structures, processes: int = 1) -> tuple[np.ndarray, np.ndarray]:
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

    def predict_table(self, structures: Structures, processes: int = 1) -> pd.DataFrame:
        """Return predictions in the property's unit with what there is to say of each crystal.

        Columns: `prediction`; `low` and `high`, the 90 % interval, conformal over families that
        no training stage has seen (with the stacked Gaussian process over those and training
        families left out in turn, and narrower where it is surer), and wider in proportion beyond
        a distance of 1; `distance` to what the model knows; `unseen_elements`, symbols of those
        that no crystal with a label of the property holds, in training or support; `in_domain`,
        whether the distance is at most 1 and there are no such elements. One row per crystal.
        """
        if not isinstance(structures, CrystalSet):
            structures = listed(structures)
        if not len(structures):
            raise MatmlError("no structure to predict: give at least one")
        if processes > 1 and not isinstance(structures, CrystalSet):
            parts = self.predictor.crystals_in_parts(structures, processes)
        else:
            crystals = self.predictor.crystals(structures)
            if len(crystals) <= CHUNK:
                return self._predict_chunk(crystals)
            parts = (
                crystals.subset(np.arange(i, min(i + CHUNK, len(crystals))))
                for i in range(0, len(crystals), CHUNK)
            )
        return pd.concat(map(self._predict_chunk, parts), ignore_index=True)

    def _predict_chunk(self, crystals: CrystalSet) -> pd.DataFrame:
        item = find_property(self.property_name)
        standardisation = self.predictor.standardisation
        deviation = standardisation.deviation[self.column]
        half_width = self.half_width
        if self._stack is None:
            value = self._predict(crystals)
        else:
            value, half_width = self._stack.predict(self.predictor.inputs(crystals))
            half_width = half_width * deviation
        value = value * deviation + standardisation.mean[self.column]
        distance = self.predictor.distance(crystals)
        # farther than the families that set the width, errors are larger: it grows in proportion
        half_width = half_width * np.maximum(distance, 1)
        unseen = unseen_elements(crystals, self.known_elements)
        return pd.DataFrame(
            {
                "prediction": item.from_scale(value),
                "low": item.from_scale(value - half_width),
                "high": item.from_scale(value + half_width),
                "distance": distance,
                "in_domain": (distance <= 1) & (np.array(unseen) == ""),
                "unseen_elements": unseen,
            }
        )

    def _prepare(
        self, support: CrystalSet | None, labels: np.ndarray, fine_tuning: str
    ) -> Callable[[CrystalSet], np.ndarray]:
        """Return the function from crystals to standardised predictions, adapted once."""
        kind = self.method.removesuffix("_gp") if self.method != "global_gp" else "global_gp"
        if self.method == "support_mean":
            mean = labels.mean() if self.shots else 0.0
            return lambda crystals: np.full(len(crystals), mean)
        if kind in BASELINES:
            return self._prepare_baseline(kind, support, labels)
        device = self.predictor.device
        data = None
        if support is not None:
            targets = np.full((len(labels), len(self.predictor.recipe.properties)), np.nan)
            targets[:, self.column] = labels
            batches = GraphBatches(support, targets, device)
            data = episode_batch(batches, range(len(labels)), self.column)
        functions = [
            self._prepare_member(member, support, data, labels, fine_tuning)
            for member in self.predictor.members
        ]
        return lambda crystals: np.mean([function(crystals) for function in functions], 0)

    def _prepare_member(
        self, member: Member, support: CrystalSet | None, data, labels: np.ndarray, fine_tuning: str
    ) -> Callable[[CrystalSet], np.ndarray]:
        column, device = self.column, self.predictor.device

        def with_weights(network, weights):
            def predicted(crystals: CrystalSet) -> np.ndarray:
                batch = GraphBatches(crystals, device=device).batch(np.arange(len(crystals)))
                return predict_many(network, weights, [batch], column)[0]

            return predicted

        if self.method in member.meta_trained:
            network, _ = member.meta_trained[self.method]
            if data is None:
                return with_weights(network, repeat_weights(dict(network.named_parameters()), 1))
            return with_weights(network, meta_learned_weights(member, self.method, [data]))
        network = member.pretrained
        if self.method == "fine_tuned" and data is not None:
            rate, steps = fine_tuning_settings(fine_tuning)
            tuned = fine_tuned_weights(network, [data], learning_rate=rate, checkpoints=[steps])
            return with_weights(network, tuned[steps])
        if self.method == "network_gp" and support is not None:
            rows = np.arange(len(support))
            own = GraphBatches(support, device=device)
            residuals = labels - predict(network, own, rows)[:, column]
            known = embed(network, own, rows)

            def corrected(crystals: CrystalSet) -> np.ndarray:
                batches, all_rows = GraphBatches(crystals, device=device), np.arange(len(crystals))
                embeddings = embed(network, batches, all_rows)
                with torch.no_grad():
                    head_input = torch.from_numpy(embeddings).to(device)
                    plain = network.head(head_input)[:, column].cpu().numpy()
                return plain + residual_gp_correction(member, column, known, residuals, embeddings)

            return corrected
        return with_weights(network, repeat_weights(dict(network.named_parameters()), 1))

    def _prepare_stack(self, support: CrystalSet | None, labels: np.ndarray) -> AdaptedStack:
        """Return the stack given the support."""
        predictor, fitted = self.predictor, self.predictor.fitted_stack(self.property_name)
        if support is None:
            known = predictor.training
            nothing = Inputs(*(known[name][:0].numpy() for name in ("descriptors", "predictions")))
            return fitted.adapt(nothing, labels)
        return fitted.adapt(predictor.inputs(support), labels)

    def _prepare_baseline(
        self, kind: str, support: CrystalSet | None, labels: np.ndarray
    ) -> Callable[[CrystalSet], np.ndarray]:
        fitted = self.predictor.baseline(kind, self.property_name)
        if support is None or self.method == "extra_trees":
            return lambda crystals: fitted.predict(describe(crystals))
        known = describe(support)
        if self.method == "global_gp":
            return lambda crystals: fitted.model.adapt(known, labels, describe(crystals))
        residuals = labels - fitted.predict(known)

        def corrected(crystals: CrystalSet) -> np.ndarray:
            features = describe(crystals)
            correction, _ = fitted.residual_gp.correct(known, residuals, features)
            return fitted.predict(features) + correction

        return corrected
