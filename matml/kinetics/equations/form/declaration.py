"""What an equation declares: inputs, parameters on an unconstrained scale, observables.

A kinetic equation is a short declaration. Everything that fits, learns or draws works on the
declaration alone, with the parameters as one *standardised vector*: each parameter is transformed
to a scale without bounds (identity or logarithm), centred on its typical range and divided by a
quarter of that range, so that typical values lie within about -2 and 2.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from matml.core.errors import MatmlError
from matml.kinetics.equations.form.history import PATH, equivalent_time
from matml.kinetics.equations.form.types import Input, Inputs, Values

GAS_CONSTANT = 8.31446261815324
"""Molar gas constant in J/(mol K): exact since the SI of 2019."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of an equation.

    Parameters
    ----------
    name, unit
        As they stand in results; the unit is empty for a number.
    low, high
        Typical range over alloys. It sets the standardised scale and bounds a least-squares fit
        (twice as wide on that scale); it does not bound a fit under a prior.
    start
        Generic starting value for a fit without any knowledge of other alloys.
    transform
        Scale without bounds: "identity", "log" for a quantity that must be positive, "logit" for
        one between 0 and 1.
    description
        What it means, for a reader of the result.
    """

    name: str
    unit: str
    low: float
    high: float
    start: float
    transform: str = "identity"
    description: str = ""

    def __post_init__(self) -> None:
        if self.transform not in ("identity", "log", "logit"):
            raise ValueError(f"{self.name}: transform must be identity or log or logit")
        bounded = self.transform != "identity" and self.low <= 0
        if not self.low < self.high or bounded or (self.transform == "logit" and self.high >= 1):
            raise ValueError(f"{self.name}: the range {self.low} to {self.high} cannot be used")

    def unconstrained(self, value: float) -> float:
        """Return a value on the unconstrained scale."""
        if self.transform == "logit":
            return math.log(value / (1 - value))
        return math.log(value) if self.transform == "log" else value

    @property
    def centre(self) -> float:
        """Middle of the typical range on the unconstrained scale."""
        return (self.unconstrained(self.low) + self.unconstrained(self.high)) / 2

    @property
    def scale(self) -> float:
        """A quarter of the typical range on the unconstrained scale."""
        return (self.unconstrained(self.high) - self.unconstrained(self.low)) / 4

    def standardise(self, value: float) -> float:
        """Return a value (in the parameter's unit) on the standardised scale."""
        return (self.unconstrained(value) - self.centre) / self.scale

    def value(self, standardised: Tensor) -> Tensor:
        """Return the value in the parameter's unit of a standardised one."""
        return self._constrained(self.centre + self.scale * standardised)

    def _constrained(self, unconstrained: Tensor) -> Tensor:
        if self.transform == "logit":
            return unconstrained.sigmoid()
        return unconstrained.exp() if self.transform == "log" else unconstrained


@dataclass(frozen=True)
class Observable:
    """Something that is measured, and the scale on which model and measurement are compared.

    Parameters
    ----------
    column
        Column of the observations that holds the measured value.
    unit
        Unit of residuals, for instance "log10 s".
    inputs
        Columns that the prediction needs.
    predict
        `predict(values, inputs)`: the prediction on the residual scale, shape of the inputs.
    compared
        The measured value on the residual scale.
    typical_noise
        Standard deviation of a usual measurement on the residual scale, before any is learned.
    unsaturated
        `unsaturated(values, inputs, target, noise)`: residuals in noise widths whose gradient does
        not vanish far from the data, for gradient descent. None where `predict` does not saturate.
    log_time_scale
        `log_time_scale(values, inputs)`: ln of the time scale at a temperature, where the reaction
        depends on temperature through it alone. Then it is additive, and observations on a ramp can
        be predicted too; see `equivalent_time`. None where it is not.
    """

    column: str
    unit: str
    inputs: tuple[Input, ...]
    predict: Callable[[Values, Inputs], Tensor]
    compared: Callable[[Tensor], Tensor]
    typical_noise: float
    unsaturated: Callable[[Values, Inputs, Tensor, float], Tensor] | None = None
    log_time_scale: Callable[[Values, Inputs], Tensor] | None = None


@dataclass(frozen=True)
class Equation:
    """A kinetic equation.

    Parameters
    ----------
    name, title
        Short name for commands and files; title for figures.
    source
        Where the equation comes from.
    parameters
        In the order of the standardised vector.
    observables
        By kind of observation: "fraction", "ttt" or "hardness".
    needs_reference_temperature
        Whether its parameters refer to a temperature that belongs to the alloy
        (`reference_temperature_K`: one fixed temperature in the alloy's own range).
    conditions
        `conditions(values, inputs)`: the inputs that truly were, where parameters say how far
        recorded ones are off (`matml.kinetics.inference.run_offsets`). None where they are as
        recorded.

    Examples
    --------
    >>> from matml.kinetics.equations import equation_named
    >>> jmak = equation_named("jmak")
    >>> start = jmak.start()
    >>> {name: round(float(value), 3) for name, value in jmak.values(start).items()}
    {'half_time_s': 100.0, 'activation_energy_kJ_mol': 200.0, 'avrami_exponent': 1.5}
    """

    name: str
    title: str
    source: str
    parameters: tuple[Parameter, ...]
    observables: Mapping[str, Observable]
    needs_reference_temperature: bool = False
    conditions: Callable[[Values, Inputs], Inputs] | None = None

    @property
    def parameter_names(self) -> list[str]:
        """Names of the parameters, in the order of the standardised vector."""
        return [parameter.name for parameter in self.parameters]

    def observable(self, kind: str) -> Observable:
        """Return the observable of a kind of observation.

        Raises
        ------
        MatmlError
            Where the equation says nothing about that kind.
        """
        if kind not in self.observables:
            raise MatmlError(
                f"equation {self.name!r} does not describe {kind!r} observations, only "
                f"{', '.join(self.observables)}; choose another equation"
            )
        return self.observables[kind]

    def kind_or_only(self, kind: str | None, option: str) -> str:
        """Return a kind of observation: the only one for None, else `option` is asked for."""
        if kind is None and len(self.observables) > 1:
            kinds = ", ".join(self.observables)
            raise MatmlError(f"equation {self.name!r} describes {kinds}: give {option}")
        return kind or next(iter(self.observables))

    def start(self) -> Tensor:
        """Return the generic start as a standardised vector, float64 [P]."""
        return self.standardise({p.name: p.start for p in self.parameters})

    def standardise(self, values: Mapping[str, float]) -> Tensor:
        """Return parameter values (each in its unit) as a standardised vector, float64 [P]."""
        return torch.tensor(
            [p.standardise(float(values[p.name])) for p in self.parameters], dtype=torch.float64
        )

    def values(self, standardised: Tensor) -> dict[str, Tensor]:
        """Return the parameters, each in its unit, of standardised vectors [..., P]."""
        centre = standardised.new_tensor([p.centre for p in self.parameters])
        scale = standardised.new_tensor([p.scale for p in self.parameters])
        columns = (centre + scale * standardised).unbind(-1)
        return {
            p.name: p._constrained(column)
            for p, column in zip(self.parameters, columns, strict=True)
        }

    def predict(self, kind: str, standardised: Tensor, inputs: Inputs) -> Tensor:
        """Return predictions on the residual scale.

        Parameters
        ----------
        standardised
            Parameter vectors [..., P]; [P] for one alloy, [B, N, P] for one vector an observation.
        inputs
            Columns, each of the shape [...], or one that it broadcasts with.

        Returns
        -------
        Tensor
            Predictions, of the shape of the inputs.
        """
        values = self.values(standardised)
        return self.observable(kind).predict(values, self._isothermal(kind, values, inputs))

    def descent_residual(self, kind: str, standardised: Tensor, columns: Inputs) -> Tensor:
        """Return residuals in typical noise widths for gradient descent.

        Prediction minus target over the typical noise or, where the prediction saturates, the
        observable's unsaturated form of it. Shapes as for `predict`; `columns` hold `target` too.
        """
        observable = self.observable(kind)
        values = self.values(standardised)
        columns = self._isothermal(kind, values, columns)
        if observable.unsaturated is not None:
            return observable.unsaturated(
                values, columns, columns["target"], observable.typical_noise
            )
        return (observable.predict(values, columns) - columns["target"]) / observable.typical_noise

    def _isothermal(self, kind: str, values: Values, inputs: Inputs) -> Inputs:
        """Return the inputs with ramps and paths replaced by the isothermal times that equal them.

        At one temperature inputs stay as they are. First they are put right by `conditions`.
        """
        if self.conditions is not None:
            inputs = self.conditions(values, inputs)
        if "start_temperature_K" not in inputs and PATH[0][0] not in inputs:
            return inputs
        scale = self.observable(kind).log_time_scale
        if scale is None:
            raise MatmlError(
                f"equation {self.name!r} cannot predict {kind!r} observations on a ramp or path; "
                "leave out rows with a start temperature or path"
            )
        return {**inputs, "time_s": equivalent_time(scale, values, inputs)}


TEMPERATURE = Input("temperature_K", "K")
TIME = Input("time_s", "s")
FRACTION = Input("fraction", "")
REFERENCE = Input("reference_temperature_K", "K")

LN2 = math.log(2.0)
