"""What the times of measured fractions tell: density, oracle by quadrature, learned or left."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from matml.bayes.importance_sampling import sample_posterior
from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Tasks
from matml.kinetics.data.batch import residual_function
from matml.kinetics.equations import equation_named
from matml.kinetics.inference.composition_prior import CompositionPrior, learn_composition_prior
from matml.kinetics.inference.informative_times import Timing
from matml.kinetics.inference.population import generic_prior, learn_gaussian

JMAK = equation_named("jmak")


def columns_at(times, kelvin=900.0):
    time = torch.as_tensor(times, dtype=torch.float64)
    return {
        "temperature_K": torch.full_like(time, kelvin),
        "reference_temperature_K": torch.full_like(time, 900.0),
        "time_s": time,
    }


def test_density_of_times_integrates_to_one():
    timing = Timing(JMAK, 0.7, math.log(1e8))
    grid = torch.linspace(math.log(1e-2), math.log(1e6), 20_001, dtype=torch.float64)
    density = timing(JMAK.start(), columns_at(grid.exp())).exp()
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1.0, abs=1e-4)
    # on a ramp the time was not chosen
    ramp = columns_at([10.0, 10.0]) | {"start_temperature_K": torch.tensor([300.0, 900.0]).double()}
    value = timing(JMAK.start(), ramp)
    assert value[0] == 0
    assert value[1] != 0
    # offsets of runs behind the equation's own parameters
    longer = torch.cat([JMAK.start(), torch.ones(2).double()])
    held = columns_at([10.0])
    torch.testing.assert_close(timing(longer, held), timing(JMAK.start(), held))


def test_draws_agree_with_quadrature():
    """One fraction at the reference temperature: half time and exponent on a grid."""
    timing = Timing(JMAK, 0.9, math.log(1e6))
    one = torch.ones(1, 1, dtype=torch.float64)
    data = columns_at([[60.0]]) | {"target": 0.3 * one}
    # the activation energy does nothing at the reference temperature
    priors = TaskPriors(
        torch.zeros(1, 3).double(), 0.6 * torch.eye(3).double(), one, one[0], 0.05, 1e6
    )
    residual = residual_function(JMAK, "fraction")
    axis = torch.linspace(-5, 5, 801, dtype=torch.float64)
    half, exponent = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack([half, torch.zeros_like(half), exponent], -1)
    columns = {name: column[0] for name, column in data.items()}
    fit = residual(grid, columns).square() / 0.05**2 + grid.square().sum(-1) / 0.6
    means = {}
    for design in (None, timing):
        log_density = -fit / 2 if design is None else -fit / 2 + design(grid, columns)
        weight = (log_density - log_density.max()).exp()
        expected = torch.stack([(weight * a).sum() for a in (half, exponent)]) / weight.sum()
        drawn = sample_posterior(
            Tasks.of(residual, data),
            replace(priors, log_design=design),
            draws=4000,
            proposals=40_000,
        ).draws[0, :, [0, 2]]
        torch.testing.assert_close(drawn.mean(0), expected, atol=0.03, rtol=0)
        means[design is None] = float(expected[1])
    # times as given leave flat curves more room: that is what the density corrects
    assert means[False] > means[True] + 0.1


def made_up(count, informative, seed=0):
    """Fractions of made-up alloys at times around their half times, or anywhere at all."""
    generator = np.random.default_rng(seed)
    truth = torch.from_numpy(0.8 * generator.normal(size=(count, 3)))
    shape = (count, 12)
    columns = columns_at(np.ones(shape))
    columns["temperature_K"] = torch.from_numpy(generator.uniform(860, 940, shape))
    aimed = torch.from_numpy(generator.uniform(0.05, 0.95, shape))
    time = 10 ** JMAK.predict("ttt", truth[:, None], columns | {"fraction": aimed})
    anywhere = torch.from_numpy(10 ** generator.uniform(-2, 6, shape))
    columns["time_s"] = time if informative else anywhere
    clean = JMAK.predict("fraction", truth[:, None], columns)
    columns["target"] = clean + torch.from_numpy(0.03 * generator.normal(size=shape))
    return truth, Tasks.of(residual_function(JMAK, "fraction"), columns)


def test_times_are_used_where_training_alloys_say_so():
    for informative in (True, False):
        truth, tasks = made_up(40, informative)
        known, new = tasks[:20], tasks[14:]
        gaussian = learn_gaussian(known, generic_prior(JMAK, "fraction"), 2.0, 14)
        names = [f"alloy {i}" for i in range(20)]
        alloys = pd.DataFrame({"alloy": names, "composition_group": names})
        learned = learn_composition_prior(JMAK, "fraction", known, gaussian, alloys, 2.0, 0)
        assert (learned.prior.log_design is not None) == informative
        again = CompositionPrior.from_record(
            learned.to_record(), JMAK, "fraction", {"composition_groups": 4}
        )
        assert again.prior.log_design == learned.prior.log_design
    # times anywhere: taking them for chosen ones would mislead
    few = new.pick(torch.arange(26), torch.arange(3).expand(26, 3))
    unknown = torch.zeros(26, 0, dtype=torch.float64)
    error = {}
    for design in (None, Timing(JMAK, 0.95, math.log(1e8))):
        posterior = sample_posterior(few, replace(learned.prior.of(unknown), log_design=design))
        error[design is None] = float((posterior.draws.mean(1) - truth[14:]).square().mean())
    assert error[True] < error[False]
