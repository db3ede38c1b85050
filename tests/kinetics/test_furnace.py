"""An alloy nobody knows in a furnace, as an environment of gymnasium."""

import numpy as np
import pandas as pd
import pytest
from gymnasium.utils.env_checker import check_env

from matml.core.errors import MatmlError
from matml.kinetics import Population
from matml.kinetics.data.observations import observations_of
from matml.kinetics.furnace import FurnaceEnv
from matml.kinetics.reach.furnace import Furnace

TARGET = "hardness_HRC = 45 +- 1"


@pytest.fixture(scope="module")
def tempering():
    return Population.load("tempering")


@pytest.fixture
def env(tempering):
    return FurnaceEnv(tempering, TARGET)


def test_it_is_an_environment_of_gymnasium(env):
    check_env(env, skip_render_check=True)


def test_alloys_differ_and_come_again_with_their_seed(env):
    def hardness(seed):
        env.reset(seed=seed)
        return [env.step(np.zeros(2))[-1]["value"] for _ in range(3)]

    assert hardness(1) == hardness(1)
    assert abs(np.mean(hardness(1)) - np.mean(hardness(2))) > 0.01
    # the same setting scatters about one value
    assert np.std(hardness(1)) < np.std([np.mean(hardness(seed)) for seed in range(12)])


def test_a_hotter_longer_hold_softens_and_a_hit_ends_the_episode(env):
    env.reset(seed=0)
    soft = env.step(np.array([1.0, 1.0]))[-1]["value"]
    hard = env.step(np.array([-1.0, -1.0]))[-1]["value"]
    assert soft < hard
    hits = 0
    for seed in range(40):
        _, info = env.reset(seed=seed)
        assert info["alloy"] == "drawn"
        for trial in range(env.budget):
            seen, reward, hit, ended, info = env.step(np.array([-0.4 + 0.2 * trial, 0.0]))
            assert reward == hit == (44 <= info["value"] <= 46)
            assert ended == (not hit and trial == env.budget - 1)
            assert seen[4] == pytest.approx(1 - (trial + 1) / env.budget)
            if hit or ended:
                break
        hits += hit
    assert 0 < hits < 40


def test_a_measured_steel_gives_its_points_each_once(tempering):
    frame = pd.DataFrame(
        {
            "alloy": "A",
            "temperature_C": [300, 400, 500],
            "time_h": [1.0, 1.0, 1.0],
            "hardness_HRC": [52.0, 45.5, 38.0],
        }
    )
    steels = observations_of(frame, pd.DataFrame([{"alloy": "A"}]))
    env = FurnaceEnv(tempering, TARGET, measured=steels)
    _, info = env.reset(seed=0)
    assert info["alloy"] == "A"
    *_, hit, ended, info = env.step(np.array([-1.0, 0.0]))
    assert (info["value"], hit, ended) == (52.0, False, False)
    *_, hit, ended, info = env.step(np.array([-1.0, 0.0]))
    assert (info["value"], hit, ended) == (45.5, True, False)
    assert info["temperature_K"] == pytest.approx(673.15)
    env = FurnaceEnv(tempering, "hardness_HRC = 60 +- 1", measured=steels)
    env.reset(seed=0, options={"alloy": "A"})
    assert [env.step(np.zeros(2))[3] for _ in range(3)] == [False, False, True]
    with pytest.raises(MatmlError, match="was not measured; there are A"):
        env.reset(options={"alloy": "B"})


def test_what_cannot_be_is_refused(tempering):
    for target, reason in (
        ("hardness_HRC >= 45", "has one end"),
        ("fraction_transformed = 0.9 +- 0.05", "the population is of hardness_HRC"),
    ):
        with pytest.raises(MatmlError, match=reason):
            FurnaceEnv(tempering, target)
    cold = FurnaceEnv(tempering, TARGET, furnace=Furnace(highest_C=400.0))
    cold.reset(seed=0)
    assert cold.step(np.ones(2))[-1]["temperature_K"] == pytest.approx(673.15)
