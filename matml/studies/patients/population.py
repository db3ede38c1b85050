"""A drug's kinetics in patients: what is assumed, learned, kept, and used for a new patient."""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from matml.bayes.importance_sampling import Posterior
from matml.bayes.mixed_effects import (
    NOISES,
    LearnedEffects,
    MixedModel,
    TaskData,
    learn_effects,
    posterior_of,
)
from matml.core.errors import MatmlError
from matml.core.files import read_json, write_json
from matml.core.integrity.formats import Format
from matml.studies.patients.compartments import EQUATIONS, Equation
from matml.studies.patients.records import Patient, dose_ratio

FORMAT = Format("population of patients", 1, "learn it again with `matml study patients learn`")
NOT_FOR_CLINICAL_USE = "Not for clinical use."
WEIGHT = "WT"
COVARIATE = re.compile(r"(\w+)~(?:log\((\w+)\)|(\w+)(?:([<>])([-+.\deE]+))?)")


@dataclass(frozen=True)
class Covariate:
    """What a patient's property does to a parameter: log parameter + coefficient * x.

    Attributes
    ----------
    text
        As given: `V~APGAR<5` (x is 1 or 0), `CL~AGE`, `CL~log(AGE)`.
    parameter, column
        Its parts.
    centre
        Subtracted from x: the training patients' median, or 0 of a yes or no.
    """

    text: str
    parameter: str
    column: str
    centre: float = 0.0

    @staticmethod
    def of(text: str) -> "Covariate":
        """Return a covariate from its text."""
        match = COVARIATE.fullmatch(text.replace(" ", ""))
        if not match:
            raise MatmlError(
                f"covariate {text!r}: write PARAMETER~COLUMN, PARAMETER~log(COLUMN) or "
                "PARAMETER~COLUMN<NUMBER"
            )
        return Covariate(text.replace(" ", ""), match[1], (match[2] or match[3]).upper())

    def value(self, patient: Patient) -> float:
        """Return x of a patient; NaN where it is unknown."""
        match = COVARIATE.fullmatch(self.text)
        raw = patient.covariates.get(self.column, math.nan)
        if not match or math.isnan(raw):
            return math.nan
        if match[2]:
            return math.log(raw) - self.centre if raw > 0 else math.nan
        if match[4]:
            return float(raw < float(match[5]) if match[4] == "<" else raw > float(match[5]))
        return raw - self.centre


@dataclass(frozen=True)
class Assumptions:
    """What is given before anything is learned.

    Attributes
    ----------
    equation
        Name of one of `EQUATIONS`.
    noise
        One of `matml.bayes.mixed_effects.NOISES`.
    weight_exponents
        Parameters go with (weight / `reference_weight`) to these powers.
    covariates
        To be learned.
    fixed
        Parameters that do not vary between patients beyond their covariates.
    correlated
        Whether the variations of parameters go together.
    """

    equation: str
    noise: str = "proportional"
    weight_exponents: dict[str, float] = field(default_factory=dict)
    reference_weight: float = 70.0
    covariates: tuple[Covariate, ...] = ()
    fixed: tuple[str, ...] = ()
    correlated: bool = False

    def __post_init__(self) -> None:
        if self.equation not in EQUATIONS:
            known = ", ".join(EQUATIONS)
            raise MatmlError(f"equation {self.equation!r}: must be one of {known}")
        if self.noise not in NOISES:
            raise MatmlError(f"noise {self.noise!r}: must be one of {', '.join(NOISES)}")
        named = [*self.weight_exponents, *self.fixed, *(c.parameter for c in self.covariates)]
        for name in named:
            if name not in self.kinetics.parameters:
                known = ", ".join(self.kinetics.parameters)
                raise MatmlError(f"parameter {name!r}: {self.equation} has {known}")
        if set(self.fixed) == set(self.kinetics.parameters):
            raise MatmlError("every parameter is fixed: let at least one vary between patients")

    @property
    def kinetics(self) -> Equation:
        """The equation."""
        return EQUATIONS[self.equation]

    @property
    def model(self) -> MixedModel:
        """What `matml.bayes.mixed_effects` learns."""
        varies = tuple(name not in self.fixed for name in self.kinetics.parameters)
        return MixedModel(self.kinetics.predict, varies, self.noise, self.correlated)

    @property
    def columns(self) -> list[str]:
        """Columns that a patient must have."""
        weight = [WEIGHT] if any(self.weight_exponents.values()) else []
        return list(dict.fromkeys([*weight, *(c.column for c in self.covariates)]))

    def missing(self, patient: Patient) -> str:
        """Return the column that a patient lacks, '' where none is."""
        if WEIGHT in self.columns and not patient.covariates.get(WEIGHT, 0.0) > 0:
            return WEIGHT
        lacking = (c.column for c in self.covariates if math.isnan(c.value(patient)))
        return next(lacking, "")

    def centred(self, patients: Sequence[Patient]) -> "Assumptions":
        """Return the same with covariates about the patients' median."""
        centred = []
        for one in self.covariates:
            values = [one.value(patient) for patient in patients]
            constant = len(set(values)) < 2
            if constant:
                raise MatmlError(
                    f"covariate {one.text!r}: is {values[0]:g} for all patients, so nothing can be "
                    "learned of it; leave it out"
                )
            yes_or_no = set(values) <= {0.0, 1.0}
            centre = 0.0 if yes_or_no else float(np.median(values))
            centred.append(Covariate(one.text, one.parameter, one.column, centre))
        return Assumptions(**{**_shallow(self), "covariates": tuple(centred)})

    def data_of(
        self, patients: Sequence[Patient], times: Sequence[np.ndarray] | None = None
    ) -> TaskData:
        """Return patients as tasks; with `times` to be predicted instead of the samples.

        The patient's weight and covariates must be there (`missing`).
        """
        wanted = [p.times for p in patients] if times is None else list(times)
        shape = len(patients), max(1, *map(len, wanted)), max(len(p.doses) for p in patients)
        names = ("elapsed", "amount", "duration", "interval")
        columns = {name: np.zeros(shape) for name in names}
        measured, mask = np.ones(shape[:2]), np.zeros(shape[:2])
        parameters = list(self.kinetics.parameters)
        first = len(parameters)
        design = np.zeros((len(patients), first, first + len(self.covariates)))
        offset = np.zeros((len(patients), first))
        for i, (patient, at) in enumerate(zip(patients, wanted, strict=True)):
            doses, counted = patient.doses, slice(len(patient.doses))
            elapsed = at[:, None] - doses[None, :, 0]
            # steady state starts anew: what was given before is in it already
            steady = np.where((elapsed > 0) & (doses[:, 3] > 0), doses[:, 0], -math.inf)
            elapsed = np.where(doses[:, 0] < steady.max(1)[:, None], -1.0, elapsed)
            columns["elapsed"][i, : len(at), counted] = elapsed
            for name, column in zip(names[1:], doses.T[1:], strict=True):
                columns[name][i, :, counted] = column
            mask[i, : len(at)] = 1
            if times is None:
                measured[i, : len(at)] = patient.concentrations
            design[i, range(first), range(first)] = 1
            for name, exponent in self.weight_exponents.items():
                weight = patient.covariates.get(WEIGHT, math.nan) / self.reference_weight
                offset[i, parameters.index(name)] = exponent * math.log(weight) if exponent else 0
            for k, one in enumerate(self.covariates):
                design[i, parameters.index(one.parameter), first + k] = one.value(patient)
        tensors = {name: torch.from_numpy(column) for name, column in columns.items()}
        tensors["measured"] = torch.from_numpy(measured)
        rest = (torch.from_numpy(array) for array in (mask, offset, design))
        return TaskData(tensors, *rest)


def _shallow(value: Any) -> dict[str, Any]:
    return {one.name: getattr(value, one.name) for one in fields(value)}


@dataclass(frozen=True)
class Population:
    """Patients' kinetics as learned, with which a new patient's are found.

    Attributes
    ----------
    assumptions
        With the centres of covariates.
    effects
        As learned.
    patients, samples
        Numbers learned from.
    typical_ratio
        Median of the highest concentration over dose, against wrong units.
    """

    assumptions: Assumptions
    effects: LearnedEffects
    patients: int
    samples: int
    typical_ratio: float

    @staticmethod
    def learn(
        patients: Sequence[Patient], assumptions: Assumptions, **options: Any
    ) -> "Population":
        """Learn from patients with samples; `options` are those of `learn_effects`."""
        used = [p for p in patients if len(p.times) and not assumptions.missing(p)]
        if len(used) < 2:
            raise MatmlError(
                f"{len(used)} patient(s) with samples and all covariates: give at least 2"
            )
        assumptions = assumptions.centred(used)
        data = assumptions.data_of(used)
        start = _start(assumptions, data)
        learned = learn_effects(assumptions.model, data, start, **options)
        ratio = float(np.median([dose_ratio(p) for p in used]))
        return Population(assumptions, learned, len(used), int(data.mask.sum()), ratio)

    def posterior(self, patients: Sequence[Patient], *, seed: int = 0) -> Posterior:
        """Return draws of log parameters of patients, also of those without samples."""
        return posterior_of(
            self.assumptions.model,
            self.effects,
            self.assumptions.data_of(patients),
            uncertainty=self.effects.beta_covariance,
            seed=seed,
        )

    def concentrations(
        self, patients: Sequence[Patient], times: Sequence[np.ndarray], draws: Tensor
    ) -> Tensor:
        """Return concentrations [B, S, N] at times for draws [B, S, P] of log parameters."""
        columns = self.assumptions.data_of(patients, times).columns
        shape = (len(draws), draws.shape[1])
        own = {
            name: column[:, None].expand(*shape, *column.shape[1:])
            for name, column in columns.items()
        }
        z = draws[:, :, None].expand(*shape, columns["measured"].shape[1], -1)
        return self.assumptions.kinetics.predict(z, own)

    def measured(self, concentrations: Tensor, seed: int = 0) -> Tensor:
        """Return what would be measured of concentrations [B, S, N]: with the noise."""
        generator = torch.Generator().manual_seed(seed)
        # one of a draw at all times: bands are of one measurement, and smooth
        shape = (*concentrations.shape[:-1], 1)
        noise = torch.randn(shape, generator=generator, dtype=concentrations.dtype)
        constant, proportional = self.effects.constant, self.effects.proportional
        deviation = (constant.square() + (proportional * concentrations).square()).sqrt()
        return concentrations + deviation * noise

    def table(self) -> list[dict[str, Any]]:
        """Return what was learned: name, value, standard error and variation of each quantity.

        Standard errors by the delta method; a covariate's value is the factor on its parameter
        that x = 1 makes.
        """
        found, effects = [], self.effects
        names = list(self.assumptions.kinetics.parameters)
        spread = dict(zip(names, effects.spread.tolist(), strict=True))
        labels = [*names, *(one.text for one in self.assumptions.covariates)]
        for name, log_value, error in zip(labels, effects.beta, effects.errors, strict=False):
            value = math.exp(float(log_value))
            row = {"quantity": name, "value": value, "standard_error": value * float(error)}
            found.append(row | {"variation_percent": 100 * spread.get(name, math.nan)})
        noise = (("constant noise", effects.constant), ("proportional noise", effects.proportional))
        present = [
            one for one, has in zip(noise, NOISES[self.assumptions.noise], strict=True) if has
        ]
        for (name, part), error in zip(present, effects.errors[-len(present) :], strict=True):
            row = {"quantity": name, "value": float(part), "variation_percent": math.nan}
            found.append(row | {"standard_error": float(part) * float(error)})
        return found

    def save(self, path: Path) -> None:
        """Write the population as JSON."""
        numbers = {name: _plain(value) for name, value in _shallow(self.effects).items()}
        write_json(
            path,
            {
                "note": NOT_FOR_CLINICAL_USE,
                "assumptions": asdict(self.assumptions),
                "effects": numbers,
                "patients": self.patients,
                "samples": self.samples,
                "typical_ratio": self.typical_ratio,
            },
            FORMAT,
        )

    @staticmethod
    def load(path: str | Path) -> "Population":
        """Read a population."""
        stored = read_json(path, FORMAT)
        given = stored["assumptions"]
        covariates = tuple(Covariate(**one) for one in given["covariates"])
        assumptions = Assumptions(
            **given | {"covariates": covariates, "fixed": tuple(given["fixed"])}
        )
        effects: dict[str, Any] = {
            name: _tensor(value) if isinstance(value, list) else value
            for name, value in stored["effects"].items()
        }
        numbers = (stored[name] for name in ("patients", "samples", "typical_ratio"))
        return Population(assumptions, LearnedEffects(**effects), *numbers)


def _plain(value: Any) -> Any:
    """Return a tensor as lists; JSON has no NaN."""
    if not isinstance(value, Tensor):
        return value
    array = value.detach().numpy().astype(object)
    array[torch.isnan(value).numpy()] = None
    return array.tolist()


def _tensor(value: list[Any]) -> Tensor:
    """Return the tensor of `_plain`'s lists."""
    return torch.from_numpy(np.array(value, dtype=object).astype(float))


def _start(assumptions: Assumptions, data: TaskData) -> Tensor:
    """Return fixed effects to begin with: the best of a grid for all patients alike."""
    parameters, columns = assumptions.kinetics.parameters, data.columns
    y, mask = columns["measured"], data.mask > 0
    given = (columns["amount"] * (columns["elapsed"] > 0)).sum(-1)
    volume = float((given[mask] / y[mask]).log().median()) - float(data.offset[:, 1].mean())
    elapsed = torch.where(columns["elapsed"] > 0, columns["elapsed"], math.inf).amin(-1)
    scale = float(elapsed[mask].median().log()) + float(
        (data.offset[:, 0] - data.offset[:, 1]).mean()
    )
    volumes = volume - np.log([0.5, 1, 2, 4, 8, 16])
    rates = np.log([0.03, 0.1, 0.3, 1, 3]) - scale
    absorptions = np.log([0.5, 2, 8]) - scale if "ka" in parameters else [0.0]
    best, lowest = torch.zeros(0), math.inf
    for v, rate, absorption in itertools.product(volumes, rates, absorptions):
        # absorption slower than elimination fits alike with another volume ("flip-flop")
        if "ka" in parameters and absorption < rate + 0.5:
            continue
        whole = {"CL": v + rate, "V": v, "V1": v, "Q": v + rate, "V2": v, "ka": absorption}
        beta = torch.zeros(data.design.shape[2], dtype=torch.float64)
        beta[: len(parameters)] = torch.tensor([whole[name] for name in parameters])
        mean = (data.offset + data.design @ beta)[:, None].expand(*mask.shape, -1)
        f = assumptions.kinetics.predict(mean, columns)
        errors = (f.clamp(min=1e-12) / y).log().abs()[mask].clamp(max=3.0)
        if float(errors.mean()) < lowest:
            best, lowest = beta, float(errors.mean())
    return best


STUDIED = {
    "phenobarbital": Assumptions(
        "one-compartment",
        "proportional",
        {"CL": 1.0, "V": 1.0},
        1.0,
        (Covariate.of("V~APGAR<5"),),
    ),
    "theophylline": Assumptions("one-compartment-oral", "combined", {"CL": 1.0, "V": 1.0}, 1.0),
    "quinidine": Assumptions(
        "one-compartment-oral",
        "combined",
        {"CL": 0.75, "V": 1.0},
        covariates=(Covariate.of("CL~log(GLYCOPROTEIN)"), Covariate.of("CL~LOW_CREATININE")),
        fixed=("ka",),
    ),
    "indometacin": Assumptions("two-compartments", "proportional"),
}
"""What is assumed of each of the data sets in data/patients."""
