"""Learners of volatility over assets: pooled, meta-learned by gradients, and Bayesian.

All share one equation, log h = z . x of `columns`: a GARCH of several horizons in logarithms, so
that an asset has five parameters and none of its days needs those before it again.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from matml.bayes.empirical_bayes import learn_prior
from matml.bayes.gauss_newton import GaussianPrior
from matml.bayes.importance_sampling import sample_posterior
from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Columns, Tasks
from matml.meta.inner.gradient import GradientSteps
from matml.meta.layers import Linear
from matml.meta.outer import MAML
from matml.meta.tasks import Task
from matml.meta.train import MetaTraining, meta_train
from matml.meta.vectorised import TENSORS
from matml.studies.prices.volatility import NAMES, Windows, columns, quasi_likelihood

SHARES = (1.0, 0.3, 0.1, 0.03, 0.01)
"""Of the spread that EM finds between windows: how far assets are let differ; by validation."""
SMALLEST = 1e-3
"""Added to squared returns, whose logarithm is taken: prices are rounded."""


def fit_pooled(windows: Windows, shots: int) -> np.ndarray:
    """Return the parameters of lowest QLIKE after the first days of all windows, [5]."""
    x = windows.columns()[:, shots:].reshape(-1, len(NAMES) + 1)
    squares = windows.returns[:, shots:].reshape(-1) ** 2

    def lost(z: np.ndarray) -> tuple[float, np.ndarray]:
        log_variance = x @ z
        ratio = squares * np.exp(-log_variance)
        return float((log_variance + ratio).mean()), x.T @ (1 - ratio) / len(ratio)

    return minimize(lost, np.eye(x.shape[1])[1], jac=True, method="BFGS").x


def residual(z: Tensor, data: Columns) -> Tensor:
    """Return the deviance residual of a day, whose square is r^2/h - log(r^2/h) - 1.

    That is minus twice the normal log likelihood, but for a constant of the data: learners of
    normal residuals fit the likelihood of a GARCH exactly.
    """
    x = data["log_square"] - (z * data["x"]).sum(-1)
    near = x.square() / 2 + x**3 / 6 + x**4 / 24
    square = torch.where(x.abs() < 1e-2, near, torch.expm1(x.clamp(max=30.0)) - x)
    return torch.sign(x) * square.clamp(min=1e-14).sqrt()


def dispersion(windows: Windows, pooled: np.ndarray, shots: int) -> float:
    """Return how much more squared returns vary than a normal's, Pearson's statistic.

    Days with the tails of real returns say that much less of the parameters (McCullagh and Nelder,
    Generalized Linear Models, section 8.3.6).
    """
    ratio = windows.returns**2 / np.exp(windows.columns() @ pooled)
    return float(np.mean((ratio[:, shots:] - 1) ** 2) / 2)


def _tasks(windows: Windows, days: slice, dispersion: float) -> Tasks:
    """Return some days of each window as a task."""
    squares = torch.from_numpy(windows.returns[:, days]).square() + SMALLEST
    x = torch.from_numpy(windows.columns()[:, days])
    known = torch.full_like(squares, dispersion)
    return Tasks.of(residual, {"log_square": squares.log(), "x": x}, known_variance=known)


@dataclass(frozen=True)
class Learned:
    """What training assets say of a new one.

    Attributes
    ----------
    prior
        Of the five parameters.
    shots
        Days from which it is to adapt.
    dispersion
        As of `dispersion`.
    scale
        Unit of returns.
    deviations
        Training returns in units of their forecast deviation, sorted.
    """

    prior: GaussianPrior
    shots: int
    dispersion: float
    scale: float
    deviations: np.ndarray

    @property
    def band(self) -> tuple[float, float]:
        """Ends of the 90 % band of a return, in forecast deviations."""
        low, high = np.quantile(self.deviations, [0.05, 0.95])
        return float(low), float(high)

    def draws(self, windows: Windows, *, draws: int = 60, seed: int = 0) -> np.ndarray:
        """Return parameters of each window given its first days, [W, draws, 5]."""
        tasks = _tasks(windows, slice(0, self.shots), self.dispersion)
        priors = TaskPriors.normal(self.prior, len(tasks))
        return sample_posterior(tasks, priors, draws=draws, proposals=400, seed=seed).draws.numpy()

    def forecast(self, windows: Windows) -> np.ndarray:
        """Return the variance of each day given the first ones, and those before it, [W, days].

        The mean over the posterior, which is what QLIKE asks for.
        """
        z = self.draws(windows)
        each = np.einsum("wtp,wsp->wst", windows.columns(), z, optimize=True)
        return np.exp(each).mean(1)

    def simulate(
        self, returns: np.ndarray, days: int, *, paths: int = 400, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return log returns and variances of the days after those of one asset, [paths, days].

        Each path has parameters of its own from the posterior given all of the returns, which are
        in units of `scale`; shocks are drawn from `deviations`.
        """
        learned = replace(self, shots=len(returns))
        z = learned.draws(Windows([""], returns[None], self.scale), draws=paths, seed=seed)[0]
        shocks = np.random.default_rng(seed).choice(self.deviations, (paths, days))
        grown = np.concatenate([np.tile(returns, (paths, 1)), np.zeros((paths, days))], 1)
        variances = np.empty((paths, days))
        for day in range(days):
            now = len(returns) + day
            known = columns(grown[:, : now + 1])[:, -1]
            variances[:, day] = np.exp((known * z).sum(1))
            grown[:, now] = shocks[:, day] * np.sqrt(variances[:, day])
        return grown[:, len(returns) :], variances


def learn(
    long: Windows, train: Windows, validation: Windows, shots: int
) -> tuple[Learned, np.ndarray]:
    """Return the Bayesian learner, and the pooled parameters around which assets vary.

    Parameters
    ----------
    long
        Windows of the training assets, long enough to tell how these differ.
    train, validation
        Windows as those of a new asset; the second choose among `SHARES`.
    """
    pooled = fit_pooled(train, shots)
    mean, spread = torch.from_numpy(pooled), dispersion(train, pooled, shots)
    start = GaussianPrior(mean, 0.1 * torch.eye(len(pooled)).double(), 0.1)
    found = learn_prior(_tasks(long, slice(shots, None), spread), start, tolerance=1e-3).prior
    deviations = train.returns / np.exp(train.columns() @ pooled / 2)
    deviations = np.sort(deviations[:, shots:], axis=None)

    def at(share: float) -> Learned:
        prior = GaussianPrior(mean, share * found.covariance, found.noise)
        return Learned(prior, shots, spread, train.scale, deviations)

    def lost(learned: Learned) -> float:
        losses = quasi_likelihood(validation.returns, learned.forecast(validation))
        return float(losses[:, shots:].mean())

    return min((at(share) for share in SHARES), key=lost), pooled


class _LogVariance(nn.Sequential):
    """The equation as a network of one layer, which takes weights stacked over tasks."""

    stackable = True


def _qlike(model: Callable[[Tensor], Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
    log_variance = model(data[0]).squeeze(-1)
    return (log_variance + data[1] * torch.exp(-log_variance)).mean(-1)


def meta_learned(
    start: np.ndarray,
    train: Windows,
    validation: Windows,
    test: Windows,
    shots: int,
    *,
    batches: int = 150,
    seed: int = 0,
) -> np.ndarray:
    """Return the variances of each day by MAML on the same equation, [W, days].

    From the pooled parameters on, with a learned rate for each parameter.
    """
    torch.manual_seed(seed)
    layer = Linear(len(NAMES), 1).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(start[1:])[None])
        layer.bias.fill_(float(start[0]))
    model = _LogVariance(layer)
    inner = GradientSteps(model, steps=2, learning_rate=0.01, learn_rates="entry")

    def tasks(windows: Windows) -> list[Task]:
        x = torch.from_numpy(windows.columns()[..., 1:])
        squares = torch.from_numpy(windows.returns).square()
        both = zip(x, squares, strict=True)
        return [Task("", (a[:shots], b[:shots]), (a[shots:], b[shots:])) for a, b in both]

    given = tasks(train)

    def draw(generator: torch.Generator) -> Task:
        return given[int(torch.randint(len(given), (1,), generator=generator))]

    settings = MetaTraining(batches=batches, tasks_per_batch=32, validate_every=25, seed=seed)
    held = tasks(validation)
    meta_train(
        model, _qlike, inner, MAML(), draw, settings, validation_tasks=held, stacking=TENSORS
    )
    found = []
    for task in tasks(test):
        adapted = inner.adapt(model, _qlike, task.support)
        whole = torch.cat([task.support[0], task.query[0]])
        found.append(torch.exp(adapted(whole)).detach().numpy()[:, 0])
    return np.array(found)
