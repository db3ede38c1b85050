"""Policy gradients as a loss: exact where the expected return is known, and a point that learns."""

import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from matml.cli.meta import meta
from matml.core.errors import MatmlError
from matml.meta.inner.gradient import GradientSteps
from matml.meta.outer import MAML
from matml.meta.policy import advantages_of, policy_loss
from matml.meta.tasks import Task
from matml.studies.navigation import Policy, Settings, Square, navigation

SPREAD, RATE = 0.7, 0.1


class Bandit(nn.Module):
    """A normal action of fixed spread, whose mean is the only weight."""

    def __init__(self, mean):
        super().__init__()
        self.mean = nn.Parameter(torch.tensor([mean], dtype=torch.float64))

    def forward(self, observations):
        spread = torch.full_like(observations, math.log(SPREAD))
        return self.mean.expand_as(observations), spread


def what_it_did(mean, goal):
    """All of a bandit's actions, by quadrature: means over these are expectations.

    Rewards are minus the fourth power of the distance from the goal.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    actions = torch.tensor(mean + SPREAD * nodes)[:, None]
    share = torch.tensor(weights / weights.sum())
    rewards = -((actions[:, 0] - goal) ** 4)
    return torch.zeros_like(actions), actions, len(nodes) * share * rewards


def expected(mean, goal):
    """Minus the expected return, differentiable."""
    apart = mean - goal
    return apart**4 + 6 * apart**2 * SPREAD**2 + 3 * SPREAD**4


def test_first_and_second_derivatives_are_those_of_the_expected_return():
    policy, mean = Bandit(0.3), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    loss = policy_loss(policy, what_it_did(0.3, 1.0))
    exact = expected(mean, 1.0)
    assert loss.item() == pytest.approx(exact.item())
    for _ in range(2):
        [loss] = torch.autograd.grad(loss.sum(), policy.mean, create_graph=True)
        [exact] = torch.autograd.grad(exact, mean, create_graph=True)
        assert loss.item() == pytest.approx(exact.item())


def test_the_meta_gradient_goes_through_what_the_policy_will_meet():
    start, goal = 0.3, 1.0
    policy = Bandit(start)
    inner = GradientSteps(policy, steps=1, learning_rate=RATE)
    support = what_it_did(start, goal)
    adapted = float(inner.adapt(policy, policy_loss, support).parameters["mean"].detach())
    task = Task("bandit", support, what_it_did(adapted, goal))
    MAML().backward(policy, policy_loss, inner, task, 1.0)
    mean = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    [slope] = torch.autograd.grad(expected(mean, goal), mean, create_graph=True)
    expected(mean - RATE * slope, goal).backward()
    assert float(policy.mean.grad) == pytest.approx(float(mean.grad))
    # first order leaves the curvature out
    policy.mean.grad = None
    MAML(second_order=False).backward(policy, policy_loss, inner, task, 1.0)
    assert float(policy.mean.grad) != pytest.approx(float(mean.grad), rel=0.1)


def test_advantages_are_above_what_place_and_time_explain():
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(2, 5, 30, 2, generator=generator)
    alive = torch.ones(2, 5, 30, dtype=torch.bool)
    alive[0, 0, 12:] = False
    gained = advantages_of(places, torch.rand(2, 5, 30, generator=generator) * alive, alive)
    assert (gained[0, 0, 12:] == 0).all()
    for own, seen in zip(gained, alive, strict=True):
        assert float(own[seen].mean()) == pytest.approx(0, abs=1e-5)
        assert float(own[seen].std(correction=0)) == pytest.approx(1, rel=1e-4)


def test_a_path_ends_at_its_goal_and_is_paid_by_its_distance(monkeypatch):
    monkeypatch.setattr("matml.studies.navigation.LEAST_SPREAD", -9.0)
    policy = Policy(4)
    with torch.no_grad():
        policy.head.weight.zero_()
        policy.head.bias.copy_(torch.tensor([0.5, 0.0, -9.0]))
    weights = {name: w.detach()[None] for name, w in policy.named_parameters()}
    world = Square(torch.tensor([[0.2, 0.0]]), 8)
    data, gained = world.walk(policy, weights, torch.Generator().manual_seed(0))
    # half a step a time: four moves, at squared distances of .15, .1, .05 and nothing
    assert float(gained) == pytest.approx(-0.035, abs=0.01)
    assert int((data["2"] != 0).sum()) == 8 * 4


def test_a_meta_learned_policy_finds_goals_after_one_step():
    settings = Settings(batches=30, goals=10, paths=10, seed=1)
    records = navigation(["maml", "random"], settings, goals=20, steps=1)
    found = {(record["method"], record["shots"]): record["value"] for record in records}
    assert {record["metric"] for record in records} == {"return"}
    assert found["MAML", 1] > found["MAML", 0] + 3
    assert found["MAML", 1] > found["random start", 1] / 2
    with pytest.raises(MatmlError, match="must be one of maml, fomaml"):
        CliRunner().invoke(meta, ["navigation", "--method", "x"], catch_exceptions=False)
