"""Policies on the furnace, many steels at once: the world of gymnasium's, and what they learn."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from matml.kinetics import Population
from matml.kinetics.data.observations import Observations, observations_of
from matml.kinetics.furnace import FurnaceEnv
from matml.kinetics.reach import spread, study
from matml.kinetics.reach.study import BUDGET, OURS, REFERENCE, score_policies
from matml.kinetics.settings import KineticsSection
from matml.meta.policy import weights_of_each
from matml.studies import furnace
from matml.studies.furnace import (
    LEARNED,
    ORDINARY,
    PLANNED,
    STEPS,
    Settings,
    Steels,
    score,
    summarise,
    train,
)

KINETICS = KineticsSection(folds=2)
PLACES = [(celsius, hour) for celsius in (200, 300, 400, 500, 600) for hour in (0.5, 4.0)]


@pytest.fixture(scope="module")
def population() -> Population:
    return Population.load("tempering")


@pytest.fixture(scope="module")
def steels(population: Population) -> Observations:
    """Eight simulated steels, softer the hotter and the longer: parameters vary from the mean."""
    random = np.random.default_rng(0)
    alloys = pd.DataFrame({"alloy": [f"A{i}" for i in range(8)], "C": random.uniform(0.2, 0.8, 8)})
    rows = []
    for name, carbon in alloys.itertuples(index=False):
        fast = random.normal(0, 0.4)
        for celsius, hour in PLACES:
            work = (celsius + 273.15) / 1000 * (20 + np.log10(hour) + fast)
            value = 35 + 35 * carbon - 3.0 * (work - 9.5) + random.normal(0, 0.4)
            rows.append((name, celsius, hour, round(value, 1)))
    heads = ["alloy", "temperature_C", "time_h", "hardness_HRC"]
    return observations_of(pd.DataFrame(rows, columns=heads), alloys)


@pytest.fixture
def one_fold(monkeypatch, steels, population):
    """One fold, target and step size, and a short search for sizes, made once for both tables."""
    for place, name, value in (
        (study, "EVERY", 40.0),
        (spread, "STEPS", 10),
        (furnace, "RATES", (0.003,)),
    ):
        monkeypatch.setattr(place, name, value)
    split = next(study.splits(steels, population.equation, KINETICS, 0))
    known = list(study.cases(split, KINETICS, 0))
    for place in (study, furnace):
        monkeypatch.setattr(place, "splits", lambda *_: [split])
        monkeypatch.setattr(place, "cases", lambda *_: known)


class Fixed(nn.Module):
    """A policy that always wants the same setting."""

    stackable = True

    def __init__(self, setting: list[float]) -> None:
        super().__init__()
        self.setting = nn.Parameter(torch.tensor(setting))

    def forward(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = self.setting.reshape(-1, 1, 2).expand(*seen.shape[:-1], 2)
        return mean, torch.zeros_like(mean)


def test_many_steels_at_once_give_what_the_environment_gives(population, steels):
    target = "hardness_HRC = 40 +- 1"
    env = FurnaceEnv(population, target, measured=steels)
    setting = [0.2, -0.3]
    places, values, needed = [], [], []
    for name in steels.names:
        env.reset(seed=0, options={"alloy": name})
        places.append(torch.tensor(env._alloy._points).float())
        values.append(torch.tensor(env._alloy._values).float())
        hit, ended, trial = False, False, 0
        while not (hit or ended):
            _, _, hit, ended, _ = env.step(np.array(setting))
            trial += 1
        needed.append(trial if hit else BUDGET + 1)
    world = Steels(
        torch.stack(places), torch.stack(values), torch.ones(8, len(PLACES), dtype=torch.bool),
        torch.zeros(8, 1), torch.full((8,), 40.0), 0.0, 1.0, 1, trials=1, spreads=False,
    )  # fmt: skip
    policy = Fixed(setting)
    weights = weights_of_each(policy, 8)
    data, found = world.tried(policy, weights, torch.Generator().manual_seed(0))
    assert found[:, 0].tolist() == needed
    assert min(needed) <= BUDGET < max(needed)
    # what the policy saw last of the last steel, but for its target, is what the environment told
    views = data["0"][-1]
    alive = (data["2"][-1] != 0).sum()
    before = views[min(int(needed[-1]), BUDGET) - 1]
    assert before[3] == float(needed[-1] > 1)
    assert alive <= BUDGET
    # with all of the past in view, the last trial comes first
    longer = replace(world, trials=3)
    views = longer.tried(policy, weights, torch.Generator())[0]["0"][-1]
    torch.testing.assert_close(views[3, 4:12], views[2, 0:8])


def test_policies_learn_of_drawn_steels_and_stand_beside_planning(steels, population, one_fold):
    settings = Settings(batches=3, tasks=4, episodes=4, draws=2)
    scores = score(steels, population.equation, KINETICS, settings, 0)
    assert set(scores["policy"]) == {*PLANNED, *LEARNED}
    cases = scores.groupby(["policy", "steps"], dropna=False).size()
    assert cases.min() == cases.max() > 1
    assert scores["trials"].between(1, BUDGET + 1).all()
    records = summarise(scores, 0)
    found = {(r["setting"], r["method"], r["metric"], r["shots"]): r for r in records}
    assert found["first search", OURS, "trials_minus_planning", 0]["value"] == 0
    random, planned = (found["first search", name, "trials", 0] for name in ("random", OURS))
    assert planned["value"] < random["value"]
    assert ("adapted", "MAML", "trials_minus_ordinary", STEPS) in found
    # the same cases and trials as in the benchmark of planning
    table, _ = score_policies(steels, population.equation, KINETICS, 1.0, 0)
    table = table[table["spares"] == "trials"]
    for name in (REFERENCE, OURS, "random"):
        own = table[table["policy"] == name].set_index(["alloy", "target"])["trials"]
        same = scores[scores["policy"] == name].set_index(["alloy", "target"])["trials"]
        pd.testing.assert_series_equal(own.astype(float), same.loc[own.index])


def test_an_ordinary_policy_learns_where_targets_are_met(monkeypatch):
    """Values fall along the first setting: where a target lies is told by the target."""
    generator = torch.Generator().manual_seed(0)
    places = 2 * torch.rand(200, 12, 2, generator=generator) - 1
    target = 3 * (2 * torch.rand(200, generator=generator) - 1)
    values = -4 * places[..., 0]
    values[:, 0] = target
    places[:, 0, 0] = -target / 4
    drawn = Steels(
        places, values, torch.ones(200, 12, dtype=torch.bool), target[:, None], target, 0.0, 0.5, 8
    )
    monkeypatch.setattr(furnace, "LEARNED", {ORDINARY: LEARNED[ORDINARY]})
    before, after = (
        train(drawn, Settings(batches=batches, tasks=16), 0)[ORDINARY] for batches in (3, 150)
    )
    likeliest = replace(drawn, spreads=False, episodes=1)
    first, last = (
        likeliest.tried(policy, weights_of_each(policy, 200), torch.Generator())[1].mean()
        for policy in (before, after)
    )
    assert last < first - 0.4
