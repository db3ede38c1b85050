"""A property that nothing was trained on, from its labels: learned kernels, weighed by evidence.

Experts are kernels that were learned on known properties. The labels weigh them by their evidence,
and where that pays so do the cases in which one or two of the labels are outliers.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor
from torch.nn import functional

from matml.meta.checkpoint import pack, unpack
from matml.properties.new_property.kernels import (
    SUBSETS,
    Episodes,
    GivenLabels,
    LabelKernel,
    Likeness,
    learn_kernel,
)

WEIGHED = 500
"""Labels by whose evidence the experts are weighed, at random where there are more."""
NOISE_LEVELS = {0.0: 0.5, 0.1: 0.25, 0.5: 0.25}
"""Least variances of the noise, in units of the kernel's, and how likely each is."""
LEAST_WEIGHT, LEAST_WEIGHT_OF_MANY = 1e-6, 0.02
"""Of an expert that is asked; and where there are more labels than `WEIGHED`."""


@dataclass(frozen=True)
class Outliers:
    """Labels far from what any kernel says, one or two of them at most.

    Attributes
    ----------
    share
        How often a label is one.
    variance
        Of its further noise, in units of what a property varies by.
    """

    share: float = 0.0
    variance: float = 10.0

    def cases(self, shots: int) -> tuple[Tensor | None, Tensor]:
        """Return further noise variances, [cases, shots], and the cases' log probabilities.

        At least two labels are sound in each case. None stands for none.
        """
        most = min(2, shots - 2) if self.share else 0
        if most < 1:
            return None, torch.zeros(1, dtype=torch.float64)
        chosen = itertools.chain(
            *(itertools.combinations(range(shots), count) for count in range(most + 1))
        )
        rows = [[float(i in own) for i in range(shots)] for own in chosen]
        is_outlier = torch.tensor(rows, dtype=torch.float64)
        number = is_outlier.sum(1)
        log_prior = number * math.log(self.share) + (shots - number) * math.log1p(-self.share)
        return self.variance * is_outlier, log_prior


SHARES = (0.0, 0.005, 0.01, 0.02, 0.05)
"""Of outliers, one of which the evidence of the tasks chooses."""


@dataclass(frozen=True)
class Expert:
    """A kernel, about a flat mean or about what the networks predict up to a constant."""

    kernel: LabelKernel
    follows: bool

    def prior_mean(self, own: Episodes) -> Tensor:
        """Return what the expert expects of all labels but for a constant, as `own.labels`.

        Raises
        ------
        ValueError
            Where it follows networks, whose predictions are not given.
        """
        if not self.follows:
            return torch.zeros_like(own.labels)
        if own.network is None:
            raise ValueError("an expert that follows the networks needs their predictions")
        return own.network


@dataclass(frozen=True)
class LabelProcess:
    """Experts that a new property's labels choose from.

    Attributes
    ----------
    experts, log_prior
        With the logarithm of how often each is right.
    outliers
        Among the labels.
    noise_levels
        Least variances of the noise in units of a kernel's, and how likely each is. The properties
        at hand were computed, all in one way; labels of another may be far noisier.
    """

    experts: list[Expert]
    log_prior: Tensor
    outliers: Outliers = Outliers()
    noise_levels: Mapping[float, float] = field(default_factory=lambda: {0.0: 1.0})

    @classmethod
    def learn(cls, tasks: Sequence[Sequence[Episodes]], *, iterations: int = 20) -> "LabelProcess":
        """Return experts learned on each known property's episodes, and on subsets of the features.

        How often each is right, and how often a label is an outlier, is learned where the networks
        will know the property too. Where they will not, all start alike: in the tasks at hand the
        networks were trained on the property that plays the new one, and what they embed looks more
        useful than it will be. Outliers lower the evidence there.
        """
        tasks = [episodes for episodes in tasks if episodes]
        kernels = [learn_kernel(subset, episodes) for episodes in tasks for subset in SUBSETS]
        # what no features tell: the mean of the labels, or the networks shifted by it
        kernels.append(LabelKernel([]))
        known = all(own.network is not None for episodes in tasks for own in episodes)
        experts = [
            Expert(kernel, f) for f in ([False, True] if known else [False]) for kernel in kernels
        ]
        alike = torch.full((len(experts),), -math.log(len(experts)), dtype=torch.float64)
        if not known:
            return cls(experts, alike, noise_levels=NOISE_LEVELS)
        own = [each for episodes in tasks for each in episodes]
        found = {
            outliers: _learn_prior(experts, own, alike, len(tasks), outliers, iterations)
            for outliers in map(Outliers, SHARES)
        }
        best = max(found, key=lambda outliers: found[outliers][1])
        return cls(experts, found[best][0], best)

    def tensors(self) -> dict[str, Tensor]:
        """Return all that was learned."""
        found = {
            "log_prior": self.log_prior,
            "follows": torch.tensor([expert.follows for expert in self.experts]),
            "outliers": torch.tensor([self.outliers.share, self.outliers.variance]).double(),
            "noise_levels": torch.tensor(list(self.noise_levels.items())).double(),
        }
        for number, expert in enumerate(self.experts):
            sets = torch.tensor(expert.kernel.sets, dtype=torch.int64)
            own = {"sets": sets, "logarithms": expert.kernel.logarithms}
            found |= pack(f"expert-{number}", own)
        return found

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "LabelProcess":
        """Return what `tensors` gave."""
        experts = []
        for number, follows in enumerate(tensors["follows"].tolist()):
            own = unpack(f"expert-{number}", tensors)
            kernel = LabelKernel(own["sets"].tolist(), own["logarithms"])
            experts.append(Expert(kernel, follows))
        levels = dict(tensors["noise_levels"].tolist())
        return cls(experts, tensors["log_prior"], Outliers(*tensors["outliers"].tolist()), levels)

    def given(
        self, sets: Sequence[np.ndarray], labels: np.ndarray, network: np.ndarray | None = None
    ) -> "AdaptedProcess":
        """Return the process given labels.

        Parameters
        ----------
        sets
            Standardised features of the labelled crystals, [k, features] each.
        labels
            [k], at least one.
        network
            What the networks predict of them, [k]; needed where experts follow it.
        """
        process = self
        if len(labels) > WEIGHED:
            some = np.random.default_rng(0).permutation(len(labels))[:WEIGHED]
            seen = None if network is None else network[some]
            shares = self.given([x[some] for x in sets], labels[some], seen).weights.sum(1)
            kept = [i for i, share in enumerate(shares) if share >= LEAST_WEIGHT_OF_MANY]
            experts = [self.experts[i] for i in kept]
            process = replace(self, experts=experts, log_prior=self.log_prior[kept])
        known, likeness = torch.tensor(np.array(labels, float)), Likeness.of(sets)
        said = torch.from_numpy(np.zeros(len(labels)) if network is None else network).double()
        given, evidence = [], []
        for expert in process.experts:
            rest = known - said if expert.follows else known
            further, others, log_prior = self._cases(expert.kernel, len(labels))
            gram = expert.kernel.gram(likeness)
            own = expert.kernel.given(gram, rest.expand(further.shape), further, others)
            given.append(own)
            evidence.append(own.evidence + log_prior)
        size = max(map(len, evidence))
        padded = [functional.pad(own, (0, size - len(own)), value=-math.inf) for own in evidence]
        joint = torch.stack(padded) + process.log_prior[:, None]
        total = joint.logsumexp((0, 1))
        return AdaptedProcess(process, list(sets), given, (joint - total).exp(), float(total))

    def _cases(self, kernel: LabelKernel, shots: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the noise may be beside the kernel's, and the cases' log probabilities.

        Of the labels, [cases, k], and of other labels, [cases, 1].
        """
        further, log_prior = self.outliers.cases(shots)
        if further is not None:
            return further, torch.zeros(len(further), 1, dtype=torch.float64), log_prior
        levels = self.noise_levels if kernel.sets else {0.0: 1.0}
        more = torch.tensor([[kernel.more_noise(level)] for level in levels]).double()
        chances = torch.tensor(list(levels.values())).double()
        return more.expand(-1, shots), more, chances.log()

    def predict(
        self, sets: Sequence[np.ndarray], labels: np.ndarray, network: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what `AdaptedProcess.at` does of the crystals behind the labelled ones."""
        k = len(labels)
        own, others = (None, None) if network is None else (network[:k], network[k:])
        given = self.given([x[:k] for x in sets], labels, own)
        return given.at([x[k:] for x in sets], others)


@dataclass(frozen=True)
class AdaptedProcess:
    """A new property's process given k labels.

    Attributes
    ----------
    process
        Its experts.
    sets
        Standardised features of the labelled crystals, [k, features] each.
    given
        Each expert's process given the labels, in each case of outliers.
    weights
        Of the experts and cases, [experts, cases], sum 1.
    evidence
        Logarithm of the labels' probability, up to a constant of their number.
    """

    process: LabelProcess
    sets: list[np.ndarray]
    given: list[GivenLabels]
    weights: Tensor
    evidence: float

    def __len__(self) -> int:
        """Return the number of labels."""
        return len(self.sets[0])

    def left_out(self) -> np.ndarray:
        """Return by how many deviations each label misses what the others say of it, [k].

        Of the likeliest expert, in closed form.
        """
        expert, case = divmod(int(self.weights.argmax()), self.weights.shape[1])
        own = self.given[expert]
        factor, one, rest = (x[case] if x.dim() > 2 else x for x in (own.factor, own.one, own.rest))
        # the precision of the labels about a flat mean
        half = torch.linalg.solve_triangular(
            factor, torch.eye(len(factor), dtype=factor.dtype), upper=False
        )
        side = half.mT @ one / one.square().sum().sqrt()
        precision = (half.mT @ half - side @ side.mT).diagonal().clamp(min=1e-12)
        solved = (half.mT @ rest)[:, 0]
        # the others' own scale
        square = rest.square().sum() - solved.square() / precision
        degrees = max(len(self) - 2, 1)
        return (solved / (precision * (square.clamp(min=1e-12) / degrees)).sqrt()).numpy()

    def at(
        self, sets: Sequence[np.ndarray], network: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and half width of the 90 % interval of m crystals.

        One label gives no scale: its interval is infinite.

        Parameters
        ----------
        sets
            Their standardised features, [m, features] each.
        network
            What the networks predict of them, [m]; needed where experts follow it.
        """
        likeness, parts = Likeness.between(self.sets, sets), []
        for expert, given, weights in zip(
            self.process.experts, self.given, self.weights, strict=True
        ):
            if weights.sum() < LEAST_WEIGHT:
                continue
            kernel = expert.kernel
            mean, deviation = given.at(kernel.gram(likeness), kernel.variances(sets))
            if expert.follows:
                assert network is not None
                mean = mean + torch.from_numpy(network)
            parts.append((mean, deviation, weights[: len(mean)]))
        means, deviations, shares = (torch.cat(each) for each in zip(*parts, strict=True))
        shares = shares[:, None]
        mean = (shares * means).sum(0)
        variance = (shares * (deviations.square() + (means - mean).square())).sum(0)
        degrees = len(self) - 1
        # a crystal asked for may be an outlier itself
        inside = 0.9 / (1 - self.process.outliers.share)
        reach = stdtrit(degrees, (1 + inside) / 2) if degrees else math.inf
        return mean.numpy(), reach * variance.sqrt().numpy()


def _learn_prior(
    experts: Sequence[Expert],
    tasks: Sequence[Episodes],
    log_prior: Tensor,
    properties: int,
    outliers: Outliers,
    iterations: int,
) -> tuple[Tensor, float]:
    """Return how often each expert is right, and the log evidence of a task.

    Each property counts the same, by expectation maximisation of a mixture's weights, with one
    task's worth for each expert.
    """
    evidences, shares = [], []
    for own in tasks:
        found = [_posterior(expert, own, outliers)[2].logsumexp(0) for expert in experts]
        evidences.append(torch.stack(found))
        shares.append(torch.full_like(found[0], 1 / len(found[0])))
    evidence, share = torch.cat(evidences, 1), torch.cat(shares)
    for _ in range(iterations):
        responsible = torch.softmax(evidence + log_prior[:, None], 0)
        weights = (responsible * share).sum(1) + 1 / len(experts) / properties
        log_prior = (weights / weights.sum()).log()
    total = ((evidence + log_prior[:, None]).logsumexp(0) * share).sum() / share.sum()
    return log_prior, float(total)


def _posterior(expert: Expert, own: Episodes, outliers: Outliers) -> tuple[Tensor, Tensor, Tensor]:
    """Return an expert's mean and deviation behind the known labels, and their log evidence.

    Of each case of outliers, [cases, ...]; its probability is part of the evidence.
    """
    kernel, k = expert.kernel, own.shots
    prior = expert.prior_mean(own)
    rest = (own.labels - prior)[..., :k]
    further, log_prior = outliers.cases(k)
    if further is not None:
        further = further.reshape(-1, *[1] * (rest.dim() - 1), k)
    mean, deviation, evidence = (
        each if further is not None else each[None]
        for each in kernel.posterior(kernel.gram(own.likeness), rest, further)
    )
    return (
        mean + prior[..., k:],
        deviation,
        evidence + log_prior.reshape(-1, *[1] * (evidence.dim() - 1)),
    )
