"""Few-shot prediction for users: load, adapt to a few labels, predict with intervals."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pymatgen.core import Structure

from matml.errors import MatmlError
from matml.files import read_json
from matml.meta.checkpoint import load_checkpoint
from matml.meta.parallel import repeat_weights
from matml.properties.adaptation import (
    fine_tuned_weights,
    fine_tuning_settings,
    meta_learned_weights,
    predict_many,
    residual_gp_correction,
)
from matml.properties.baselines import Baseline, load_baseline
from matml.properties.batches import GraphBatches
from matml.properties.descriptors import describe
from matml.properties.export import CARD, FORMAT, TRAINING, stack_file
from matml.properties.intervals import width_at
from matml.properties.members import (
    Member,
    NetworkRecipe,
    load_member,
    nearest_distances,
    to_device,
)
from matml.properties.metatrain import METHODS, episode_batch
from matml.properties.pretrain import embed, predict
from matml.properties.stacking import METHOD as STACK
from matml.properties.stacking import StackedPredictor
from matml.properties.targets import Standardisation, find_property
from matml.properties.views import Inputs
from matml.structures.crystals import CrystalSet

BASELINES = ("extra_trees", "global_gp")
CHUNK = 2048
"""Crystals predicted at once, which bounds memory."""
STACK_CHUNK = 256
"""The stack's, whose covariances grow with the square."""


class FewShotPredictor:
    """A pre-trained and meta-trained predictor of several properties.

    Examples
    --------
    Load, adapt to the labelled crystals of a family, predict others::

        predictor = FewShotPredictor.load("results/model")
        adapted = predictor.adapt(structures, values, "bulk_modulus_GPa")
        table = adapted.predict(new_structures)  # prediction, low, high, distance, in_domain

    Structures are pymatgen ones, or a `CrystalSet`.
    """

    def __init__(
        self, folder: Path, card: dict, recipe: NetworkRecipe, members: list[Member], device: str
    ) -> None:
        self.folder, self.card, self.members, self.device = folder, card, members, device
        self.recipe = recipe
        self.standardisation = Standardisation(
            np.array(card["standardisation_mean"]), np.array(card["standardisation_deviation"])
        )
        self.training, _ = load_checkpoint(folder / TRAINING)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> "FewShotPredictor":
        """Read the folder that `matml properties export` wrote.

        Raises
        ------
        MatmlError
            Where a file is missing or damaged, or was written by another version of the format.
        """
        folder = Path(folder)
        card = read_json(folder / CARD)
        if card.get("format") != FORMAT:
            raise MatmlError(
                f"{folder / CARD}: format {card.get('format')!r}, this version of matml reads "
                f"{FORMAT}; export the predictor again"
            )
        recipe = NetworkRecipe(
            **{**card["recipe"], "properties": tuple(card["recipe"]["properties"])}
        )
        members = [
            to_device(load_member(folder / f"member-{i}", recipe, list(METHODS)), device)
            for i in range(card["members"])
        ]
        return cls(folder, card, recipe, members, device)

    @property
    def properties(self) -> dict[str, str]:
        """Names of the properties, with their units."""
        return {name: entry["unit"] for name, entry in self.card["properties"].items()}

    @property
    def held_out_families(self) -> list[str]:
        """Families that no training stage has seen."""
        return [*self.card["test_families"], *self.card["validation_families"]]

    def crystals(self, structures: CrystalSet | Sequence[Structure]) -> CrystalSet:
        """Return structures as a set of crystals, refusing graphs made otherwise."""
        if not isinstance(structures, CrystalSet):
            made = CrystalSet.from_structures(structures)
            if len(made.quarantine):
                bad = made.quarantine.iloc[0]
                raise MatmlError(f"structure {bad['id']}: {bad['reason']}; {bad['remedy']}")
            structures = made
        self.recipe.check_graphs(structures.graphs.settings, "crystals")
        return structures

    def adapt(
        self,
        structures: CrystalSet | Sequence[Structure],
        values: Sequence[float],
        property_name: str,
        *,
        method: str | None = None,
    ) -> "AdaptedPredictor":
        """Adapt to the labelled crystals of one family.

        Parameters
        ----------
        structures, values
            The support, and its labels in the property's unit; may be empty.
        property_name
            One of `properties`.
        method
            How to adapt; by default the method that won on the validation families.

        Raises
        ------
        MatmlError
            For an unknown property, labels that are not finite or do not fit in number, and for
            one crystal given with two different labels.
        """
        if property_name not in self.properties:
            raise MatmlError(
                f"property {property_name!r}: the model predicts {', '.join(self.properties)}"
            )
        support = self.crystals(structures) if len(structures) else None
        values = np.asarray(values, dtype=float)
        size = 0 if support is None else len(support)
        if values.shape != (size,):
            raise MatmlError(f"{len(values)} values for {size} structures: give one value each")
        if (bad := np.flatnonzero(~np.isfinite(values))).size:
            raise MatmlError(
                f"support crystal {support.table['id'].iloc[bad[0]]}: {property_name} = "
                f"{values[bad[0]]} is not a finite number; leave the crystal out"
            )
        column = self.recipe.properties.index(property_name)
        learned = find_property(property_name).to_scale(values)
        mean, deviation = self.standardisation.mean[column], self.standardisation.deviation[column]
        chosen = self.card["properties"][property_name]
        return AdaptedPredictor(
            self,
            property_name,
            method or chosen["method"],
            support,
            (learned - mean) / deviation,
        )

    def baseline(self, kind: str, property_name: str) -> Baseline:
        """Return a baseline fitted again to the training rows."""
        targets = self.training["targets"][:, self.recipe.properties.index(property_name)].numpy()
        known = ~np.isnan(targets)
        descriptors = self.training["descriptors"].numpy()
        path = self.folder / f"{property_name}.safetensors"
        return load_baseline(path, kind, descriptors[known], targets[known])

    def fitted_stack(self, property_name: str) -> StackedPredictor:
        """Return the stack of a property, conditioned again on the training rows."""
        targets = self.training["targets"][:, self.recipe.properties.index(property_name)].numpy()
        known = ~np.isnan(targets)
        inputs = Inputs(
            self.training["descriptors"].numpy()[known], self.training["predictions"].numpy()[known]
        )
        return StackedPredictor.load(
            self.folder / stack_file(property_name), inputs, targets[known]
        )

    def inputs(self, crystals: CrystalSet) -> Inputs:
        """Return what the stack sees of crystals of a new family."""
        batches = GraphBatches(crystals, device=self.device)
        rows = np.arange(len(crystals))
        each = [predict(member.pretrained, batches, rows) for member in self.members]
        return Inputs(describe(crystals), np.mean(np.array(each, dtype=float), 0))

    def distance(self, crystals: CrystalSet) -> np.ndarray:
        """Return the distance to the nearest training crystal, [crystals].

        In the networks' embeddings, mean over the members; 1 is the 95th percentile of the
        distances of training families that a member had not seen.
        """
        batches = GraphBatches(crystals, device=self.device)
        rows = np.arange(len(crystals))
        each = []
        for number, (member, far) in enumerate(
            zip(self.members, self.card["far_distances"], strict=True)
        ):
            known = self.training[f"embeddings.{number}"].float().numpy()
            each.append(nearest_distances(embed(member.pretrained, batches, rows), known) / far)
        return np.mean(each, 0)


class AdaptedPredictor:
    """A predictor of one property, adapted to one family.

    Attributes
    ----------
    method
        How it was adapted.
    shots
        Labels it was adapted to.
    """

    def __init__(
        self,
        predictor: FewShotPredictor,
        property_name: str,
        method: str,
        support: CrystalSet | None,
        labels: np.ndarray,
    ) -> None:
        self.predictor, self.property_name, self.method = predictor, property_name, method
        self.shots = len(labels)
        self.column = predictor.recipe.properties.index(property_name)
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

    def predict(self, structures: CrystalSet | Sequence[Structure]) -> pd.DataFrame:
        """Return predictions in the property's unit, one row per crystal.

        Columns: `prediction`; `low` and `high`, the 90 % interval, conformal over families that
        no training stage has seen (with the stacked Gaussian process over training families left
        out in turn, and narrower where it is surer), and wider in proportion beyond a distance of
        1; `distance` to what the model knows; `in_domain`, whether that is at most 1.
        """
        if not isinstance(structures, CrystalSet):
            structures = [structures] if isinstance(structures, Structure) else list(structures)
        if not len(structures):
            raise MatmlError("no structure to predict: give at least one")
        crystals = self.predictor.crystals(structures)
        parts = [
            self._predict_chunk(crystals.subset(np.arange(i, min(i + CHUNK, len(crystals)))))
            for i in range(0, len(crystals), CHUNK)
        ]
        return pd.concat(parts, ignore_index=True)

    def _predict_chunk(self, crystals: CrystalSet) -> pd.DataFrame:
        item = find_property(self.property_name)
        standardisation = self.predictor.standardisation
        deviation = standardisation.deviation[self.column]
        half_width = self.half_width
        if self._stack is None:
            value = self._predict(crystals)
        else:
            value, half_width = self._stack(crystals)
            half_width = half_width * deviation
        value = value * deviation + standardisation.mean[self.column]
        distance = self.predictor.distance(crystals)
        # farther than the families that set the width, errors are larger: it grows in proportion
        half_width = half_width * np.maximum(distance, 1)
        return pd.DataFrame(
            {
                "prediction": item.from_scale(value),
                "low": item.from_scale(value - half_width),
                "high": item.from_scale(value + half_width),
                "distance": distance,
                "in_domain": distance <= 1,
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

    def _prepare_stack(
        self, support: CrystalSet | None, labels: np.ndarray
    ) -> Callable[[CrystalSet], tuple[np.ndarray, np.ndarray]]:
        """Return the function from crystals to standardised predictions and half widths."""
        fitted, predictor = self.predictor.fitted_stack(self.property_name), self.predictor
        known = None if support is None else predictor.inputs(support)

        def predicted(crystals: CrystalSet) -> tuple[np.ndarray, np.ndarray]:
            parts = []
            for start in range(0, len(crystals), STACK_CHUNK):
                rows = np.arange(start, min(start + STACK_CHUNK, len(crystals)))
                query = predictor.inputs(crystals.subset(rows))
                parts.append(fitted.predict(query[:0] if known is None else known, labels, query))
            means, half_widths = zip(*parts, strict=True)
            return np.concatenate(means), np.concatenate(half_widths)

        return predicted

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
