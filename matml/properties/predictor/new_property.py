"""A property of a user's own: its scale, what its labels allow, and the predictor of it."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from matml.core.errors import MatmlError
from matml.core.text.words import plural
from matml.properties.data import label_checks
from matml.properties.data.targets import LabelScale, Property, own_property, spans_decades
from matml.properties.features.columns import are_features, feature_names
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.methods.method import Adapted, Method
from matml.properties.new_property.inputs import Columns as InputColumns
from matml.properties.new_property.inputs import weight_of_columns
from matml.properties.new_property.method import NewProperty
from matml.properties.new_property.process import AdaptedProcess
from matml.properties.predictor.adapted import AdaptedPredictor
from matml.properties.predictor.fitted import FittedPredictor, with_inputs
from matml.structures.crystals import CrystalSet, Structures
from matml.structures.given import Columns, column_names, given
from matml.structures.labels.values import RESERVED

log = logging.getLogger(__name__)

Scale = Literal["auto", "linear", "log"]
SCALES: tuple[Scale, ...] = ("auto", "linear", "log")
DECADES = 8
"""Powers of ten over which labels on a linear scale may be spread without a warning."""
FEWEST_FOR_SCALE = 5
"""Labels below which their evidence says nothing of the scale: their range decides."""
WORTH_A_WORD = math.log(3.0)
"""Logarithm of the odds of one scale against the other below which they say nothing of it."""
FAR = 6.0
"""Deviations by which a label may miss what the others say of it."""
MOST_NAMED = 3
"""Inputs that a message names."""
FEWEST_TO_JUDGE = 8
"""Labels below which none is said to be odd."""


@dataclass(frozen=True, repr=False)
class FittedNewProperty(FittedPredictor):
    """The label process for a property that no training stage knew.

    Attributes
    ----------
    scale_choice
        Whether the logarithm is learned, or what the labels' evidence says.
    inputs
        Columns of the crystals' table from which it is learned too.
    """

    scale_choice: Scale = "auto"
    inputs: tuple[str, ...] = ()

    def adapt(
        self,
        structures: Structures,
        values: Sequence[float] | np.ndarray,
        *,
        check_units: bool = True,
        inputs: Columns = None,
    ) -> AdaptedPredictor:
        """As of `FittedPredictor`; at least two different labels.

        No table knows the unit of such a property: `check_units` changes nothing.
        """
        item = self.scale.property
        if not isinstance(structures, CrystalSet):
            structures = given(structures)
            values = structures.aligned(values)
        labels = label_checks.to_numbers(values, len(structures))
        if len(labels) < 2:
            raise MatmlError(
                f"{item.name}: {len(labels)} {plural('label', len(labels))} of a property that the "
                "model does not know; give at least 2, better 10"
            )
        if np.isfinite(labels).all() and np.ptp(labels) == 0:
            raise MatmlError(
                f"{item.name}: all {len(labels)} labels are {labels[0]:g}; at least two must "
                "differ, or there is nothing to learn"
            )
        fitted = self.taking(inputs)
        support = with_inputs(self.encoder.encode(structures), structures, inputs, fitted.inputs)
        return fitted.adapted_to(support, labels, check_units=False)

    def taking(self, inputs: Columns) -> "FittedNewProperty":
        """As of `FittedPredictor`."""
        names = feature_names(inputs) if are_features(inputs) else column_names(inputs)
        if (name := self.scale.property.name) in names:
            raise MatmlError(f"input {name}: is the property itself; leave it out")
        return replace(self, inputs=tuple(names))

    def on_labels(self, support: EncodedCrystals, labels: np.ndarray) -> tuple[LabelScale, Method]:
        """As of `FittedPredictor`."""
        scale, adapted, _ = self.learn(support, labels)
        return scale, adapted.method

    def learn(
        self, support: EncodedCrystals, labels: np.ndarray
    ) -> tuple[LabelScale, Adapted, list[str]]:
        """As of `FittedPredictor`, on the scale that was chosen or is likelier."""
        method = self.method
        assert isinstance(method, NewProperty)
        if self.inputs:
            scaling = InputColumns.of(self.inputs, support.crystals.table)
            method = method.learning_from(scaling)
        view = method.view(support)

        def given(scale: LabelScale) -> AdaptedProcess:
            return method.fit(view, scale.standardise(labels))

        state, scale, note = choose_scale(self, labels, given)
        said = odd_labels(scale.property, support.crystals, labels, state)
        if self.inputs:
            said += [
                f"input {name}: is {scale.property.name} but for a straight line: is it a copy of "
                "the labels? It must be known of what is predicted, too"
                for name in scaling.copied(support.crystals.table, labels)
            ]
        for warning in said:
            log.warning("%s", warning)
        notes = [note] if note else []
        if self.inputs:
            named, weight = " and ".join(self.inputs[:MOST_NAMED]), weight_of_columns(state)
            if len(self.inputs) > MOST_NAMED:
                named += f" and {len(self.inputs) - MOST_NAMED} more"
            notes.append(
                f"{scale.property.name}: the labels go with the input {named} (probability "
                f"{weight:.2g})"
                if weight > 0.5
                else f"{scale.property.name}: the labels hardly go with the input {named}, which "
                f"has a weight of {weight:.2g}"
            )
        for each in notes:
            log.info("%s", each)
        return scale, Adapted(method, state, len(labels)), [*notes, *said]


def new_property(name: str, unit: str | None) -> Property:
    """Return a property of the user's own, after a look at its name.

    Raises
    ------
    MatmlError
        Where it is no name for a column of one's own, or its end names another unit.
    """
    if not name or name != name.strip() or any(c in name for c in ",;\t\n"):
        raise MatmlError(
            f"property {name!r}: is no name for a column; give letters, digits and _, with the "
            "unit at the end, such as melting_point_K"
        )
    if name in RESERVED:
        raise MatmlError(
            f"property {name!r}: every crystal's row has a column of that name; give it another"
        )
    named = own_property(name).unit
    if unit and named and unit != named:
        raise MatmlError(
            f"property {name!r}: its name ends in the unit {named}, but its unit is given as "
            f"{unit!r}; leave the unit out, or name the property after the unit of its labels"
        )
    return own_property(name, unit)


def choose_scale(
    fitted: FittedNewProperty, labels: np.ndarray, given: Callable[[LabelScale], AdaptedProcess]
) -> tuple[AdaptedProcess, LabelScale, str]:
    """Return the process given labels, the scale on which it learns, and what to say of it.

    The evidence of the labels decides: the probability of their logarithms, turned into one of the
    labels themselves, against that of the labels on a linear scale. Where they hardly differ, the
    logarithm is learned of labels that span more than a power of ten.

    Parameters
    ----------
    given
        Takes the scale on which the labels are standardised.
    """
    item, choice = fitted.scale.property, fitted.scale_choice
    name, positive = item.name, bool((labels > 0).all())
    if choice == "log" and not positive:
        raise MatmlError(
            f"{name} = {labels.min():g}: must be positive for scale='log'; give scale='linear', or "
            "correct the label"
        )

    def scale(logarithmic: bool) -> LabelScale:
        return _standardising(replace(item, logarithmic=logarithmic), labels)

    if choice != "auto" or not positive:
        own = scale(choice == "log")
        return given(own), own, ""
    kinds, wide = ("the value itself", "log10 of the value"), spans_decades(labels)
    if len(labels) < FEWEST_FOR_SCALE:
        own, few = scale(wide), f"{len(labels)} labels tell little of it"
        return given(own), own, f"{name}: learned on the scale of {kinds[wide]}; {few}"
    scales = scale(False), scale(True)
    states = [given(own) for own in scales]
    deviations = [own.deviation for own in scales]
    # d log10(y) / dy at the geometric mean, for all labels but one: the prior of the mean is flat,
    # so that one label is of no evidence on either scale, and the unit is of none
    log_slope = -float(np.log(labels * math.log(10)).mean())
    more = log_slope + math.log(deviations[0]) - math.log(deviations[1])
    gain = states[1].evidence - states[0].evidence + (len(labels) - 1) * more
    if abs(gain) < WORTH_A_WORD:
        told = f"the labels are about as likely on that of {kinds[not wide]}"
        return states[wide], scales[wide], f"{name}: learned on the scale of {kinds[wide]}; {told}"
    taken = gain > 0
    odds = math.exp(min(abs(gain), 700.0))
    shown = f"{odds:.2g} times" if odds < 1000 else "far"
    note = (
        f"{name}: learned on the scale of {kinds[taken]} ({shown} likelier than {kinds[not taken]})"
    )
    return states[taken], scales[taken], note


def _standardising(item: Property, labels: np.ndarray) -> LabelScale:
    """Return the scale on which labels have mean 0 and deviation 1, so that no unit matters."""
    values = item.to_scale(labels)
    # labels that differ may have one logarithm
    return LabelScale(item, float(values.mean()), float(values.std()) or 1.0)


def odd_labels(
    item: Property, crystals: CrystalSet, labels: np.ndarray, state: AdaptedProcess
) -> list[str]:
    """Return warnings of labels that the others, and the crystals' likeness, do not explain."""
    notes, size = list[str](), np.abs(labels[labels != 0])
    if not item.logarithmic and len(size) and math.log10(size.max() / size.min()) > DECADES:
        notes.append(
            f"{item.name}: labels from {size.min():g} to {size.max():g} on a linear scale: only "
            "the largest count; is the unit the same for all?"
        )
    if len(labels) < FEWEST_TO_JUDGE:
        return notes
    missed = state.left_out()
    for row in np.flatnonzero(np.abs(missed) > FAR).tolist():
        notes.append(
            f"{label_checks.crystal_name(crystals, row)}: {item.name} = {labels[row]:g} is "
            f"{abs(missed[row]):.0f} deviations from what the other labels say of it: check the "
            "value"
        )
    return notes
