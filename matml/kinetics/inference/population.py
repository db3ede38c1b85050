"""What is known of alloys before the next one: learned, saved as JSON, read back.

A common Gaussian prior over standardised parameters is learned by `matml.bayes.empirical_bayes`,
the heavy-tailed prior given composition that calibration uses by
`matml.kinetics.inference.composition_prior`, MAML and Meta-SGD starts by `matml.meta.meta_train`;
all see training alloys only.
"""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from matml import __version__
from matml.bayes.empirical_bayes import LearnedPrior, for_a_new_task, learn_prior
from matml.bayes.gauss_newton import GaussianPrior
from matml.core.errors import MatmlError
from matml.core.files import read_json, write_json
from matml.core.statistics import NORMAL_90
from matml.kinetics.data.alloys import composition_columns
from matml.kinetics.data.batch import (
    Series,
    common_reference_temperature,
    residual_function,
    to_series,
)
from matml.kinetics.data.observations import Observations
from matml.kinetics.equations import Equation, equation_named
from matml.kinetics.inference.composition_prior import Experience, learn_experience
from matml.kinetics.inference.gradient_start import MetaLearned, meta_learn
from matml.kinetics.inference.run_offsets import (
    NO_OFFSETS,
    RunOffsets,
    number_runs_of_each,
    with_run_offsets,
)
from matml.kinetics.settings import KineticsSection

FORMAT = "matml kinetic population, version 3"


@dataclass
class Population:
    """A learned population of alloys under one equation.

    Attributes
    ----------
    equation, kind
        Equation and kind of observation.
    prior
        Common Gaussian over standardised parameters, with the noise on the residual scale.
    experience
        The prior that calibration uses.
    reference_temperature_K
        For alloys that give none; None where the equation has no reference temperature.
    meta_learned
        MAML and Meta-SGD starts by name; may be empty.
    training, held_out
        Names of alloys.
    data_card
        What it was learned from.
    log_evidence
        Per EM round.
    """

    equation: Equation
    kind: str
    prior: GaussianPrior
    experience: Experience
    reference_temperature_K: float | None = None
    meta_learned: dict[str, MetaLearned] = field(default_factory=dict)
    training: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)
    data_card: dict[str, Any] = field(default_factory=dict)
    log_evidence: list[float] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the population as JSON."""
        spread = self.prior.covariance.diagonal().sqrt()
        parameters = []
        for i, p in enumerate(self.equation.parameters):
            ends = [float(p.value(self.prior.mean[i] + k * NORMAL_90 * spread[i])) for k in (-1, 1)]
            parameters.append(
                {
                    "name": p.name,
                    "unit": p.unit,
                    "description": p.description,
                    "transform": p.transform,
                    "centre": p.centre,
                    "scale": p.scale,
                    "median": float(p.value(self.prior.mean[i])),
                    "low_90": ends[0],
                    "high_90": ends[1],
                }
            )
        write_json(
            path,
            {
                "format": FORMAT,
                "matml": __version__,
                "equation": self.equation.name,
                "source": self.equation.source,
                "kind": self.kind,
                "parameters": parameters,
                "standardised": "(transform(value) - centre) / scale, in the order of parameters",
                "mean": self.prior.mean.tolist(),
                "covariance": self.prior.covariance.tolist(),
                "noise": self.prior.noise,
                "noise_unit": self.equation.observable(self.kind).unit,
                "experience": self.experience.to_record(),
                "reference_temperature_K": self.reference_temperature_K,
                "meta_learned": {
                    name: {
                        "start": learned.start.tolist(),
                        "factor": learned.factor.tolist(),
                        "rates": learned.rates.tolist(),
                        "steps": learned.steps,
                        "scale": learned.scale,
                    }
                    for name, learned in self.meta_learned.items()
                },
                "training_alloys": self.training,
                "held_out_alloys": self.held_out,
                "data_card": self.data_card,
                "log_evidence": self.log_evidence,
            },
        )

    @staticmethod
    def load(path: Path) -> "Population":
        """Read a population.

        Raises
        ------
        MatmlError
            Where the file is not a population, or not one of this equation.
        """
        stored = read_json(path)
        if not isinstance(stored, dict) or stored.get("format") != FORMAT:
            raise MatmlError(f"{path}: is not a {FORMAT!r}; make it with `matml kinetics learn`")
        try:
            equation = equation_named(stored["equation"])
            names = [parameter["name"] for parameter in stored["parameters"]]
            scales = [(p["centre"], p["scale"]) for p in stored["parameters"]]
            mean = torch.tensor(stored["mean"], dtype=torch.float64)
            covariance = torch.tensor(stored["covariance"], dtype=torch.float64)
            noise = float(stored["noise"])
            experience = Experience.from_record(stored["experience"], equation)
            learned = {
                name: MetaLearned(
                    torch.tensor(item["start"], dtype=torch.float64),
                    torch.tensor(item["factor"], dtype=torch.float64),
                    torch.tensor(item["rates"], dtype=torch.float64),
                    int(item["steps"]),
                    float(item["scale"]),
                )
                for name, item in stored["meta_learned"].items()
            }
            rest = {
                "kind": stored["kind"],
                "reference_temperature_K": stored["reference_temperature_K"],
                "training": list(stored["training_alloys"]),
                "held_out": list(stored["held_out_alloys"]),
                "data_card": dict(stored["data_card"]),
                "log_evidence": list(stored["log_evidence"]),
            }
        except (KeyError, TypeError, ValueError) as error:
            raise MatmlError(
                f"{path}: damaged ({type(error).__name__}: {error}); learn it again"
            ) from None
        equation.observable(rest["kind"])
        expected = [(p.centre, p.scale) for p in equation.parameters]
        if names != equation.parameter_names or not np.allclose(scales, expected):
            raise MatmlError(
                f"{path}: was learned with other parameters of equation {equation.name!r} than "
                "this version has; learn it again"
            )
        size = len(names)
        shapes = mean.shape, covariance.shape, experience.prior.centre.shape
        finite = all(bool(torch.isfinite(part).all()) for part in (mean, covariance))
        if shapes != ((size,), (size, size), (size,)) or not (finite and 0 < noise < np.inf):
            raise MatmlError(f"{path}: mean, covariance or noise have a wrong shape or sign")
        if (
            not torch.allclose(covariance, covariance.mT)
            or torch.linalg.eigvalsh(covariance)[0] <= 0
        ):
            raise MatmlError(f"{path}: the covariance is not symmetric and positive definite")
        return Population(
            equation=equation,
            prior=GaussianPrior(mean, covariance, noise),
            experience=experience,
            meta_learned=learned,
            **rest,
        )


def generic_prior(equation: Equation, kind: str) -> GaussianPrior:
    """Return the prior before any alloy is seen: the equation's start and typical ranges."""
    size = len(equation.parameters)
    return GaussianPrior(
        equation.start(),
        torch.eye(size, dtype=torch.float64),
        equation.observable(kind).typical_noise,
    )


def learn_gaussian(
    equation: Equation,
    kind: str,
    series: Series,
    pseudo_tasks: float,
    groups: int,
    offsets: int = 0,
) -> LearnedPrior:
    """Return the Gaussian prior of training alloys by EM, widened for a new alloy.

    Parameters
    ----------
    groups
        Composition groups among the alloys.
    offsets
        How many of the last parameters are offsets of runs; the result is without them.
    """
    learned = learn_prior(
        residual_function(equation, kind),
        generic_prior(equation, kind),
        series.columns,
        series.mask,
        series.known_variance,
        pseudo_tasks=pseudo_tasks,
        nuisance=offsets,
    )
    if offsets:
        size = len(equation.parameters) - offsets
        prior, fit = learned.prior, learned.fit
        learned = replace(
            learned,
            prior=replace(prior, mean=prior.mean[:size], covariance=prior.covariance[:size, :size]),
            fit=replace(
                fit,
                position=fit.position[:, :size],
                covariance=fit.covariance[:, :size, :size],
                jacobian=fit.jacobian[..., :size],
            ),
        )
    return replace(learned, prior=for_a_new_task(learned.prior, groups))


def learn_starts(
    equation: Equation,
    kind: str,
    series: Series,
    prior: GaussianPrior,
    settings: KineticsSection,
    seed: int,
) -> dict[str, MetaLearned]:
    """Return the MAML and Meta-SGD starts of training alloys, learned from the prior's mean."""
    return {
        name: meta_learn(
            equation,
            kind,
            series,
            prior,
            learn_rates=name == "meta_sgd",
            shots=settings.shots,
            steps=settings.inner_steps,
            rate=settings.inner_rate,
            batches=settings.meta_batches,
            tasks_per_batch=settings.meta_tasks,
            seed=seed,
            title=f"{name} {equation.name}",
        )[0]
        for name in ("maml", "meta_sgd")
    }


def split_groups(
    observations: Observations, share: float, seed: int
) -> tuple[list[str], list[str]]:
    """Return (training, held-out) alloys: whole composition groups, at least one of each.

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
    count = min(max(1, round(share * len(groups))), len(groups) - 2)
    chosen = set(np.random.default_rng([seed, 3]).permutation(groups)[:count].tolist())
    held = observations.alloys["composition_group"].isin(chosen)
    names = observations.alloys["alloy"]
    return names[~held].tolist(), names[held].tolist()


def learn_population(
    observations: Observations,
    equation: Equation,
    settings: KineticsSection,
    seed: int,
    *,
    held_out: list[str],
    origin: Path,
    offsets: RunOffsets = NO_OFFSETS,
) -> tuple[Population, Series, Tensor]:
    """Learn a population from all alloys but the held-out ones.

    With `offsets` each run's own errors of temperature and start are estimated along, so that they
    count neither as differences between alloys nor as noise of single observations.

    Returns
    -------
    population
        The population.
    series, positions
        Training alloys and their fitted standardised parameters [B, P].
    """
    training = [name for name in observations.names if name not in set(held_out)]
    if len(training) < 2:
        raise MatmlError(f"{origin}: {len(training)} alloy(s) left to learn from: give at least 2")
    subset = observations.select(training)
    reference = (
        common_reference_temperature(subset) if equation.needs_reference_temperature else None
    )
    shifted, extra = equation, 0
    if offsets:
        runs = [str(number) for number in range(number_runs_of_each(subset, offsets))]
        shifted = with_run_offsets(equation, runs, offsets)
        extra = len(shifted.parameters) - len(equation.parameters)
    series = to_series(subset, equation, reference)
    learned = learn_gaussian(
        shifted,
        observations.kind,
        series,
        settings.pseudo_tasks,
        int(subset.alloys["composition_group"].nunique()),
        extra,
    )
    experience = learn_experience(
        equation,
        observations.kind,
        series,
        learned.fit,
        learned.prior.noise,
        subset.alloys,
        settings.pseudo_tasks,
        seed,
    )
    population = Population(
        equation,
        observations.kind,
        learned.prior,
        experience,
        reference,
        learn_starts(equation, observations.kind, series, learned.prior, settings, seed),
        training,
        held_out,
        data_card(subset, origin, seed) | offsets.to_record(),
        learned.log_evidence,
    )
    return population, series, learned.fit.position


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
            for name in ("temperature_K", "time_s", "heating_rate_K_per_s")
            if name in points
        },
        "composition": {
            name: [float(alloys[name].min()), float(alloys[name].max())]
            for name in composition_columns(alloys)
            if alloys[name].notna().any()
        },
        "warnings": observations.warnings,
    }
