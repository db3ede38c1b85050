"""A point that finds a goal it is not told: two-dimensional navigation of the MAML paper.

Finn et al. 2017, arXiv:1703.03400, section 5.3: the point starts at the centre, sees its place
alone, moves by at most 0.1 a step along each axis, and is paid minus its squared distance from the
goal; goals lie anywhere in the unit square around the start. A path ends within 0.01 of the goal,
or after 100 steps. With a sparse reward it is paid 1 once, within 0.1 of the goal, where it ends.
Made up, as every toy problem is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from matml.core.statistics import tidy_record
from matml.meta.layers import Linear
from matml.meta.policy import best_rate, returns_by_steps, stacked_paths, train_policy
from matml.meta.tasks import BoundModel, Parameters
from matml.meta.vectorised import Stacked

HORIZON, STEP, NEAR, FOUND = 100, 0.1, 0.01, 0.1
RATE = 0.1
"""Of the inner step, as in the paper's appendix."""
RATES = (0.1, 0.03, 0.01, 0.003, 0.001)
"""Of which each policy is given the one that suits it best, on goals of their own."""
LEAST_SPREAD = math.log(0.05)
METHODS = {
    "maml": "MAML",
    "fomaml": "FOMAML",
    "pretrained": "trained on all goals",
    "random": "random start",
}
PLAIN = "pretrained"
PUBLISHED = {"MAML": (-40.41, -11.68, -3.33, -3.23)}
"""Returns after 0, 1, 2 and 3 steps (table 2 of the paper's appendix)."""


class Policy(nn.Module):
    """Mean and logarithmic spread of the action at a place, in steps of 0.1."""

    stackable = True

    def __init__(self, width: int = 100) -> None:
        super().__init__()
        self.body = nn.Sequential(Linear(2, width), nn.ReLU(), Linear(width, width), nn.ReLU())
        self.head = Linear(width, 3)

    def forward(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean [..., 2] and logarithmic spread [..., 1] at places [..., 2]."""
        found = self.head(self.body(places))
        return found[..., :2], found[..., 2:].clamp(LEAST_SPREAD, 1.0)


@dataclass(frozen=True)
class Settings:
    """How a policy is trained: meta-batches, goals and paths of each, Adam's rate, seed, reward."""

    batches: int = 100
    goals: int = 20
    paths: int = 20
    learning_rate: float = 2e-3
    seed: int = 0
    sparse: bool = False


@dataclass(frozen=True)
class Square:
    """Goals [goals, 2] in the unit square around the start, and how many paths seek each."""

    goals: Tensor
    paths: int
    sparse: bool = False

    @classmethod
    def draw(cls, number: int, settings: Settings, generator: torch.Generator) -> "Square":
        """Return uniform goals."""
        goals = torch.rand(number, 2, generator=generator) - 0.5
        return cls(goals, settings.paths, settings.sparse)

    def __len__(self) -> int:
        """Return the number of goals."""
        return len(self.goals)

    @torch.no_grad()
    def walk(
        self, policy: nn.Module, weights: Parameters, generator: torch.Generator
    ) -> tuple[Stacked, Tensor]:
        """Let each goal's own policy walk; see `matml.meta.policy.World`."""
        model = BoundModel(policy, weights)
        place = torch.zeros(len(self), self.paths, 2)
        here = torch.ones(len(self), self.paths, dtype=torch.bool)
        seen, actions, rewards, alive = [], [], [], []
        for _ in range(HORIZON):
            mean, log_spread = model(place)
            noise = torch.randn(place.shape, generator=generator)
            action = mean + log_spread.exp() * noise
            seen.append(place)
            actions.append(action)
            alive.append(here)
            place = place + STEP * action.clamp(-1, 1)
            apart = place - self.goals[:, None]
            if self.sparse:
                there = apart.norm(dim=-1) < FOUND
                rewards.append(there.float() * here)
            else:
                there = (apart.abs() < NEAR).all(-1)
                rewards.append(-apart.square().sum(-1) * here)
            here = here & ~there
        return stacked_paths(seen, actions, rewards, alive)


def train(method: str, settings: Settings) -> nn.Module:
    """Return a policy trained by a method of `METHODS`; as it starts for `random`."""
    torch.manual_seed(settings.seed)
    policy = Policy()
    if method != "random":
        train_policy(
            policy,
            lambda generator: Square.draw(settings.goals, settings, generator),
            torch.Generator().manual_seed(settings.seed),
            rate=None if method == "pretrained" else RATE,
            second_order=method == "maml",
            batches=settings.batches,
            learning_rate=settings.learning_rate,
            title=METHODS[method],
        )
    return policy


def navigation(
    methods: Sequence[str], settings: Settings, *, goals: int = 100, steps: int = 3
) -> list[dict]:
    """Train each method; return tidy records of its returns on new goals by number of steps.

    `gain` is the return less that of the policy trained on all goals, where it is among them:
    paired by goal, with the 95 % interval of a bootstrap over goals, as all are.
    """
    generator = torch.Generator().manual_seed(settings.seed + 1_000_003)
    new, others = (Square.draw(goals, settings, generator) for _ in range(2))
    setting = "sparse navigation" if settings.sparse else "navigation"
    found = {}
    for name in methods:
        policy = train(name, settings)
        rate = best_rate(policy, others, steps, settings.seed + 7, RATES)
        walks = torch.Generator().manual_seed(settings.seed + 8)
        returns = returns_by_steps(policy, new, steps, walks, rate)
        found[name] = returns.double().numpy()
    records = []
    for name, gained in found.items():
        bases = {"return": np.zeros_like(gained)}
        if PLAIN in found:
            bases["gain"] = found[PLAIN]
        for metric, base in bases.items():
            for step, values in enumerate(gained - base):
                records.append(
                    tidy_record(
                        *("meta", setting, METHODS[name], metric, values),
                        shots=step,
                        is_default=False,
                        seed=settings.seed,
                    )
                )
    return records
