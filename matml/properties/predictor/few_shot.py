"""Few-shot prediction for users: load, adapt to a few labels, predict with intervals."""

import copyreg
import math
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from matml.core.errors import MatmlError, reading
from matml.core.files import read_json
from matml.core.settings import validate
from matml.core.standardise import Standardisation
from matml.core.text.notebook import as_html
from matml.core.text.words import plural
from matml.meta.checkpoint import load_checkpoint
from matml.properties.baselines.tabular import Baseline, load_baseline
from matml.properties.data.targets import LabelScale, Property, find_property
from matml.properties.features.learn import FeatureStack, learn_features
from matml.properties.features.method import WithFeatures
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.methods.make import make
from matml.properties.methods.method import FineTuning, Trained
from matml.properties.methods.registry import (
    HYPOTHETICAL,
    LABEL_PROCESS,
    STACK,
    WITH_FEATURES,
)
from matml.properties.networks.ensemble import Member, NetworkRecipe, load_member, to_device
from matml.properties.new_property.method import NewProperty
from matml.properties.new_property.model import NewPropertyModel
from matml.properties.predictor.adapted import AdaptedPredictor
from matml.properties.predictor.domain import Domain
from matml.properties.predictor.encode import Encoder
from matml.properties.predictor.export import check_files
from matml.properties.predictor.fitted import FittedPredictor
from matml.properties.predictor.layout import (
    CARD,
    FORMAT,
    NEW_PROPERTY,
    TRAINING,
    model_folder,
    stack_file,
)
from matml.properties.predictor.new_property import (
    SCALES,
    FittedNewProperty,
    Scale,
    new_property,
)
from matml.properties.predictor.training_set import (
    check_element_features,
    elements_of,
    restore,
)
from matml.properties.settings import PropertiesSection
from matml.properties.stack.base_models import Inputs
from matml.properties.stack.fit import StackedPredictor
from matml.structures.crystals import CrystalSet, Structures
from matml.structures.given import Columns
from matml.structures.settings import GraphsSection, StructuresSection


def check_device(device: str) -> None:
    """Raise MatmlError where torch cannot use a device."""
    try:
        torch.zeros(1, device=device)
    # torch raises an AssertionError where it was built without the device
    except (RuntimeError, AssertionError) as error:
        raise MatmlError(
            f"device {device!r} cannot be used here ({str(error).splitlines()[0]}); use 'cpu'"
        ) from None


class FewShotPredictor:
    """A pre-trained and meta-trained predictor of several properties.

    Examples
    --------
    Load, adapt to the labelled crystals of a family, predict others::

        predictor = FewShotPredictor.load()  # the model that ships; or a folder of your own
        adapted = predictor.adapt(structures, values, "bulk_modulus_GPa")
        mean, interval = adapted.predict(new_structures)  # [n] and [n, 2], in GPa

    Structures are pymatgen ones, or a `CrystalSet`.
    """

    def __init__(
        self, folder: Path, card: dict, recipe: NetworkRecipe, members: list[Member], device: str
    ) -> None:
        self.folder, self.card, self.recipe = folder, card, recipe
        self.standardisation = Standardisation(
            np.array(card["standardisation_mean"]), np.array(card["standardisation_deviation"])
        )
        tensors, _ = load_checkpoint(folder / TRAINING)
        check_element_features(
            card["element_features"],
            tensors["element_features"].numpy(),
            card["versions"],
            folder / CARD,
        )
        self.training = restore(tensors)
        path = folder / NEW_PROPERTY
        self.new_property = NewPropertyModel.load(path) if path.is_file() else None
        self.compositions = elements_of(self.training)
        self.encoder = Encoder(
            members,
            recipe,
            validate(StructuresSection, card["structures"], f"{folder / CARD}, structures"),
            validate(GraphsSection, recipe.graphs, f"{folder / CARD}, graphs"),
            device,
        )

    @classmethod
    def load(cls, folder: str | Path | None = None, device: str = "cpu") -> "FewShotPredictor":
        """Read the folder that `matml properties export` or `ship` wrote.

        Parameters
        ----------
        folder
            By default the model that ships with matml.

        Raises
        ------
        MatmlError
            Where a file is missing or damaged, was written by another version of the format, or
            the element features were others; the message names the difference.
        """
        folder = model_folder(folder)
        card = read_json(folder / CARD, FORMAT)
        check_device(device)
        with reading(folder / CARD, FORMAT.remedy):
            check_files(folder, card)
            recipe = NetworkRecipe(
                **{**card["recipe"], "properties": tuple(card["recipe"]["properties"])}
            )
            members = [
                to_device(load_member(folder / f"member-{i}", recipe, card["meta_trained"]), device)
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

    def encode(self, structures: Structures) -> EncodedCrystals:
        """Return structures as all predictors of this model take them, which saves time.

        Raises
        ------
        MatmlError
            Names the structure that cannot be used and why, or how the graphs of a `CrystalSet`
            differ from the model's.
        """
        return self.encoder.encode(structures)

    def scale(self, property_name: str) -> LabelScale:
        """Return how labels of a property are standardised."""
        column = self.recipe.properties.index(property_name)
        mean, deviation = self.standardisation.mean[column], self.standardisation.deviation[column]
        return LabelScale(self._property(property_name), float(mean), float(deviation))

    def _property(self, name: str) -> Property:
        """Return one of the model's properties, a known one or the user's own."""
        entry = self.card["properties"][name]
        return find_property(name, entry["unit"], entry.get("logarithmic", False))

    def default_method(self, property_name: str) -> str:
        """Return the method that a user gets."""
        return self.card["properties"][property_name]["method"]

    def choose_property(self, name: str | None) -> str:
        """Return the name of a property; None stands for the only one.

        Raises
        ------
        MatmlError
            Where the model has no such property, or several and none is named.
        """
        if name is None and len(self.properties) == 1:
            return next(iter(self.properties))
        if not isinstance(name, str) or name not in self.properties:
            units = ", ".join(f"{n} ({u})" if u else n for n, u in self.properties.items())
            said = "no property is named" if name is None else f"property {name!r} is not known"
            raise MatmlError(f"{said}: the model predicts {units}; name one of these")
        return name

    def fitted(
        self,
        property_name: str | None = None,
        method: str | None = None,
        *,
        unit: str | None = None,
        scale: Scale = "auto",
        features: FeatureStack | str | Path | None = None,
    ) -> FittedPredictor:
        """Return a method fitted for a property, which can adapt to many supports.

        Fitting the stacked process again takes seconds with thousands of training crystals: keep
        the result where several families are to be adapted to.

        Parameters
        ----------
        property_name
            One of `properties`, which may be left out where there is only one; or any other, which
            is learned from its labels alone.
        method
            How to adapt; by default what the card names, such as the stacked process.
        unit, scale
            Of another property: its unit, by default what the end of its name says, and whether
            its logarithm is learned ("log"), itself ("linear") or what the labels' evidence says.
        features
            What `learn_features` gave, or its file: the default stands beside a stack with these
            features, and the labels weigh the two.

        Raises
        ------
        MatmlError
            For an unknown property or method, or features for another property.
        """
        if isinstance(property_name, str) and property_name not in self.properties:
            return self._new(property_name, method, unit, scale)
        name = self.choose_property(property_name)
        own = self.properties[name]
        if unit not in (None, own):
            raise MatmlError(
                f"{name}: is known to the model in {own or 'no unit'}, not {unit}; convert the "
                "labels, or give the property another name"
            )
        if features is not None:
            if method not in (None, WITH_FEATURES):
                raise MatmlError(
                    f"method {method!r}: features stand beside the default method only; leave out "
                    "the one or the other"
                )
            method = STACK
        method, entry = method or self.default_method(name), self.card["properties"][name]
        if method not in (offered := [*entry["half_widths"], HYPOTHETICAL]):
            known = ", ".join(offered)
            raise MatmlError(f"method {method!r} is not known; known are {known}")
        column = self.recipe.properties.index(name)
        trained = self._trained(name, column)
        return FittedPredictor(
            make(method, trained) if features is None else self._with(features, name, trained),
            self.encoder,
            self.scale(name),
            column,
            entry["expected_error"],
            self._domain(self._property(name), column),
            self.folder,
        )

    def adapt(
        self,
        structures: Structures,
        values: Sequence[float] | np.ndarray,
        property_name: str | None = None,
        *,
        method: str | None = None,
        unit: str | None = None,
        scale: Scale = "auto",
        check_units: bool = True,
        inputs: Columns = None,
        features: FeatureStack | str | Path | None = None,
    ) -> AdaptedPredictor:
        """Return the predictor adapted to labelled crystals (of one family, of a known property).

        The same as `fitted(property_name, …).adapt(structures, values)`, which says what the
        parameters mean and what is checked: keep what `fitted` gives to adapt to one family after
        another.
        """
        fitted = self.fitted(property_name, method, unit=unit, scale=scale, features=features)
        return fitted.adapt(structures, values, check_units=check_units, inputs=inputs)

    def adapt_again(
        self,
        table: pd.DataFrame,
        values: np.ndarray,
        item: Property,
        method: str,
        inputs: Sequence[str] = (),
        features: Path | None = None,
    ) -> AdaptedPredictor:
        """Return the predictor adapted to a support as it was before, [k].

        Parameters
        ----------
        table
            Of the support, columns as in `structures.parquet`, and `inputs`.
        """
        crystals: Structures = (
            CrystalSet.from_table(table, self.encoder.graphs) if len(table) else []
        )
        scale: Scale = "log" if item.logarithmic else "linear"
        options: dict[str, Any] = {"unit": item.unit, "scale": scale, "check_units": False}
        if inputs:
            options["inputs"] = list(inputs)
        if not len(crystals):
            options.pop("inputs", None)
        return self.adapt(crystals, values, item.name, method=method, features=features, **options)

    def learn_features(
        self, structures: Structures, features: pd.DataFrame, property_name: str, *, seed: int = 0
    ) -> FeatureStack:
        """Return a stack of a property that takes further features of crystals.

        Parameters
        ----------
        structures
            The crystals that this model was trained on, and maybe others.
        features
            A table of theirs, such as `matml.potentials.describe` gives: a column `id` or
            `content`, and numbers.

        Raises
        ------
        MatmlError
            Where too few of the training crystals are there and have features.
        """
        name = self.choose_property(property_name)
        if not isinstance(structures, CrystalSet):
            structures = CrystalSet.from_structures(
                structures, settings=self.encoder.structures, graph_section=self.encoder.graphs
            )
        settings = validate(PropertiesSection, self.card["settings"], f"{self.folder / CARD}")
        column = self.recipe.properties.index(name)
        return learn_features(
            structures, features, self.training, name, column, settings, seed=seed
        )

    def _with(
        self, features: FeatureStack | str | Path, name: str, trained: Trained
    ) -> WithFeatures:
        """Return the method that weighs the default against a stack with features."""
        if not isinstance(features, FeatureStack):
            features = FeatureStack.load(Path(features), self.training)
        if features.name != name:
            raise MatmlError(
                f"features: were learned for {features.name}, not for {name}; learn them for it"
            )
        return WithFeatures(trained, features)

    def __reduce__(self) -> tuple:
        """Pickle the place of the model, not its weights."""
        return FewShotPredictor.load, (self.folder, self.encoder.device)

    def __repr__(self) -> str:
        units = (f"{name} ({unit})" if unit else name for name, unit in self.properties.items())
        made = f"{len(self.encoder.members)} networks, {len(self.training['targets']):,} crystals"
        return f"FewShotPredictor({', '.join(units)}; {made}; {self.folder})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        known = self.training["targets"].isfinite().sum(0).tolist()
        rows = [
            {"property": name, "unit": unit, "labelled crystals": number}
            for (name, unit), number in zip(self.properties.items(), known, strict=True)
        ]
        networks = plural("network", len(self.encoder.members))
        title = f"FewShotPredictor: {len(self.encoder.members)} {networks}, {self.folder}"
        return as_html(title, pd.DataFrame(rows))

    def _new(
        self, name: str, method: str | None, unit: str | None, scale: Scale
    ) -> FittedNewProperty:
        """Return the label process for a property that the model does not know."""
        if method not in (None, LABEL_PROCESS):
            raise MatmlError(
                f"method {method!r}: {name} is not among the properties that the model knows "
                f"({', '.join(self.properties)}); for others there is {LABEL_PROCESS}"
            )
        if unit is None and (near := get_close_matches(name, self.properties, 1, 0.8)):
            raise MatmlError(
                f"property {name!r}: is it {near[0]!r}, which the model knows? If it is another, "
                "give its unit"
            )
        if scale not in SCALES:
            raise MatmlError(f"scale {scale!r}: must be one of {', '.join(SCALES)}")
        if self.new_property is None:
            raise MatmlError(
                f"{self.folder / NEW_PROPERTY}: is missing: this model was exported without what "
                "properties of your own take; export it again"
            )
        item = new_property(name, unit)
        own = NewProperty(LABEL_PROCESS, self.new_property)
        return FittedNewProperty(
            own,
            self.encoder,
            LabelScale(item, 0.0, 1.0),
            -1,
            math.nan,
            self._domain(item),
            self.folder,
            scale,
        )

    def _domain(self, item: Property, column: int | None = None) -> Domain:
        """Return where training crystals with a label of a property are; none without a column."""
        unknown = torch.ones(len(self.training["targets"]), dtype=torch.bool)
        if column is not None:
            unknown = self.training["targets"][:, column].isnan()
        known, entry = ~unknown, self.card["properties"].get(item.name, self.card)
        far = entry["far_distances"][: len(self.encoder.members)]
        return Domain(
            item,
            [self.training[f"embeddings.{i}"][known].float().numpy() for i in range(len(far))],
            far,
            self.training["descriptors"][known].numpy(),
            [own for own, keep in zip(self.compositions, known.tolist(), strict=True) if keep],
            met=frozenset().union(*self.compositions) if column is None else frozenset(),
        )

    def _trained(self, name: str, column: int) -> Trained:
        """Return what methods of a property are made of."""
        entry, settings = self.card["properties"][name], self.card["settings"]
        deviation = self.scale(name).deviation
        variants = [
            FineTuning(rate, steps)
            for rate in settings["fine_tuning_learning_rates"]
            for steps in settings["fine_tuning_steps"]
        ]
        widths = {
            # the card has them on the learned scale
            method: {int(k): width / deviation for k, width in own.items()}
            for method, own in entry["half_widths"].items()
        }
        targets = self.training["targets"][:, column].numpy()
        known = ~np.isnan(targets)
        rows, targets = self.training["descriptors"].numpy()[known], targets[known]

        def baseline(kind: str) -> Baseline:
            return load_baseline(self.folder / f"{name}.safetensors", kind, rows, targets)

        def stack() -> StackedPredictor:
            inputs = Inputs(rows, self.training["predictions"].numpy()[known])
            return StackedPredictor.load(self.folder / stack_file(name), inputs, targets)

        return Trained(
            column,
            self.encoder.members,
            self.encoder.device,
            [own for own in variants if own.name == entry["fine_tuning"]],
            widths,
            baseline,
            stack,
            None if self.new_property is None else self.new_property.labels_alone,
        )


def _adapt_again(folder: Path, device: str, *given: Any) -> AdaptedPredictor:
    return FewShotPredictor.load(folder, device).adapt_again(*given)


def _reduce(adapted: AdaptedPredictor) -> tuple:
    """Pickle the support and the place of the model, which are small."""
    place = adapted.model, adapted.encoder.device
    given = adapted.support_table, adapted.support_values, adapted.item, adapted.method
    return _adapt_again, (*place, *given, adapted.inputs, adapted.features)


copyreg.pickle(AdaptedPredictor, _reduce)
