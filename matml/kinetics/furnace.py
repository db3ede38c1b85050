"""Heat treatment as an environment of gymnasium: an unknown alloy, a target, a few trials.

Needs gymnasium (`pip install "matml[rl]"`). Each episode is another alloy: drawn from a population,
or a measured one, whose points are the trials. What the agent sees is the last trial alone; it is
paid 1 for a hit, which ends the episode, and nothing else.

from matml.kinetics import Population
from matml.kinetics.furnace import FurnaceEnv

env = FurnaceEnv(Population.load("tempering"), "hardness_HRC = 45 +- 1")
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.core.errors import MatmlError
from matml.kinetics.data.batch import to_tasks
from matml.kinetics.data.observations import Observations
from matml.kinetics.data.units import ZERO_CELSIUS
from matml.kinetics.design.choose import constant_inputs
from matml.kinetics.inference.population import Population
from matml.kinetics.reach.furnace import Furnace
from matml.kinetics.reach.setting import wanted_values, window_of
from matml.kinetics.reach.target import Target

try:
    import gymnasium
except ImportError:
    raise MatmlError(
        "matml.kinetics.furnace needs gymnasium: python -m pip install 'matml[rl]'"
    ) from None

FARTHEST = 10.0
"""Of a value from the target, in widths of it: what is seen is cut there."""


class FurnaceEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One alloy an episode, whose treatment has to meet a target within a budget of trials.

    The action is a setting [2]: temperature and logarithm of the time, each from -1 to 1 over what
    the population has seen (or the furnace allows). The observation [5] is what the last trial was
    and gave: these two, the value's distance from the middle of the target in half widths of it,
    whether there was a trial, and the share of trials left. `info` names value and conditions.

    Parameters
    ----------
    population
        From which alloys are drawn, and which says what is measured and how it scatters.
    target
        Such as "hardness_HRC = 45 +- 1", with two ends.
    budget
        Trials of an episode.
    composition
        One row of a table of alloys: of all that are drawn. By default a typical one.
    measured
        Alloys that take the place of drawn ones, in a random order; a setting is moved to the
        nearest point that was not tried, so that an episode ends with its points.

    Raises
    ------
    MatmlError
        Where the target is of something else, or has one end; where a hold at a temperature is not
        what the population describes.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (gymnasium's own)

    def __init__(
        self,
        population: Population,
        target: str,
        budget: int = 6,
        composition: pd.DataFrame | None = None,
        measured: Observations | None = None,
        furnace: Furnace | None = None,
    ) -> None:
        wanted = Target.of(target)
        self.low, self.high = wanted_values(population, wanted)
        if not np.isfinite([wanted.low, wanted.high]).all():
            raise MatmlError(f"target {target!r}: has one end; give both, as in '45 +- 1'")
        self.population, self.budget, self.measured = population, budget, measured
        warm, long = window_of(population, furnace or Furnace())
        self._lowest, self._highest = (
            np.array([celsius + ZERO_CELSIUS, np.log10(second)])
            for celsius, second in zip(warm, long, strict=True)
        )
        self._alloys = pd.DataFrame([{"alloy": "drawn"}]) if composition is None else composition
        self._others = {}
        if measured is None:
            self._others = constant_inputs(
                population, self._alloys, None, {"temperature_K", "time_s"}
            )
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        most = np.array([1, 1, FARTHEST, 1, 1], np.float32)
        least = np.array([-1, -1, -FARTHEST, 0, 0], np.float32)
        self.observation_space = gymnasium.spaces.Box(least, most, dtype=np.float32)
        self._alloy: _Drawn | _Measured | None = None
        self._left = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin with another alloy; `options={"alloy": name}` names a measured one."""
        super().reset(seed=seed)
        self._left = self.budget
        number = int(self.np_random.integers(2**31))
        if self.measured is None:
            self._alloy = _Drawn.of(self, number)
        else:
            names = self.measured.names
            name = (options or {}).get("alloy", names[number % len(names)])
            if name not in names:
                raise MatmlError(f"alloy {name!r}: was not measured; there are {', '.join(names)}")
            self._alloy = _Measured.of(self, name)
        empty = np.array([0, 0, 0, 0, 1], np.float32)
        return empty, {"alloy": self._alloy.name}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Try a setting; returns observation, reward, whether it hit, whether trials ran out."""
        assert self._alloy is not None, "reset() comes first"
        scaled = np.clip(np.asarray(action, float), -1, 1)
        scaled, value = self._alloy.tried(scaled, self.np_random)
        self._left -= 1
        hit = bool(self.low <= value <= self.high)
        apart = (value - (self.low + self.high) / 2) / ((self.high - self.low) / 2)
        seen = np.array(
            [*scaled, np.clip(apart, -FARTHEST, FARTHEST), 1, self._left / self.budget], np.float32
        )
        ended = not hit and (self._left <= 0 or self._alloy.is_exhausted)
        kelvin, log_time = self._conditions(scaled)
        info = {"value": value, "temperature_K": kelvin, "time_s": 10**log_time}
        return seen, float(hit), hit, ended, info

    def _conditions(self, scaled: np.ndarray) -> tuple[float, float]:
        kelvin, log_time = self._lowest + (scaled + 1) / 2 * (self._highest - self._lowest)
        return float(kelvin), float(log_time)

    def _scaled(self, kelvin: np.ndarray, log_time: np.ndarray) -> np.ndarray:
        place = np.stack([kelvin, log_time], -1)
        return 2 * (place - self._lowest) / (self._highest - self._lowest) - 1


class _Drawn:
    """An alloy drawn from the population."""

    name, is_exhausted = "drawn", False

    def __init__(self, env: FurnaceEnv, parameters: Tensor) -> None:
        self._env, self._parameters = env, parameters

    @classmethod
    def of(cls, env: FurnaceEnv, seed: int) -> "_Drawn":
        """Draw its parameters."""
        generator = torch.Generator().manual_seed(seed)
        priors = env.population.prior.of(env._alloys, like_the_learned=True)
        chances = priors.log_probabilities.exp().mean(0)
        number = int(torch.multinomial(chances, 1, generator=generator))
        mean, covariance = priors.component(number)
        normal = torch.randn(mean.shape[1], generator=generator, dtype=mean.dtype)
        return cls(env, mean[0] + torch.linalg.cholesky(covariance)[0] @ normal)

    def tried(self, scaled: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, float]:
        """Return the setting, and what was measured, on the scale that is compared."""
        population = self._env.population
        kelvin, log_time = self._env._conditions(scaled)
        given = {"temperature_K": kelvin, "time_s": 10**log_time} | self._env._others
        if (reference := population.reference_temperature_K) is not None:
            given["reference_temperature_K"] = reference
        columns = {name: torch.tensor([x], dtype=torch.float64) for name, x in given.items()}
        with torch.no_grad():
            found = population.equation.predict(
                population.kind, self._parameters[None, None], columns
            )
        low, high = population.prior.window
        value = float(np.clip(float(found.flatten()[0]), low, high))
        return scaled, value + population.prior.prior.noise * float(random.standard_normal())


class _Measured:
    """A measured alloy: a trial is one of its points."""

    def __init__(self, env: FurnaceEnv, name: str, points: np.ndarray, values: np.ndarray) -> None:
        self.name, self._points, self._values = name, points, values
        self._free = np.ones(len(values), bool)

    @classmethod
    def of(cls, env: FurnaceEnv, name: str) -> "_Measured":
        """Return one of the environment's alloys."""
        assert env.measured is not None
        own = env.measured.select([name])
        population = env.population
        columns = to_tasks(own, population.equation, population.reference_temperature_K).columns
        kelvin, second = (columns[n][0].numpy() for n in ("temperature_K", "time_s"))
        values = columns["target"][0].numpy()
        return cls(env, name, env._scaled(kelvin, np.log10(second)).clip(-1, 1), values)

    @property
    def is_exhausted(self) -> bool:
        """Whether all points were tried."""
        return not self._free.any()

    def tried(self, scaled: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, float]:
        """Return the nearest point that was not tried, and what was measured there."""
        apart = np.square(self._points - scaled).sum(1)
        place = int(np.where(self._free, apart, np.inf).argmin())
        self._free[place] = False
        return self._points[place], float(self._values[place])
