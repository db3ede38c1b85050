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

from matml.core.parallel import heartbeat
from matml.core.statistics import tidy_record
from matml.meta.inner.gradient import Diverged, GradientSteps
from matml.meta.layers import Linear
from matml.meta.outer import MAML
from matml.meta.policy import advantages_of, policy_loss
from matml.meta.tasks import BoundModel, Parameters
from matml.meta.vectorised import (
    TENSORS,
    Stacked,
    accumulate_meta_gradient_many,
    adapt_many,
    gradients_of_many,
    repeat_weights,
)

HORIZON, STEP, NEAR, FOUND = 100, 0.1, 0.01, 0.1
RATE, LATER = 0.1, 0.5
"""Of inner steps, and the part of it for later ones, as in the paper's appendix."""
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


def draw_goals(number: int, generator: torch.Generator) -> Tensor:
    """Return goals [number, 2], uniform in the unit square around the start."""
    return torch.rand(number, 2, generator=generator) - 0.5


@torch.no_grad()
def walk(
    policy: nn.Module,
    weights: Parameters,
    goals: Tensor,
    paths: int,
    generator: torch.Generator,
    sparse: bool = False,
) -> tuple[Stacked, Tensor]:
    """Let each goal's own policy walk; return what it did, for `policy_loss`, and mean returns.

    Parameters
    ----------
    weights
        [goals, ...] each.
    """
    model = BoundModel(policy, weights)
    place = torch.zeros(len(goals), paths, 2)
    here = torch.ones(len(goals), paths, dtype=torch.bool)
    seen, actions, rewards, alive = [], [], [], []
    for _ in range(HORIZON):
        mean, log_spread = model(place)
        noise = torch.randn(place.shape, generator=generator)
        action = mean + log_spread.exp() * noise
        seen.append(place)
        actions.append(action)
        alive.append(here)
        place = place + STEP * action.clamp(-1, 1)
        apart = place - goals[:, None]
        there = apart.norm(dim=-1) < FOUND if sparse else (apart.abs() < NEAR).all(-1)
        rewards.append((there.float() if sparse else -apart.square().sum(-1)) * here)
        here = here & ~there
    observations, done, paid, on = (torch.stack(x, 2) for x in (seen, actions, rewards, alive))
    gained = advantages_of(observations, paid, on)
    data = observations.flatten(1, 2), done.flatten(1, 2), gained.flatten(1, 2)
    return {str(i): part for i, part in enumerate(data)}, paid.sum(2).mean(1)


def train(method: str, settings: Settings) -> nn.Module:
    """Return a policy trained by a method of `METHODS`; as it starts for `random`."""
    torch.manual_seed(settings.seed)
    policy = Policy()
    if method == "random":
        return policy
    generator = torch.Generator().manual_seed(settings.seed)
    steps = 0 if method == "pretrained" else 1
    inner = GradientSteps(policy, steps=steps, learning_rate=RATE)
    rule = MAML(second_order=method == "maml")
    optimiser = torch.optim.Adam(policy.parameters(), lr=settings.learning_rate)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.batches)
    how = settings.paths, generator, settings.sparse
    told = {"batch": 0, "return": math.nan}
    with heartbeat(lambda: f"{METHODS[method]}: batch {told['batch']} of {settings.batches}, "
                   f"return {told['return']:.1f}"):  # fmt: skip
        for batch in range(settings.batches):
            goals = draw_goals(settings.goals, generator)
            start = repeat_weights(dict(policy.named_parameters()), settings.goals)
            start = {name: weight.detach() for name, weight in start.items()}
            supports, _ = walk(policy, start, goals, *how)
            adapted = adapt_many(inner, policy, policy_loss, supports, TENSORS.rebuild)
            queries, gained = walk(policy, adapted, goals, *how)
            optimiser.zero_grad()
            accumulate_meta_gradient_many(
                policy, policy_loss, inner, rule, supports, queries, TENSORS.rebuild
            )
            optimiser.step()
            rate.step()
            told |= {"batch": batch + 1, "return": gained.mean().item()}
    return policy


def returns_by_steps(
    policy: nn.Module, goals: Tensor, steps: int, settings: Settings, seed: int, rate: float = RATE
) -> Tensor:
    """Return the mean returns after 0, 1, …, `steps` policy-gradient steps, [steps + 1, goals]."""
    generator = torch.Generator().manual_seed(seed)
    how = settings.paths, generator, settings.sparse
    weights = repeat_weights(dict(policy.named_parameters()), len(goals))
    weights = {name: weight.detach() for name, weight in weights.items()}
    found = []
    for step in range(steps + 1):
        data, gained = walk(policy, weights, goals, *how)
        found.append(gained)
        names, own = list(weights), rate * (LATER if step else 1)
        slope, _ = gradients_of_many(policy, policy_loss, weights, data, TENSORS.rebuild, names)
        weights = {name: weights[name] - own * slope[name] for name in names}
    return torch.stack(found)


def _best_rate(policy: nn.Module, goals: Tensor, steps: int, settings: Settings) -> float:
    """Return the step size of `RATES` with the highest returns after any of the steps."""

    def gained(rate: float) -> float:
        try:
            found = returns_by_steps(policy, goals, steps, settings, settings.seed + 7, rate)
        except Diverged:
            return -math.inf
        return float(found[1:].mean())

    return max(RATES, key=gained)


def navigation(
    methods: Sequence[str], settings: Settings, *, goals: int = 100, steps: int = 3
) -> list[dict]:
    """Train each method; return tidy records of its returns on new goals by number of steps.

    `gain` is the return less that of the policy trained on all goals, where it is among them:
    paired by goal, with the 95 % interval of a bootstrap over goals, as all are.
    """
    generator = torch.Generator().manual_seed(settings.seed + 1_000_003)
    new, others = draw_goals(goals, generator), draw_goals(goals, generator)
    setting = "sparse navigation" if settings.sparse else "navigation"
    found = {}
    for name in methods:
        policy = train(name, settings)
        rate = _best_rate(policy, others, steps, settings)
        returns = returns_by_steps(policy, new, steps, settings, settings.seed + 8, rate)
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
