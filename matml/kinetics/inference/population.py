"""What is known of alloys before the next one: learned, saved as JSON, read back.

From training alloys alone: a common Gaussian prior over standardised parameters
(`matml.bayes.empirical_bayes`), and from the alloys fitted under it the heavy-tailed prior given
composition (`matml.kinetics.inference.composition_prior`). Only the latter is used for a new alloy,
and only what is used for a new alloy stands in the file.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from typing_extensions import TypedDict

from matml import __version__
from matml.bayes.empirical_bayes import LearnedPrior, for_a_new_task, learn_prior
from matml.bayes.gauss_newton import GaussianPrior
from matml.bayes.tasks import Tasks
from matml.core.errors import MatmlError, reading
from matml.core.files import read_json, write_json
from matml.core.integrity.formats import Format, open_sealed
from matml.core.settings import check_shape
from matml.kinetics.data.alloys import composition_columns
from matml.kinetics.data.batch import common_reference_temperature, residual_function, to_tasks
from matml.kinetics.data.columns import WATCHED
from matml.kinetics.data.observations import Observations
from matml.kinetics.data.units import ZERO_CELSIUS
from matml.kinetics.equations import Equation, Observable, equation_of_file
from matml.kinetics.inference.composition_prior import (
    CompositionPrior,
    generic_normal,
    learn_composition_prior,
)
from matml.kinetics.inference.run_offsets import (
    NO_OFFSETS,
    RunOffsets,
    with_run_numbers_of_each,
    with_run_offsets,
)
from matml.kinetics.listing import population_path

FAR_REFERENCE_K = 100.0
FORMAT = Format("kinetic population", 5, "learn it again with `matml kinetics learn`")


class Stored(TypedDict):
    """What the file of a population holds."""

    matml: str
    equation: str
    kind: str
    standardised: str
    parameters: list[dict[str, Any]]
    prior: dict[str, Any]
    reference_temperature_K: float | None
    held_out_alloys: list[str]
    data_card: dict[str, Any]


@dataclass(frozen=True)
class Population:
    """A learned population of alloys under one equation.

    Attributes
    ----------
    equation, kind
        Equation and kind of observation.
    prior
        Of a new alloy, over standardised parameters, with the noise on the residual scale.
    reference_temperature_K
        For alloys that give none; None where the equation has no reference temperature.
    held_out
        Names of alloys of the same data that it was not learned from.
    data_card
        What it was learned from.
    """

    equation: Equation
    kind: str
    prior: CompositionPrior
    reference_temperature_K: float | None
    held_out: list[str]
    data_card: dict[str, Any]

    @classmethod
    def generic(cls, equation: Equation, kind: str) -> Self:
        """Return what is known of alloys where no other was measured: typical ranges."""
        # each alloy's own middle is its reference temperature
        card = {"alloys": 0, "reference_temperatures_given": True}
        prior = CompositionPrior.generic(equation, kind)
        return cls(equation, kind, prior, None, [], card)

    def assumed(self) -> list[str]:
        """Return what is taken for granted where nothing was learned, as a note; else none."""
        if len(self.prior.prior.positions):
            return []
        ranges = ", ".join(
            f"{p.name} {p.low:g} to {p.high:g} {p.unit}".rstrip() for p in self.equation.parameters
        )
        return [f"no population: the prior is generic, the equation's typical ranges ({ranges})"]

    @property
    def observable(self) -> Observable:
        """What is measured."""
        return self.equation.observable(self.kind)

    def reference_temperature(self, own: Observations) -> tuple[float | None, list[str]]:
        """Return the reference temperature of an alloy's equation, and what was assumed of it."""
        if not self.equation.needs_reference_temperature:
            return None, []
        given = own.alloys["reference_temperature_K"].iloc[0]
        if given == given:
            return float(given), _far_reference(float(given), own)
        if not self.data_card.get("reference_temperatures_given"):
            return self.reference_temperature_K, []
        middle = common_reference_temperature(own)
        return middle, [f"no reference_temperature_K given: {middle:g} K, the middle of the data"]

    def describe(self) -> list[dict[str, Any]]:
        """Return one row per parameter: what is expected of an alloy of unknown composition."""
        unknown = torch.full((1, len(self.prior.features.columns)), torch.nan, dtype=torch.float64)
        prior = self.prior.prior.of(unknown)
        half = prior.half_width(0.9)[0]
        rows = []
        for i, p in enumerate(self.equation.parameters):
            ends = [prior.mean[0, i] + k * half[i] for k in (0, -1, 1)]
            values = dict(zip(("median", "low_90", "high_90"), map(p.value, ends), strict=True))
            described = {"name": p.name, "unit": p.unit, "description": p.description}
            rows.append(described | {name: float(value) for name, value in values.items()})
        return rows

    def save(self, path: Path) -> None:
        """Write the population as JSON."""
        write_json(
            path,
            {
                "matml": __version__,
                "equation": self.equation.name,
                "kind": self.kind,
                "standardised": "(transform(value) - centre) / scale, in the order of parameters",
                "parameters": scales(self.equation),
                "prior": self.prior.to_record(),
                "reference_temperature_K": self.reference_temperature_K,
                "held_out_alloys": self.held_out,
                "data_card": self.data_card,
            },
            FORMAT,
        )

    @classmethod
    def load(cls, path: str | Path, *, trust_equation: bool = False) -> Self:
        """Read a population.

        Parameters
        ----------
        path
            Of its file, or the name of one that comes with matml (`matml kinetics populations`).
        trust_equation
            Run the Python file that the population may name as its equation, and remember that;
            without it only one that was agreed to before is run.

        Raises
        ------
        MatmlError
            Where the file is not a population of this format as it was written, or not one of this
            equation.
        """
        path = population_path(path)
        stored = read_json(path, remedy=FORMAT.remedy)
        remedy = f"learn it again: `{_command(stored, path)}`"
        stored = open_sealed(stored, path, replace(FORMAT, remedy=remedy))
        check_shape(stored, Stored, path, remedy)
        with reading(path, remedy):
            equation = equation_of_file(stored["equation"], path, trust=trust_equation)
            if not same_scales(stored["parameters"], scales(equation)):
                raise MatmlError(
                    f"{path}: was learned with other parameters of equation {equation.name!r} than "
                    f"this version has; {remedy}"
                )
            population = cls(
                equation,
                stored["kind"],
                CompositionPrior.from_record(
                    stored["prior"], equation, stored["kind"], stored["data_card"]
                ),
                stored["reference_temperature_K"],
                list(stored["held_out_alloys"]),
                dict(stored["data_card"]),
            )
        # says so where the equation knows no such kind
        equation.observable(population.kind)
        return population


def _far_reference(reference_K: float, own: Observations) -> list[str]:
    """Return a note on a reference temperature outside of an alloy's own."""
    low, high = own.points["temperature_K"].min(), own.points["temperature_K"].max()
    margin = max(FAR_REFERENCE_K, high - low)
    if low - margin <= reference_K <= high + margin:
        return []
    inside = low <= reference_K + ZERO_CELSIUS <= high
    return [
        f"reference_temperature_K = {reference_K:g} lies outside of the alloy's temperatures "
        f"({low:.0f} to {high:.0f} K): parameters that refer to it are extrapolated"
        + (" (in C it would lie inside: is it?)" if inside else "")
    ]


def scales(equation: Equation) -> list[dict[str, Any]]:
    """Return what the standardised scale of each parameter is."""
    return [
        {"name": p.name, "transform": p.transform, "centre": p.centre, "scale": p.scale}
        for p in equation.parameters
    ]


def same_scales(stored: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """Return whether parameters are the same up to rounding."""
    return len(stored) == len(expected) and all(
        (a["name"], a["transform"]) == (b["name"], b["transform"])
        and np.allclose((a["centre"], a["scale"]), (b["centre"], b["scale"]))
        for a, b in zip(stored, expected, strict=True)
    )


def _command(stored: Any, path: Path) -> str:
    """Return the command that makes a population file again, as far as the file tells."""
    known = stored if isinstance(stored, dict) else {}
    card = known.get("data_card")
    data = card.get("file", "FILE") if isinstance(card, dict) else "FILE"
    equation = known.get("equation", "NAME")
    return f"matml kinetics learn --data {data} --equation {equation} --out {path.parent}"


def generic_prior(equation: Equation, kind: str) -> GaussianPrior:
    """Return the prior before any alloy is seen, with the noise of a usual measurement."""
    return generic_normal(equation, equation.observable(kind).typical_noise)


def learn_gaussian(
    tasks: Tasks, initial: GaussianPrior, pseudo_tasks: float, groups: int, offsets: int = 0
) -> LearnedPrior:
    """Return the Gaussian prior of training alloys by EM, widened for a new alloy.

    Parameters
    ----------
    groups
        Composition groups among the alloys.
    offsets
        How many of the last parameters are offsets of runs; the result is without them.
    """
    learned = learn_prior(tasks, initial, pseudo_tasks=pseudo_tasks, nuisance=offsets)
    size = len(initial.mean) - offsets
    prior, fit = learned.prior, learned.fit
    prior = replace(prior, mean=prior.mean[:size], covariance=prior.covariance[:size, :size])
    fit = replace(
        fit,
        position=fit.position[:, :size],
        covariance=fit.covariance[:, :size, :size],
        jacobian=fit.jacobian[..., :size],
    )
    return replace(learned, prior=for_a_new_task(prior, groups), fit=fit)


@dataclass(frozen=True)
class TrainingAlloys:
    """Alloys that are learned from, and the Gaussian prior under which they are fitted.

    Attributes
    ----------
    observations, tasks
        Of these alloys alone.
    equation
        Without offsets of runs.
    reference_temperature_K
        For alloys that give none; None where the equation has no reference temperature.
    gaussian
        Prior and fits.
    """

    observations: Observations
    tasks: Tasks
    equation: Equation
    reference_temperature_K: float | None
    gaussian: LearnedPrior

    def composition_prior(
        self, pseudo_tasks: float, seed: int, *, use_composition: bool = True
    ) -> CompositionPrior:
        """Return the heavy-tailed prior; see `learn_composition_prior`."""
        return learn_composition_prior(
            self.equation,
            self.observations.kind,
            self.tasks,
            self.gaussian,
            self.observations.alloys,
            pseudo_tasks,
            seed,
            use_composition=use_composition,
        )


def fit_training_alloys(
    observations: Observations,
    equation: Equation,
    pseudo_tasks: float,
    *,
    without: list[str],
    offsets: RunOffsets = NO_OFFSETS,
) -> TrainingAlloys:
    """Return all alloys but those `without`, fitted under a common Gaussian prior.

    With `offsets` each run's own errors of temperature and start are estimated along, so that they
    count neither as differences between alloys nor as noise of single observations.

    Raises
    ------
    MatmlError
        With fewer than two alloys left.
    """
    left = [name for name in observations.names if name not in set(without)]
    if len(left) < 2:
        raise MatmlError(f"{len(left)} alloy(s) left to learn from: give at least 2")
    subset = observations.select(left)
    reference = (
        common_reference_temperature(subset) if equation.needs_reference_temperature else None
    )
    shifted = equation
    if offsets:
        subset, most = with_run_numbers_of_each(subset, offsets)
        shifted = with_run_offsets(equation, [str(number) for number in range(most)], offsets)
    tasks = to_tasks(subset, equation, reference)
    gaussian = learn_gaussian(
        replace(tasks, residual=residual_function(shifted, subset.kind)),
        generic_prior(shifted, subset.kind),
        pseudo_tasks,
        int(subset.alloys["composition_group"].nunique()),
        len(shifted.parameters) - len(equation.parameters),
    )
    return TrainingAlloys(subset, tasks, equation, reference, gaussian)


def split_groups(
    observations: Observations, held_out: float, seed: int
) -> tuple[list[str], list[str]]:
    """Return (training, held-out) alloys: whole composition groups, at least one of each.

    Parameters
    ----------
    held_out
        Fraction of the groups to hold out.

    Raises
    ------
    MatmlError
        With fewer than three groups.
    """
    groups = sorted(observations.alloys["composition_group"].unique())
    if len(groups) < 3:
        raise MatmlError(
            f"{len(groups)} composition group(s) among {len(observations.names)} alloys: at least "
            "3 are needed to learn a population and keep one out"
        )
    count = min(max(1, round(held_out * len(groups))), len(groups) - 2)
    chosen = set(np.random.default_rng([seed, 3]).permutation(groups)[:count].tolist())
    held = observations.alloys["composition_group"].isin(chosen)
    names = observations.alloys["alloy"]
    return names[~held].tolist(), names[held].tolist()


def learn_population(
    observations: Observations,
    equation: Equation,
    pseudo_tasks: float,
    seed: int,
    *,
    held_out: list[str],
    origin: Path,
    offsets: RunOffsets = NO_OFFSETS,
) -> tuple[Population, TrainingAlloys]:
    """Learn a population from all alloys but the held-out ones; see `fit_training_alloys`.

    Parameters
    ----------
    pseudo_tasks
        Weight of the generic covariance, in alloys.
    origin
        File of the observations, for the data card.
    """
    training = fit_training_alloys(
        observations, equation, pseudo_tasks, without=held_out, offsets=offsets
    )
    population = Population(
        equation,
        observations.kind,
        training.composition_prior(pseudo_tasks, seed),
        training.reference_temperature_K,
        held_out,
        data_card(training.observations, origin, seed) | offsets.to_record(),
    )
    return population, training


def data_card(observations: Observations, origin: Path, seed: int) -> dict[str, Any]:
    """Return what a population was learned from, for its JSON."""
    points, alloys = observations.points, observations.alloys
    return {
        "file": origin.name,
        "sha256": hashlib.sha256(origin.read_bytes()).hexdigest(),
        "simulated": observations.simulated,
        "seed": seed,
        "alloys": len(alloys),
        "composition_groups": int(alloys["composition_group"].nunique()),
        "observations": len(points),
        "reference_temperatures_given": bool(alloys["reference_temperature_K"].notna().any()),
        "quarantined_rows": len(observations.quarantine),
        **{
            name: [float(points[name].min()), float(points[name].max())]
            for name in WATCHED
            if name in points and points[name].notna().any()
        },
        "composition": {
            name: [float(alloys[name].min()), float(alloys[name].max())]
            for name in composition_columns(alloys)
            if alloys[name].notna().any()
        },
        "warnings": observations.warnings,
    }
