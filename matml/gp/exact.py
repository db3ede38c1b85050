"""One Gaussian process over all crystals, on descriptors."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from matml.core.standardise import Standardisation
from matml.gp.condition import condition
from matml.gp.joint import WRITTEN_OUT, JointProcess, Process, Said, WideProcess
from matml.gp.kernels import JITTER, DescriptorKernel, matern32_
from matml.gp.partition import PartitionedRows
from matml.gp.rows import AllRows, Block, Crystals, Rows

EXACT_UP_TO = 4000
"""Training rows up to which the posterior is exact, by default."""
ROWS = "rows."
"""What names of tensors begin with that are of training rows."""


class GlobalGP:
    """One Gaussian process over all crystals: ARD Matern-3/2 plus linear kernel.

    Hyper-parameters maximise the marginal likelihood of a random subset; the posterior is exact on
    all training rows, or where they are many that of `matml.gp.partition`. Conditioning on a
    support set updates that posterior exactly, without factorising the training rows again.

    Parameters
    ----------
    subset
        Rows on which the hyper-parameters are learned.
    steps, learning_rate
        Adam steps on the marginal likelihood.
    seed
        Seed of the choice of the subset.
    exact_up_to
        Training rows up to which the posterior is exact.
    """

    standardisation: Standardisation
    mean: float
    deviation: float
    kernel: DescriptorKernel
    noise: Tensor
    rows: Rows
    partitioned: bool
    # of partitioned rows what takes longest, as a file has it
    learned: dict[str, Tensor] | None = None

    def __init__(
        self,
        *,
        subset: int = 800,
        steps: int = 60,
        learning_rate: float = 0.1,
        seed: int = 0,
        exact_up_to: int = EXACT_UP_TO,
    ) -> None:
        self.subset, self.steps, self.learning_rate, self.seed = subset, steps, learning_rate, seed
        self.exact_up_to = exact_up_to

    def fit(self, features: np.ndarray, targets: np.ndarray) -> "GlobalGP":
        """Fit to `features` [n, d] and `targets` [n]; returns itself."""
        self.standardisation = Standardisation.of(features)
        self.mean, self.deviation = float(targets.mean()), float(targets.std()) or 1.0
        x, y = self._standardise(features), self._standardise_targets(targets)
        chosen = np.random.default_rng(self.seed).permutation(len(x))[: self.subset]
        self._learn(x[chosen], y[chosen])
        self.partitioned = len(x) > self.exact_up_to
        self._condition(x, y)
        return self

    def refit(self, features: np.ndarray, targets: np.ndarray) -> "GlobalGP":
        """Return a copy with the same hyper-parameters, conditioned on other rows."""
        other = GlobalGP()
        vars(other).update(vars(self))
        other._condition(other._standardise(features), other._standardise_targets(targets))
        return other

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the posterior mean, [n]."""
        mean = self.rows.mean(self._standardise(features))
        return mean.numpy() * self.deviation + self.mean

    def adapt(self, support: np.ndarray, values: np.ndarray, query: np.ndarray) -> np.ndarray:
        """Return the posterior mean at `query`, given the training rows and the support.

        Parameters
        ----------
        support, values, query
            [k, d], [k] and [m, d].
        """
        joint, k = self.joint(np.vstack([support, query])), len(support)
        return joint.predict(range(k), values, range(k, k + len(query)))[0].numpy()

    def joint(self, features: np.ndarray) -> Process:
        """Return `posterior` as a process that labels of some of the crystals condition."""
        noise = float(self.noise) * self.deviation**2
        if len(features) <= WRITTEN_OUT:
            mean, covariance = self.posterior(features)
            return JointProcess(mean, noise, covariance)

        def at(part: slice, support: Crystals) -> Said:
            said, _ = self.at(features[part], support)
            return said.mean, said.cross, said.variance

        return WideProcess.over(len(features), noise, lambda rows: self.anchor(features[rows]), at)

    def posterior(self, features: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return mean [n] and covariance [n, n] (without noise), given the training rows."""
        mean, covariance = self.rows.posterior(self._standardise(features))
        return mean * self.deviation + self.mean, covariance * self.deviation**2

    def left_out(
        self,
        features: np.ndarray,
        targets: np.ndarray,
        folds: np.ndarray,
        groups: Sequence[np.ndarray],
    ) -> list[tuple[Tensor, Tensor]]:
        """Return what `posterior` says of groups of training rows, from the rows of other folds.

        Of all rows at once in closed form, where they are not partitioned.

        Parameters
        ----------
        features, targets, folds
            Training rows, [n, d] and [n], and the fold of each, [n].
        groups
            Row numbers, all of one fold, [m] each.
        """
        fold_of = [int(folds[rows[0]]) for rows in groups]
        members = {fold: np.flatnonzero(folds == fold) for fold in sorted(set(fold_of))}
        found: dict[int, tuple[Tensor, Tensor]] = {}
        if isinstance(self.rows, AllRows):
            parts = [torch.from_numpy(own) for own in members.values()]
            left = self.rows.given.left_out(parts)
            for (fold, own), rows, (residual, covariance) in zip(
                members.items(), parts, left, strict=True
            ):
                mean = (self.y[rows] - residual) * self.deviation + self.mean
                covariance.diagonal().sub_(self.noise)
                covariance = covariance * self.deviation**2
                for number in np.flatnonzero(np.equal(fold_of, fold)).tolist():
                    place = torch.from_numpy(np.searchsorted(own, groups[number]))
                    found[number] = mean[place], covariance[place[:, None], place]
        else:
            for fold in members:
                others = self.refit(features[folds != fold], targets[folds != fold])
                for number in np.flatnonzero(np.equal(fold_of, fold)).tolist():
                    found[number] = others.posterior(features[groups[number]])
        return [found[number] for number in range(len(groups))]

    def anchor(self, features: np.ndarray) -> Crystals:
        """Return crystals, [k, d], in the form to which `at` gives covariances."""
        return self.rows.anchor(self._standardise(features))

    def at(self, features: np.ndarray, anchor: Crystals) -> tuple[Block, Block]:
        """Return what `posterior` and `prior` say of crystals one by one, and beside `anchor`'s.

        The cost of covariances among the crystals, which would grow with the square of their
        number, is left out.
        """
        x, scale = self._standardise(features), self.deviation**2
        beside, alone = self.kernel(x, anchor.x), self.kernel.diagonal(x)
        said = self.rows.at(x, anchor, beside, alone)
        posterior = Block(
            said.mean * self.deviation + self.mean, said.cross * scale, said.variance * scale
        )
        return posterior, Block(torch.zeros_like(said.mean), beside * scale, alone * scale)

    def prior(self, features: np.ndarray) -> Tensor:
        """Return the covariance before any training row, [n, n]."""
        x = self._standardise(features)
        return self.kernel(x, x) * self.deviation**2

    def hyper_parameters(self) -> dict[str, Tensor]:
        """Return all that was learned but the training rows."""
        found = {
            "centre": torch.from_numpy(self.standardisation.mean),
            "scale": torch.from_numpy(self.standardisation.deviation),
            "mean_deviation": torch.tensor([self.mean, self.deviation], dtype=torch.float64),
            "weights": self.kernel.weights,
            "variance": self.kernel.variance,
            "noise": self.noise,
        }
        # files of few rows are as they were before rows could be partitioned
        if isinstance(self.rows, PartitionedRows):
            own = {f"{ROWS}{name}": value for name, value in self.rows.tensors().items()}
            found |= {"partitioned": torch.tensor(True)} | own
        return found

    @classmethod
    def from_hyper_parameters(cls, tensors: dict[str, Tensor]) -> "GlobalGP":
        """Return a process that still has to be conditioned by `refit`."""
        process = cls()
        process.standardisation = Standardisation(
            tensors["centre"].numpy(), tensors["scale"].numpy()
        )
        process.mean, process.deviation = tensors["mean_deviation"].tolist()
        process.kernel = DescriptorKernel(tensors["weights"], tensors["variance"])
        process.noise, process.partitioned = tensors["noise"], "partitioned" in tensors
        process.learned = {
            name.removeprefix(ROWS): own for name, own in tensors.items() if name.startswith(ROWS)
        }
        return process

    def _standardise(self, features: np.ndarray) -> Tensor:
        return torch.from_numpy(self.standardisation.apply(features))

    def _standardise_targets(self, targets: np.ndarray) -> Tensor:
        return torch.from_numpy((targets - self.mean) / self.deviation)

    def _learn(self, x: Tensor, y: Tensor) -> None:
        """Learn inverse length scales, variances and noise on a subset."""
        d = x.shape[1]
        centre = -0.5 * math.log(d)
        free = torch.tensor([centre] * d + [0.0, 0.0, -1.0, -3.0], dtype=torch.float64)
        optimizer = torch.optim.Adam([free], lr=self.learning_rate)
        inner = x @ x.mT / d
        for _ in range(self.steps):
            _, free.grad = negative_log_likelihood(x, y, free, inner=inner)
            # a weak prior keeps length scales from running away
            free.grad[:d] += (free[:d] - centre) / 4
            optimizer.step()
        learned = free.exp()
        self.kernel = DescriptorKernel(learned[:d], learned[d:-1])
        self.noise = learned[-1] + JITTER

    def _condition(self, x: Tensor, y: Tensor) -> None:
        self.y = y
        self.rows = (
            PartitionedRows(self.kernel, self.noise, x, y, learned=self.learned)
            if self.partitioned
            else AllRows(self.kernel, self.noise, x, y)
        )


def negative_log_likelihood(
    x: Tensor, y: Tensor, logarithms: Tensor, *, inner: Tensor | None = None
) -> tuple[float, Tensor]:
    """Return minus the log marginal likelihood of labels, up to a constant, and its gradient.

    With the gradient in closed form (Rasmussen and Williams 2006, eqs. 5.8 and 5.9); what a
    length scale changes is one product of matrices for all features.

    Parameters
    ----------
    x, y
        Standardised features and labels, [n, d] and [n].
    logarithms
        Of the inverse length scales, [d], the variances of the Matern-3/2, linear and constant
        kernel, [3], and the noise variance.
    inner
        The linear kernel, `x @ x.mT / d`, where it is known.

    Returns
    -------
    tuple
        A number and the gradient by the logarithms, [d + 4].
    """
    d = x.shape[1]
    inner = x @ x.mT / d if inner is None else inner
    values = logarithms.exp()
    matern, linear, constant, noise = values[d:].tolist()
    scaled = x * (values[:d] * math.sqrt(3))
    norms = scaled.square().sum(1)
    square = torch.addmm(norms[:, None] + norms, scaled, scaled.mT, alpha=-2)
    shape, decay = matern32_(square.clamp_(min=0).sqrt_())
    gram = (shape * matern).add_(inner, alpha=linear).add_(constant)
    given = condition(gram, noise + JITTER, y, overwrite=True)
    value = 0.5 * y @ given.solved + given.factor.diagonal().log().sum()
    # the derivative by the covariance, but for a factor of 1/2
    by_gram = torch.cholesky_inverse(given.factor)
    by_gram.addr_(given.solved, given.solved, alpha=-1)
    flat = by_gram.flatten()
    parts = [
        flat @ shape.flatten() * matern,
        flat @ inner.flatten() * linear,
        flat.sum() * constant,
        by_gram.trace() * noise,
    ]
    # by half a squared distance times 3, which a length scale changes feature by feature
    along = by_gram.mul_(decay)
    lengths = (scaled * (along @ scaled)).sum(0) - along.sum(1) @ scaled.square()
    return float(value), torch.cat([lengths * matern, 0.5 * torch.stack(parts)])
