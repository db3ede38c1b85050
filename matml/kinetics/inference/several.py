"""Several populations for one alloy: mixed by the evidence of its observations for each."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from matml.bayes.importance_sampling import sample_posterior
from matml.kinetics.data.batch import to_tasks
from matml.kinetics.inference.calibration import Calibration

PROPOSALS = 8000
ALONE = 0.95
"""Probability from which on one population is used alone."""


def log_evidence(result: Calibration) -> float:
    """Return the log marginal likelihood of a calibrated alloy's observations.

    With all constants, so that populations of other noise can be compared; as one like those that
    the population was learned from, since any may be unlike; and without what the times of the
    observations say, which not all populations have learned.
    """
    equation = result.population.equation
    task = to_tasks(result.observations, equation, result.reference_temperature_K)
    prior = replace(result.prior.without_generic(), log_design=None)
    sampled = sample_posterior(task, prior, draws=1, proposals=PROPOSALS, seed=result.seed)
    (count,) = task.counts()
    # the constant of a multivariate t: the noise's scale is not known for sure
    dof, weights = prior.noise_dof, task.weights(prior.noise)[0]
    constant = math.lgamma((dof + count) / 2) - math.lgamma(dof / 2)
    constant += float(weights[weights > 0].log().sum()) / 2 - count / 2 * math.log(dof * math.pi)
    return float(sampled.log_evidence[0]) + constant


def mixed(results: Mapping[str, Calibration]) -> Calibration:
    """Return one calibration from those under several populations, by name.

    Draws in the parts of their probabilities, all populations equally probable before; the most
    probable one alone where it is nearly certain or the equations differ. Priors in the table of
    parameters, and notes, are those of the most probable.
    """
    names = list(results)
    logs = np.array([log_evidence(result) for result in results.values()])
    shares = np.exp(logs - logs.max())
    shares /= shares.sum()
    best = int(shares.argmax())
    told = ", ".join(f"{name} {share:.2f}" for name, share in zip(names, shares, strict=True))
    taken = results[names[best]]
    of_best = taken.population.equation.parameter_names
    same = all(r.population.equation.parameter_names == of_best for r in results.values())
    if shares[best] >= ALONE or not same:
        notes = [f"probability of each population: {told}; {names[best]} is used"]
        return replace(taken, notes=notes + taken.notes)
    counts = np.diff(np.r_[0, np.round(shares.cumsum() * len(taken.draws))]).astype(int)
    draws, noise, lows, highs = [], [], [], []
    for result, count in zip(results.values(), counts, strict=True):
        rows = torch.linspace(0, len(result.draws) - 1, int(count)).round().long()
        draws.append(result.posterior.draws[:, rows])
        noise.append(result.posterior.noise[:, rows])
        lows.append(torch.as_tensor(result.window[0]))
        highs.append(torch.as_tensor(result.window[1]))
    posterior = replace(taken.posterior, draws=torch.cat(draws, 1), noise=torch.cat(noise, 1))
    window = torch.stack(lows).amin(0), torch.stack(highs).amax(0)
    notes = [f"mixed by the evidence of the observations: {told}"]
    return replace(taken, posterior=posterior, window=window, notes=notes + taken.notes)
