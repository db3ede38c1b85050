"""What travels between laboratories: the shared prior of a round, and sums over alloys.

Both are small JSON files with a checksum; numbers are written so that they read back bit by bit.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import TypedDict

from matml.bayes.empirical_bayes import Sums
from matml.bayes.gauss_newton import GaussianPrior
from matml.core.errors import MatmlError, reading
from matml.core.files import read_json, write_json
from matml.core.integrity.formats import Format
from matml.core.provenance import file_hash
from matml.core.settings import check_shape
from matml.federated.participants import in_order
from matml.kinetics.equations import Equation, equation_of_file
from matml.kinetics.inference.population import same_scales, scales

PRIOR = Format(
    "federated prior", 1, "ask the coordinator for it again, or begin with `matml federated start`"
)
SUMS = Format("federated sums", 1, "ask the laboratory to run `matml federated sums` again")


MOST = 10**9
"""Observations of all alloys."""


class StoredPrior(TypedDict):
    """What the file of a shared prior holds."""

    equation: str
    equation_sha256: str
    kind: str
    parameters: list[dict[str, Any]]
    reference_temperature_K: float | None
    pseudo_tasks: float
    study: str
    round: int
    mean: list[float]
    covariance: list[list[float]]
    noise: float
    history: list[float]
    data: str
    roster: list[str]
    laboratories: list[str]
    alloys: int
    composition_groups: int
    observations: int
    converged: bool


class StoredSums(TypedDict):
    """What the file of sums holds."""

    study: str
    prior: str
    round: int
    laboratories: list[str]
    alloys: int
    composition_groups: int
    observations: int
    offset: list[float]
    outer: list[list[float]]
    squared_noise: float
    log_evidence: float
    fingerprints: dict[str, str]


@dataclass(frozen=True)
class SharedPrior:
    """The prior of a round, which all laboratories work under.

    Attributes
    ----------
    equation, kind
        Equation and kind of observation.
    reference_temperature_K
        For alloys that give none; None where the equation has no reference temperature.
    pseudo_tasks
        Weight of the generic covariance, in alloys.
    study
        The same in all rounds; fingerprints of alloys depend on it.
    round
        From 0, the generic prior.
    normal
        Over standardised parameters, with the noise.
    history
        Penalised log evidence of the rounds before, of the same data.
    data
        What they were of, as a hash of the alloys' fingerprints and the numbers of observations.
    roster
        Laboratories that took part in any round.
    laboratories, alloys, composition_groups, observations
        Of whom the last step was made.
    converged
        Whether the evidence rose by no more than the tolerance.
    """

    equation: Equation
    kind: str
    reference_temperature_K: float | None
    pseudo_tasks: float
    study: str
    round: int
    normal: GaussianPrior
    history: list[float] = field(default_factory=list)
    data: str = ""
    roster: list[str] = field(default_factory=list)
    laboratories: list[str] = field(default_factory=list)
    alloys: int = 0
    composition_groups: int = 0
    observations: int = 0
    converged: bool = False

    @property
    def key(self) -> str:
        """What sums under this prior name it by."""
        return _hash(self._stored())

    def save(self, path: Path) -> None:
        """Write the file that goes to all laboratories."""
        write_json(path, self._stored(), PRIOR)

    def refuse_others(self, told: Mapping[str, Any], path: Path) -> None:
        """Refuse a file of sums that says another study, prior or round."""
        if told["prior"] != self.key:
            stale = told["study"] == self.study and told["round"] != self.round
            what = f"round {told['round']}" if stale else "another prior or study"
            raise MatmlError(
                f"{path}: the sums of {', '.join(told['laboratories'])} are under {what}, not "
                f"under round {self.round} of this study; ask for sums under the file that was "
                "sent last"
            )

    def _stored(self) -> StoredPrior:
        mean, covariance, noise = _numbers(self.normal)
        return {
            "equation": self.equation.name,
            "equation_sha256": _content_of(self.equation.name),
            "kind": self.kind,
            "parameters": scales(self.equation),
            "reference_temperature_K": self.reference_temperature_K,
            "pseudo_tasks": self.pseudo_tasks,
            "study": self.study,
            "round": self.round,
            "mean": mean,
            "covariance": covariance,
            "noise": noise,
            "history": self.history,
            "data": self.data,
            "roster": self.roster,
            "laboratories": self.laboratories,
            "alloys": self.alloys,
            "composition_groups": self.composition_groups,
            "observations": self.observations,
            "converged": self.converged,
        }

    @staticmethod
    def load(path: Path, *, trust_equation: bool = False) -> "SharedPrior":
        """Read a shared prior.

        Raises
        ------
        MatmlError
            Where it is none, is damaged, or its equation has other parameters here.
        """
        stored = read_json(path, PRIOR)
        check_shape(stored, StoredPrior, path, PRIOR.remedy)
        with reading(path, PRIOR.remedy):
            equation = equation_of_file(stored["equation"], path, trust=trust_equation)
            if stored["equation_sha256"] != _content_of(equation.name):
                raise MatmlError(
                    f"{path}: was made with another content of {equation.name}; let all "
                    "laboratories use the same file"
                )
            if not same_scales(stored["parameters"], scales(equation)):
                raise MatmlError(
                    f"{path}: was made with other parameters of equation {equation.name!r} than "
                    "this version of matml has; let all laboratories use one version"
                )
            equation.observable(stored["kind"])
            covariance = _tensor(stored["covariance"])
            normal = GaussianPrior(_tensor(stored["mean"]), covariance, stored["noise"])
            size = len(equation.parameters)
            if normal.mean.shape != (size,) or covariance.shape != (size, size):
                raise MatmlError(f"{path}: mean and covariance are not of {size} parameters")
            if wrong := _no_prior(normal, stored):
                raise MatmlError(f"{path}: {wrong}; {PRIOR.remedy}")
            left = ("equation", "equation_sha256", "parameters", "mean", "covariance", "noise")
            given = {name: value for name, value in stored.items() if name not in left}
            return SharedPrior(equation=equation, normal=normal, **given)  # type: ignore[arg-type]


@dataclass(frozen=True)
class LaboratorySums:
    """Sums over the alloys of one laboratory, or of several that were merged.

    Attributes
    ----------
    study, prior, round
        Of the prior that they are under: its study, its key, and its round.
    laboratories
        Names.
    composition_groups
        How many independent alloys there are: near-twins count once.
    sums
        Under that prior.
    fingerprints
        Of each alloy, with its laboratory's name: by them an alloy is found that two hold.
    """

    study: str
    prior: str
    round: int
    laboratories: list[str]
    composition_groups: int
    sums: Sums
    fingerprints: dict[str, str]

    def save(self, path: Path) -> None:
        """Write the file that travels."""
        write_json(path, self.stored(), SUMS)

    def stored(self) -> StoredSums:
        """Return what the file holds."""
        sums = self.sums
        return {
            "study": self.study,
            "prior": self.prior,
            "round": self.round,
            "laboratories": self.laboratories,
            "alloys": sums.tasks,
            "composition_groups": self.composition_groups,
            "observations": sums.observations,
            "offset": sums.offset.tolist(),
            "outer": sums.outer.tolist(),
            "squared_noise": sums.squared_noise,
            "log_evidence": sums.log_evidence,
            "fingerprints": self.fingerprints,
        }

    @staticmethod
    def load(path: Path, prior: SharedPrior) -> "LaboratorySums":
        """Read sums under a prior; errors as of `of`."""
        return LaboratorySums.of(read_json(path, SUMS), prior, path)

    @staticmethod
    def of(stored: StoredSums, prior: SharedPrior, path: Path) -> "LaboratorySums":
        """Return what a file held.

        Raises
        ------
        MatmlError
            Where they are none, of another prior or an earlier round, or cannot be sums.
        """
        check_shape(stored, StoredSums, path, SUMS.remedy)
        names = ", ".join(stored["laboratories"])
        prior.refuse_others(stored, path)
        size, count = len(prior.normal.mean), stored["alloys"]
        with reading(path, SUMS.remedy):
            offset, outer = _tensor(stored["offset"]), _tensor(stored["outer"])
        wrong = _absurd(offset, outer, stored, size)
        if wrong:
            raise MatmlError(f"{path}: the sums of {names} cannot be sums: {wrong}; {SUMS.remedy}")
        sums = Sums(
            prior.normal,
            *(count, stored["observations"], offset, outer),
            *(stored["squared_noise"], stored["log_evidence"]),
        )
        return LaboratorySums(
            *(stored["study"], stored["prior"], stored["round"], stored["laboratories"]),
            *(stored["composition_groups"], sums, stored["fingerprints"]),
        )


def merged(parts: Sequence[LaboratorySums], names: Sequence[Path | str]) -> LaboratorySums:
    """Return the sums over all parts, under one prior; errors as of `in_order`."""
    # sums of floats depend on the order to the last bit
    whole, *others = in_order(parts, names)
    for part in others:
        whole = replace(
            whole,
            laboratories=[*whole.laboratories, *part.laboratories],
            composition_groups=whole.composition_groups + part.composition_groups,
            sums=whole.sums + part.sums,
            fingerprints=whole.fingerprints | part.fingerprints,
        )
    return whole


def _absurd(offset: Tensor, outer: Tensor, stored: StoredSums, size: int) -> str:
    """Return why numbers cannot be sums over alloys; '' where they can."""
    count, observations = stored["alloys"], stored["observations"]
    owners = {*stored["fingerprints"].values()}
    if not owners or owners != {*stored["laboratories"]} or len(stored["fingerprints"]) != count:
        return "laboratories and fingerprints of alloys do not fit"
    if offset.shape != (size,) or outer.shape != (size, size):
        return f"they are not of {size} parameters"
    if not count <= observations <= MOST or not 1 <= stored["composition_groups"] <= count:
        return f"{count} alloys, {observations} observations"
    numbers = torch.cat([offset, outer.flatten(), _tensor([stored["log_evidence"]])])
    if not bool(torch.isfinite(numbers).all()):
        return "numbers that are not finite"
    if not 0 < stored["squared_noise"] < 1e4 * observations:
        return f"a squared noise of {stored['squared_noise']:.2g}"
    if abs(stored["log_evidence"]) > 1e6 * observations:
        return f"a log evidence of {stored['log_evidence']:.2g}"
    # parameters are standardised: a thousand ranges off is none
    if float(outer.abs().max()) > 1e6 * count or not torch.allclose(outer, outer.mT):
        return "outer products that are too large or not symmetric"
    # outer products of distances spread at least as far as their mean does
    spread = (outer + outer.mT) / 2 - torch.outer(offset, offset) / count
    if float(torch.linalg.eigvalsh(spread)[0]) < -1e-6 * float(outer.diagonal().abs().sum()):
        return "their outer products are smaller than their means allow"
    return ""


def _no_prior(normal: GaussianPrior, stored: StoredPrior) -> str:
    """Return why numbers are no prior; '' where they are one."""
    kelvin = stored["reference_temperature_K"]
    numbers = torch.cat([normal.mean, normal.covariance.flatten()])
    if not bool(torch.isfinite(numbers).all()) or not 0 < normal.noise < 1e6:
        return "mean, covariance or noise are not finite"
    if not torch.allclose(normal.covariance, normal.covariance.mT):
        return "the covariance is not symmetric"
    if torch.linalg.eigvalsh(normal.covariance)[0] <= 0:
        return "the covariance is not positive definite"
    counts = stored["round"], stored["alloys"], stored["composition_groups"], stored["observations"]
    if min(counts) < 0 or not stored["pseudo_tasks"] >= 0 or (kelvin is not None and kelvin <= 0):
        return "a number that cannot be negative is"
    return ""


def _content_of(equation: str) -> str:
    """Return the hash of the file that an equation comes from; '' of a built-in one."""
    path = Path(equation)
    return file_hash(path) if path.suffix == ".py" and path.is_file() else ""


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _numbers(prior: GaussianPrior) -> tuple[list[float], list[list[float]], float]:
    return prior.mean.tolist(), prior.covariance.tolist(), prior.noise


def _tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
