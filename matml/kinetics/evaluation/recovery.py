"""Are the parameters found that simulated observations were made from, and how fast?

Synthetic: alloys are drawn from the population of the published JMAK alloys (log-normal with their
means and covariances, within their published ranges), since only there the truth is known. A prior
is learned from some, the others are calibrated from a few fractions each.
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.bayes.empirical_bayes import maximum_a_posteriori
from matml.bayes.gauss_newton import GaussianPrior
from matml.bayes.importance_sampling import sample_posterior
from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Tasks
from matml.core.files import read_table
from matml.kinetics.data.batch import residual_function
from matml.kinetics.data.simulate import LOG10_HALF_TIMES
from matml.kinetics.equations import equation_named
from matml.kinetics.inference.composition_prior import CompositionPrior, learn_composition_prior
from matml.kinetics.inference.population import generic_prior, learn_gaussian

REFERENCE_K, SPREAD = 1000.0, 0.08
"""Common reference temperature, and the relative range around it (as published)."""

TRAINING_POINTS, DRAWS, PROPOSALS = 18, 400, 2048
PUBLISHED = ("activation_energy_kJ_mol", "avrami_exponent")


def draw_truth(table: pd.DataFrame, count: int, generator: np.random.Generator) -> Tensor:
    """Return standardised JMAK parameters [A, 3] of alloys like the published ones.

    Half times, which are not published, are log-uniform over the ranges by process.
    """
    logs = np.log(table[list(PUBLISHED)].to_numpy(float))
    mean, covariance = logs.mean(0), np.cov(logs.T)
    drawn = generator.multivariate_normal(mean, covariance, 20 * count)
    inside = ((drawn >= logs.min(0)) & (drawn <= logs.max(0))).all(1)
    energy, exponent = np.exp(drawn[inside][:count]).T
    ranges = np.array([LOG10_HALF_TIMES[process] for process in table["process"]])
    half = 10 ** generator.uniform(ranges[:, 0].min(), ranges[:, 1].max(), count)
    values = {"half_time_s": half, **dict(zip(PUBLISHED, (energy, exponent), strict=True))}
    parameters = equation_named("jmak").parameters
    columns = [
        (np.vectorize(p.unconstrained)(values[p.name]) - p.centre) / p.scale for p in parameters
    ]
    return torch.from_numpy(np.stack(columns, 1))


def observe(truth: Tensor, points: int, noise: float, generator: np.random.Generator) -> Tasks:
    """Return noisy fractions [A, N] of alloys, at times around their curves' middles."""
    jmak = equation_named("jmak")
    shape = (len(truth), points)
    low, high = 1 - SPREAD, 1 + SPREAD
    columns = {
        "temperature_K": torch.from_numpy(REFERENCE_K * generator.uniform(low, high, shape)),
        "reference_temperature_K": torch.full(shape, REFERENCE_K, dtype=torch.float64),
    }
    aimed = torch.from_numpy(generator.uniform(0.03, 0.97, shape))
    centre = jmak.predict("ttt", truth[:, None], columns | {"fraction": aimed})
    # who measures does not know the curve: times miss it by a fifth of a decade or so
    columns["time_s"] = 10 ** (centre + torch.from_numpy(generator.normal(0, 0.1, shape)))
    clean = jmak.predict("fraction", truth[:, None], columns)
    columns["target"] = clean + torch.from_numpy(generator.normal(0, noise, shape))
    return Tasks.of(residual_function(jmak, "fraction"), columns)


def learn(tasks: Tasks, seed: int) -> tuple[GaussianPrior, CompositionPrior]:
    """Return the priors learned from simulated alloys."""
    jmak, names = equation_named("jmak"), [f"alloy {i}" for i in range(len(tasks))]
    alloys = pd.DataFrame({"alloy": names, "composition_group": names})
    gaussian = learn_gaussian(tasks, generic_prior(jmak, "fraction"), 2.0, len(names))
    prior = learn_composition_prior(jmak, "fraction", tasks, gaussian, alloys, 2.0, seed)
    return gaussian.prior, prior


def recover(
    published: Path, training: int, alloys: int, points: int, repetitions: int, seed: int
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return coverage and bias by repetition and parameter, and seconds of processor time.

    Columns repetition, parameter, coverage_90, bias_over_spread (of posterior means, on the scale
    of the fit: logarithms).
    """
    table = read_table(published)
    jmak = equation_named("jmak")
    rows, seconds = [], []
    for repetition in range(repetitions):
        generator = np.random.default_rng([seed, 21, repetition])
        truth = draw_truth(table, training + alloys, generator)
        known = observe(truth[:training], TRAINING_POINTS, 0.03, generator)
        new = observe(truth[training:], points, 0.03, generator)
        began = time.process_time()
        gaussian, prior = learn(known, seed)
        learned = time.process_time() - began
        began = time.process_time()
        posterior = sample_posterior(new, _priors(prior, alloys), draws=DRAWS, proposals=PROPOSALS)
        drawn = time.process_time() - began
        ends = posterior.draws.quantile(posterior.draws.new_tensor([0.05, 0.95]), dim=1)
        wanted = truth[training:]
        covered = ((ends[0] <= wanted) & (wanted <= ends[1])).double().mean(0)
        bias = (posterior.draws.mean(1) - wanted).mean(0) / wanted.std(0)
        rows += [
            (repetition, p.name, float(covered[i]), float(bias[i]))
            for i, p in enumerate(jmak.parameters)
        ]
        began = time.process_time()
        maximum_a_posteriori(new, gaussian)
        batch = time.process_time() - began
        one = new[:1]
        began = time.process_time()
        maximum_a_posteriori(one, gaussian)
        alone = time.process_time() - began
        began = time.process_time()
        sample_posterior(one, _priors(prior, 1), draws=DRAWS, proposals=PROPOSALS)
        seconds.append((learned, alone, batch, time.process_time() - began, drawn))
    names = ("learn_population", "laplace_one", "laplace_all", "draws_one", "draws_all")
    # the first repetition warms up
    middle = np.median(np.array(seconds[1:] or seconds), axis=0)
    columns = ["repetition", "parameter", "coverage_90", "bias_over_spread"]
    return pd.DataFrame(rows, columns=columns), dict(zip(names, middle.tolist(), strict=True))


def nuts_seconds(published: Path, training: int, points: int, tasks: int, seed: int) -> float:
    """Return the processor time per alloy of the No-U-Turn sampler on the same posterior.

    400 draws after 300 of warm-up, all alloys in one chain.
    """
    from matml.kinetics.inference.nuts import nuts_draws

    generator = np.random.default_rng([seed, 22])
    truth = draw_truth(read_table(published), training + tasks, generator)
    _, prior = learn(observe(truth[:training], TRAINING_POINTS, 0.03, generator), seed)
    new = observe(truth[training:], points, 0.03, generator)
    priors = _priors(prior, tasks)
    fit = sample_posterior(new, priors).fit
    began = time.process_time()
    nuts_draws(new, priors, fit, seed=seed)
    return (time.process_time() - began) / tasks


def _priors(prior: CompositionPrior, count: int) -> TaskPriors:
    """Return the priors of so many alloys without a known composition."""
    return prior.prior.of(torch.zeros(count, 0, dtype=torch.float64))


def recovery_records(table: pd.DataFrame, alloys: int, points: int, seed: int) -> list[dict]:
    """Return means over repetitions with 95 % intervals from their spread, as tidy records."""
    records = []
    for metric in ("coverage_90", "bias_over_spread"):
        for name, own in table.groupby("parameter", sort=False)[metric]:
            error = float(own.std(ddof=1) / np.sqrt(len(own))) if len(own) > 1 else float("nan")
            records.append(
                {
                    "benchmark": "kinetics recovery",
                    "setting": f"simulated JMAK fractions, {name}",
                    "method": "calibration",
                    "is_default": True,
                    "shots": points,
                    "metric": metric,
                    "value": float(own.mean()),
                    "low": float(own.mean()) - 1.96 * error if error == error else None,
                    "high": float(own.mean()) + 1.96 * error if error == error else None,
                    "n_tasks": alloys * len(own),
                    "seed": seed,
                }
            )
    return records
