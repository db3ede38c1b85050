"""How alloys stray from the curves that their prior predicts, learned from training alloys.

Each is predicted without its composition group (`learn_conditioned_prior`); covariances, noise and
the probabilities of the scales are the most probable given a few observations of each at a time, as
a search for a target has them.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from matml.bayes.task_prior import TaskPriors, learn_conditioned_prior
from matml.bayes.tasks import Columns, Tasks
from matml.kinetics.data.batch import Features
from matml.kinetics.equations import Equation
from matml.kinetics.inference.population import TrainingAlloys
from matml.kinetics.reach.belief import Belief, Spread

SCALES = (0.1, 0.3, 1.0, 3.0)
DRAWS, SUBSETS, SIZE, STEPS, RATE = 200, 10, 5, 150, 0.05
SHARPER = (0.6, 0.7, 0.8, 0.9, 1.0)
"""Factors of all standard deviations that are tried for the chances of hits."""


def curves_of(
    equation: Equation, kind: str, priors: TaskPriors, given: Columns, seed: int, draws: int = DRAWS
) -> tuple[Tensor, Tensor]:
    """Return the expected curves [B, N] and draws of them [B, S, N] before anything is measured."""
    generator = torch.Generator().manual_seed(seed)
    parts, left, share = [], draws, priors.log_probabilities.exp().mean(0)
    for number in range(len(share)):
        mean, covariance = priors.component(number)
        count = left if number == len(share) - 1 else round(draws * float(share[number]))
        shape = len(mean), count, mean.shape[1]
        normal = torch.randn(shape, generator=generator, dtype=mean.dtype)
        parts.append(mean[:, None] + normal @ torch.linalg.cholesky(covariance).mT)
        left -= count
    drawn = torch.cat(parts, 1)
    inputs = {name: column[:, None] for name, column in given.items()}
    with torch.no_grad():
        curves = equation.predict(kind, drawn[:, :, None], inputs)
        centre = equation.predict(kind, priors.mean[:, None, None], inputs)[:, 0]
    return centre, curves


def predicted_by_others(
    training: TrainingAlloys, pseudo_tasks: float, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what other composition groups predict of each training alloy.

    Standardised parameters [B, P], the expected curves [B, N] and draws of them [B, S, N].
    """
    alloys, kind = training.observations.alloys, training.observations.kind
    gaussian = training.gaussian
    _, priors = learn_conditioned_prior(
        gaussian.fit.position,
        gaussian.fit.covariance,
        Features.learn(alloys).of(alloys),
        alloys["composition_group"].tolist(),
        gaussian.prior.noise,
        pseudo_tasks=pseudo_tasks,
    )
    centre, curves = curves_of(training.equation, kind, priors, training.tasks.columns, seed)
    return priors.mean, centre, curves


def learn_spread(training: TrainingAlloys, noise: float, pseudo_tasks: float, seed: int) -> Spread:
    """Return the spread of training alloys around their predictions by other composition groups.

    `noise` is that of the population, whose multiples the result is in.
    """
    tasks = training.tasks
    _, centre, curves = predicted_by_others(training, pseudo_tasks, seed)
    spread = _most_probable(tasks, centre, curves, noise, seed)
    return _sharpened(spread, tasks, centre, curves, noise)


def beliefs(
    spread: Spread, tasks: Tasks, centre: Tensor, curves: Tensor, noise: float
) -> list[Belief]:
    """Return the belief of each task at its own conditions."""
    found = []
    for row, count in enumerate(tasks.counts()):
        kelvin, second = (tasks.columns[n][row, :count] for n in ("temperature_K", "time_s"))
        departures = noise**2 * spread.covariance(kelvin, second.log10())
        own = centre[row, :count], curves[row, :, :count]
        found.append(Belief(*own, departures, spread.noise * noise, spread))
    return found


def _most_probable(tasks: Tasks, centre: Tensor, curves: Tensor, noise: float, seed: int) -> Spread:
    random = np.random.default_rng([seed, 21])
    covariances = torch.stack([torch.cov(own.mT) for own in curves]) / noise**2
    rows = np.repeat(np.arange(len(tasks)), SUBSETS)
    picks = [random.permutation(tasks.counts()[row])[:SIZE] for row in rows]
    enough = [i for i, pick in enumerate(picks) if len(pick) == SIZE]
    row = torch.from_numpy(rows[enough])[:, None]
    pick = torch.from_numpy(np.stack([picks[i] for i in enough]))
    residual = (tasks.columns["target"] - centre)[row, pick] / noise
    kelvin, log_time = tasks.columns["temperature_K"][row, pick], tasks.columns["time_s"].log10()
    log_time, own = log_time[row, pick], covariances[row[..., None], pick[..., None], pick[:, None]]
    start = [0.3, 1.0, 1.5, 0.5, 120.0, 1.5]
    logs = torch.tensor(start, dtype=torch.float64).log().requires_grad_()
    weights = torch.zeros(len(SCALES), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([logs, weights], RATE)
    eye = torch.eye(SIZE, dtype=torch.float64)
    for _ in range(STEPS):
        # tensors stand for the numbers while these are sought
        share, common, local, error, length, decades = logs.exp()
        shape = Spread(temperature_K=length, decades=decades, common=common, local=local)  # type: ignore[arg-type]
        total = share * own + shape.covariance(kelvin, log_time)
        densities = []
        for scale in SCALES:
            factor = torch.linalg.cholesky(scale * total + error.square() * eye)
            white = torch.linalg.solve_triangular(factor, residual[..., None], upper=False)
            logdet = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            densities.append(-white.square().sum((1, 2)) / 2 - logdet)
        mixed = torch.stack(densities, -1) + torch.log_softmax(weights, 0)
        loss = -torch.logsumexp(mixed, -1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    share, common, local, error, length, decades = logs.detach().exp().tolist()
    chances = tuple(torch.softmax(weights.detach(), 0).tolist())
    return Spread(share, common, local, error, length, decades, SCALES, chances)


def _sharpened(
    spread: Spread, tasks: Tasks, centre: Tensor, curves: Tensor, noise: float
) -> Spread:
    """Return the spread with the factor that makes first trials' chances most probable."""
    measured = tasks.columns["target"][tasks.mask > 0]
    targets = measured.quantile(torch.linspace(0.1, 0.9, 9, dtype=measured.dtype)).tolist()

    def score(factor: float) -> float:
        tried, total = scaled(spread, factor), 0.0
        for row, belief in enumerate(beliefs(tried, tasks, centre, curves, noise)):
            outlook, value = belief.given([], []), tasks.columns["target"][row]
            for target in targets:
                chance = outlook.chance(target - noise, target + noise).clamp(1e-6, 1 - 1e-6)
                at = int(chance.argmax())
                hit = abs(float(value[at]) - target) <= noise
                total += math.log(float(chance[at] if hit else 1 - chance[at]))
        return total

    return scaled(spread, max(SHARPER, key=score))


def scaled(spread: Spread, factor: float) -> Spread:
    """Return the spread with all standard deviations times a factor."""
    return replace(
        spread,
        share=factor**2 * spread.share,
        common=factor * spread.common,
        local=factor * spread.local,
        noise=factor * spread.noise,
    )
