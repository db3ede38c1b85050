"""Few-shot prediction for users: load, adapt to a few labels, predict with intervals."""

import logging
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from pymatgen.core import IStructure, Structure

from matml.core.errors import MatmlError
from matml.core.files import read_json
from matml.core.settings import validate
from matml.core.standardise import Standardisation
from matml.meta.checkpoint import load_checkpoint
from matml.properties.baselines.tabular import Baseline, load_baseline
from matml.properties.data import label_checks
from matml.properties.data.targets import Property, find_property
from matml.properties.networks.ensemble import Member, NetworkRecipe, load_member, to_device
from matml.properties.predictor.adapted import AdaptedPredictor
from matml.properties.predictor.encode import Seen, see
from matml.properties.predictor.export import (
    CARD,
    FORMAT,
    SHIPPED,
    TRAINING,
    check_files,
    stack_file,
)
from matml.properties.predictor.training_set import check_element_features, restore
from matml.properties.stack.base_models import Inputs
from matml.properties.stack.fit import StackedPredictor
from matml.structures.crystals import CrystalSet, Structures, listed
from matml.structures.settings import GraphsSection, StructuresSection

log = logging.getLogger(__name__)


def model_folder(folder: str | Path | None) -> Path:
    """Return the folder of a model, that of the shipped one for None.

    Raises
    ------
    MatmlError
        Where none is given and none ships.
    """
    if folder is None and not (SHIPPED / CARD).is_file():
        raise MatmlError(
            "model: no trained model ships with this copy of matml; give the folder of one "
            "(`results/model` of the workflow)"
        )
    return SHIPPED if folder is None else Path(folder)


def check_device(device: str) -> None:
    """Raise MatmlError where torch cannot use a device."""
    try:
        torch.zeros(1, device=device)
    # torch raises an AssertionError where it was built without the device
    except (RuntimeError, AssertionError) as error:
        raise MatmlError(
            f"device {device!r} cannot be used here ({str(error).splitlines()[0]}); use 'cpu'"
        ) from None


def _structures_only(structures: Structure | Iterable[Structure]) -> list[Structure]:
    """Return structures as a list; raise MatmlError for anything else."""
    found = listed(structures)
    for index, structure in enumerate(found):
        if not isinstance(structure, IStructure):
            raise MatmlError(
                f"structure {index}: is a {type(structure).__name__}; give a pymatgen Structure "
                "(`Structure.from_file` reads one)"
            )
    return found


def _all_usable(crystals: CrystalSet) -> CrystalSet:
    """Return the crystals; raise MatmlError for the first structure that is none."""
    if len(crystals.quarantine):
        bad = crystals.quarantine.iloc[0]
        raise MatmlError(f"structure {bad['id']}: {bad['reason']}; {bad['remedy']}")
    return crystals


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
        self.folder, self.card, self.members, self.device = folder, card, members, device
        self.recipe = recipe
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
        self._known_embeddings = [
            self.training[f"embeddings.{number}"].float().numpy()
            for number in range(min(len(members), len(card["far_distances"])))
        ]
        self._last: tuple[weakref.ref[CrystalSet], Seen] | None = None
        self._stacks: weakref.WeakValueDictionary[str, StackedPredictor] = (
            weakref.WeakValueDictionary()
        )
        self.graph_section = validate(GraphsSection, recipe.graphs, f"{folder / CARD}, graphs")
        self.structures_section = validate(
            StructuresSection, card["structures"], f"{folder / CARD}, structures"
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
        card = read_json(folder / CARD)
        if not isinstance(card, dict):
            raise MatmlError(
                f"{folder / CARD}: holds a {type(card).__name__}, not the card of a model; copy "
                "or export the model again"
            )
        if card.get("format") != FORMAT:
            raise MatmlError(
                f"{folder / CARD}: format {card.get('format')!r}, this version of matml reads "
                f"{FORMAT}; export the predictor again"
            )
        check_files(folder)
        try:
            recipe = NetworkRecipe(
                **{**card["recipe"], "properties": tuple(card["recipe"]["properties"])}
            )
            card["members"], card["meta_trained"]
        except (KeyError, TypeError) as error:
            raise MatmlError(
                f"{folder / CARD}: is not the whole card of a model ({error}); copy or export the "
                "model again"
            ) from None
        check_device(device)
        members = [
            to_device(load_member(folder / f"member-{i}", recipe, card["meta_trained"]), device)
            for i in range(card["members"])
        ]
        return cls(folder, card, recipe, members, device)

    def __getstate__(self) -> dict:
        """What is kept to save time is made again where it is needed."""
        return {n: v for n, v in vars(self).items() if n not in ("_last", "_stacks")}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state, _last=None, _stacks=weakref.WeakValueDictionary())

    @property
    def properties(self) -> dict[str, str]:
        """Names of the properties, with their units."""
        return {name: entry["unit"] for name, entry in self.card["properties"].items()}

    @property
    def held_out_families(self) -> list[str]:
        """Families that no training stage has seen."""
        return [*self.card["test_families"], *self.card["validation_families"]]

    def crystals(self, structures: Structures) -> CrystalSet:
        """Return structures as a set of crystals, with graphs as the model knows them.

        Raises
        ------
        MatmlError
            Names the structure that cannot be used and why, or how the graphs of a `CrystalSet`
            differ from the model's.
        """
        if not isinstance(structures, CrystalSet):
            structures = _all_usable(
                CrystalSet.from_structures(
                    _structures_only(structures),
                    settings=self.structures_section,
                    graph_section=self.graph_section,
                )
            )
        self.recipe.check_graphs(structures.graphs.settings, "crystals")
        return structures

    def crystals_in_parts(
        self, structures: Sequence[Structure], processes: int
    ) -> Iterator[CrystalSet]:
        """Yield structures as sets of crystals, made ahead by further processes.

        Raises
        ------
        MatmlError
            As of `crystals`.
        """
        parts = CrystalSet.stream(
            _structures_only(structures),
            settings=self.structures_section,
            graph_section=self.graph_section,
            processes=processes,
        )
        yield from map(_all_usable, parts)

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

    def adapt(
        self,
        structures: Structures,
        values: Sequence[float],
        property_name: str | None = None,
        *,
        method: str | None = None,
        check_units: bool = True,
    ) -> AdaptedPredictor:
        """Return the predictor adapted to the labelled crystals of one family.

        Nothing of this predictor changes. What is odd about the labels but may be right is logged
        as a warning and stands in `warnings` of the result.

        Parameters
        ----------
        structures, values
            The support, and its labels in the property's unit; may be empty.
        property_name
            One of `properties`; may be left out where there is only one.
        method
            How to adapt; by default what the card names, such as the stacked process.
        check_units
            Refuse labels that miss the prediction before adapting by far and fit it in another
            common unit.

        Raises
        ------
        MatmlError
            For an unknown property, labels that are not finite, not physical or do not fit in
            number, and for one crystal given with two different labels.
        """
        property_name = self.choose_property(property_name)
        if not isinstance(structures, CrystalSet):
            structures = listed(structures)
        values = label_checks.to_numbers(values, len(structures))
        item, notes = find_property(property_name), []
        support = self.crystals(structures) if len(structures) else None
        if support is not None:
            label_checks.check_values(support, values, item)
            support, values, notes = label_checks.without_repeats(support, values, item)
            notes += label_checks.constant_note(values, item)
            if check_units:
                notes += self._check_units(support, values, item)
        for note in notes:
            log.warning("%s", note)
        return AdaptedPredictor(
            self,
            property_name,
            method or self.card["properties"][property_name]["method"],
            support,
            values,
            tuple(notes),
        )

    def _check_units(self, support: CrystalSet, values: np.ndarray, item: Property) -> list[str]:
        """Compare labels with what the networks say before any; return warnings."""
        column = self.recipe.properties.index(item.name)
        mean, deviation = self.standardisation.mean[column], self.standardisation.deviation[column]
        predicted = self.inputs(support).predictions[:, column] * deviation + mean
        scale = self.card["properties"][item.name]["expected_error"]
        return label_checks.check_units(support, values, item, predicted, scale, deviation)

    def baseline(self, kind: str, property_name: str) -> Baseline:
        """Return a baseline fitted again to the training rows."""
        targets = self.training["targets"][:, self.recipe.properties.index(property_name)].numpy()
        known = ~np.isnan(targets)
        descriptors = self.training["descriptors"].numpy()
        path = self.folder / f"{property_name}.safetensors"
        return load_baseline(path, kind, descriptors[known], targets[known])

    def fitted_stack(self, property_name: str) -> StackedPredictor:
        """Return the stack of a property, conditioned again on the training rows.

        Adapted predictors share it as long as one of them is in use: conditioning costs seconds
        with thousands of training crystals.
        """
        fitted = self._stacks.get(property_name)
        if fitted is None:
            fitted = self._stacks[property_name] = self._condition_stack(property_name)
        return fitted

    def _condition_stack(self, property_name: str) -> StackedPredictor:
        """Return the stack conditioned on the training rows."""
        targets = self.training["targets"][:, self.recipe.properties.index(property_name)].numpy()
        known = ~np.isnan(targets)
        inputs = Inputs(
            self.training["descriptors"].numpy()[known], self.training["predictions"].numpy()[known]
        )
        return StackedPredictor.load(
            self.folder / stack_file(property_name), inputs, targets[known]
        )

    def seen(self, crystals: CrystalSet) -> Seen:
        """Return what the models tell of crystals before any label.

        That of the crystals asked for last is kept, since each adapted predictor of a screening
        asks for the same.
        """
        if self._last is None or self._last[0]() is not crystals:
            far = self.card["far_distances"]
            known = self._known_embeddings
            descriptors = self.training["descriptors"].numpy()
            told = see(crystals, self.members, known, far, descriptors, self.device)
            self._last = weakref.ref(crystals), told
        return self._last[1]

    def inputs(self, crystals: CrystalSet) -> Inputs:
        """Return what the stack sees of crystals of a new family."""
        return self.seen(crystals).inputs

    def distance(self, crystals: CrystalSet) -> np.ndarray:
        """Return the distance to the nearest training crystal, [crystals].

        In the networks' embeddings, mean over one member of each fold; 1 is the 95th percentile of
        the distances of training families that a member had not seen. Above 1, too, where atoms are
        packed as in no training crystal (`matml.properties.predictor.encode.beyond_packing`).
        """
        return self.seen(crystals).distance
