"""A method fitted for one property, which adapts to the labels of one family after another."""

import logging
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from matml.core.errors import MatmlError
from matml.properties.data import label_checks
from matml.properties.data.targets import LabelScale
from matml.properties.evaluation.learning_curve import LearningCurve, learning_curve
from matml.properties.features.columns import are_features, joined
from matml.properties.features.method import WeighedFeatures, WithFeatures
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.methods.method import Adapted, Method, Pool
from matml.properties.methods.stack import Finding, HypotheticalStacked, Weighed
from matml.properties.predictor.adapted import AdaptedPredictor
from matml.properties.predictor.domain import Domain
from matml.properties.predictor.encode import Encoder
from matml.structures.crystals import CrystalSet, Structures
from matml.structures.given import Columns, columns_of, given

log = logging.getLogger(__name__)

SAME_CRYSTAL = 0.01
"""Distance below which a crystal is one of the training set, whose embeddings are rounded."""
SAME_SLOPE = 0.05
"""Difference from 1 of a slope that is not worth a word."""


@dataclass(frozen=True, repr=False)
class FittedPredictor:
    """One method for one property; all that it adapts to shares what was fitted.

    Attributes
    ----------
    encoder, scale
        What structures and labels pass on their way.
    column
        The property's number among the networks' outputs.
    expected_error
        Half width of the networks' interval before any label, learned scale.
    domain
        Of the property: its labelled training crystals.
    """

    method: Method
    encoder: Encoder
    scale: LabelScale
    column: int
    expected_error: float
    domain: Domain
    model: Path

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.scale.property.name}, {self.method.name})"

    def adapt(
        self,
        structures: Structures,
        values: Sequence[float] | np.ndarray,
        *,
        check_units: bool = True,
        inputs: Columns = None,
    ) -> AdaptedPredictor:
        """Return the predictor adapted to the labelled crystals of one family.

        Nothing of this changes. What is odd about the labels but may be right is logged as a
        warning and stands in `warnings` of the result.

        Parameters
        ----------
        structures, values
            The support, and its labels in the property's unit; may be empty.
        check_units
            Refuse labels that miss the prediction before adapting by far and fit it in another
            common unit.
        inputs
            Of a property of one's own, and of a stack with features: names of columns of the
            structures' table, such columns themselves, or a table of features that names its
            crystals, from which is learned too.

        Raises
        ------
        MatmlError
            For labels that are not finite, not physical or do not fit in number, and for one
            crystal given with two different labels.
        """
        if not isinstance(structures, CrystalSet):
            structures = given(structures)
            values = structures.aligned(values)
        self.taking(inputs)
        labels = label_checks.to_numbers(values, len(structures))
        support = self.encoder.encode(structures)
        if self.method.inputs and len(support):
            support = with_inputs(support, structures, inputs, self.method.inputs)
        return self.adapted_to(support, labels, check_units=check_units)

    def taking(self, inputs: Columns) -> "FittedPredictor":
        """Return what learns from such columns, too, as of `adapt`.

        Raises
        ------
        MatmlError
            Where it takes none.
        """
        if inputs is not None and not self.method.inputs:
            name = self.scale.property.name
            raise MatmlError(
                f"inputs: serve properties that the model does not know, and it knows {name}; to "
                f"learn {name} with them, give its labels another name, or learn a stack with such "
                "features of its training crystals (`learn_features`)"
            )
        return self

    def adapted_to(
        self, support: EncodedCrystals, labels: np.ndarray, *, check_units: bool
    ) -> AdaptedPredictor:
        """Return what `adapt` does of encoded crystals and as many labels, [k]."""
        item, notes = self.scale.property, list[str]()
        if len(support):
            label_checks.check_values(support.crystals, labels, item)
            single, notes = label_checks.without_repeats(support.crystals, labels, item)
            support, labels = support[single], labels[single]
            notes += label_checks.constant_note(labels, item)
            if check_units:
                notes += self._check_units(support, labels)
        scale, adapted, said = self.learn(support, labels)
        for note in notes:
            log.warning("%s", note)
        return AdaptedPredictor(
            method=self.method.name,
            adapted=adapted,
            encoder=self.encoder,
            scale=scale,
            support=support.crystals if len(support) else None,
            support_values=labels,
            domain=self.domain.with_support(support),
            warnings=(*notes, *said),
            finding=adapted.state.finding
            if isinstance(adapted.state, Weighed | WeighedFeatures)
            else None,
            model=self.model,
        )

    def learning_curve(
        self,
        structures: Structures,
        values: Sequence[float] | np.ndarray,
        *,
        shots: Sequence[int] | None = None,
        draws: int = 10,
        seed: int = 0,
    ) -> LearningCurve:
        """Return errors on a family's other crystals by number of labels, over random supports.

        Of crystals that the model was trained on the errors are too low; how many they are is
        logged as a warning.

        Parameters
        ----------
        structures, values
            Labelled crystals of one family.
        shots
            Numbers of labels; by default 0 (where the model knows the property), 2, 5, 10 and 20,
            as far as half of the crystals go.
        draws
            Random supports of each number.

        Raises
        ------
        MatmlError
            As of `adapt`, and where too few crystals are left to predict.
        """
        if not isinstance(structures, CrystalSet):
            structures = given(structures)
            values = structures.aligned(values)
        labels = label_checks.to_numbers(values, len(structures))
        crystals = self.encoder.encode(structures)
        label_checks.check_values(crystals.crystals, labels, self.scale.property)
        single, _ = label_checks.without_repeats(crystals.crystals, labels, self.scale.property)
        fewest = 0 if self.column >= 0 else 2
        # of the labelled training crystals alone
        if seen := int((self.domain.placed(crystals).distance < SAME_CRYSTAL).sum()):
            log.warning(
                "learning curve: %d of %d crystals are among those that the model was trained on; "
                "errors of these are too low",
                *(seen, len(crystals)),
            )
        if shots is None:
            most = max(len(single) // 2, 2)
            shots = [number for number in (0, 2, 5, 10, 20) if fewest <= number <= most]
        try:
            shots = sorted({operator.index(number) for number in shots})
        except TypeError:
            raise MatmlError(f"shots: {shots!r}; give whole numbers of labels, as [2, 5]") from None
        if not shots or shots[0] < fewest or draws < 1:
            raise MatmlError(
                f"shots {list(shots)}, draws {draws}: give numbers of labels from {fewest} on, and "
                "at least one draw"
            )
        crystals, labels = crystals[single], labels[single]
        # one scale, so that errors of all supports have one unit
        scale, method = self.on_labels(crystals, labels)
        standardised = scale.standardise(labels)

        def predict(known: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            support = crystals[known]
            query = self.domain.with_support(support).placed(crystals[others])
            return method.adapt(support, standardised[known]).predict(query)

        return learning_curve(predict, scale, labels, shots, draws, seed, self.method.name)

    def learn(
        self, support: EncodedCrystals, labels: np.ndarray
    ) -> tuple[LabelScale, Adapted, list[str]]:
        """Return scale and method adapted to sound labels, [k], and what is logged of it."""
        adapted = self.method.adapt(support, self.scale.standardise(labels))
        state, notes = adapted.state, list[str]()
        if not isinstance(state, Weighed | WeighedFeatures):
            return self.scale, adapted, []
        if isinstance(self.method, WithFeatures) and isinstance(state, WeighedFeatures):
            of = self.method.learned.potential.split(" ")[0] or "the table"
            notes.append(
                f"{self.scale.property.name}: the features of {of} have weight {state.weight:.2g} "
                "against doing without"
            )
            log.info("%s", notes[0])
        if said := in_words(state.finding, self.scale):
            log.warning("%s", said)
            notes.append(said)
        if isinstance(self.method, HypotheticalStacked):
            notes.append(declared_in_words(self.method, self.scale))
        return self.scale, adapted, notes

    def on_labels(self, support: EncodedCrystals, labels: np.ndarray) -> tuple[LabelScale, Method]:
        """Return the scale on which labels of a support, [k], are learned, and the method."""
        return self.scale, self.method

    def over(self, crystals: EncodedCrystals) -> Pool:
        """Return the method over a pool of crystals of one family, standardised."""
        return self.method.over(self.domain.placed(crystals))

    def _check_units(self, support: EncodedCrystals, values: np.ndarray) -> list[str]:
        """Compare labels with what the networks say before any; return warnings."""
        predicted = self.scale.learned(support.inputs.predictions[:, self.column])
        return label_checks.check_units(
            support.crystals,
            values,
            self.scale.property,
            predicted,
            self.expected_error,
            self.scale.deviation,
        )


def with_inputs(
    crystals: EncodedCrystals, structures: Structures, inputs: Columns, names: Sequence[str]
) -> EncodedCrystals:
    """Return crystals with columns that belong to their structures.

    Parameters
    ----------
    inputs
        As of `FittedPredictor.adapt`; by default the columns of these names.
    """
    if are_features(inputs):
        return crystals.with_columns(joined(inputs, crystals.crystals.table))
    return crystals.with_columns(columns_of(structures, list(names) if inputs is None else inputs))


def in_words(finding: Finding, scale: LabelScale) -> str:
    """Return what labels say of the model, '' where they follow it as it was learned."""
    item = scale.property
    if finding.alone > 0.5:
        return (
            f"{item.name}: the labels follow something else than what the model learned "
            f"(probability {finding.alone:.2g}): its own predictions have that little weight, and "
            "the labels alone are learned from. Is it the right property and unit?"
        )
    if finding.shifted <= 0.5:
        return ""
    # of values on the learned scale
    slope = finding.slope
    offset = scale.mean * (1 - slope) + scale.deviation * finding.offset
    if abs(slope - 1) < SAME_SLOPE:
        factor = f"multiplying by {10**offset:.3g}"
        done = factor if item.logarithmic else f"adding {offset:.3g} {item.unit}".rstrip()
    else:
        number = "their logarithm by" if item.logarithmic else "by"
        done = (
            f"multiplying {number} {slope:.3g} and adding {offset:.3g} {item.error_unit}".rstrip()
        )
    return (
        f"{item.name}: the labels follow the model's predictions after {done} (probability "
        f"{finding.shifted:.2g}), and so do the predictions given here. Is it another reference, "
        "method or unit?"
    )


def declared_in_words(method: HypotheticalStacked, scale: LabelScale) -> str:
    """Return what it changes that crystals are declared to be hypothetical."""
    added, wider = method.changes
    item = scale.property
    return (
        f"{item.name}: of hypothetical crystals, as declared: before any label "
        f"{added * scale.deviation:+.3f} {item.unit}, and intervals {wider:.2f} times as wide, as "
        "training crystals above the hull show"
    )
